//! Metrics of database writes: counters by kind and outcome; slow writes are logged.

use anteroom_store::{ObservedWrite, WriteKind, WriteObserver, WriteOutcome};
use anteroom_wire::time::to_millis;
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

/// The counters of one server since its start.
pub struct DbMetrics {
    counts: [[AtomicU64; OUTCOMES]; KINDS],
    slow: AtomicU64,
    slow_ms: u64,
    next: Option<Arc<dyn WriteObserver>>,
}

impl DbMetrics {
    /// All counters at zero. A write that takes longer than `slow_ms` milliseconds is logged; `next` observes every write as
    /// well.
    pub fn new(slow_ms: u64, next: Option<Arc<dyn WriteObserver>>) -> Arc<Self> {
        let counts = array::from_fn(|_| array::from_fn(|_| AtomicU64::new(0)));
        Arc::new(Self { counts, slow: AtomicU64::new(0), slow_ms, next })
    }

    /// `anteroom_store_writes_total`: the number of writes of this kind with this outcome.
    pub fn write_count(&self, kind: WriteKind, outcome: WriteOutcome) -> u64 {
        self.counts[kind as usize][outcome as usize].load(Relaxed)
    }

    /// The number of writes of any kind with this outcome.
    pub fn write_count_with_outcome(&self, outcome: WriteOutcome) -> u64 {
        WriteKind::ALL.iter().map(|kind| self.write_count(*kind, outcome)).sum()
    }

    /// The number of slow writes of any outcome.
    pub fn slow_write_count(&self) -> u64 {
        self.slow.load(Relaxed)
    }
}

impl WriteObserver for DbMetrics {
    fn before(&self, write: &ObservedWrite) {
        if let Some(next) = &self.next {
            next.before(write);
        }
    }

    fn after(&self, write: &ObservedWrite, outcome: WriteOutcome, took: Duration) {
        self.counts[write.kind as usize][outcome as usize].fetch_add(1, Relaxed);
        let took_ms = to_millis(took);
        if took_ms > self.slow_ms {
            self.slow.fetch_add(1, Relaxed);
            tracing::warn!(outcome = "slow_write", write = %write, result = outcome.as_str(), waited_ms = took_ms, "slow database write");
        }
        if let Some(next) = &self.next {
            next.after(write, outcome, took);
        }
    }
}

/// The sums, for a log or a debugger.
impl std::fmt::Debug for DbMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let sums = WriteOutcome::ALL.iter().map(|outcome| (outcome.as_str(), self.write_count_with_outcome(*outcome)));
        f.debug_map().entries(sums).entry(&"slow", &self.slow_write_count()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_are_counted_by_kind_and_outcome_and_forwarded_to_the_next_observer() {
        let inner = DbMetrics::new(u64::MAX, None);
        let metrics = DbMetrics::new(10, Some(inner.clone()));
        let touch = ObservedWrite::from(WriteKind::Touch);
        for (outcome, ms) in [(WriteOutcome::Written, 1), (WriteOutcome::Written, 11), (WriteOutcome::Failed, 10)] {
            metrics.before(&touch);
            metrics.after(&touch, outcome, Duration::from_millis(ms));
        }
        for counted in [&metrics, &inner] {
            assert_eq!(counted.write_count(WriteKind::Touch, WriteOutcome::Written), 2);
            assert_eq!(counted.write_count(WriteKind::Touch, WriteOutcome::Failed), 1);
            assert_eq!(counted.write_count(WriteKind::Lease, WriteOutcome::Written), 0);
        }
        assert_eq!((metrics.slow_write_count(), inner.slow_write_count()), (1, 0));
    }
}
