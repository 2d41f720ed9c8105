//! The wall clock of a test server, with an offset that a test sets.
//!
//! `anteroom-testbed` defines a `clock_gettime` (see `main.rs`), which the whole standard library uses. So the product
//! reads a wall clock that has jumped, while the monotonic clock is unchanged.

use crate::{TestServer, WAIT_MAX, eventually};
use std::{
    fs, io,
    path::Path,
    sync::atomic::{AtomicI64, Ordering::Relaxed},
    time::Duration,
};
use tokio::time::sleep;

/// Written by the test: the wanted offset in milliseconds.
const REQUESTED_FILE: &str = "clock-ms";
/// The requested file after the server has applied it. The next server process starts with this offset.
const APPLIED_FILE: &str = "clock-ms.applied";
const POLL_EVERY: Duration = Duration::from_millis(10);

static OFFSET_MS: AtomicI64 = AtomicI64::new(0);

/// How far this process's wall clock is ahead of the host's, milliseconds.
pub fn clock_offset_ms() -> i64 {
    OFFSET_MS.load(Relaxed)
}

/// Applies the offsets that a test requests. Never returns.
pub(super) async fn watch(server_dir: &Path) {
    let (requested, applied) = (server_dir.join(REQUESTED_FILE), server_dir.join(APPLIED_FILE));
    loop {
        if requested.exists() {
            apply(&requested);
            // The test waits for this rename, and fails if it does not happen.
            let _ = fs::rename(&requested, &applied);
        }
        sleep(POLL_EVERY).await;
    }
}

/// Applies the offset of the server process before this one. Call it before anything reads the time.
pub(super) fn restore_offset(server_dir: &Path) {
    apply(&server_dir.join(APPLIED_FILE));
}

fn apply(file: &Path) {
    if let Some(offset) = fs::read_to_string(file).ok().and_then(|text| text.trim().parse().ok()) {
        OFFSET_MS.store(offset, Relaxed);
    }
}

impl TestServer {
    /// Sets the wall clock of the next server process `ms` ahead of the host's (or behind, when negative). Call it while the
    /// server is not running.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn set_next_clock_offset(&self, ms: i64) -> io::Result<()> {
        fs::write(self.path().join(APPLIED_FILE), ms.to_string())
    }

    /// Sets the server's wall clock `ms` ahead of the host's (or behind, when negative), and waits until it is set.
    ///
    /// # Errors
    /// The server does not apply it in time.
    pub async fn set_clock_offset(&self, ms: i64) -> anyhow::Result<()> {
        let fresh = self.path().join("clock-ms.new");
        let requested = self.path().join(REQUESTED_FILE);
        fs::write(&fresh, ms.to_string())?;
        fs::rename(&fresh, &requested)?;
        let applied = async || Ok((!requested.exists()).then_some(()));
        eventually("the server applies the clock offset", WAIT_MAX, applied).await
    }
}
