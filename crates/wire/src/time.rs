//! Times as milliseconds, the unit of all messages.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A duration in milliseconds. More than `u64` holds (500 million years) counts as its maximum.
pub fn to_millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A time in milliseconds since 1970. A time before 1970 counts as 1970.
pub fn to_unix_ms(time: SystemTime) -> u64 {
    to_millis(time.duration_since(UNIX_EPOCH).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn milliseconds_saturate_instead_of_wrapping() {
        assert_eq!(to_millis(Duration::from_micros(1_999)), 1);
        assert_eq!(to_millis(Duration::MAX), u64::MAX);
        assert_eq!(to_unix_ms(UNIX_EPOCH + Duration::from_millis(1_769_860_800_123)), 1_769_860_800_123);
        assert_eq!(to_unix_ms(UNIX_EPOCH - Duration::from_secs(1)), 0);
    }
}
