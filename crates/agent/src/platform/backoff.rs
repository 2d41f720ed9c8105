//! The delay before a program that exited is started again.

use anteroom_wire::backoff::Backoff;
use std::time::Duration;

/// Delays that double from restart to restart, and begin again after a run that lasted long enough.
#[derive(Debug, Clone)]
pub(crate) struct RestartBackoff {
    backoff: Backoff,
    stable_after: Duration,
}

impl RestartBackoff {
    /// Delays from `min` to `max`; a run that lasted `stable_after` counts as a success.
    pub(crate) fn new(min: Duration, max: Duration, stable_after: Duration) -> Self {
        Self { backoff: Backoff::new(min, max), stable_after }
    }

    /// The delay before the next start, after a run that lasted `lasted`.
    pub(crate) fn next_delay(&mut self, lasted: Duration) -> Duration {
        if lasted >= self.stable_after {
            self.backoff.reset();
        }
        self.backoff.next_delay()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn delay_restarts_at_the_minimum_after_a_stable_run() {
        let mut backoff = RestartBackoff::new(ms(100), ms(5_000), ms(10_000));
        backoff.next_delay(ms(1));
        backoff.next_delay(ms(1));
        assert_eq!(backoff.next_delay(ms(10_000)), ms(100));
        assert_eq!(backoff.next_delay(ms(1)), ms(200));
    }
}
