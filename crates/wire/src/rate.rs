//! A rate with a burst: the generic cell rate algorithm (ITU-T I.371), which is a token bucket without a timer.

use std::time::{Duration, Instant};

/// Permits `per_s` units a second, and `burst` units at once after a pause.
#[derive(Debug, Clone)]
pub struct Rate {
    interval: Duration,
    /// For how long units may be taken ahead of their time.
    ahead_max: Duration,
    /// When the units that were taken so far have become due; `None`: nothing was taken.
    due: Option<Instant>,
}

impl Rate {
    /// A rate whose burst is available. Zero counts as one.
    pub fn new(per_s: u32, burst: u32) -> Self {
        let interval = Duration::from_secs(1) / per_s.max(1);
        Self { interval, ahead_max: interval.saturating_mul(burst.max(1)), due: None }
    }

    /// A rate of one unit every `interval_ms` milliseconds.
    pub fn every_ms(interval_ms: u32, burst: u32) -> Self {
        let interval = Duration::from_millis(interval_ms.into());
        Self { interval, ahead_max: interval.saturating_mul(burst.max(1)), due: None }
    }

    /// When another unit is permitted; not before `now`.
    pub fn ready_at(&self, now: Instant) -> Instant {
        let Some(due) = self.due else { return now };
        // One unit fits if it is due at most `ahead_max` from now.
        (due + self.interval).checked_sub(self.ahead_max).map_or(now, |ready| ready.max(now))
    }

    /// Takes units, also if they are not permitted yet: then [`Rate::ready_at`] is later.
    pub fn take(&mut self, units: usize, now: Instant) {
        let units = u32::try_from(units).unwrap_or(u32::MAX);
        self.due = Some(self.due.map_or(now, |due| due.max(now)) + self.interval.saturating_mul(units));
    }

    /// Takes one unit if it is permitted now.
    ///
    /// # Errors
    /// It is not permitted; how long until it is.
    pub fn try_take(&mut self, now: Instant) -> Result<(), Duration> {
        let wait = self.ready_at(now) - now;
        if wait > Duration::ZERO {
            return Err(wait);
        }
        self.take(1, now);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_permitted_at_once_and_then_the_rate() {
        let (mut rate, start) = (Rate::new(10, 5), Instant::now());
        for _ in 0..5 {
            assert_eq!(rate.try_take(start), Ok(()));
        }
        assert_eq!(rate.try_take(start), Err(Duration::from_millis(100)));
        let later = start + Duration::from_millis(100);
        assert_eq!(rate.try_take(later), Ok(()));
        assert_eq!(rate.try_take(later), Err(Duration::from_millis(100)));
        let much_later = start + Duration::from_secs(60);
        let taken = (0..100).take_while(|_| rate.try_take(much_later).is_ok()).count();
        assert_eq!(taken, 5, "a pause permits one burst");
    }

    #[test]
    fn units_that_are_taken_ahead_of_their_time_delay_the_next() {
        let (mut rate, start) = (Rate::new(1_000, 1_000), Instant::now());
        rate.take(5_000, start);
        assert_eq!(rate.ready_at(start), start + Duration::from_millis(4_001));
    }
}
