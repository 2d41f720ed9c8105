//! What operators are told: what exists against what should, and what the sweep does.

use crate::{CredentialId, MachineId, MessageId, SessionId};
use serde::{Deserialize, Serialize};

#[cfg(feature = "utoipa")]
use utoipa::ToSchema;

/// `GET /api/leaks`: what exists on this host against what should.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(ToSchema))]
pub struct LeakReport {
    /// Whether the server looked (and knows who owns what), or the command line without one.
    pub by_server: bool,
    /// One line for each kind of thing.
    pub rows: Vec<LeakRow>,
}

/// One kind of thing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(ToSchema))]
pub struct LeakRow {
    /// `keepers`, `machine processes`, `run directories`, `sockets`, `receipts`, `bundles`, `active sessions`, `templates`,
    /// `open files`.
    pub kind: String,
    /// How many exist.
    pub exists: u64,
    /// How many should, or may at most.
    pub expected: u64,
    /// Those that nobody owns.
    pub orphans: Vec<Orphan>,
}

/// Something that nobody owns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(ToSchema))]
pub struct Orphan {
    /// Which: a process, a path, an id.
    pub name: String,
    /// Why nobody owns it.
    pub why: String,
    /// How to remove it.
    pub remedy: String,
}

impl LeakReport {
    /// Everything that nobody owns.
    pub fn orphans(&self) -> impl Iterator<Item = &Orphan> {
        self.rows.iter().flat_map(|row| &row.orphans)
    }
}

/// `POST /api/reconcile`: what a sweep did, or with `dry_run` would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(ToSchema))]
pub struct ReconcileReport {
    /// Nothing was done.
    pub dry_run: bool,
    /// When it looked.
    pub at: String,
    /// What facts demand, in the order in which it is done.
    pub actions: Vec<ReconcileAction>,
    /// Of these, how many wait for the next sweep because one sweep ends only so many.
    pub deferred: u32,
    /// Of these, how many could not be done; the log has why.
    pub failed: u32,
}

/// One thing that a sweep does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(ToSchema))]
pub struct ReconcileAction {
    /// What.
    pub kind: ReconcileActionKind,
    /// The session it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionId>,
    /// The machine it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<MachineId>,
    /// The file it is about, without its directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Why, one sentence.
    pub reason: String,
    /// What became of it.
    pub outcome: ReconcileOutcome,
}

/// What a sweep can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "utoipa", derive(ToSchema))]
pub enum ReconcileActionKind {
    /// An active session without an owner is taken over.
    ResumeSession,
    /// A session ends: its deadline is over, or its tool is no longer configured.
    EndSession,
    /// A machine that no session owns is stopped.
    StopMachine,
    /// An old or half-written receipt is removed.
    RemoveReceipt,
    /// An old or half-written bundle is removed.
    RemoveBundle,
    /// The timeline of a session that has ended is told how its machine ended, from the receipt.
    RecordMachineEnd,
}

impl ReconcileActionKind {
    /// All of them.
    pub const ALL: &'static [Self] = &[
        Self::ResumeSession,
        Self::EndSession,
        Self::StopMachine,
        Self::RemoveReceipt,
        Self::RemoveBundle,
        Self::RecordMachineEnd,
    ];

    /// As it travels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ResumeSession => "resume_session",
            Self::EndSession => "end_session",
            Self::StopMachine => "stop_machine",
            Self::RemoveReceipt => "remove_receipt",
            Self::RemoveBundle => "remove_bundle",
            Self::RecordMachineEnd => "record_machine_end",
        }
    }

    /// Whether somebody may miss what it ends: only so many of these are done at once.
    pub fn is_destructive(self) -> bool {
        match self {
            Self::EndSession | Self::StopMachine => true,
            Self::ResumeSession | Self::RemoveReceipt | Self::RemoveBundle | Self::RecordMachineEnd => false,
        }
    }
}

/// What became of an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "utoipa", derive(ToSchema))]
pub enum ReconcileOutcome {
    /// Only looked at.
    Planned,
    /// Done.
    Done,
    /// Left for the next sweep.
    Deferred,
    /// It could not be done.
    Failed,
}

/// `GET /api/webhook`: how telling somebody outside fares.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(ToSchema))]
pub struct WebhookReport {
    /// Where it is posted, without its query; `null`: nobody is told.
    pub url: Option<String>,
    /// Whether credentials that are handed out once are in the messages.
    pub include_credential: bool,
    /// Messages that were taken since the server started.
    pub delivered: u64,
    /// Tries that failed since the server started.
    pub failed: u64,
    /// Messages that were given up since the server started.
    pub abandoned: u64,
    /// The last try that failed since the server started.
    pub last_error: Option<WebhookError>,
    /// Messages that wait, the oldest first, at most 1000.
    pub pending: Vec<PendingMessage>,
}

/// A try that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(ToSchema))]
pub struct WebhookError {
    /// When.
    pub at: String,
    /// Which message, the `webhook-id`.
    pub message: MessageId,
    /// Why.
    pub why: String,
}

/// A message that was not taken yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(ToSchema))]
pub struct PendingMessage {
    /// The `webhook-id`.
    pub id: MessageId,
    /// What happened.
    pub kind: String,
    /// The session it is about.
    pub session: Option<SessionId>,
    /// The credential it is about.
    pub credential: Option<CredentialId>,
    /// When it happened.
    pub created_at: String,
    /// When it is tried next.
    pub due_at: String,
    /// How often it was tried.
    pub attempts: u64,
    /// Why the last try failed.
    pub last_error: Option<String>,
}
