//! Limits how often a rejected request is recorded: the first of a kind at once, the others as a count.

use crate::api_error::ApiError;
use anteroom_wire::{Problem, SessionId};
use serde_json::{Value, json};
use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Causes that are counted at once, over all sessions; further ones are only logged.
const WINDOWS_MAX: usize = 10_000;

/// RejectedRequest was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RejectedRequest {
    /// A viewer's WebSocket to the desktop.
    Desktop,
    /// A WebSocket to the terminal.
    Terminal,
    /// A ticket for the desktop.
    DesktopTicket,
    /// A ticket for the terminal.
    TerminalTicket,
    /// A credential from somebody who has the machine's token.
    Delivery,
    /// A credential from somebody who has not.
    UnauthorizedDelivery,
}

impl RejectedRequest {
    pub(super) fn kind(self) -> &'static str {
        match self {
            Self::Desktop | Self::Terminal => "viewer_rejected",
            Self::DesktopTicket | Self::TerminalTicket => "ticket_rejected",
            Self::Delivery | Self::UnauthorizedDelivery => "delivery_rejected",
        }
    }

    pub(super) fn sentence(self, problem: Problem) -> String {
        let what = match self {
            Self::Desktop => "A viewer's WebSocket was refused",
            Self::Terminal => "A terminal's WebSocket was refused",
            Self::DesktopTicket => "A ticket for the desktop was refused",
            Self::TerminalTicket => "A ticket for the terminal was refused",
            Self::Delivery => "A delivered credential was refused for good",
            Self::UnauthorizedDelivery => "A credential that somebody else delivered was refused",
        };
        format!("{what}: {}", problem.sentence())
    }

    pub(super) fn data(self, refusal: &ApiError) -> Value {
        let mut data = json!({ "reason": refusal.problem.code(), "detail": refusal.detail });
        match self {
            Self::Desktop | Self::DesktopTicket => data["door"] = "desktop".into(),
            Self::Terminal | Self::TerminalTicket => data["door"] = "terminal".into(),
            Self::Delivery => data["by"] = "machine".into(),
            Self::UnauthorizedDelivery => data["by"] = "stranger".into(),
        }
        data
    }
}

/// RejectedRequest is counted together.
pub(super) type Key = (SessionId, RejectedRequest, Problem);

/// How often each cause came since it was noted.
#[derive(Debug, Default)]
pub struct RejectionLimiter(Mutex<HashMap<Key, u64>>);

impl RejectionLimiter {
    fn windows(&self) -> MutexGuard<'_, HashMap<Key, u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts; whether this is the first in its time, which is to be noted.
    pub(super) fn is_first(&self, key: &Key) -> bool {
        let mut windows = self.windows();
        if let Some(more) = windows.get_mut(key) {
            *more += 1;
            return false;
        }
        windows.len() < WINDOWS_MAX && windows.insert(key.clone(), 0).is_none()
    }

    /// The time is over: how many came after the first.
    pub(super) fn close(&self, key: &Key) -> u64 {
        self.windows().remove(key).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_each_cause_the_first_is_noted_and_the_rest_are_counted() {
        let limiter = RejectionLimiter::default();
        let key = |problem| (SessionId::from_parts(1, [1; 10]), RejectedRequest::Desktop, problem);
        let (over, full) = (key(Problem::SessionEnded), key(Problem::TooManyViewers));
        let first: Vec<bool> = [&over, &over, &full, &over].map(|key| limiter.is_first(key)).into();
        assert_eq!(first, [true, false, true, false]);
        assert_eq!((limiter.close(&over), limiter.close(&full)), (2, 0));
        assert!(limiter.is_first(&over), "after its time");
    }

    #[test]
    fn the_number_of_causes_is_bounded() {
        let limiter = RejectionLimiter::default();
        for number in 0..WINDOWS_MAX as u64 {
            let key = (SessionId::from_parts(number, [1; 10]), RejectedRequest::Desktop, Problem::SessionEnded);
            assert!(limiter.is_first(&key));
        }
        let one_more = (SessionId::from_parts(1, [2; 10]), RejectedRequest::Desktop, Problem::SessionEnded);
        assert!(!limiter.is_first(&one_more));
    }
}
