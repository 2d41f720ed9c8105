//! The system time in milliseconds since 1970, and RFC 3339 for output.

use anteroom_wire::time::to_unix_ms;
use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970.
pub type UnixMs = u64;

/// The current system time. A time before 1970 counts as 1970.
pub fn now_unix_ms() -> UnixMs {
    to_unix_ms(SystemTime::now())
}

/// The current system time in nanoseconds since 1970, for a claim.
pub fn now_unix_ns() -> u64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_epoch.as_nanos()).unwrap_or(u64::MAX)
}

/// RFC 3339 in UTC with milliseconds: `2026-01-31T12:00:00.123Z`.
pub fn format_rfc3339(at: UnixMs) -> String {
    let at = i64::try_from(at).unwrap_or(i64::MAX);
    jiff::Timestamp::from_millisecond(at).map_or_else(|_| format!("{at} ms"), |time| format!("{time:.3}"))
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_time_is_written_as_rfc_3339_with_milliseconds() {
        assert_eq!(super::format_rfc3339(1_769_860_800_123), "2026-01-31T12:00:00.123Z");
        assert_eq!(super::format_rfc3339(0), "1970-01-01T00:00:00.000Z");
    }
}
