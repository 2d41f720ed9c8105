//! Sessions: duration, limits and timeouts.

use crate::settings::settings;

settings! {
    /// Sessions.
    pub struct Sessions {
        /// A session without activity for this long ends, seconds.
        idle_s_max: u64 = 600, within 1..=86_400;
        /// Longest duration of a session, seconds.
        session_s_max: u64 = 3_600, within 1..=86_400;
        /// How often the machine of one session may be replaced.
        restarts_max: u32 = 2, within 0..=100;
        /// Sessions that wait for a machine; further ones are rejected.
        queue_max: u32 = 100, within 0..=100_000;
        /// Sessions of one caller that wait for a machine; further ones are rejected. A full queue still accepts four of each caller.
        queue_by_caller_max: u32 = 50, within 0..=100_000;
        /// Sessions of one user (`user_id`) of a caller that wait for a machine; further ones are rejected.
        queue_by_user_max: u32 = 10, within 0..=100_000;
        /// A session that got no machine for this long ends, seconds; activity does not prolong it.
        queue_s_max: u64 = 1_800, within 1..=86_400;
        /// How long a viewer's WebSocket waits for the machine to be ready before it is rejected, milliseconds.
        socket_wait_ms_max: u64 = 20_000, within 0..=600_000;
        /// Lifetime of a login link, seconds.
        login_link_s_max: u64 = 900, within 1..=86_400;
        /// Lifetime of a login cookie, seconds.
        cookie_s_max: u64 = 12 * 3_600, within 1..=365 * 24 * 3_600;
        /// A credential file must be unchanged for this long before it is delivered, milliseconds.
        capture_stable_ms: u64 = 300, within 0..=60_000;
    }
}
