//! Whether a VMM's answer is overdue, in time during which the keeper itself was running: a host that was suspended, or a keeper
//! that was frozen together with its VMM, does not count.

use std::time::{Duration, Instant};

/// Interval between two signs of life of an idle VMM.
const PING_INTERVAL: Duration = Duration::from_secs(5);
/// Interval between two checks while an answer is missing. A longer gap means that the keeper was not running.
const CHECK_INTERVAL: Duration = Duration::from_millis(500);

/// Measures the time since the last answer.
#[derive(Debug)]
pub(super) struct Watchdog {
    answer_max: Duration,
    waited: Duration,
    checked: Instant,
    answered: Instant,
}

impl Watchdog {
    pub(super) fn new(answer_max: Duration, now: Instant) -> Self {
        Self { answer_max, waited: Duration::ZERO, checked: now, answered: now }
    }

    /// An answer has arrived.
    pub(super) fn answered(&mut self, now: Instant) {
        self.waited = Duration::ZERO;
        self.answered = now;
    }

    /// Whether a missing answer is overdue. `is_waiting`: an answer is missing.
    pub(super) fn is_overdue(&mut self, is_waiting: bool, now: Instant) -> bool {
        let passed = now.saturating_duration_since(std::mem::replace(&mut self.checked, now));
        if !is_waiting {
            self.waited = Duration::ZERO;
            return false;
        }
        self.waited += passed.min(CHECK_INTERVAL * 2);
        self.waited >= self.answer_max
    }

    /// Whether an idle VMM must send a sign of life.
    pub(super) fn is_ping_due(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.answered) >= PING_INTERVAL.min(self.answer_max)
    }

    /// How long the next check may be delayed.
    pub(super) fn check_after(&self) -> Duration {
        CHECK_INTERVAL.min(self.answer_max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER_MAX: Duration = Duration::from_secs(20);

    #[test]
    fn missing_answer_is_overdue_after_the_time_in_which_the_keeper_ran() {
        let start = Instant::now();
        let mut watchdog = Watchdog::new(ANSWER_MAX, start);
        let checks = 1..=40u32;
        let overdue: Vec<bool> = checks.map(|n| watchdog.is_overdue(true, start + CHECK_INTERVAL * n)).collect();
        assert_eq!(overdue.iter().position(|is| *is), Some(39), "{overdue:?}");
        watchdog.answered(start + ANSWER_MAX);
        assert!(!watchdog.is_overdue(true, start + ANSWER_MAX + CHECK_INTERVAL));
    }

    #[test]
    fn hour_in_which_the_keeper_was_frozen_does_not_count() {
        let start = Instant::now();
        let mut watchdog = Watchdog::new(ANSWER_MAX, start);
        assert!(!watchdog.is_overdue(true, start + Duration::from_secs(3_600)));
        assert!(watchdog.is_ping_due(start + Duration::from_secs(3_600)));
    }

    #[test]
    fn idle_vmm_is_never_overdue() {
        let start = Instant::now();
        let mut watchdog = Watchdog::new(ANSWER_MAX, start);
        assert!(!(1..=100u32).any(|n| watchdog.is_overdue(false, start + CHECK_INTERVAL * n)));
        assert!(!watchdog.is_ping_due(start + CHECK_INTERVAL));
    }
}
