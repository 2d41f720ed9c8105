//! Logs: level, format and files.

use crate::settings::settings;
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

settings! {
    /// Logs.
    pub struct Log {
        /// `error`, `warn`, `info`, `debug`, `trace`, or `tracing` directives.
        level: String = "info".to_owned();
        /// Format of log lines on standard error: `auto` (text on a terminal, else JSON), `json` or `text`.
        format: LogFormat = LogFormat::Auto;
        /// The server's log file, always JSON lines. Default: `STATE_DIR/log/anteroom.jsonl`.
        file: Option<PathBuf> = None, example r#""/var/log/anteroom/anteroom.jsonl""#;
        /// A second file that receives only warnings and errors. Default: none.
        error_file: Option<PathBuf> = None, example r#""/var/log/anteroom/errors.jsonl""#;
        /// Size at which a log file is rotated to `FILE.1` (the previous one to `FILE.2`, …), bytes.
        file_bytes_max: u64 = 16 << 20, within 64 << 10..=1 << 40;
        /// Rotated files that are kept.
        files_kept_max: u32 = 4, within 0..=100;
    }
}
