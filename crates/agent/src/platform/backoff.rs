//! How long to wait before the next try.

use std::time::Duration;

/// Waits that double from `min` to `max`, and begin again after a try that held.
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    min: Duration,
    max: Duration,
    held: Duration,
    next: Duration,
}

impl Backoff {
    /// `held`: a try that lasted this long counts as a success.
    pub(crate) fn new(min: Duration, max: Duration, held: Duration) -> Self {
        Self { min, max: max.max(min), held, next: min }
    }

    /// For a try that ended after `lasted`: the wait before the next.
    pub(crate) fn after(&mut self, lasted: Duration) -> Duration {
        if lasted >= self.held {
            self.next = self.min;
        }
        let wait = self.next;
        self.next = (self.next * 2).min(self.max);
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn waits_double_up_to_the_longest() {
        let mut backoff = Backoff::new(ms(100), ms(350), ms(10_000));
        let waits: Vec<_> = (0..5).map(|_| backoff.after(ms(1))).collect();
        assert_eq!(waits, [ms(100), ms(200), ms(350), ms(350), ms(350)]);
    }

    #[test]
    fn a_try_that_held_begins_again_at_the_shortest() {
        let mut backoff = Backoff::new(ms(100), ms(5_000), ms(10_000));
        backoff.after(ms(1));
        backoff.after(ms(1));
        assert_eq!(backoff.after(ms(10_000)), ms(100));
        assert_eq!(backoff.after(ms(1)), ms(200));
    }

    #[test]
    fn a_longest_below_the_shortest_is_raised() {
        let mut backoff = Backoff::new(ms(100), ms(1), ms(1_000));
        assert_eq!(backoff.after(ms(0)), ms(100));
        assert_eq!(backoff.after(ms(0)), ms(100));
    }
}
