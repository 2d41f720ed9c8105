//! Ended sessions whose timeline has no entry for the end of their last machine.

use crate::{Store, StoreError, UnixMs, error::query_error, row_reader::RowReader, row_reader::to_sql_integer};
use anteroom_wire::{MachineId, SessionId, TimelineKind};

/// An ended session and its last machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnreportedMachineEnd {
    /// The session.
    pub session: SessionId,
    /// Its last machine, whose end is not on the timeline.
    pub machine: MachineId,
}

impl Store {
    /// Sessions that ended at or after `since_ms` with a requested machine but without a `machine_exited` entry for it, the newest
    /// first. Only the newest `limit` ended sessions are searched. A server that is killed right after a session's end leaves such
    /// sessions.
    ///
    /// # Errors
    /// When the database cannot be read or has a corrupt row.
    pub async fn list_unreported_machine_ends(
        &self,
        since_ms: UnixMs,
        limit: u32,
    ) -> Result<Vec<UnreportedMachineEnd>, StoreError> {
        let rows = sqlx::query(
            "SELECT s.id, s.machine_id FROM (SELECT id, machine_id, ended_at_ms FROM sessions \
                 WHERE state <> 'active' ORDER BY id DESC LIMIT $2) s \
             WHERE s.machine_id IS NOT NULL AND s.ended_at_ms >= $1 \
             AND NOT EXISTS (SELECT 1 FROM timeline g WHERE g.session_id = s.id AND g.kind = $3 \
                 AND g.number > COALESCE((SELECT MAX(r.number) FROM timeline r \
                     WHERE r.session_id = s.id AND r.kind = $4), 0)) \
             ORDER BY s.id DESC",
        )
        .bind(to_sql_integer(since_ms))
        .bind(i64::from(limit))
        .bind(TimelineKind::MachineExited.as_str())
        .bind(TimelineKind::MachineRequested.as_str())
        .fetch_all(self.read_pool())
        .await
        .map_err(query_error("find unreported ends of machines"))?;
        let decoded = rows.iter().map(|row| {
            let reader = RowReader::new(row, "sessions", "id");
            Ok(UnreportedMachineEnd { session: reader.parsed("id")?, machine: reader.parsed("machine_id")? })
        });
        decoded.collect()
    }
}
