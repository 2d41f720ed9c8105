//! The order in which sessions changed, for lists that follow them.
//!
//! Each change has a number. Of each session only the newest change is kept, and only the newest [`SESSIONS_MAX`] sessions: a reader that is further
//! behind reads everything again. The numbers of a server are greater than those of the server before it.

use crate::unix_time::now_unix_ms;
use anteroom_wire::SessionId;
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use tokio::sync::watch;

/// Sessions whose newest change is kept.
pub const SESSIONS_MAX: usize = 4_096;
/// Numbers for each millisecond between the starts of two servers.
const NUMBERS_PER_MS: u64 = 1_000;

/// The newest change of each session.
#[derive(Debug)]
pub struct SessionChanges {
    recent: Mutex<Recent>,
    newest: watch::Sender<u64>,
}

#[derive(Debug)]
struct Recent {
    sessions: BTreeMap<u64, SessionId>,
    numbers: HashMap<SessionId, u64>,
    /// Changes with this number and smaller ones are not kept.
    forgotten: u64,
    newest: u64,
}

/// What changed after a number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChangesSince {
    /// These sessions, each with the number of its newest change, the oldest change first.
    Sessions(Vec<(u64, SessionId)>),
    /// Not all changes since then are kept: everything must be read again. Then the changes after this number follow.
    Forgotten(u64),
}

impl Default for SessionChanges {
    fn default() -> Self {
        Self::starting_at(now_unix_ms().saturating_mul(NUMBERS_PER_MS))
    }
}

impl SessionChanges {
    fn starting_at(number: u64) -> Self {
        let recent = Recent { sessions: BTreeMap::new(), numbers: HashMap::new(), forgotten: number, newest: number };
        Self { recent: Mutex::new(recent), newest: watch::Sender::new(number) }
    }

    /// Records that the session changed.
    pub fn record(&self, session: &SessionId) {
        let mut recent = self.recent.lock();
        recent.newest += 1;
        let number = recent.newest;
        if let Some(before) = recent.numbers.insert(session.clone(), number) {
            recent.sessions.remove(&before);
        }
        recent.sessions.insert(number, session.clone());
        if recent.sessions.len() > SESSIONS_MAX
            && let Some((oldest, session)) = recent.sessions.pop_first()
        {
            recent.numbers.remove(&session);
            recent.forgotten = oldest;
        }
        drop(recent);
        self.newest.send_replace(number);
    }

    /// The changes after the one with this number; `None`: all that follow are wanted, and what is now must be read.
    pub fn since(&self, number: Option<u64>) -> ChangesSince {
        let recent = self.recent.lock();
        match number {
            Some(number) if number >= recent.forgotten && number <= recent.newest => {
                let changes = recent.sessions.range(number + 1..);
                ChangesSince::Sessions(changes.map(|(number, session)| (*number, session.clone())).collect())
            }
            Some(_) | None => ChangesSince::Forgotten(recent.newest),
        }
    }

    /// Follows the number of the newest change.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.newest.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: usize) -> SessionId {
        SessionId::from_parts(number as u64, [0; 10])
    }

    #[test]
    fn the_newest_change_of_each_session_follows_a_known_number() {
        let changes = SessionChanges::starting_at(100);
        for session in [1, 2, 1, 3] {
            changes.record(&id(session));
        }
        assert_eq!(changes.since(Some(100)), ChangesSince::Sessions(vec![(102, id(2)), (103, id(1)), (104, id(3))]));
        assert_eq!(changes.since(Some(103)), ChangesSince::Sessions(vec![(104, id(3))]));
        assert_eq!(changes.since(Some(104)), ChangesSince::Sessions(vec![]));
    }

    #[test]
    fn numbers_of_another_server_or_of_long_ago_require_a_new_read() {
        let changes = SessionChanges::starting_at(100);
        for session in 0..=SESSIONS_MAX {
            changes.record(&id(session));
        }
        let newest = 100 + SESSIONS_MAX as u64 + 1;
        for unknown in [None, Some(0), Some(100), Some(newest + 1)] {
            assert_eq!(changes.since(unknown), ChangesSince::Forgotten(newest), "{unknown:?}");
        }
        assert!(matches!(changes.since(Some(101)), ChangesSince::Sessions(sessions) if sessions.len() == SESSIONS_MAX));
    }
}
