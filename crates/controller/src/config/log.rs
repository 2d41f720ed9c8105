//! Logs: level, format and files.

use crate::settings::settings;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use tracing_subscriber::EnvFilter;

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
        /// `error`, `warn`, `info`, `debug`, `trace` or `off`; or several with commas, each for a module: `info,anteroom_egress=debug`.
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

/// The levels, the most severe first.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

impl Log {
    /// One sentence for each invalid value.
    pub(super) fn validation_errors(&self) -> Vec<String> {
        // A text without a level is the name of a module: it would turn off everything else.
        let invalid = self.level.split(',').map(str::trim).filter(|directive| {
            let level = directive.rsplit_once('=').map_or(*directive, |(_, level)| level);
            !LEVELS.contains(&level.to_ascii_lowercase().as_str()) || EnvFilter::try_new(directive).is_err()
        });
        let error = |directive| format!("log.level has {directive:?}; the levels are {}", LEVELS.join(", "));
        invalid.map(error).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_one_of_the_list_alone_or_for_a_module() {
        let errors = |level: &str| Log { level: level.to_owned(), ..Log::default() }.validation_errors();
        for level in ["info", "WARN", "off", "warn,anteroom_egress=debug", "info, hyper=error"] {
            assert_eq!(errors(level), Vec::<String>::new(), "{level}");
        }
        for (level, part) in
            [("loud", "\"loud\""), ("", "\"\""), ("info,egress", "\"egress\""), ("a=loud", "off, error")]
        {
            assert!(errors(level).len() == 1 && errors(level)[0].contains(part), "{level}: {:?}", errors(level));
        }
    }
}
