//! Write transactions, and observers that are called before and after each of them.
//!
//! Every write of the store starts with [`Store::begin_write`](crate::Store) and ends with one of three [`WriteOutcome`]s, so an observer
//! sees all writes, in pairs: a `before` without its `after` means that the process ended in between.

use crate::{StoreError, error, error::query_error, text_enum::text_enum};
use anteroom_wire::TimelineKind;
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
    /// The kind of a write.
    pub enum WriteKind {
        /// A caller is created.
        CreateCaller = "create_caller",
        /// A caller is revoked.
        RevokeCaller = "revoke_caller",
        /// A login token is created.
        CreateLoginToken = "create_login_token",
        /// A login token is redeemed.
        RedeemLoginToken = "redeem_login_token",
        /// A WebSocket ticket is created.
        CreateTicket = "create_ticket",
        /// A WebSocket ticket is redeemed.
        RedeemTicket = "redeem_ticket",
        /// A session is created.
        CreateSession = "create_session",
        /// A session changes, with its timeline entry.
        Transition = "transition",
        /// A timeline entry is appended without another change.
        AppendEvent = "append_event",
        /// The use of a session is recorded.
        Touch = "touch",
        /// A credential is stored and its session completed.
        Complete = "complete_with_credential",
        /// A credential that was changed during its use replaces the previous one.
        Refresh = "refresh_credential",
        /// The use of a credential is completed.
        CompleteUse = "complete_use",
        /// The health of a credential is stored.
        SetHealth = "set_health",
        /// Credentials that were not delivered in time are deleted.
        DeleteExpired = "delete_expired",
        /// A webhook message is enqueued.
        EnqueueMessage = "enqueue_message",
        /// The result of an attempt to send a webhook message is recorded.
        RecordAttempt = "record_attempt",
        /// A webhook message claims a credential, or its claim is released.
        ClaimForWebhook = "claim_for_webhook",
        /// A webhook message delivered a credential.
        DeliverByWebhook = "deliver_by_webhook",
        /// A credential is leased.
        Lease = "lease",
        /// A credential is deleted.
        DeleteCredential = "delete_credential",
        /// A credential is rewrapped with another key.
        ReplaceSealed = "replace_sealed",
        /// Used and expired rows are removed.
        Purge = "purge",
        /// The fingerprint of the key ring is stored.
        KeyFingerprint = "key_fingerprint",
        /// The row of the health check is written.
        Health = "health",
    }
}

text_enum! {
    /// The result of a write.
    pub enum WriteOutcome {
        /// It is committed: it survives a loss of power.
        Written = "written",
        /// Nothing was changed: the expected state was not found.
        Unchanged = "unchanged",
        /// The database failed, or the caller was cancelled. Nothing was changed.
        Failed = "failed",
    }
}

/// One write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ObservedWrite {
    /// Its kind.
    pub kind: WriteKind,
    /// The kind of the timeline entry that is written with it, if any.
    pub entry: Option<TimelineKind>,
}

impl ObservedWrite {
    /// A write with a timeline entry of this kind.
    pub(crate) fn with_entry(kind: WriteKind, entry: TimelineKind) -> Self {
        Self { kind, entry: Some(entry) }
    }
}

impl From<WriteKind> for ObservedWrite {
    fn from(kind: WriteKind) -> Self {
        Self { kind, entry: None }
    }
}

/// `transition machine_ready`, or the kind alone.
impl std::fmt::Display for ObservedWrite {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.kind.as_str())?;
        self.entry.as_ref().map_or(Ok(()), |entry| write!(f, " {entry}"))
    }
}

/// Is called before and after every write, on the task of the writer: it must not block, and must not call the store.
pub trait WriteObserver: Send + Sync {
    /// The write is about to begin; nothing is written yet.
    fn before(&self, write: &ObservedWrite);

    /// The write ended with `outcome`, `took` after [`WriteObserver::before`], including the wait for the connection and the lock.
    /// The caller does not have the result yet.
    fn after(&self, write: &ObservedWrite, outcome: WriteOutcome, took: Duration);
}

/// Calls the observer with the outcome when it is dropped, however the write ends.
struct Reported {
    observer: Option<Arc<dyn WriteObserver>>,
    write: ObservedWrite,
    began: Instant,
    outcome: WriteOutcome,
}

impl Reported {
    fn begin(observer: Option<&Arc<dyn WriteObserver>>, write: ObservedWrite) -> Self {
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

/// A write transaction. Dropping it rolls it back. It holds the only writing connection: await nothing but the database.
pub(crate) struct WriteTransaction {
    // Fields are dropped in this order: the transaction is rolled back before its failure is reported.
    transaction: Transaction<'static, Any>,
    health: ConnectionHealth,
    report: Reported,
}

/// Marks the connection as broken unless the write ended properly: a connection with a half-finished write is not used again.
struct ConnectionHealth {
    is_broken: Arc<AtomicBool>,
    ended_properly: bool,
}

impl Drop for ConnectionHealth {
    fn drop(&mut self) {
        if !self.ended_properly {
            self.is_broken.store(true, Relaxed);
        }
    }
}

impl WriteTransaction {
    /// Begins when the connection and the lock are available.
    pub(crate) async fn begin(
        writer: &sqlx::AnyPool,
        begin: &'static str,
        is_broken: &Arc<AtomicBool>,
        observer: Option<&Arc<dyn WriteObserver>>,
        write: ObservedWrite,
        operation: &'static str,
    ) -> Result<Self, StoreError> {
        let report = Reported::begin(observer, write);
        // An error because of a lock does not mean that the connection is broken.
        let mut health = ConnectionHealth { is_broken: Arc::clone(is_broken), ended_properly: false };
        let transaction = writer.begin_with(begin).await.map_err(|source| {
            health.ended_properly = error::is_lock(&source);
            query_error(operation)(source)
        })?;
        Ok(Self { transaction, health, report })
    }

    /// Commits the transaction.
    pub(crate) async fn commit(self) -> Result<(), sqlx::Error> {
        let Self { transaction, mut health, mut report } = self;
        transaction.commit().await?;
        health.ended_properly = true;
        report.outcome = WriteOutcome::Written;
        Ok(())
    }

    /// Ends the transaction without a change.
    pub(crate) fn finish_unchanged(mut self) {
        self.health.ended_properly = true;
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
