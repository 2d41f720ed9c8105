//! Whether the host's kernel killed a process for lack of memory at about the time of the machine's exit.
//!
//! The kernel only counts its OOM kills. A machine runs for hours, and a kill of another process hours ago does not explain an
//! exit now. So the count is sampled periodically, and at an exit it is compared with the last sample but one.

use std::time::{Duration, Instant};

/// Interval between two samples.
pub(super) const SAMPLE_INTERVAL: Duration = Duration::from_secs(10);

/// The kernel's count at the last two samples.
#[derive(Debug)]
pub(super) struct OomKillCounter {
    counts: [Option<u64>; 2],
    sampled: Instant,
}

impl OomKillCounter {
    /// `count`: the kernel's present count; `None` if it does not count.
    pub(super) fn new(now: Instant, count: Option<u64>) -> Self {
        Self { counts: [count; 2], sampled: now }
    }

    /// Takes a sample with `count` if the interval has passed. Call while the process is running.
    pub(super) fn sample(&mut self, now: Instant, count: impl FnOnce() -> Option<u64>) {
        if now.saturating_duration_since(self.sampled) >= SAMPLE_INTERVAL {
            self.counts = [self.counts[1], count()];
            self.sampled = now;
        }
    }

    /// Whether the count has grown since the last sample but one. Call when the process has exited.
    pub(super) fn has_grown_to(&self, count: Option<u64>) -> bool {
        matches!((count, self.counts[0]), (Some(now), Some(then)) if now > then)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recent_oom_kill_counts_and_an_old_one_does_not() {
        let began = Instant::now();
        let at = |samples: u32| began + SAMPLE_INTERVAL * samples;
        let mut oom_kills = OomKillCounter::new(began, Some(7));
        assert!(!oom_kills.has_grown_to(Some(7)) && oom_kills.has_grown_to(Some(8)));
        // A process is killed at once; no sample is taken before the interval has passed.
        oom_kills.sample(began, || panic!("too early"));
        oom_kills.sample(at(1), || Some(8));
        assert!(oom_kills.has_grown_to(Some(8)), "a killed process may take a moment to exit");
        oom_kills.sample(at(2), || Some(8));
        assert!(!oom_kills.has_grown_to(Some(8)), "the kill was too long ago");
        assert!(oom_kills.has_grown_to(Some(9)));
    }

    #[test]
    fn unknown_oom_kill_count_is_not_an_oom_kill() {
        let oom_kills = OomKillCounter::new(Instant::now(), None);
        assert!(!oom_kills.has_grown_to(Some(1)) && !oom_kills.has_grown_to(None));
    }
}
