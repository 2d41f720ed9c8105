//! Delays before retries.

use std::time::Duration;

/// Delays that double from retry to retry, up to a maximum.
#[derive(Debug, Clone)]
pub struct Backoff {
    min: Duration,
    max: Duration,
    retries: u32,
}

impl Backoff {
    /// The first delay is `min`; no delay is longer than `max`.
    pub const fn new(min: Duration, max: Duration) -> Self {
        Self { min, max, retries: 0 }
    }

    /// The delay before retry number `retry`, from 0.
    pub fn delay_of_retry(&self, retry: u32) -> Duration {
        self.min.saturating_mul(1 << retry.min(31)).min(self.max)
    }

    /// The delay before the next retry.
    pub fn next_delay(&mut self) -> Duration {
        let delay = self.delay_of_retry(self.retries);
        self.retries = self.retries.saturating_add(1);
        delay
    }

    /// Starts again with the first delay, after a success.
    pub fn reset(&mut self) {
        self.retries = 0;
    }
}

/// Shortens a delay by up to half, so that retries of several senders spread out. `random` chooses how much.
pub fn with_jitter(delay: Duration, random: u16) -> Duration {
    let half = delay / 2;
    half + half / u32::from(u16::MAX) * u32::from(random)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn delays_double_up_to_the_maximum() {
        let mut backoff = Backoff::new(ms(100), ms(350));
        let delays: Vec<_> = (0..5).map(|_| backoff.next_delay()).collect();
        assert_eq!(delays, [ms(100), ms(200), ms(350), ms(350), ms(350)]);
        assert_eq!(backoff.delay_of_retry(1), ms(200));
        assert_eq!(backoff.delay_of_retry(u32::MAX), ms(350));
        assert_eq!(Backoff::new(ms(5), Duration::MAX).delay_of_retry(40), ms(5 << 31));
    }

    #[test]
    fn the_first_delay_follows_a_reset() {
        let mut backoff = Backoff::new(ms(100), ms(5_000));
        backoff.next_delay();
        backoff.next_delay();
        backoff.reset();
        assert_eq!([backoff.next_delay(), backoff.next_delay()], [ms(100), ms(200)]);
    }

    #[test]
    fn jitter_shortens_a_delay_by_at_most_half() {
        assert_eq!(with_jitter(ms(100), 0), ms(50));
        assert_eq!(with_jitter(ms(131_070), u16::MAX), ms(131_070));
        let between = with_jitter(ms(100), u16::MAX / 2);
        assert!((ms(74)..ms(76)).contains(&between), "{between:?}");
        assert!(with_jitter(Duration::MAX, u16::MAX) <= Duration::MAX);
    }
}
