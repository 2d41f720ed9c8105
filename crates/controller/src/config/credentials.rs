//! Stored credentials: checks, expiry and use.

use serde::{Deserialize, Serialize};

/// Stored credentials.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Credentials {
    /// Time after which a stored credential is checked again with its tool's status command, in a separate machine, seconds.
    /// 0: never.
    pub check_every_s: u64,
    /// Checks that run at once. Sessions have priority: no check starts while a session waits for a machine.
    pub concurrent_checks_max: u32,
    /// Time after which a `deliver_once` credential that was not fetched is deleted, seconds.
    pub deliver_once_s_max: u64,
    /// A credential whose expiry date is at most this far away is `expiring`, seconds.
    pub expiry_warning_s: u64,
    /// How long the last screen of a command that used a credential is kept for its caller, seconds; only in memory.
    pub last_screen_s_max: u64,
}

impl Default for Credentials {
    fn default() -> Self {
        Self {
            check_every_s: 0,
            concurrent_checks_max: 1,
            deliver_once_s_max: 3_600,
            expiry_warning_s: 3 * 24 * 3_600,
            last_screen_s_max: 60,
        }
    }
}

impl Credentials {
    /// Calls `check` with the name, value, minimum and maximum of every number.
    pub(super) fn check_ranges(&self, check: &mut impl FnMut(&str, u64, u64, u64)) {
        check("credentials.check_every_s", self.check_every_s, 0, 10 * 365 * 24 * 3600);
        check("credentials.concurrent_checks_max", self.concurrent_checks_max.into(), 1, 100);
        check("credentials.deliver_once_s_max", self.deliver_once_s_max, 1, 30 * 24 * 3600);
        check("credentials.expiry_warning_s", self.expiry_warning_s, 0, 365 * 24 * 3600);
        check("credentials.last_screen_s_max", self.last_screen_s_max, 1, 3_600);
    }
}
