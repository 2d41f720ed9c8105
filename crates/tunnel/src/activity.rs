//! The time of the last activity in a session.

use anteroom_wire::time::to_millis;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tokio::time::Instant;

/// The time of the last activity. Shared by all sources of activity: tunnels, heartbeats.
#[derive(Debug)]
pub struct SessionActivity {
    created: Instant,
    last_ms: AtomicU64,
}

impl SessionActivity {
    /// Starts with the current time as the last activity.
    pub fn new() -> Self {
        Self { created: Instant::now(), last_ms: AtomicU64::new(0) }
    }

    /// Records activity now. Cheap enough to be called for every message.
    pub fn record(&self) {
        let now = to_millis(self.created.elapsed());
        self.last_ms.fetch_max(now, Relaxed);
    }

    /// The time of the last activity.
    pub fn last_at(&self) -> Instant {
        self.created + Duration::from_millis(self.last_ms.load(Relaxed))
    }

    /// Time since the last activity.
    pub fn idle_time(&self) -> Duration {
        self.last_at().elapsed()
    }
}

impl Default for SessionActivity {
    fn default() -> Self {
        Self::new()
    }
}
