//! What somebody outside is to be told: written in the transaction of what it tells of, so that it is told exactly if that happened,
//! and kept until it was taken or given up.
//!
//! ```text
//!  enqueued (Completion · Change · set_health …) ──▶ due ──┬─▶ done
//!                                                   ▲      ├─▶ given up (done, with the last error)
//!                                                   └──────┴── failed, bounced: due again later
//! ```
//!
//! Whether a message has a credential's bytes with it is told in `carry`.

use crate::{
    Store, StoreError, UnixMs, WriteKind,
    row::{RowReader, stored},
    error::query_error,
};
use anteroom_wire::{CredentialId, MessageId, SessionId};
use sqlx::{AnyConnection, any::AnyRow};

/// Bytes of an error that are kept.
const ERROR_BYTES_MAX: usize = 1_000;

/// A message to be sent. What it says is read from its session and credential when it is sent; here is only what it is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewMessage {
    /// Its id, the same at each try.
    pub id: MessageId,
    /// What happened, for programs (`session.completed`).
    pub kind: String,
    /// About what.
    pub subject: MessageSubject,
    /// Now.
    pub created_at_ms: UnixMs,
    /// When it is to be sent first.
    pub due_at_ms: UnixMs,
}

/// What a message is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MessageSubject {
    /// A session.
    Session(SessionId),
    /// A credential.
    Credential(CredentialId),
    /// A credential, and the session that did something with it.
    Both(SessionId, CredentialId),
}

impl MessageSubject {
    /// The session.
    pub fn session(&self) -> Option<&SessionId> {
        match self {
            Self::Session(session) | Self::Both(session, _) => Some(session),
            Self::Credential(_) => None,
        }
    }

    /// The credential.
    pub fn credential(&self) -> Option<&CredentialId> {
        match self {
            Self::Credential(credential) | Self::Both(_, credential) => Some(credential),
            Self::Session(_) => None,
        }
    }
}

/// A message that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageRow {
    /// Its id.
    pub id: MessageId,
    /// What happened.
    pub kind: String,
    /// About what.
    pub subject: MessageSubject,
    /// When it was written.
    pub created_at_ms: UnixMs,
    /// When it is to be tried next.
    pub due_at_ms: UnixMs,
    /// How often it was tried.
    pub attempts: u64,
    /// Why the last try failed.
    pub last_error: Option<String>,
}

impl Store {
    /// Writes a message that goes with no other change.
    ///
    /// # Errors
    /// When its id exists, or its session or credential does not (conflict), or the database cannot be written.
    pub async fn enqueue_message(&self, message: &NewMessage) -> Result<(), StoreError> {
        const OPERATION: &str = "write a message";
        let mut transaction = self.begin(WriteKind::EnqueueMessage, OPERATION).await?;
        enqueue(&mut transaction, std::slice::from_ref(message)).await?;
        transaction.commit().await.map_err(query_error(OPERATION))
    }

    /// Messages that are due, the longest due first, at most `limit`.
    ///
    /// # Errors
    /// When the database cannot be read or has an impossible row.
    pub async fn due_messages(&self, now_ms: UnixMs, limit: u32) -> Result<Vec<MessageRow>, StoreError> {
        let rows = sqlx::query(
            "SELECT id, kind, session_id, credential_id, created_at_ms, due_at_ms, attempts, last_error FROM outbox \
             WHERE done_at_ms IS NULL AND due_at_ms <= $1 ORDER BY due_at_ms, id LIMIT $2",
        )
        .bind(stored(now_ms))
        .bind(i64::from(limit))
        .fetch_all(self.reader())
        .await
        .map_err(query_error("list the due messages"))?;
        rows.iter().map(decode).collect()
    }

    /// A message was taken. `false`: it was done before, or there is none.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn message_delivered(&self, id: &MessageId, at_ms: UnixMs) -> Result<bool, StoreError> {
        self.settle(id, Try { error: None, due_at_ms: None, done_at_ms: Some(at_ms), releases_claim: false }).await
    }

    /// A message was not taken, or nobody knows, and is to be tried again at `due_at_ms`: it keeps what it carries. `false`: it was
    /// done before, or there is none.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn message_failed(&self, id: &MessageId, error: &str, due_at_ms: UnixMs) -> Result<bool, StoreError> {
        self.settle(id, Try { error: Some(error), due_at_ms: Some(due_at_ms), done_at_ms: None, releases_claim: false }).await
    }

    /// A message certainly was not taken: what it carried is nobody's until it is tried again at `due_at_ms`. `false`: as above.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn message_rejected(&self, id: &MessageId, error: &str, due_at_ms: UnixMs) -> Result<bool, StoreError> {
        self.settle(id, Try { error: Some(error), due_at_ms: Some(due_at_ms), done_at_ms: None, releases_claim: true }).await
    }

    /// A message was not taken and is tried no more: what it carried is nobody's again. `false`: it was done before, or there is none.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn message_abandoned(&self, id: &MessageId, error: &str, at_ms: UnixMs) -> Result<bool, StoreError> {
        self.settle(id, Try { error: Some(error), due_at_ms: None, done_at_ms: Some(at_ms), releases_claim: false }).await
    }

    async fn settle(&self, id: &MessageId, tried: Try<'_>) -> Result<bool, StoreError> {
        const OPERATION: &str = "remember what became of a message";
        let mut transaction = self.begin(WriteKind::RecordAttempt, OPERATION).await?;
        let error = tried.error.map(|error| &error[..error.floor_char_boundary(ERROR_BYTES_MAX)]);
        let done = sqlx::query(
            "UPDATE outbox SET attempts = attempts + 1, last_error = $2, due_at_ms = COALESCE($3, due_at_ms), \
             done_at_ms = $4, claimed_revision = CASE WHEN $5 = 1 THEN NULL ELSE claimed_revision END \
             WHERE id = $1 AND done_at_ms IS NULL",
        )
        .bind(id.as_str())
        .bind(error)
        .bind(tried.due_at_ms.map(stored))
        .bind(tried.done_at_ms.map(stored))
        .bind(i64::from(tried.releases_claim))
        .execute(&mut *transaction)
        .await
        .map_err(query_error(OPERATION))?;
        if done.rows_affected() == 0 {
            transaction.unchanged();
            return Ok(false);
        }
        transaction.commit().await.map_err(query_error(OPERATION))?;
        Ok(true)
    }

    /// Removes messages that were done before `before_ms`; says how many.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn delete_messages_before(&self, before_ms: UnixMs) -> Result<u64, StoreError> {
        const OPERATION: &str = "remove old messages";
        let mut transaction = self.begin(WriteKind::Purge, OPERATION).await?;
        let done = sqlx::query("DELETE FROM outbox WHERE done_at_ms < $1")
            .bind(stored(before_ms))
            .execute(&mut *transaction)
            .await
            .map_err(query_error(OPERATION))?;
        transaction.commit().await.map_err(query_error(OPERATION))?;
        Ok(done.rows_affected())
    }
}

/// What became of one try.
struct Try<'a> {
    error: Option<&'a str>,
    due_at_ms: Option<UnixMs>,
    done_at_ms: Option<UnixMs>,
    /// What it carried is nobody's again.
    releases_claim: bool,
}

/// Writes messages inside the caller's transaction.
pub(crate) async fn enqueue(connection: &mut AnyConnection, messages: &[NewMessage]) -> Result<(), StoreError> {
    for message in messages {
        sqlx::query(
            "INSERT INTO outbox (id, kind, session_id, credential_id, created_at_ms, due_at_ms) \
             VALUES ($1, $2, $3, $4, $5, $6)",
        )
        .bind(message.id.as_str())
        .bind(message.kind.as_str())
        .bind(message.subject.session().map(SessionId::as_str))
        .bind(message.subject.credential().map(CredentialId::as_str))
        .bind(stored(message.created_at_ms))
        .bind(stored(message.due_at_ms))
        .execute(&mut *connection)
        .await
        .map_err(query_error("write a message"))?;
    }
    Ok(())
}

fn decode(row: &AnyRow) -> Result<MessageRow, StoreError> {
    let reader = RowReader::new(row, "outbox", "id");
    let subject = match (reader.parsed_or_null("session_id")?, reader.parsed_or_null("credential_id")?) {
        (Some(session), Some(credential)) => MessageSubject::Both(session, credential),
        (Some(session), None) => MessageSubject::Session(session),
        (None, Some(credential)) => MessageSubject::Credential(credential),
        (None, None) => return Err(reader.corrupt("about nothing")),
    };
    Ok(MessageRow {
        id: reader.parsed("id")?,
        kind: reader.text("kind")?,
        subject,
        created_at_ms: reader.number("created_at_ms")?,
        due_at_ms: reader.number("due_at_ms")?,
        attempts: reader.number("attempts")?,
        last_error: reader.text_or_null("last_error")?,
    })
}
