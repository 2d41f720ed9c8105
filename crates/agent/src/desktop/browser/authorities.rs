//! When the browser trusts the certificate authorities of the claim. Frozen, it would read them only after its first page was opened.

use super::{Browser, set_frozen};
use std::{io, time::Duration};
use tokio::time::{Instant, sleep_until};

/// Chromium reads a changed policy five seconds after the last change of the directory; then it still has to parse it.
const READ_POLICY_MS: u64 = 8_000;

impl Browser {
    /// The certificate authorities of the claim are installed: the browser runs from now on, so that it reads them before it is needed.
    pub(crate) fn read_authorities(&self) -> io::Result<()> {
        self.authorities_installed_at.get_or_init(Instant::now);
        set_frozen(false)
    }

    /// Returns once the browser trusts the certificate authorities of the claim.
    pub(super) async fn wait_authorities(&self) {
        if let Some(installed) = self.authorities_installed_at.get() {
            sleep_until(*installed + Duration::from_millis(READ_POLICY_MS)).await;
        }
    }
}
