//! Retention of machine receipts and support bundles: limits of number, size and age.

use serde::{Deserialize, Serialize};

/// How many receipts and support bundles are kept, and how long. The reconciliation deletes the oldest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Retention {
    /// Receipts of machines that are kept.
    pub receipts_max: usize,
    /// Age at which a receipt is deleted, seconds.
    pub receipts_s_max: u64,
    /// Support bundles that are kept.
    pub bundles_max: usize,
    /// Size of all bundles together, bytes.
    pub bundles_bytes_max: u64,
    /// Age at which a bundle is deleted, seconds.
    pub bundles_s_max: u64,
    /// Size of one file in a bundle before compression, bytes. Of a larger file, the end is included.
    pub bundle_file_bytes_max: usize,
}

impl Default for Retention {
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

impl Retention {
    /// Calls `check` with the name, value, minimum and maximum of every number.
    pub(super) fn check_ranges(&self, check: &mut impl FnMut(&str, u64, u64, u64)) {
        check("retention.receipts_max", self.receipts_max as u64, 1, 1_000_000);
        check("retention.receipts_s_max", self.receipts_s_max, 1, 10 * 365 * 24 * 3600);
        check("retention.bundles_max", self.bundles_max as u64, 1, 10_000);
        check("retention.bundles_bytes_max", self.bundles_bytes_max, 1 << 20, 1 << 40);
        check("retention.bundles_s_max", self.bundles_s_max, 1, 365 * 24 * 3600);
        check("retention.bundle_file_bytes_max", self.bundle_file_bytes_max as u64, 64 * 1024, 256 << 20);
    }
}
