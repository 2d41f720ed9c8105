//! Who wants to know that the database is written: what is about to be written, and what became of it.
//!
//! Every write of the store passes [`Store::begin`](crate::Store) and ends as one of three [`WriteOutcome`]s, so an observer sees all
//! of them, in pairs: a `before` without its `after` is a process that ended in between.

use crate::{StoreError, error, error::query_error, text_enum::text_enum};
use sqlx::{Any, AnyConnection, Transaction};
use std::{
    ops::{Deref, DerefMut},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

text_enum! {
    /// What a write is for.
    pub enum WriteKind {
        /// A caller is made.
        CreateCaller = "create_caller",
        /// A caller is revoked.
        RevokeCaller = "revoke_caller",
        /// A single-use link is made.
        CreateLoginToken = "create_login_token",
        /// A single-use link is used up.
        RedeemLoginToken = "redeem_login_token",
        /// A WebSocket's ticket is made.
        CreateTicket = "create_ticket",
        /// A WebSocket's ticket is used up.
        RedeemTicket = "redeem_ticket",
        /// A session is started.
        CreateSession = "create_session",
        /// A session changes, with its timeline entry.
        Transition = "transition",
        /// A timeline entry alone.
        AppendEvent = "append_event",
        /// A session is used.
        Touch = "touch",
        /// A credential is stored and its session completed.
        Complete = "complete_with_credential",
        /// A credential that a use changed is stored in the place of the one before.
        Refresh = "refresh_credential",
        /// A use of a credential is over.
        CompleteUse = "complete_use",
        /// What is known of a credential's health is remembered.
        SetHealth = "set_health",
        /// Credentials that nobody fetched in time are deleted.
        DeleteExpired = "delete_expired",
        /// A message to somebody outside is written.
        EnqueueMessage = "enqueue_message",
        /// What became of a message is remembered.
        RecordAttempt = "record_attempt",
        /// A message takes a credential along, or has it no more.
        ClaimForWebhook = "claim_for_webhook",
        /// A message that carried a credential was taken.
        DeliverByWebhook = "deliver_by_webhook",
        /// A credential's files are handed out.
        Lease = "lease",
        /// A credential is deleted.
        DeleteCredential = "delete_credential",
        /// A credential is wrapped with another key.
        ReplaceSealed = "replace_sealed",
        /// What is spent is removed.
        Purge = "purge",
        /// The key ring's fingerprint is remembered.
        KeyFingerprint = "key_fingerprint",
        /// The health check's own row.
        Health = "health",
    }
}

text_enum! {
    /// What became of a write.
    pub enum WriteOutcome {
        /// It is committed: it survives a loss of power.
        Written = "written",
        /// There was nothing to change: what it expected was not so.
        Unchanged = "unchanged",
        /// The database could not, or whoever asked gave up. Nothing was changed.
        Failed = "failed",
    }
}

/// One write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// What for.
    pub kind: WriteKind,
    /// The kind of the timeline entry that goes with it, where one does.
    pub event: Option<String>,
}

impl Write {
    /// A write with a timeline entry of this kind.
    pub(crate) fn with_event(kind: WriteKind, event: &str) -> Self {
        Self { kind, event: Some(event.to_owned()) }
    }
}

impl From<WriteKind> for Write {
    fn from(kind: WriteKind) -> Self {
        Self { kind, event: None }
    }
}

/// `transition machine_ready`, or the kind alone.
impl std::fmt::Display for Write {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.kind.as_str())?;
        self.event.as_ref().map_or(Ok(()), |event| write!(f, " {event}"))
    }
}

/// Hears of every write. Called on the writer's own task: it must not block, and must not call the store.
pub trait WriteObserver: Send + Sync {
    /// It is about to begin; nothing is written yet.
    fn before(&self, write: &Write);

    /// It has ended so, `took` after [`WriteObserver::before`]: the wait for the connection and the lock is part of it. Whoever
    /// asked for it has not heard yet.
    fn after(&self, write: &Write, outcome: WriteOutcome, took: Duration);
}

/// Tells the observer the outcome, whatever way the write ends.
struct Reported {
    observer: Option<Arc<dyn WriteObserver>>,
    write: Write,
    began: Instant,
    outcome: WriteOutcome,
}

impl Reported {
    fn begin(observer: Option<&Arc<dyn WriteObserver>>, write: Write) -> Self {
        if let Some(observer) = observer {
            observer.before(&write);
        }
        Self { observer: observer.cloned(), write, began: Instant::now(), outcome: WriteOutcome::Failed }
    }
}

impl Drop for Reported {
    fn drop(&mut self) {
        if let Some(observer) = &self.observer {
            observer.after(&self.write, self.outcome, self.began.elapsed());
        }
    }
}

/// A transaction that may write. Dropping it undoes it. It holds the only writing connection: await nothing but the database.
pub(crate) struct WriteTransaction {
    // The order counts: it is undone before anybody hears that it failed.
    transaction: Transaction<'static, Any>,
    health: ConnectionHealth,
    report: Reported,
}

/// A connection on which a write failed halfway is not used again.
struct ConnectionHealth {
    is_broken: Arc<AtomicBool>,
    is_good: bool,
}

impl Drop for ConnectionHealth {
    fn drop(&mut self) {
        if !self.is_good {
            self.is_broken.store(true, Relaxed);
        }
    }
}

impl WriteTransaction {
    /// Begins, once there is a connection and the lock.
    pub(crate) async fn begin(
        writer: &sqlx::AnyPool,
        begin: &'static str,
        is_broken: &Arc<AtomicBool>,
        observer: Option<&Arc<dyn WriteObserver>>,
        write: Write,
        operation: &'static str,
    ) -> Result<Self, StoreError> {
        let report = Reported::begin(observer, write);
        // Only a lock says nothing against the connection.
        let mut health = ConnectionHealth { is_broken: Arc::clone(is_broken), is_good: false };
        let transaction = writer.begin_with(begin).await.map_err(|source| {
            health.is_good = error::is_lock(&source);
            query_error(operation)(source)
        })?;
        Ok(Self { transaction, health, report })
    }

    /// Makes it so.
    pub(crate) async fn commit(self) -> Result<(), sqlx::Error> {
        let Self { transaction, mut health, mut report } = self;
        transaction.commit().await?;
        health.is_good = true;
        report.outcome = WriteOutcome::Written;
        Ok(())
    }

    /// There is nothing to change.
    pub(crate) fn unchanged(mut self) {
        self.health.is_good = true;
        self.report.outcome = WriteOutcome::Unchanged;
    }
}

impl Deref for WriteTransaction {
    type Target = AnyConnection;
    fn deref(&self) -> &AnyConnection {
        &self.transaction
    }
}

impl DerefMut for WriteTransaction {
    fn deref_mut(&mut self) -> &mut AnyConnection {
        &mut self.transaction
    }
}
