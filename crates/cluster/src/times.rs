//! The times of a cluster. All its hosts use the same.

/// Highest difference of the rates of two clocks, in percent. Real clocks differ by less than 0.1 %.
const DRIFT_PERCENT_MAX: u64 = 5;
/// What remains between the latest act of a host and the earliest fence, ms.
const MARGIN_MS: u64 = 1_000;
/// So many heartbeats are sent within the renew deadline, at least.
const HEARTBEATS_MIN: u64 = 3;
/// The longest time that can be configured, seconds.
const TIME_S_MAX: u64 = 3_600;

/// When hosts write, stop and are fenced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ClusterTimes {
    heartbeat_interval_ms: u64,
    renew_deadline_ms: u64,
    fence_after_ms: u64,
}

/// Why times cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTimes {
    /// A host that died would be believed for too long.
    #[error("a time of the cluster is longer than {TIME_S_MAX} s")]
    TooLong,
    /// A host could be fenced while it still acts.
    #[error(
        "fence_after_s = {fence_after_s} is too short for renew_deadline_s = {renew_deadline_s}: 95 % of fence_after_s must be at least \
         105 % of renew_deadline_s and one second"
    )]
    FenceTooEarly {
        /// As configured, seconds.
        fence_after_s: u64,
        /// As configured, seconds.
        renew_deadline_s: u64,
    },
    /// One lost heartbeat could stop a host.
    #[error(
        "heartbeat_interval_ms = {heartbeat_interval_ms} is too long for renew_deadline_s = {renew_deadline_s}: a host must send at least \
         {HEARTBEATS_MIN} heartbeats in that time, and the interval must not be 0"
    )]
    HeartbeatsTooRare {
        /// As configured, milliseconds.
        heartbeat_interval_ms: u64,
        /// As configured, seconds.
        renew_deadline_s: u64,
    },
}

impl ClusterTimes {
    /// The default times if heartbeats are written to etcd, whose leader is replaced within 1 to 4 s.
    pub const ETCD: Self = Self { heartbeat_interval_ms: 2_000, renew_deadline_ms: 12_000, fence_after_ms: 15_000 };
    /// The default times if heartbeats are written to the database only, whose failover takes up to 45 s.
    pub const DATABASE: Self = Self { heartbeat_interval_ms: 2_000, renew_deadline_ms: 60_000, fence_after_ms: 75_000 };

    /// These times, if they are safe: also with clocks whose rates differ by 5 %, a host stops one second before it may be fenced.
    pub fn new(heartbeat_interval_ms: u64, renew_deadline_s: u64, fence_after_s: u64) -> Result<Self, InvalidTimes> {
        if renew_deadline_s.max(fence_after_s) > TIME_S_MAX || heartbeat_interval_ms > TIME_S_MAX * 1_000 {
            return Err(InvalidTimes::TooLong);
        }
        let (renew_deadline_ms, fence_after_ms) = (renew_deadline_s * 1_000, fence_after_s * 1_000);
        if heartbeat_interval_ms == 0 || heartbeat_interval_ms * HEARTBEATS_MIN > renew_deadline_ms {
            return Err(InvalidTimes::HeartbeatsTooRare { heartbeat_interval_ms, renew_deadline_s });
        }
        let earliest_fence = fence_after_ms * (100 - DRIFT_PERCENT_MAX);
        let latest_act = renew_deadline_ms * (100 + DRIFT_PERCENT_MAX) + MARGIN_MS * 100;
        if earliest_fence < latest_act {
            return Err(InvalidTimes::FenceTooEarly { fence_after_s, renew_deadline_s });
        }
        Ok(Self { heartbeat_interval_ms, renew_deadline_ms, fence_after_ms })
    }

    /// Milliseconds from one heartbeat to the next, before jitter.
    pub fn heartbeat_interval_ms(self) -> u64 {
        self.heartbeat_interval_ms
    }

    /// A host may act for so many milliseconds after it sent its last acknowledged heartbeat.
    pub fn renew_deadline_ms(self) -> u64 {
        self.renew_deadline_ms
    }

    /// A host may be fenced after so many milliseconds without a heartbeat.
    pub fn fence_after_ms(self) -> u64 {
        self.fence_after_ms
    }

    /// The delay of the next heartbeat, milliseconds: 80 to 120 % of the interval, so that hosts do not write in step.
    pub fn next_heartbeat_ms(self, random: u64) -> u64 {
        let spread = self.heartbeat_interval_ms * 2 / 5;
        self.heartbeat_interval_ms - spread / 2 + random % (spread + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_times_are_safe() {
        assert_eq!(ClusterTimes::new(2_000, 12, 15), Ok(ClusterTimes::ETCD));
        assert_eq!(ClusterTimes::new(2_000, 60, 75), Ok(ClusterTimes::DATABASE));
    }

    #[test]
    fn times_at_which_a_host_could_act_after_its_fence_are_refused() {
        let error = ClusterTimes::new(2_000, 12, 14).unwrap_err();
        assert_eq!(error, InvalidTimes::FenceTooEarly { fence_after_s: 14, renew_deadline_s: 12 });
        assert!(error.to_string().contains("fence_after_s = 14"), "{error}");
        // 0.95 · 3 s ≥ 1.05 · 1 s + 1 s
        assert!(ClusterTimes::new(300, 1, 3).is_ok());
        assert!(ClusterTimes::new(300, 1, 2).is_err());
    }

    #[test]
    fn heartbeats_that_are_too_rare_are_refused() {
        assert!(matches!(ClusterTimes::new(4_001, 12, 15), Err(InvalidTimes::HeartbeatsTooRare { .. })));
        assert!(matches!(ClusterTimes::new(0, 12, 15), Err(InvalidTimes::HeartbeatsTooRare { .. })));
        assert_eq!(ClusterTimes::new(u64::MAX, u64::MAX, u64::MAX), Err(InvalidTimes::TooLong));
    }

    #[test]
    fn heartbeats_are_spread_by_a_fifth_in_both_directions() {
        let delays: Vec<_> = (0..10_000).map(|random| ClusterTimes::ETCD.next_heartbeat_ms(random)).collect();
        assert_eq!((delays.iter().min(), delays.iter().max()), (Some(&1_600), Some(&2_400)));
    }
}
