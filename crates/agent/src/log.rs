//! Log lines: to the machine's console (bounded on the host's side), or to the process's standard error.

use anteroom_wire::time::to_millis;
use std::{
    io::Write,
    sync::OnceLock,
    time::{Duration, Instant},
};

static STARTED: OnceLock<Instant> = OnceLock::new();

/// Time since the first call. Every `at_ms` counts from there.
pub(crate) fn uptime() -> Duration {
    STARTED.get_or_init(Instant::now).elapsed()
}

/// Writes one line. It must not contain a secret or a complete URL.
pub(crate) fn write_line(text: &str) {
    let ms = to_millis(uptime());
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(2_000).collect();
    // Nothing can be done when the console is closed.
    let _ = std::io::stderr().write_all(format!("anteroom-agent {ms} ms: {text}\n").as_bytes());
}
