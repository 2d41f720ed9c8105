//! Retention of machine receipts and support bundles.

use crate::settings::settings;

settings! {
    /// Ended sessions, receipts (how machines ended, with the end of their consoles) and support bundles. The reconciliation deletes the
    /// oldest receipts and bundles first.
    pub struct Retention {
        /// Age at which an ended session is deleted with its timeline, seconds. The session of a stored credential is kept as long as
        /// the credential.
        sessions_s_max: u64 = 365 * 24 * 3_600, within 1..=10 * 365 * 24 * 3_600;
        /// Receipts that are kept.
        receipts_max: usize = 1_000, within 1..=1_000_000;
        /// Age at which a receipt is deleted, seconds.
        receipts_s_max: u64 = 30 * 24 * 3_600, within 1..=10 * 365 * 24 * 3_600;
        /// Size of all bundles together, bytes.
        bundles_bytes_max: u64 = 256 << 20, within 1 << 20..=1 << 40;
        /// Age at which a bundle is deleted, seconds.
        bundles_s_max: u64 = 7 * 24 * 3_600, within 1..=365 * 24 * 3_600;
    }
}
