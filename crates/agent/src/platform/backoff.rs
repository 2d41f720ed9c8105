//! How long to wait before the next attempt.

use std::time::Duration;

/// Delays that double from `min` to `max` and restart at `min` after an attempt that lasted long enough.
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    min: Duration,
    max: Duration,
    success_after: Duration,
    next: Duration,
}

impl Backoff {
    /// `success_after`: an attempt that lasted this long counts as a success.
    pub(crate) fn new(min: Duration, max: Duration, success_after: Duration) -> Self {
        Self { min, max: max.max(min), success_after, next: min }
    }

    /// The delay before the next attempt, after one that lasted `lasted`.
    pub(crate) fn next_delay(&mut self, lasted: Duration) -> Duration {
        if lasted >= self.success_after {
            self.next = self.min;
        }
        let delay = self.next;
        self.next = (self.next * 2).min(self.max);
        delay
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn delays_double_up_to_the_maximum() {
        let mut backoff = Backoff::new(ms(100), ms(350), ms(10_000));
        let delays: Vec<_> = (0..5).map(|_| backoff.next_delay(ms(1))).collect();
        assert_eq!(delays, [ms(100), ms(200), ms(350), ms(350), ms(350)]);
    }

    #[test]
    fn delay_restarts_at_the_minimum_after_a_success() {
        let mut backoff = Backoff::new(ms(100), ms(5_000), ms(10_000));
        backoff.next_delay(ms(1));
        backoff.next_delay(ms(1));
        assert_eq!(backoff.next_delay(ms(10_000)), ms(100));
        assert_eq!(backoff.next_delay(ms(1)), ms(200));
    }

    #[test]
    fn maximum_below_the_minimum_is_raised() {
        let mut backoff = Backoff::new(ms(100), ms(1), ms(1_000));
        assert_eq!(backoff.next_delay(ms(0)), ms(100));
        assert_eq!(backoff.next_delay(ms(0)), ms(100));
    }
}
