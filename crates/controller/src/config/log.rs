//! Logs: level, format and files.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// Text on a terminal, else JSON.
    Auto,
    /// One JSON object per line.
    Json,
    /// Human-readable text.
    Text,
}

/// Logs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Log {
    /// `error`, `warn`, `info`, `debug`, `trace`, or `tracing` directives.
    pub level: String,
    /// The format of log lines on standard error.
    pub format: LogFormat,
    /// The server's log file, always JSON lines. Default: `STATE_DIR/log/anteroom.jsonl`.
    pub file: Option<PathBuf>,
    /// A second file that receives only warnings and errors. Default: none.
    pub error_file: Option<PathBuf>,
    /// The size at which a log file is rotated to `FILE.1` (the previous one to `FILE.2` …), bytes.
    pub file_bytes_max: u64,
    /// Rotated files that are kept.
    pub files_kept_max: u32,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            level: "info".into(),
            format: LogFormat::Auto,
            file: None,
            error_file: None,
            file_bytes_max: 16 * 1024 * 1024,
            files_kept_max: 4,
        }
    }
}

impl Log {
    /// Calls `check` with the name, value, minimum and maximum of every number.
    pub(super) fn check_ranges(&self, check: &mut impl FnMut(&str, u64, u64, u64)) {
        check("log.file_bytes_max", self.file_bytes_max, 64 * 1024, 1 << 40);
        check("log.files_kept_max", self.files_kept_max.into(), 0, 100);
    }
}
