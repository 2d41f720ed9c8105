//! Revocation of callers: whatever a caller made is revoked with it.

use crate::{
    Store, StoreError, UnixMs, WriteKind,
    callers::RoleKind,
    error::query_error,
    row_macs::{RowMacs, tables::CALLERS},
    row_reader::{RowReader, to_sql_integer},
    write_transaction::WriteTransaction,
};
use anteroom_wire::CallerId;
use std::collections::HashMap;

const OPERATION: &str = "revoke a caller";
/// Callers in one query.
const IDS_MAX: usize = 100;

/// The role of a caller, when it was revoked and when it expires.
type CallerState = (RoleKind, Option<UnixMs>, Option<UnixMs>);

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
    /// It is a helper and was revoked.
    HelperRevoked,
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
        let mut transaction = self.begin_write(WriteKind::RevokeCaller, OPERATION).await?;
        let revoked = revoke_family(self.row_macs(), &mut transaction, id, at_ms).await?;
        if revoked.is_empty() {
            transaction.finish_unchanged();
        } else {
            transaction.commit().await.map_err(query_error(OPERATION))?;
        }
        Ok(revoked)
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
        for ids in ids.chunks(IDS_MAX) {
            let states = self.read_caller_states(ids).await?;
            for id in ids {
                match states.get(id) {
                    Some((_, None, end)) if end.is_none_or(|end| end > now_ms) => {}
                    Some((_, None, _)) => ended.push((id.clone(), CallerEnd::Expired)),
                    Some((RoleKind::Helper, Some(_), _)) => ended.push((id.clone(), CallerEnd::HelperRevoked)),
                    Some((_, Some(_), _)) | None => ended.push((id.clone(), CallerEnd::Revoked)),
                }
            }
        }
        Ok(ended)
    }

    /// When each caller was revoked and when it expires. A row that was changed outside of this program is left out.
    async fn read_caller_states(&self, ids: &[CallerId]) -> Result<HashMap<CallerId, CallerState>, StoreError> {
        let parameters: Vec<_> = (1..=ids.len()).map(|number| format!("${number}")).collect();
        let text = CALLERS.select(&format!("WHERE id IN ({})", parameters.join(", ")));
        // Only numbers were inserted into the text.
        let query = ids.iter().fold(sqlx::query(sqlx::AssertSqlSafe(text)), |query, id| query.bind(id.as_str()));
        let rows = query.fetch_all(self.read_pool()).await.map_err(query_error("read callers"))?;
        let valid = rows.iter().filter(|row| self.row_macs().verify(&CALLERS, row).is_ok());
        let states = valid.map(|row| {
            let reader = RowReader::new(row, "callers", "id");
            let revoked_at_ms = reader.number_or_null("revoked_at_ms")?;
            let state = (reader.parsed("role")?, revoked_at_ms, reader.number_or_null("expires_at_ms")?);
            Ok((reader.parsed("id")?, state))
        });
        states.collect()
    }
}

/// Revokes a caller and all callers that it made, and makes their links and tickets unusable, within a transaction. Returns the callers
/// that are now revoked.
pub(crate) async fn revoke_family(
    macs: &RowMacs,
    transaction: &mut WriteTransaction,
    id: &CallerId,
    at_ms: UnixMs,
) -> Result<Vec<CallerId>, StoreError> {
    let valid = valid_family(macs, transaction, id).await?;
    let rows = sqlx::query(with_descendants!(
        "UPDATE callers SET revoked_at_ms = $2 WHERE revoked_at_ms IS NULL AND id IN (SELECT id FROM family) RETURNING id"
    ))
    .bind(id.as_str())
    .bind(to_sql_integer(at_ms))
    .fetch_all(&mut **transaction)
    .await
    .map_err(query_error(OPERATION))?;
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    renew_all(macs, transaction, &valid).await?;
    end_links_and_tickets(transaction, id, at_ms).await?;
    rows.iter().map(|row| RowReader::new(row, "callers", "id").parsed("id")).collect()
}

/// Ends the callers that a caller made, and itself, at this time unless they end earlier.
pub(crate) async fn shorten_descendants(
    macs: &RowMacs,
    transaction: &mut WriteTransaction,
    id: &CallerId,
    end_ms: UnixMs,
) -> Result<(), StoreError> {
    let valid = valid_family(macs, transaction, id).await?;
    let done = sqlx::query(with_descendants!(
        "UPDATE callers SET expires_at_ms = $2 WHERE id IN (SELECT id FROM family) \
         AND (expires_at_ms IS NULL OR expires_at_ms > $2)"
    ))
    .bind(id.as_str())
    .bind(to_sql_integer(end_ms))
    .execute(&mut **transaction)
    .await;
    done.map_err(query_error("rotate an API token"))?;
    renew_all(macs, transaction, &valid).await
}

/// Of a caller and those that it made, the rows with a valid MAC: only they get a new one after a change.
async fn valid_family(
    macs: &RowMacs,
    transaction: &mut WriteTransaction,
    id: &CallerId,
) -> Result<Vec<CallerId>, StoreError> {
    let rows = sqlx::query(with_descendants!("SELECT id FROM family"))
        .bind(id.as_str())
        .fetch_all(&mut **transaction)
        .await
        .map_err(query_error("read a caller and those that it made"))?;
    let mut valid = Vec::with_capacity(rows.len());
    for row in &rows {
        let id: CallerId = RowReader::new(row, "callers", "id").parsed("id")?;
        if macs.is_valid(transaction, &CALLERS, id.as_str().into()).await? {
            valid.push(id);
        }
    }
    Ok(valid)
}

async fn renew_all(macs: &RowMacs, transaction: &mut WriteTransaction, ids: &[CallerId]) -> Result<(), StoreError> {
    for id in ids {
        macs.renew(transaction, &CALLERS, id.as_str().into()).await?;
    }
    Ok(())
}

/// Marks the unused links and tickets of a caller and of all callers that it made as used.
async fn end_links_and_tickets(
    transaction: &mut WriteTransaction,
    id: &CallerId,
    at_ms: UnixMs,
) -> Result<(), StoreError> {
    for text in [
        with_descendants!(
            "UPDATE login_tokens SET used_at_ms = $2, mac = NULL WHERE used_at_ms IS NULL AND caller_id IN (SELECT id FROM family)"
        ),
        with_descendants!(
            "UPDATE tickets SET used_at_ms = $2, mac = NULL WHERE used_at_ms IS NULL AND caller_id IN (SELECT id FROM family)"
        ),
    ] {
        let done = sqlx::query(text).bind(id.as_str()).bind(to_sql_integer(at_ms)).execute(&mut **transaction).await;
        done.map_err(query_error(OPERATION))?;
    }
    Ok(())
}
