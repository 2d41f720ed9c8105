//! The verdicts of ended sessions that are known. They do not change any more.

use anteroom_wire::{SessionId, diagnosis::Verdict};
use parking_lot::Mutex;
use std::collections::BTreeMap;

/// Verdicts that are kept; those of the oldest sessions are dropped.
const VERDICTS_MAX: usize = 20_000;
/// The verdicts of sessions that ended long enough ago.
#[derive(Debug, Default)]
pub struct SettledVerdicts(Mutex<BTreeMap<SessionId, Verdict>>);

impl SettledVerdicts {
    /// The session's verdict, if it is known.
    pub fn get(&self, id: &SessionId) -> Option<Verdict> {
        self.0.lock().get(id).copied()
    }

    /// Keeps a verdict.
    pub fn insert(&self, id: &SessionId, verdict: Verdict) {
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
