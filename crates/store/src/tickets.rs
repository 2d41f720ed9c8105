//! Tickets: single-use tokens for one WebSocket.

use crate::{
    Sha256Hex, Store, StoreError, UnixMs, WriteKind,
    error::query_error,
    row_macs::tables::TICKETS,
    row_reader::{RowReader, to_sql_integer},
    text_enum::text_enum,
};
use anteroom_wire::{CallerId, SessionId};

text_enum! {
    /// The WebSocket that a ticket opens.
    pub enum TicketPurpose {
        /// The desktop.
        Desktop = "desktop",
        /// The terminal.
        Terminal = "terminal",
    }
}

/// A ticket to be created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTicket {
    /// The ticket's hash; unique.
    pub hash: Sha256Hex,
    /// The session.
    pub session: SessionId,
    /// The caller to which it is given.
    pub caller: CallerId,
    /// The WebSocket that it opens.
    pub purpose: TicketPurpose,
    /// When it expires.
    pub expires_at_ms: UnixMs,
}

impl Store {
    /// Creates a ticket.
    ///
    /// # Errors
    /// When it already exists, or its session or caller does not (conflict), or the database cannot be written.
    pub async fn create_ticket(&self, new: &NewTicket) -> Result<(), StoreError> {
        const OPERATION: &str = "create a ticket";
        let mut transaction = self.begin_write(WriteKind::CreateTicket, OPERATION).await?;
        sqlx::query(
            "INSERT INTO tickets (hash, session_id, caller_id, purpose, expires_at_ms) VALUES ($1, $2, $3, $4, $5)",
        )
        .bind(new.hash.as_str())
        .bind(new.session.as_str())
        .bind(new.caller.as_str())
        .bind(new.purpose.as_str())
        .bind(to_sql_integer(new.expires_at_ms))
        .execute(&mut *transaction)
        .await
        .map_err(query_error(OPERATION))?;
        self.row_macs().renew(&mut transaction, &TICKETS, new.hash.as_str().into()).await?;
        transaction.commit().await.map_err(query_error(OPERATION))
    }

    /// Redeems a ticket and returns the caller to which it was given. `None`: there is no such ticket for this session and purpose, it
    /// was used before, it has expired, or its caller is revoked or has expired. A ticket presented for another session or purpose
    /// stays valid.
    ///
    /// # Errors
    /// When the database cannot be written or has a corrupt row.
    pub async fn redeem_ticket(
        &self,
        hash: &Sha256Hex,
        session: &SessionId,
        purpose: TicketPurpose,
        now_ms: UnixMs,
    ) -> Result<Option<CallerId>, StoreError> {
        const OPERATION: &str = "redeem a ticket";
        let mut transaction = self.begin_write(WriteKind::RedeemTicket, OPERATION).await?;
        let unused = self.require_unused(&mut transaction, &TICKETS, hash).await;
        unused.inspect_err(|_| transaction.end_by_rollback())?;
        let row = sqlx::query(
            "UPDATE tickets SET used_at_ms = $2, mac = NULL WHERE hash = $1 AND used_at_ms IS NULL AND expires_at_ms > $2 \
             AND session_id = $3 AND purpose = $4 AND EXISTS (SELECT 1 FROM callers WHERE callers.id = tickets.caller_id \
             AND revoked_at_ms IS NULL AND (callers.expires_at_ms IS NULL OR callers.expires_at_ms > $2)) \
             RETURNING session_id, caller_id",
        )
        .bind(hash.as_str())
        .bind(to_sql_integer(now_ms))
        .bind(session.as_str())
        .bind(purpose.as_str())
        .fetch_optional(&mut *transaction)
        .await
        .map_err(query_error(OPERATION))?;
        let Some(row) = row else {
            transaction.finish_unchanged();
            return Ok(None);
        };
        transaction.commit().await.map_err(query_error(OPERATION))?;
        RowReader::new(&row, "tickets", "session_id").parsed("caller_id").map(Some)
    }
}
