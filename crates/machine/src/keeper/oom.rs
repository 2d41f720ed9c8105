//! Whether the host's kernel killed somebody for want of memory about when the machine's process ended.
//!
//! The kernel only counts its oom_kills. A machine lives for hours: a kill of somebody else in the morning says nothing of a
//! signal in the afternoon, so the count is taken anew again and again, and the last but one is what an end is compared with.

use std::time::{Duration, Instant};

/// Between two looks at the count.
pub(super) const SAMPLE_INTERVAL: Duration = Duration::from_secs(10);

/// The kernel's count as it was at the last two looks.
#[derive(Debug)]
pub(super) struct OomKillCounter {
    counts: [Option<u64>; 2],
    looked: Instant,
}

impl OomKillCounter {
    /// `count`: what the kernel says at this moment; `None`: it does not say.
    pub(super) fn new(now: Instant, count: Option<u64>) -> Self {
        Self { counts: [count; 2], looked: now }
    }

    /// The process lives: `count` is asked for when it is time to look again.
    pub(super) fn look(&mut self, now: Instant, count: impl FnOnce() -> Option<u64>) {
        if now.saturating_duration_since(self.looked) >= SAMPLE_INTERVAL {
            self.counts = [self.counts[1], count()];
            self.looked = now;
        }
    }

    /// The process has ended: whether somebody was killed since the last look but one.
    pub(super) fn any_since(&self, count: Option<u64>) -> bool {
        matches!((count, self.counts[0]), (Some(now), Some(then)) if now > then)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kill_about_the_time_of_the_end_counts_and_one_of_long_ago_does_not() {
        let began = Instant::now();
        let at = |looks: u32| began + SAMPLE_INTERVAL * looks;
        let mut oom_kills = OomKillCounter::new(began, Some(7));
        assert!(!oom_kills.any_since(Some(7)) && oom_kills.any_since(Some(8)));
        // Somebody is killed at once; nobody looks before it is time.
        oom_kills.look(began, || panic!("too early"));
        oom_kills.look(at(1), || Some(8));
        assert!(oom_kills.any_since(Some(8)), "it may take a moment until who was killed has ended");
        oom_kills.look(at(2), || Some(8));
        assert!(!oom_kills.any_since(Some(8)), "whoever it was, it was not this one");
        assert!(oom_kills.any_since(Some(9)));
    }

    #[test]
    fn a_kernel_that_does_not_count_is_not_taken_for_one_that_kills() {
        let oom_kills = OomKillCounter::new(Instant::now(), None);
        assert!(!oom_kills.any_since(Some(1)) && !oom_kills.any_since(None));
    }
}
