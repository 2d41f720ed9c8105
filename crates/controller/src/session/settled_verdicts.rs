//! The verdicts of ended sessions that are known. They do not change any more.

use crate::unix_time::{UnixMs, now_unix_ms};
use anteroom_wire::{SessionId, diagnosis::Verdict};
use parking_lot::Mutex;
use std::collections::BTreeMap;

/// Verdicts that are kept; those of the oldest sessions are dropped.
const VERDICTS_MAX: usize = 20_000;
/// How long after its end a session's timeline can still get the entry that explains it, milliseconds: its machine's removal takes
/// seconds.
const SETTLED_AFTER_MS: u64 = 60_000;

/// The verdicts of sessions that ended long enough ago.
#[derive(Debug, Default)]
pub struct SettledVerdicts(Mutex<BTreeMap<SessionId, Verdict>>);

impl SettledVerdicts {
    /// The session's verdict, if it is known.
    pub fn get(&self, id: &SessionId) -> Option<Verdict> {
        self.0.lock().get(id).copied()
    }

    /// Keeps the verdict if the session ended long enough ago.
    pub fn insert_settled(&self, id: &SessionId, verdict: Verdict, ended_at_ms: UnixMs) {
        if now_unix_ms() > ended_at_ms.saturating_add(SETTLED_AFTER_MS) {
            self.insert(id, verdict);
        }
    }

    fn insert(&self, id: &SessionId, verdict: Verdict) {
        let mut verdicts = self.0.lock();
        verdicts.insert(id.clone(), verdict);
        while verdicts.len() > VERDICTS_MAX {
            verdicts.pop_first();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_of_the_oldest_sessions_are_dropped() {
        let verdicts = SettledVerdicts::default();
        let id = |number: usize| SessionId::from_parts(number as u64, [0; 10]);
        for number in 0..=VERDICTS_MAX {
            verdicts.insert(&id(number), Verdict::Cancelled);
        }
        assert_eq!((verdicts.get(&id(0)), verdicts.get(&id(1))), (None, Some(Verdict::Cancelled)));
    }
}
