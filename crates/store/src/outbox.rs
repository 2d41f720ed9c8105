//! The outbox of webhook messages. A message is written in the transaction of the change that it reports, so it is sent exactly if
//! that change was committed, and it is retained until it was delivered or abandoned.
//!
//! ```text
//!  enqueued (CompleteWithCredential · SessionChange · HealthUpdate …) ──▶ due ──┬─▶ delivered (done)
//!                                                                        ▲      ├─▶ abandoned (done, with the last error)
//!                                                                        └──────┴── failed, rejected: due again later
//! ```
//!
//! For messages that contain a credential see `webhook_credential`.

use crate::{
    Store, StoreError, UnixMs, WriteKind,
    connection::Connection,
    error::query_error,
    row_reader::{RowReader, to_sql_integer},
};
use anteroom_wire::{CredentialId, MessageId, SessionId};
use sqlx::any::AnyRow;

/// The most bytes of an error; a longer one is truncated.
const ERROR_BYTES_MAX: usize = 1_000;

/// A message to be sent. It refers to a session or credential; its content is read from them when it is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewMessage {
    /// Its id, the same for each attempt.
    pub id: MessageId,
    /// The type, for programs (`session.ended`).
    pub kind: String,
    /// The name of the receiver that gets it.
    pub receiver: String,
    /// The session or credential.
    pub regarding: Regarding,
    /// The present time.
    pub created_at_ms: UnixMs,
    /// When the first attempt is due.
    pub due_at_ms: UnixMs,
}

/// The session or credential that a message is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Regarding {
    /// A session.
    Session(SessionId),
    /// A credential.
    Credential(CredentialId),
    /// A credential, and the session that changed it.
    Both(SessionId, CredentialId),
}

impl Regarding {
    /// The session.
    pub fn session_id(&self) -> Option<&SessionId> {
        match self {
            Self::Session(session) | Self::Both(session, _) => Some(session),
            Self::Credential(_) => None,
        }
    }

    /// The credential.
    pub fn credential_id(&self) -> Option<&CredentialId> {
        match self {
            Self::Credential(credential) | Self::Both(_, credential) => Some(credential),
            Self::Session(_) => None,
        }
    }
}

/// A pending message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageRow {
    /// Its id.
    pub id: MessageId,
    /// The type.
    pub kind: String,
    /// The name of the receiver that gets it.
    pub receiver: String,
    /// The session or credential.
    pub regarding: Regarding,
    /// When it was enqueued.
    pub created_at_ms: UnixMs,
    /// When the next attempt is due.
    pub due_at_ms: UnixMs,
    /// Attempts so far.
    pub attempts: u64,
    /// Why the last attempt failed.
    pub last_error: Option<String>,
}

/// A message that was abandoned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AbandonedMessageRow {
    /// The message, with its last error.
    pub message: MessageRow,
    /// When it was abandoned.
    pub abandoned_at_ms: UnixMs,
}

/// What came of sending a message again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resend {
    /// It is pending now.
    Done,
    /// It was pending already.
    Pending,
    /// There is none, or it was removed.
    Unknown,
}

impl Store {
    /// Enqueues messages without another change.
    ///
    /// # Errors
    /// When an id exists, or a session or credential does not (conflict), or the database cannot be written.
    pub async fn enqueue_messages(&self, messages: &[NewMessage]) -> Result<(), StoreError> {
        const OPERATION: &str = "enqueue messages";
        if messages.is_empty() {
            return Ok(());
        }
        let mut transaction = self.begin_write(WriteKind::EnqueueMessage, OPERATION).await?;
        enqueue_messages(&mut transaction, messages).await?;
        transaction.commit().await.map_err(query_error(OPERATION))
    }

    /// Makes a message that was delivered or abandoned pending again, with its id.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn resend_message(&self, id: &MessageId, due_at_ms: UnixMs) -> Result<Resend, StoreError> {
        const OPERATION: &str = "send a message again";
        let mut transaction = self.begin_write(WriteKind::EnqueueMessage, OPERATION).await?;
        // What is done stays as it is, so the message is written again.
        let done = sqlx::query(
            "DELETE FROM outbox WHERE id = $1 AND done_at_ms IS NOT NULL \
             RETURNING id, kind, receiver, session_id, credential_id, created_at_ms, due_at_ms, attempts, last_error",
        )
        .bind(id.as_str())
        .fetch_optional(&mut *transaction)
        .await
        .map_err(query_error(OPERATION))?;
        let Some(row) = done else {
            let pending = sqlx::query("SELECT id FROM outbox WHERE id = $1").bind(id.as_str());
            let pending = pending.fetch_optional(&mut *transaction).await.map_err(query_error(OPERATION))?;
            transaction.finish_unchanged();
            return Ok(if pending.is_some() { Resend::Pending } else { Resend::Unknown });
        };
        let MessageRow { id, kind, receiver, regarding, created_at_ms, .. } =
            decode(&row).inspect_err(|_| transaction.end_by_rollback())?;
        let message = NewMessage { id, kind, receiver, regarding, created_at_ms, due_at_ms };
        enqueue_messages(&mut transaction, &[message]).await?;
        transaction.commit().await.map_err(query_error(OPERATION))?;
        Ok(Resend::Done)
    }

    /// Due messages, the one that is due longest first, at most `limit`; with `receiver` only those for it.
    ///
    /// # Errors
    /// When the database cannot be read or has a corrupt row.
    pub async fn list_due_messages(
        &self,
        now_ms: UnixMs,
        receiver: Option<&str>,
        limit: u32,
    ) -> Result<Vec<MessageRow>, StoreError> {
        let rows = sqlx::query(
            "SELECT id, kind, receiver, session_id, credential_id, created_at_ms, due_at_ms, attempts, last_error FROM outbox \
             WHERE done_at_ms IS NULL AND due_at_ms <= $1 AND ($3 IS NULL OR receiver = $3) ORDER BY due_at_ms, id LIMIT $2",
        )
        .bind(to_sql_integer(now_ms))
        .bind(i64::from(limit))
        .bind(receiver)
        .fetch_all(self.read_pool())
        .await
        .map_err(query_error("list the due messages"))?;
        rows.iter().map(decode).collect()
    }

    /// Messages that were abandoned and are not removed yet, the last one first, at most `limit`.
    ///
    /// # Errors
    /// When the database cannot be read or has a corrupt row.
    pub async fn list_abandoned_messages(&self, limit: u32) -> Result<Vec<AbandonedMessageRow>, StoreError> {
        // A delivered message has no last error.
        let rows = sqlx::query(
            "SELECT id, kind, receiver, session_id, credential_id, created_at_ms, due_at_ms, attempts, last_error, done_at_ms \
             FROM outbox WHERE done_at_ms IS NOT NULL AND last_error IS NOT NULL ORDER BY done_at_ms DESC, id LIMIT $1",
        )
        .bind(i64::from(limit))
        .fetch_all(self.read_pool())
        .await
        .map_err(query_error("list the abandoned messages"))?;
        rows.iter()
            .map(|row| {
                let abandoned_at_ms = RowReader::new(row, "outbox", "id").number("done_at_ms")?;
                Ok(AbandonedMessageRow { message: decode(row)?, abandoned_at_ms })
            })
            .collect()
    }

    /// Records that a message was delivered. `false`: it was already done, or there is no such message.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn record_message_delivered(&self, id: &MessageId, at_ms: UnixMs) -> Result<bool, StoreError> {
        self.record_attempt(
            id,
            Attempt { error: None, due_at_ms: None, done_at_ms: Some(at_ms), releases_claim: false },
        )
        .await
    }

    /// Records that an attempt failed with an unknown result; the next one is due at `due_at_ms`. The message keeps its claimed
    /// credential. `false`: it was already done, or there is no such message.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn record_message_failed(
        &self,
        id: &MessageId,
        error: &str,
        due_at_ms: UnixMs,
    ) -> Result<bool, StoreError> {
        self.record_attempt(
            id,
            Attempt { error: Some(error), due_at_ms: Some(due_at_ms), done_at_ms: None, releases_claim: false },
        )
        .await
    }

    /// Records that the receiver certainly did not process the message; the next attempt is due at `due_at_ms`. Its claimed credential
    /// is released. `false`: it was already done, or there is no such message.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn record_message_rejected(
        &self,
        id: &MessageId,
        error: &str,
        due_at_ms: UnixMs,
    ) -> Result<bool, StoreError> {
        self.record_attempt(
            id,
            Attempt { error: Some(error), due_at_ms: Some(due_at_ms), done_at_ms: None, releases_claim: true },
        )
        .await
    }

    /// Records that a message was abandoned after a failed attempt; this releases its claimed credential. `false`: it was already
    /// done, or there is no such message.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn record_message_abandoned(
        &self,
        id: &MessageId,
        error: &str,
        at_ms: UnixMs,
    ) -> Result<bool, StoreError> {
        self.record_attempt(
            id,
            Attempt { error: Some(error), due_at_ms: None, done_at_ms: Some(at_ms), releases_claim: false },
        )
        .await
    }

    async fn record_attempt(&self, id: &MessageId, attempt: Attempt<'_>) -> Result<bool, StoreError> {
        const OPERATION: &str = "record an attempt to send a message";
        let mut transaction = self.begin_write(WriteKind::RecordAttempt, OPERATION).await?;
        let error = attempt.error.map(|error| &error[..error.floor_char_boundary(ERROR_BYTES_MAX)]);
        let done = sqlx::query(
            "UPDATE outbox SET attempts = attempts + 1, last_error = $2, due_at_ms = COALESCE($3, due_at_ms), \
             done_at_ms = $4, claimed_revision = CASE WHEN $5 = 1 THEN NULL ELSE claimed_revision END \
             WHERE id = $1 AND done_at_ms IS NULL",
        )
        .bind(id.as_str())
        .bind(error)
        .bind(attempt.due_at_ms.map(to_sql_integer))
        .bind(attempt.done_at_ms.map(to_sql_integer))
        .bind(i64::from(attempt.releases_claim))
        .execute(&mut *transaction)
        .await
        .map_err(query_error(OPERATION))?;
        if done.rows_affected() == 0 {
            transaction.finish_unchanged();
            return Ok(false);
        }
        transaction.commit().await.map_err(query_error(OPERATION))?;
        Ok(true)
    }

    /// Removes messages that were done before `before_ms`; returns their number.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn delete_messages_before(&self, before_ms: UnixMs) -> Result<u64, StoreError> {
        const OPERATION: &str = "remove old messages";
        let mut transaction = self.begin_write(WriteKind::Purge, OPERATION).await?;
        let done = sqlx::query("DELETE FROM outbox WHERE done_at_ms < $1")
            .bind(to_sql_integer(before_ms))
            .execute(&mut *transaction)
            .await
            .map_err(query_error(OPERATION))?;
        transaction.commit().await.map_err(query_error(OPERATION))?;
        Ok(done.rows_affected())
    }
}

/// The result of one attempt to send a message.
struct Attempt<'a> {
    error: Option<&'a str>,
    due_at_ms: Option<UnixMs>,
    done_at_ms: Option<UnixMs>,
    /// Releases the claimed credential.
    releases_claim: bool,
}

/// Enqueues messages in the caller's transaction.
pub(crate) async fn enqueue_messages(connection: &mut Connection, messages: &[NewMessage]) -> Result<(), StoreError> {
    for message in messages {
        sqlx::query(
            "INSERT INTO outbox (id, kind, session_id, credential_id, created_at_ms, due_at_ms, receiver) \
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
        )
        .bind(message.id.as_str())
        .bind(message.kind.as_str())
        .bind(message.regarding.session_id().map(SessionId::as_str))
        .bind(message.regarding.credential_id().map(CredentialId::as_str))
        .bind(to_sql_integer(message.created_at_ms))
        .bind(to_sql_integer(message.due_at_ms))
        .bind(message.receiver.as_str())
        .execute(&mut *connection)
        .await
        .map_err(query_error("enqueue a message"))?;
    }
    Ok(())
}

fn decode(row: &AnyRow) -> Result<MessageRow, StoreError> {
    let reader = RowReader::new(row, "outbox", "id");
    let regarding = match (reader.parsed_or_null("session_id")?, reader.parsed_or_null("credential_id")?) {
        (Some(session), Some(credential)) => Regarding::Both(session, credential),
        (Some(session), None) => Regarding::Session(session),
        (None, Some(credential)) => Regarding::Credential(credential),
        (None, None) => return Err(reader.corrupt_row_error("without a session or credential")),
    };
    Ok(MessageRow {
        id: reader.parsed("id")?,
        kind: reader.text("kind")?,
        receiver: reader.text("receiver")?,
        regarding,
        created_at_ms: reader.number("created_at_ms")?,
        due_at_ms: reader.number("due_at_ms")?,
        attempts: reader.number("attempts")?,
        last_error: reader.text_or_null("last_error")?,
    })
}
