//! Until when this host may act.
//!
//! The deadline counts from the moment at which a heartbeat was *sent*: the register may have accepted it any time after that, and others
//! count their silence from then on. An answer that arrives after the deadline changes nothing, since others may have decided
//! by then that this host is dead. The host then asks the database and begins again, without machines.

use crate::{ClusterTimes, boottime_ms};
use std::sync::atomic::{AtomicU64, Ordering};

const STOPPED: u64 = 0;
const NEVER: u64 = u64::MAX;

/// The end of the time in which a host may act. A value, so that rules can be checked without a clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Deadline(u64);

impl Deadline {
    /// Of a host that may not act.
    pub const STOPPED: Self = Self(STOPPED);

    /// Whether the host may act at this time.
    pub fn may_act(self, now_ms: u64) -> bool {
        now_ms < self.0
    }

    /// After an acknowledgement that arrived at `now_ms`, of a heartbeat that was sent at `sent_at_ms`. `None`: it is too late, and
    /// the host may not act.
    pub fn extended(self, sent_at_ms: u64, now_ms: u64, times: ClusterTimes) -> Option<Self> {
        let until_ms = sent_at_ms.saturating_add(times.renew_deadline_ms());
        self.may_act(now_ms).then(|| Self(self.0.max(until_ms)))
    }

    /// Of a stopped host that the database has acknowledged at `now_ms`, asked at `sent_at_ms`. `None`: the answer came too late.
    pub fn begun(sent_at_ms: u64, now_ms: u64, times: ClusterTimes) -> Option<Self> {
        let deadline = Self(sent_at_ms.saturating_add(times.renew_deadline_ms()));
        deadline.may_act(now_ms).then_some(deadline)
    }

    /// The boottime from which the host may not act, milliseconds.
    pub fn at_ms(self) -> u64 {
        self.0
    }

    /// The same deadline after the clock has advanced, for a model in which the present is always `now_ms`.
    #[cfg(test)]
    pub(crate) fn moved_back(self, by_ms: u64, now_ms: u64) -> Self {
        let moved = Self(self.0.saturating_sub(by_ms));
        if moved.may_act(now_ms) { moved } else { Self::STOPPED }
    }
}

/// The deadline of this host, shared by everything that acts for it. Reading it costs one atomic load and one look at the clock.
#[derive(Debug)]
pub struct RenewDeadline {
    until_ms: AtomicU64,
    times: ClusterTimes,
}

impl RenewDeadline {
    /// Of a host in a cluster. It may not act before [`begin`](Self::begin).
    pub fn new(times: ClusterTimes) -> Self {
        Self { until_ms: AtomicU64::new(STOPPED), times }
    }

    /// Of a server without a cluster: it may always act.
    pub fn alone() -> Self {
        Self { until_ms: AtomicU64::new(NEVER), times: ClusterTimes::ETCD }
    }

    /// Whether this host may act now.
    pub fn may_act(&self) -> bool {
        let deadline = self.deadline();
        deadline.0 == NEVER || deadline.may_act(boottime_ms())
    }

    /// Begins to act: the host has joined, or the database has acknowledged a request that was sent at `sent_at_ms` after the host had
    /// stopped. False: that answer came too late.
    pub fn begin(&self, sent_at_ms: u64) -> bool {
        let begun = Deadline::begun(sent_at_ms, boottime_ms(), self.times);
        self.update(|_| begun)
    }

    /// Extends the deadline by an acknowledged heartbeat that was sent at `sent_at_ms`. Call it when the answer has arrived.
    /// False: the deadline had passed, and this host has stopped for good; only [`begin`](Self::begin) ends that.
    pub fn extend(&self, sent_at_ms: u64) -> bool {
        let now_ms = boottime_ms();
        let extended = self.update(|deadline| deadline.extended(sent_at_ms, now_ms, self.times));
        if !extended {
            self.stop();
        }
        extended
    }

    /// This host may not act from now on, until [`begin`](Self::begin). Without effect on a server without a cluster.
    pub fn stop(&self) {
        self.update(|_| Some(Deadline::STOPPED));
    }

    /// The present deadline.
    pub fn deadline(&self) -> Deadline {
        Deadline(self.until_ms.load(Ordering::SeqCst))
    }

    fn update(&self, change: impl Fn(Deadline) -> Option<Deadline>) -> bool {
        let next =
            |until_ms| if until_ms == NEVER { Some(NEVER) } else { change(Deadline(until_ms)).map(|next| next.0) };
        self.until_ms.fetch_update(Ordering::SeqCst, Ordering::SeqCst, next).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TIMES: ClusterTimes = ClusterTimes::ETCD;

    #[test]
    fn a_deadline_counts_from_the_moment_a_heartbeat_was_sent() {
        let begun = Deadline::begun(1_000, 1_900, TIMES).unwrap();
        assert!(begun.may_act(12_999) && !begun.may_act(13_000));
        let extended = begun.extended(3_000, 9_000, TIMES).unwrap();
        assert_eq!(extended.at_ms(), 15_000);
    }

    #[test]
    fn an_answer_after_the_deadline_extends_nothing() {
        let begun = Deadline::begun(1_000, 1_000, TIMES).unwrap();
        assert_eq!(begun.extended(12_000, 13_000, TIMES), None);
        assert_eq!(Deadline::begun(1_000, 13_000, TIMES), None);
        assert_eq!(Deadline::STOPPED.extended(1_000, 1_001, TIMES), None);
    }

    #[test]
    fn a_host_that_stopped_acts_only_after_it_began_again() {
        let deadline = RenewDeadline::new(TIMES);
        let now_ms = boottime_ms();
        assert!(!deadline.may_act() && !deadline.extend(now_ms));
        assert!(deadline.begin(now_ms) && deadline.may_act() && deadline.extend(now_ms));
        deadline.stop();
        assert!(!deadline.may_act() && !deadline.extend(boottime_ms()) && !deadline.may_act());
        assert!(deadline.begin(boottime_ms()) && deadline.may_act());
    }

    #[test]
    fn a_server_without_a_cluster_may_always_act() {
        let deadline = RenewDeadline::alone();
        deadline.stop();
        assert!(deadline.may_act() && deadline.extend(0) && deadline.may_act());
    }

    proptest! {
        /// Acknowledgements of which each arrives in time, in any order, never shorten the time and never grant more than was sent.
        #[test]
        fn a_deadline_is_that_of_the_newest_heartbeat_that_was_acknowledged_in_time(
            answers in proptest::collection::vec((0_u64..40_000, 0_u64..20_000), 0..30),
        ) {
            let mut now_ms = 1_000;
            let (mut deadline, mut newest) = (Deadline::begun(now_ms, now_ms, TIMES), now_ms);
            for (pause, age) in answers {
                now_ms += pause;
                let sent_at_ms = now_ms.saturating_sub(age);
                let in_time = deadline.is_some_and(|deadline| deadline.may_act(now_ms));
                deadline = deadline.and_then(|deadline| deadline.extended(sent_at_ms, now_ms, TIMES));
                prop_assert_eq!(deadline.is_some(), in_time);
                newest = newest.max(sent_at_ms);
                if let Some(deadline) = deadline {
                    prop_assert_eq!(deadline.at_ms(), newest + TIMES.renew_deadline_ms());
                }
            }
        }
    }
}
