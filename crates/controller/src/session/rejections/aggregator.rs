//! Limits how often a rejected request is recorded: the first of a kind at once, the others as a count.

use crate::api_error::ApiError;
use anteroom_wire::{Problem, SessionId, TimelineKind};
use parking_lot::{Mutex, MutexGuard};
use serde_json::{Value, json};
use std::collections::HashMap;

/// Kinds of rejections that are counted at once, over all sessions; further ones are only logged.
pub const WINDOWS_MAX: usize = 10_000;

/// A request that was rejected.
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
    /// What the page could not do because of a reverse proxy.
    Page,
    /// A credential delivered with the machine's token.
    Delivery,
    /// A credential delivered with a wrong token.
    UnauthorizedDelivery,
}

impl RejectedRequest {
    /// The kind of the timeline entry.
    pub(super) fn kind(self) -> TimelineKind {
        match self {
            Self::Desktop | Self::Terminal => TimelineKind::ViewerRejected,
            Self::DesktopTicket | Self::TerminalTicket => TimelineKind::TicketRejected,
            Self::Page => TimelineKind::ProxyFault,
            Self::Delivery | Self::UnauthorizedDelivery => TimelineKind::DeliveryRejected,
        }
    }

    pub(super) fn sentence(self, problem: Problem) -> String {
        let subject = match self {
            Self::Desktop => "A viewer's WebSocket was rejected",
            Self::Terminal => "A terminal's WebSocket was rejected",
            Self::DesktopTicket => "A ticket for the desktop was rejected",
            Self::TerminalTicket => "A ticket for the terminal was rejected",
            Self::Page => "The person's page noticed",
            Self::Delivery => "A delivered credential was rejected permanently",
            Self::UnauthorizedDelivery => "A credential delivered without a valid token was rejected",
        };
        format!("{subject}: {}", problem.sentence())
    }

    pub(super) fn data(self, error: &ApiError) -> Value {
        let mut data = json!({ "reason": error.problem.code(), "detail": error.detail });
        match self {
            Self::Desktop | Self::DesktopTicket => data["socket"] = "desktop".into(),
            Self::Terminal | Self::TerminalTicket => data["socket"] = "terminal".into(),
            Self::Page => data["by"] = "page".into(),
            Self::Delivery => data["by"] = "machine".into(),
            Self::UnauthorizedDelivery => data["by"] = "unauthorized".into(),
        }
        data
    }
}

/// Rejections that are counted together.
pub(super) type RejectionKey = (SessionId, RejectedRequest, Problem);

/// How often each kind of rejection repeated since it was recorded.
#[derive(Debug, Default)]
pub struct RejectionAggregator(Mutex<HashMap<RejectionKey, u64>>);

impl RejectionAggregator {
    fn windows(&self) -> MutexGuard<'_, HashMap<RejectionKey, u64>> {
        self.0.lock()
    }

    /// Counts the rejection. Returns whether it is the first within the interval, which is recorded.
    pub(super) fn count_rejection(&self, key: &RejectionKey) -> bool {
        let mut windows = self.windows();
        if let Some(repeated) = windows.get_mut(key) {
            *repeated += 1;
            return false;
        }
        windows.len() < WINDOWS_MAX && windows.insert(key.clone(), 0).is_none()
    }

    /// Ends the interval; returns how many followed the first.
    pub(super) fn end_interval(&self, key: &RejectionKey) -> u64 {
        self.windows().remove(key).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anteroom_wire::EndReason;

    #[test]
    fn the_first_rejection_of_a_kind_is_recorded_and_the_rest_are_counted() {
        let aggregator = RejectionAggregator::default();
        let key = |problem| (SessionId::from_parts(1, [1; 10]), RejectedRequest::Desktop, problem);
        let (ended, full) = (key(Problem::Ended(EndReason::Cancelled)), key(Problem::TooManyViewers));
        let first: Vec<bool> = [&ended, &ended, &full, &ended].map(|key| aggregator.count_rejection(key)).into();
        assert_eq!(first, [true, false, true, false]);
        assert_eq!((aggregator.end_interval(&ended), aggregator.end_interval(&full)), (2, 0));
        assert!(aggregator.count_rejection(&ended), "after the interval");
    }

    #[test]
    fn the_number_of_counted_kinds_is_bounded() {
        let aggregator = RejectionAggregator::default();
        for number in 0..WINDOWS_MAX as u64 {
            let key = (
                SessionId::from_parts(number, [1; 10]),
                RejectedRequest::Desktop,
                Problem::Ended(EndReason::Cancelled),
            );
            assert!(aggregator.count_rejection(&key));
        }
        let one_more =
            (SessionId::from_parts(1, [2; 10]), RejectedRequest::Desktop, Problem::Ended(EndReason::Cancelled));
        assert!(!aggregator.count_rejection(&one_more));
    }
}
