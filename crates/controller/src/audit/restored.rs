//! The record of a restore, which is made by a command without a server.

use super::Audit;
use crate::unix_time::format_rfc3339;
use anteroom_audit::{Action, Entry};
use anteroom_store::{RestoredFrom, Store, StoreError};

/// Records at the first start after a restore that there was one.
///
/// # Errors
/// The database cannot be used.
pub async fn record_restore(audit: &Audit, store: &Store) -> Result<(), StoreError> {
    let Some(restored) = store.take_restored().await? else { return Ok(()) };
    let (made_at, restored_at) = (format_rfc3339(restored.made_at_ms), format_rfc3339(restored.restored_at_ms));
    tracing::info!(outcome = "restored", made_at, restored_at, "database restored from a copy");
    let from = match restored.from {
        RestoredFrom::Backup => "backup",
        RestoredFrom::Export => "export",
        RestoredFrom::Dump => "dump",
    };
    let entry = Entry::new(Action::BackupRestore).with_detail("from", from);
    let entry = entry.with_detail("made_at", made_at).with_detail("restored_at", restored_at);
    audit.record(entry).await;
    Ok(())
}
