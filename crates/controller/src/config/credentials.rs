//! Stored credentials: how often they are checked, and what using one may leave behind for a moment.

use serde::{Deserialize, Serialize};

/// Stored credentials.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Credentials {
    /// A stored credential whose tool was not asked for this long is checked, each in a machine of its own, seconds. 0: never.
    pub check_every_s: u64,
    /// How many are checked at once. Sessions of people go first: nothing is checked while somebody waits for a machine.
    pub concurrent_checks_max: u32,
    /// How long a `deliver_once` credential waits to be handed out, seconds; then it is deleted.
    pub deliver_once_s_max: u64,
    /// A credential that says itself that it ends within this is `expiring`, seconds.
    pub expiry_warning_s: u64,
    /// How long the last screen of a command that used a credential is kept for whoever started it, seconds; in memory alone.
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
