//! The clock of all times of this crate.

use rustix::time::{ClockId, clock_gettime};

/// Milliseconds since this machine booted. The clock goes on while the machine is suspended and cannot be set.
pub fn boottime_ms() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    let (seconds, nanoseconds) = (now.tv_sec.unsigned_abs(), now.tv_nsec.unsigned_abs());
    seconds.saturating_mul(1_000).saturating_add(nanoseconds / 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_never_goes_back() {
        let first = boottime_ms();
        assert!(first > 0);
        assert!(boottime_ms() >= first);
    }
}
