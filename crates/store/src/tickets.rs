//! Tickets: what opens one WebSocket, once.

use crate::{
    Sha256Hex, Store, StoreError, UnixMs, WriteKind,
    row::{RowReader, stored},
    error::query_error,
    text_enum::text_enum,
};
use anteroom_wire::{CallerId, SessionId};

text_enum! {
    /// What a ticket opens.
    pub enum TicketPurpose {
        /// The desktop.
        Desktop = "desktop",
        /// The terminal.
        Terminal = "terminal",
    }
}

/// A ticket to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTicket {
    /// Its hash; unique.
    pub hash: Sha256Hex,
    /// Of which session.
    pub session: SessionId,
    /// To whom it is given.
    pub caller: CallerId,
    /// What it opens.
    pub purpose: TicketPurpose,
    /// Until when it can be used.
    pub expires_at_ms: UnixMs,
}

impl Store {
    /// Makes a ticket.
    ///
    /// # Errors
    /// When it exists, or its session or caller does not (conflict), or the database cannot be written.
    pub async fn create_ticket(&self, new: &NewTicket) -> Result<(), StoreError> {
        const OPERATION: &str = "make a ticket";
        let mut transaction = self.begin(WriteKind::CreateTicket, OPERATION).await?;
        sqlx::query(
            "INSERT INTO tickets (hash, session_id, caller_id, purpose, expires_at_ms) VALUES ($1, $2, $3, $4, $5)",
        )
        .bind(new.hash.as_str())
        .bind(new.session.as_str())
        .bind(new.caller.as_str())
        .bind(new.purpose.as_str())
        .bind(stored(new.expires_at_ms))
        .execute(&mut *transaction)
        .await
        .map_err(query_error(OPERATION))?;
        transaction.commit().await.map_err(query_error(OPERATION))
    }

    /// Uses a ticket up and says to whom it was given. `None`: there is none for this session and purpose, it was used before, it
    /// is too old, or its caller is revoked or too old. A ticket shown at the wrong door stays good for the right one.
    ///
    /// # Errors
    /// When the database cannot be written or has an impossible row.
    pub async fn redeem_ticket(
        &self,
        hash: &Sha256Hex,
        session: &SessionId,
        purpose: TicketPurpose,
        now_ms: UnixMs,
    ) -> Result<Option<CallerId>, StoreError> {
        const OPERATION: &str = "use a ticket up";
        let mut transaction = self.begin(WriteKind::RedeemTicket, OPERATION).await?;
        let row = sqlx::query(
            "UPDATE tickets SET used_at_ms = $2 WHERE hash = $1 AND used_at_ms IS NULL AND expires_at_ms > $2 \
             AND session_id = $3 AND purpose = $4 AND EXISTS (SELECT 1 FROM callers WHERE callers.id = tickets.caller_id \
             AND revoked_at_ms IS NULL AND (callers.expires_at_ms IS NULL OR callers.expires_at_ms > $2)) \
             RETURNING session_id, caller_id",
        )
        .bind(hash.as_str())
        .bind(stored(now_ms))
        .bind(session.as_str())
        .bind(purpose.as_str())
        .fetch_optional(&mut *transaction)
        .await
        .map_err(query_error(OPERATION))?;
        let Some(row) = row else {
            transaction.unchanged();
            return Ok(None);
        };
        transaction.commit().await.map_err(query_error(OPERATION))?;
        RowReader::new(&row, "tickets", "session_id").parsed("caller_id").map(Some)
    }
}
