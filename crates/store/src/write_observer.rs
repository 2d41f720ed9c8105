//! Observers that are called before and after each write transaction.
//!
//! Every write of the store starts with [`Store::begin_write`](crate::Store) and ends with one of three [`WriteOutcome`]s, so an observer
//! sees all writes, in pairs: a `before` without its `after` means that the process ended in between.

use crate::text_enum::text_enum;
use anteroom_wire::TimelineKind;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

text_enum! {
    /// The kind of a write.
    pub enum WriteKind {
        /// A caller is created.
        CreateCaller = "create_caller",
        /// A caller is revoked.
        RevokeCaller = "revoke_caller",
        /// A successor of an API token is created.
        RotateToken = "rotate_token",
        /// The last use of a caller is recorded.
        RecordCallerUse = "record_caller_use",
        /// A browser signs in.
        CreateBrowser = "create_browser",
        /// The use of a browser is recorded.
        RecordBrowserUse = "record_browser_use",
        /// A person proved to be present.
        RecordConfirmation = "record_confirmation",
        /// A login token is created.
        CreateLoginToken = "create_login_token",
        /// A login token is redeemed.
        RedeemLoginToken = "redeem_login_token",
        /// A viewer's consent is recorded.
        RecordConsent = "record_consent",
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
        /// The turn of a credential is taken or given back.
        CredentialTurn = "credential_turn",
        /// A credential is deleted.
        DeleteCredential = "delete_credential",
        /// A credential is rewrapped with another key.
        ReplaceSealed = "replace_sealed",
        /// Rows get new MACs.
        RenewMacs = "renew_macs",
        /// Used and expired rows are removed.
        Purge = "purge",
        /// The fingerprint of the key ring is stored.
        KeyFingerprint = "key_fingerprint",
        /// A user's rows, or those of sessions that ended long ago, are erased.
        Erase = "erase",
        /// A key is retired.
        RetireKey = "retire_key",
        /// The authority of the cluster's certificates is stored.
        ClusterAuthority = "cluster_authority",
        /// An invitation of a host is used.
        HostInvitation = "host_invitation",
        /// The head of the audit trail is stored.
        AuditHead = "audit_head",
        /// A host joins the cluster.
        JoinHost = "join_host",
        /// The heartbeat of a host is recorded.
        Heartbeat = "heartbeat",
        /// A host takes a session that waits.
        TakeSession = "take_session",
        /// A dead host's sessions are taken away.
        FenceHost = "fence_host",
        /// A host is drained, or removed from the cluster.
        ChangeHost = "change_host",
        /// The record of a restore is taken.
        Restored = "restored",
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
        /// Nothing was changed: this host does not hold the session.
        Refused = "refused",
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
pub(crate) struct WriteReport {
    observer: Option<Arc<dyn WriteObserver>>,
    write: ObservedWrite,
    began: Instant,
    outcome: WriteOutcome,
}

impl WriteReport {
    /// Reports that the write begins. Without another outcome it has failed.
    pub(crate) fn begin(observer: Option<&Arc<dyn WriteObserver>>, write: ObservedWrite) -> Self {
        if let Some(observer) = observer {
            observer.before(&write);
        }
        Self { observer: observer.cloned(), write, began: Instant::now(), outcome: WriteOutcome::Failed }
    }

    pub(crate) fn set_outcome(&mut self, outcome: WriteOutcome) {
        self.outcome = outcome;
    }
}

impl Drop for WriteReport {
    fn drop(&mut self) {
        if let Some(observer) = &self.observer {
            observer.after(&self.write, self.outcome, self.began.elapsed());
        }
    }
}
