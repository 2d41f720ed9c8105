//! Who was turned away, on the timeline: each cause once in a while, and how often it came since.
//!
//! A page that knocks again and again, or a caller that means harm, must not fill a timeline: the first refusal for a cause
//! is noted at once, those that follow within the time are counted, and their count is noted when the time is over.

use super::note;
use crate::{app::App, refusal::Refusal};
use anteroom_wire::{Problem, SessionId};
use serde_json::{Value, json};
use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// Causes that are counted at once, over all sessions; further ones are only logged.
const WINDOWS_MAX: usize = 10_000;

/// What was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum What {
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
    StrangeDelivery,
}

impl What {
    fn kind(self) -> &'static str {
        match self {
            Self::Desktop | Self::Terminal => "viewer_refused",
            Self::DesktopTicket | Self::TerminalTicket => "ticket_refused",
            Self::Delivery | Self::StrangeDelivery => "delivery_refused",
        }
    }

    fn sentence(self, problem: Problem) -> String {
        let what = match self {
            Self::Desktop => "A viewer's WebSocket was refused",
            Self::Terminal => "A terminal's WebSocket was refused",
            Self::DesktopTicket => "A ticket for the desktop was refused",
            Self::TerminalTicket => "A ticket for the terminal was refused",
            Self::Delivery => "A delivered credential was refused for good",
            Self::StrangeDelivery => "A credential that somebody else delivered was refused",
        };
        format!("{what}: {}", problem.sentence())
    }

    fn data(self, refusal: &Refusal) -> Value {
        let mut data = json!({ "reason": refusal.problem.code(), "detail": refusal.detail });
        match self {
            Self::Desktop | Self::DesktopTicket => data["door"] = "desktop".into(),
            Self::Terminal | Self::TerminalTicket => data["door"] = "terminal".into(),
            Self::Delivery => data["by"] = "machine".into(),
            Self::StrangeDelivery => data["by"] = "stranger".into(),
        }
        data
    }
}

type Key = (SessionId, What, Problem);

/// How often each cause came since it was noted.
#[derive(Debug, Default)]
pub struct Refusals(Mutex<HashMap<Key, u64>>);

impl Refusals {
    fn windows(&self) -> MutexGuard<'_, HashMap<Key, u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts; whether this is the first in its time, which is to be noted.
    fn is_first(&self, key: &Key) -> bool {
        let mut windows = self.windows();
        if let Some(more) = windows.get_mut(key) {
            *more += 1;
            return false;
        }
        windows.len() < WINDOWS_MAX && windows.insert(key.clone(), 0).is_none()
    }

    /// The time is over: how many came after the first.
    fn close(&self, key: &Key) -> u64 {
        self.windows().remove(key).unwrap_or(0)
    }
}

/// Notes that somebody who may know of the session was turned away. Never waits.
pub fn refused(app: &App, session: &SessionId, what: What, refusal: &Refusal) {
    let key = (session.clone(), what, refusal.problem);
    if !app.refusals.is_first(&key) {
        return;
    }
    let (kind, sentence, data) = (what.kind(), what.sentence(refusal.problem), what.data(refusal));
    note::later(app, session, kind, sentence.clone(), data.clone());
    let (app, every_ms) = (app.clone(), app.config.sessions.refused_note_every_ms);
    app.clone().tasks.spawn(async move {
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(every_ms)) => {}
            () = app.stop.cancelled() => {}
        }
        let more = app.refusals.close(&key);
        if more > 0 {
            let mut data = data;
            data["count"] = more.into();
            note::later(&app, &key.0, kind, format!("{more} time(s) more: {sentence}"), data);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_each_cause_the_first_is_noted_and_the_rest_are_counted() {
        let refusals = Refusals::default();
        let key = |problem| (SessionId::from_parts(1, [1; 10]), What::Desktop, problem);
        let (over, full) = (key(Problem::SessionOver), key(Problem::TooManyViewers));
        let first: Vec<bool> = [&over, &over, &full, &over].map(|key| refusals.is_first(key)).into();
        assert_eq!(first, [true, false, true, false]);
        assert_eq!((refusals.close(&over), refusals.close(&full)), (2, 0));
        assert!(refusals.is_first(&over), "after its time");
    }

    #[test]
    fn the_number_of_causes_is_bounded() {
        let refusals = Refusals::default();
        for number in 0..WINDOWS_MAX as u64 {
            let key = (SessionId::from_parts(number, [1; 10]), What::Desktop, Problem::SessionOver);
            assert!(refusals.is_first(&key));
        }
        let one_more = (SessionId::from_parts(1, [2; 10]), What::Desktop, Problem::SessionOver);
        assert!(!refusals.is_first(&one_more));
    }
}
