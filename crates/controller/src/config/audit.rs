//! The audit trail: how long it is kept, and where its head is copied.

use crate::settings::settings;
use std::path::PathBuf;

settings! {
    /// The audit trail (docs/audit.md). Its oldest files are removed as a whole; the newest always stays.
    pub struct Audit {
        /// Age at which a file is removed, days since its newest record.
        days_max: u64 = 400, within 1..=36_500;
        /// Size of all files together, bytes.
        bytes_max: u64 = 1 << 30, within 64 << 20..=1 << 40;
        /// A second file with the head of the trail, on another file system. With it, `anteroom audit verify` notices that the whole state directory
        /// was replaced by an older copy. Default: none.
        head_copy: Option<PathBuf> = None, example r#""/mnt/other/anteroom-audit-head.json""#;
    }
}
