//! The time in milliseconds since 1970, and RFC 3339 for output.

use anteroom_wire::time::to_unix_ms;
use std::{
    sync::atomic::{AtomicI64, Ordering::Relaxed},
    time::{SystemTime, UNIX_EPOCH},
};

/// Milliseconds since 1970.
pub type UnixMs = u64;

/// What is added to the system time, milliseconds: 0 unless a host of a cluster has a wrong clock.
static CORRECTION_MS: AtomicI64 = AtomicI64::new(0);

/// The current time: the system's, with its correction. A time before 1970 counts as 1970.
pub fn now_unix_ms() -> UnixMs {
    system_unix_ms().saturating_add_signed(CORRECTION_MS.load(Relaxed))
}

/// The current time in nanoseconds since 1970, for a claim.
pub fn now_unix_ns() -> u64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let system_ns = u64::try_from(since_epoch.as_nanos()).unwrap_or(u64::MAX);
    system_ns.saturating_add_signed(CORRECTION_MS.load(Relaxed).saturating_mul(1_000_000))
}

/// The system time without a correction.
pub(crate) fn system_unix_ms() -> UnixMs {
    to_unix_ms(SystemTime::now())
}

/// Adds this to the system time from now on, milliseconds.
pub(crate) fn correct_by(correction_ms: i64) {
    CORRECTION_MS.store(correction_ms, Relaxed);
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
