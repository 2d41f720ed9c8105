//! What is written down and kept: logs, receipts of machines, support bundles. All of it is bounded in size and age.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// Text on a terminal, else JSON.
    Auto,
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

/// Logs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Log {
    /// `error`, `warn`, `info`, `debug`, `trace`, or `tracing` directives.
    pub level: String,
    /// How log lines look on standard error.
    pub format: LogFormat,
    /// The server's one log file, JSON lines always. Default: `STATE_DIR/log/anteroom.jsonl`.
    pub file: Option<PathBuf>,
    /// Warnings and errors once more, in a file of their own. Default: none.
    pub error_file: Option<PathBuf>,
    /// A file that would become larger is set aside as `FILE.1` (the former one as `FILE.2` …), bytes.
    pub file_bytes_max: u64,
    /// Of the files that were set aside, how many are kept.
    pub files_kept_max: u32,
}

/// What is kept as evidence, and for how long. The sweep removes the oldest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Keep {
    /// Receipts of machines.
    pub receipts_max: usize,
    /// A receipt's life, seconds.
    pub receipts_s_max: u64,
    /// Support bundles.
    pub bundles_max: usize,
    /// All bundles together, bytes.
    pub bundles_bytes_max: u64,
    /// A bundle's life, seconds.
    pub bundles_s_max: u64,
    /// One file in a bundle, before it is packed, bytes; of longer ones the end is kept.
    pub bundle_file_bytes_max: usize,
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

impl Default for Keep {
    fn default() -> Self {
        Self {
            receipts_max: 1_000,
            receipts_s_max: 30 * 24 * 3600,
            bundles_max: 20,
            bundles_bytes_max: 256 * 1024 * 1024,
            bundles_s_max: 7 * 24 * 3600,
            bundle_file_bytes_max: 4 * 1024 * 1024,
        }
    }
}

/// Tells `range` of each number: its name, its value, the least and the most it may be.
pub(super) fn ranges(log: &Log, keep: &Keep, range: &mut impl FnMut(&str, u64, u64, u64)) {
    range("log.file_bytes_max", log.file_bytes_max, 64 * 1024, 1 << 40);
    range("log.files_kept_max", log.files_kept_max.into(), 0, 100);
    range("keep.receipts_max", keep.receipts_max as u64, 1, 1_000_000);
    range("keep.receipts_s_max", keep.receipts_s_max, 1, 10 * 365 * 24 * 3600);
    range("keep.bundles_max", keep.bundles_max as u64, 1, 10_000);
    range("keep.bundles_bytes_max", keep.bundles_bytes_max, 1 << 20, 1 << 40);
    range("keep.bundles_s_max", keep.bundles_s_max, 1, 365 * 24 * 3600);
    range("keep.bundle_file_bytes_max", keep.bundle_file_bytes_max as u64, 64 * 1024, 256 << 20);
}
