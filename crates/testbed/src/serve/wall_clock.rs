//! The wall clock of a world's server, as a test sets it.
//!
//! The program of the testbed brings its own `clock_gettime` (see `main.rs`), which all of the standard library uses: the
//! product reads a clock that has really jumped, while the monotonic clock goes on as ever.

use crate::TestServer;
use std::{
    fs, io,
    path::Path,
    sync::atomic::{AtomicI64, Ordering::Relaxed},
    time::Duration,
};
use tokio::time::{Instant, sleep};

const ORDER: &str = "clock-ms";
const TAKEN: &str = "clock-ms.taken";
const LOOK_EVERY: Duration = Duration::from_millis(10);

static AHEAD_MS: AtomicI64 = AtomicI64::new(0);

/// How far this process's wall clock is ahead of the host's, milliseconds.
pub fn ahead_ms() -> i64 {
    AHEAD_MS.load(Relaxed)
}

/// Obeys the world's orders for ever. The clock of a server that follows another stays as it was.
pub(super) async fn obey(world: &Path) {
    let (order, taken) = (world.join(ORDER), world.join(TAKEN));
    set(&taken);
    loop {
        if order.exists() {
            set(&order);
            // The test waits for this; if it fails the test does.
            let _ = fs::rename(&order, &taken);
        }
        sleep(LOOK_EVERY).await;
    }
}

/// To be called before anything asks for the time.
pub(super) fn resume(world: &Path) {
    set(&world.join(TAKEN));
}

fn set(file: &Path) {
    if let Some(ahead) = fs::read_to_string(file).ok().and_then(|text| text.trim().parse().ok()) {
        AHEAD_MS.store(ahead, Relaxed);
    }
}

impl TestServer {
    /// Sets the wall clock of the next server so far ahead of the host's (or behind): for a world whose server does not run.
    ///
    /// # Errors
    /// It cannot be written down.
    pub fn set_next_clock_ahead(&self, ms: i64) -> io::Result<()> {
        fs::write(self.path().join(TAKEN), ms.to_string())
    }

    /// Sets the server's wall clock so far ahead of the host's (or behind), and waits until it is.
    ///
    /// # Errors
    /// The server does not take it.
    pub async fn set_clock_ahead(&self, ms: i64) -> anyhow::Result<()> {
        let fresh = self.path().join("clock-ms.new");
        let order = self.path().join(ORDER);
        fs::write(&fresh, ms.to_string())?;
        fs::rename(&fresh, &order)?;
        let until = Instant::now() + crate::WAIT_MAX;
        while order.exists() {
            anyhow::ensure!(Instant::now() < until, io::Error::other("the server does not take the time"));
            sleep(LOOK_EVERY).await;
        }
        Ok(())
    }
}
