//! How the database's writes fare: counted by kind and outcome, and a slow one is named in the log.

use anteroom_store::{Write, WriteKind, WriteObserver, WriteOutcome};
use std::{
    array,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

const KINDS: usize = WriteKind::ALL.len();
const OUTCOMES: usize = WriteOutcome::ALL.len();

/// The counters of one server, since its start.
pub struct DbMetrics {
    counts: [[AtomicU64; OUTCOMES]; KINDS],
    slow: AtomicU64,
    slow_ms: u64,
    next: Option<Arc<dyn WriteObserver>>,
}

impl DbMetrics {
    /// Nothing counted yet. A write that takes longer than `slow_ms` milliseconds is named in the log; `next` hears of every
    /// write too.
    pub fn new(slow_ms: u64, next: Option<Arc<dyn WriteObserver>>) -> Arc<Self> {
        let counts = array::from_fn(|_| array::from_fn(|_| AtomicU64::new(0)));
        Arc::new(Self { counts, slow: AtomicU64::new(0), slow_ms, next })
    }

    /// `store_writes_total`: how many writes of this kind ended so.
    pub fn total(&self, kind: WriteKind, outcome: WriteOutcome) -> u64 {
        self.counts[kind as usize][outcome as usize].load(Relaxed)
    }

    /// How many writes of any kind ended so.
    pub fn all(&self, outcome: WriteOutcome) -> u64 {
        WriteKind::ALL.iter().map(|kind| self.total(*kind, outcome)).sum()
    }

    /// How many writes were slow, whatever became of them.
    pub fn slow(&self) -> u64 {
        self.slow.load(Relaxed)
    }
}

impl WriteObserver for DbMetrics {
    fn before(&self, write: &Write) {
        if let Some(next) = &self.next {
            next.before(write);
        }
    }

    fn after(&self, write: &Write, outcome: WriteOutcome, took: Duration) {
        self.counts[write.kind as usize][outcome as usize].fetch_add(1, Relaxed);
        let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        if took_ms > self.slow_ms {
            self.slow.fetch_add(1, Relaxed);
            tracing::warn!(outcome = "slow_write", write = %write, became = outcome.as_str(), waited_ms = took_ms, "the database took long for a write");
        }
        if let Some(next) = &self.next {
            next.after(write, outcome, took);
        }
    }
}

/// The sums, for a log or a debugger.
impl std::fmt::Debug for DbMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let sums = WriteOutcome::ALL.iter().map(|outcome| (outcome.as_str(), self.all(*outcome)));
        f.debug_map().entries(sums).entry(&"slow", &self.slow()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_are_counted_by_kind_and_outcome_and_the_next_hears_them_too() {
        let inner = DbMetrics::new(u64::MAX, None);
        let writes = DbMetrics::new(10, Some(inner.clone()));
        let touch = Write::from(WriteKind::Touch);
        for (outcome, ms) in [(WriteOutcome::Written, 1), (WriteOutcome::Written, 11), (WriteOutcome::Failed, 10)] {
            writes.before(&touch);
            writes.after(&touch, outcome, Duration::from_millis(ms));
        }
        for counted in [&writes, &inner] {
            assert_eq!(counted.total(WriteKind::Touch, WriteOutcome::Written), 2);
            assert_eq!(counted.total(WriteKind::Touch, WriteOutcome::Failed), 1);
            assert_eq!(counted.total(WriteKind::Lease, WriteOutcome::Written), 0);
        }
        assert_eq!((writes.slow(), inner.slow()), (1, 0));
    }
}
