//! When somebody last used a session.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tokio::time::Instant;

/// The last use, shared by everything that counts as use: tunnels, heartbeats.
#[derive(Debug)]
pub struct Activity {
    born: Instant,
    last_ms: AtomicU64,
}

impl Activity {
    /// Used just now.
    pub fn new() -> Self {
        Self { born: Instant::now(), last_ms: AtomicU64::new(0) }
    }

    /// Somebody uses it. Cheap enough for every message.
    pub fn touch(&self) {
        let now = u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_ms.fetch_max(now, Relaxed);
    }

    /// When it was last used.
    pub fn last(&self) -> Instant {
        self.born + Duration::from_millis(self.last_ms.load(Relaxed))
    }

    /// How long nobody has used it.
    pub fn idle(&self) -> Duration {
        self.last().elapsed()
    }
}

impl Default for Activity {
    fn default() -> Self {
        Self::new()
    }
}
