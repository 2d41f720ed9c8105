//! Revocation of callers: whatever a caller made is revoked with it.

use crate::{
    Store, StoreError, UnixMs, WriteKind, error::query_error, row_reader::to_sql_integer,
    write_transaction::WriteTransaction,
};
use anteroom_wire::CallerId;
use sqlx::Row as _;

/// The caller with this id and all callers that it made, directly or through others.
macro_rules! with_descendants {
    ($rest:literal) => {
        concat!(
            "WITH RECURSIVE family (id) AS (SELECT id FROM callers WHERE id = $1 UNION \
             SELECT callers.id FROM callers JOIN family ON callers.parent_id = family.id) ",
            $rest
        )
    };
}

/// Why a caller can no longer be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallerEnd {
    /// It was revoked.
    Revoked,
    /// It has expired.
    Expired,
}

impl Store {
    /// Revokes a caller and all callers that it made, and makes their links and tickets unusable. Returns the callers that are now
    /// revoked; none: there is no such caller, or it was already revoked.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn revoke_caller(&self, id: &CallerId, at_ms: UnixMs) -> Result<Vec<CallerId>, StoreError> {
        const OPERATION: &str = "revoke a caller";
        let mut transaction = self.begin_write(WriteKind::RevokeCaller, OPERATION).await?;
        let rows = sqlx::query(with_descendants!(
            "UPDATE callers SET revoked_at_ms = $2 WHERE revoked_at_ms IS NULL AND id IN (SELECT id FROM family) \
             RETURNING id"
        ))
        .bind(id.as_str())
        .bind(to_sql_integer(at_ms))
        .fetch_all(&mut *transaction)
        .await
        .map_err(query_error(OPERATION))?;
        if rows.is_empty() {
            transaction.finish_unchanged();
            return Ok(Vec::new());
        }
        end_links_and_tickets(&mut transaction, id, at_ms).await?;
        transaction.commit().await.map_err(query_error(OPERATION))?;
        let ids = rows.iter().map(|row| {
            let text: String = row.try_get("id").map_err(query_error(OPERATION))?;
            text.parse().map_err(|_| StoreError::CorruptRow {
                table: "callers",
                row: "without a key".to_owned(),
                why: "the id is malformed".to_owned(),
            })
        });
        ids.collect()
    }

    /// Of these callers, those that cannot be used at `now_ms`, with the reason. A caller that no longer exists counts as revoked.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn find_ended_callers(
        &self,
        ids: &[CallerId],
        now_ms: UnixMs,
    ) -> Result<Vec<(CallerId, CallerEnd)>, StoreError> {
        let mut ended = Vec::new();
        for id in ids {
            match self.get_caller(id).await? {
                Some(row) if row.is_valid_at(now_ms) => {}
                Some(row) if row.revoked_at_ms.is_none() => ended.push((id.clone(), CallerEnd::Expired)),
                Some(_) | None => ended.push((id.clone(), CallerEnd::Revoked)),
            }
        }
        Ok(ended)
    }
}

/// Marks the unused links and tickets of a caller and of all callers that it made as used.
async fn end_links_and_tickets(
    transaction: &mut WriteTransaction,
    id: &CallerId,
    at_ms: UnixMs,
) -> Result<(), StoreError> {
    for text in [
        with_descendants!(
            "UPDATE login_tokens SET used_at_ms = $2 WHERE used_at_ms IS NULL AND caller_id IN (SELECT id FROM family)"
        ),
        with_descendants!(
            "UPDATE tickets SET used_at_ms = $2 WHERE used_at_ms IS NULL AND caller_id IN (SELECT id FROM family)"
        ),
    ] {
        let done = sqlx::query(text).bind(id.as_str()).bind(to_sql_integer(at_ms)).execute(&mut **transaction).await;
        done.map_err(query_error("revoke a caller"))?;
    }
    Ok(())
}
