//! Stored credentials: checks and expiry.

use crate::settings::settings;

settings! {
    /// Stored credentials.
    pub struct Credentials {
        /// Time after which a stored credential is checked again with its tool's status command, in a separate machine, seconds.
        /// 0: never.
        check_every_s: u64 = 0, within 0..=10 * 365 * 24 * 3_600;
        /// Checks that run at once. Sessions have priority: no check starts while a session waits for a machine.
        concurrent_checks_max: u32 = 1, within 1..=100;
        /// Time after which a `deliver_once` credential that was not fetched is deleted, seconds.
        deliver_once_s_max: u64 = 3_600, within 1..=30 * 24 * 3_600;
        /// A credential whose expiry date is at most this far away is "expiring", seconds.
        expiry_warning_s: u64 = 3 * 24 * 3_600, within 0..=365 * 24 * 3_600;
    }
}
