//! Reports for operators: leaks, reconciliation, keys, the database, webhook delivery.

use crate::{CallerId, CredentialId, MachineId, MessageId, SessionId};
use serde::{Deserialize, Serialize};

#[cfg(feature = "utoipa")]
use utoipa::ToSchema;

/// `GET /api/leaks`: the resources that exist on this host, compared with those that are expected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(ToSchema))]
pub struct LeakReport {
    /// Made by the server, which knows the owner of each resource; `false`: by the command line without a server.
    pub by_server: bool,
    /// One row for each kind of resource.
    pub rows: Vec<LeakRow>,
}

/// One kind of resource.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(ToSchema))]
pub struct LeakRow {
    /// `keepers`, `machine processes`, `run directories`, `sockets`, `receipts`, `bundles`, `active sessions`, `templates`,
    /// `open files`.
    pub kind: String,
    /// How many exist.
    pub exists: u64,
    /// How many are expected, or the most that may exist.
    pub expected: u64,
    /// Those without an owner.
    pub orphans: Vec<Orphan>,
}

/// A resource without an owner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(ToSchema))]
pub struct Orphan {
    /// A process, a path or an id.
    pub name: String,
    /// Why it has no owner.
    pub why: String,
    /// How to remove it.
    pub remedy: String,
}

impl LeakReport {
    /// All orphans.
    pub fn orphans(&self) -> impl Iterator<Item = &Orphan> {
        self.rows.iter().flat_map(|row| &row.orphans)
    }
}

/// `POST /api/database/check`: what is wrong with the database, and what it contains.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(ToSchema))]
pub struct DatabaseReport {
    /// The version of its schema.
    pub schema_version: u32,
    /// Its tables.
    pub tables: Vec<TableDigest>,
    /// Rows with a MAC that is valid; `null`: the keys are missing, or the rows have no MACs yet.
    #[cfg_attr(feature = "utoipa", schema(required))]
    pub rows_authentic: Option<u64>,
    /// One sentence for each fault.
    pub faults: Vec<String>,
    /// What was not checked, and why.
    pub not_checked: Vec<String>,
}

/// The rows of a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(ToSchema))]
pub struct TableDigest {
    /// Its name.
    pub name: String,
    /// How many.
    pub rows: u64,
    /// The digest of all of them, hexadecimal.
    pub sha256: String,
}

/// `POST /api/reconcile`: what a reconciliation did, or with `dry_run` would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(ToSchema))]
pub struct ReconcileReport {
    /// Only the plan was made.
    pub dry_run: bool,
    /// When it ran.
    pub at: String,
    /// The required actions, in the order of their execution.
    pub actions: Vec<ReconcileAction>,
    /// How many of these wait for the next reconciliation, because one stops only a limited number.
    pub deferred: u32,
    /// How many of these failed; the log has the cause.
    pub failed: u32,
}

/// One action of a reconciliation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(ToSchema))]
pub struct ReconcileAction {
    /// The kind of action.
    pub kind: ReconcileActionKind,
    /// The affected session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionId>,
    /// The affected machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<MachineId>,
    /// The affected file, without its directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Why it is required, one sentence.
    pub reason: String,
    /// Its result.
    pub outcome: ReconcileOutcome,
}

/// The kinds of actions of a reconciliation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "utoipa", derive(ToSchema))]
pub enum ReconcileActionKind {
    /// Resume an active session that no task supervises.
    ResumeSession,
    /// End a session: its deadline has passed, or its provider is no longer configured.
    EndSession,
    /// Stop a machine without a session.
    StopMachine,
    /// Remove an old or incomplete receipt.
    RemoveReceipt,
    /// Remove an old or incomplete bundle.
    RemoveBundle,
    /// Record on the timeline of an ended session how its machine ended, from the receipt.
    RecordMachineEnd,
}

impl ReconcileActionKind {
    /// All kinds.
    pub const ALL: &'static [Self] = &[
        Self::ResumeSession,
        Self::EndSession,
        Self::StopMachine,
        Self::RemoveReceipt,
        Self::RemoveBundle,
        Self::RecordMachineEnd,
    ];

    /// The text in JSON.
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

    /// Whether it ends a session or machine: only a limited number of these is executed at once.
    pub fn is_destructive(self) -> bool {
        match self {
            Self::EndSession | Self::StopMachine => true,
            Self::ResumeSession | Self::RemoveReceipt | Self::RemoveBundle | Self::RecordMachineEnd => false,
        }
    }
}

/// The result of an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "utoipa", derive(ToSchema))]
pub enum ReconcileOutcome {
    /// Planned only.
    Planned,
    /// Done.
    Done,
    /// Deferred to the next reconciliation.
    Deferred,
    /// Failed.
    Failed,
}

/// `POST /api/erase`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "utoipa", derive(ToSchema))]
pub struct EraseRequest {
    /// The callers' id for the user.
    pub user_id: String,
    /// Only what belongs to this caller; absent: of all callers.
    #[serde(default)]
    pub caller: Option<CallerId>,
}

/// What was deleted about a user, and what stays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(ToSchema))]
pub struct EraseReport {
    /// Sessions.
    pub sessions: u64,
    /// Timeline entries.
    pub timeline_entries: u64,
    /// Credentials.
    pub credentials: u64,
    /// Records of leases.
    pub leases: u64,
    /// Tickets and login tokens.
    pub tickets: u64,
    /// Callers that could see only one of these sessions.
    pub viewers: u64,
    /// Webhook messages.
    pub messages: u64,
    /// Receipts of machines.
    pub receipts: u64,
    /// Support bundles.
    pub bundles: u64,
    /// What was not deleted, one sentence each.
    pub stays: Vec<String>,
}

/// `GET /api/keys`: the keys that wrap stored credentials, without the keys themselves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(ToSchema))]
pub struct KeyReport {
    /// The file with the keys, and what wraps them.
    pub source: String,
    /// The keys, the oldest first.
    pub keys: Vec<KeyRow>,
    /// Records that are still wrapped by an older key than the primary one; the server rewraps them in the background.
    pub records_to_rewrap: u64,
    /// Records that could not be rewrapped; the log names each.
    pub records_failed: u64,
}

/// One key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(ToSchema))]
pub struct KeyRow {
    /// Its number.
    pub id: u32,
    /// When it was created.
    pub created_at: String,
    /// Whether it seals new records.
    pub is_primary: bool,
    /// Records that it wraps.
    pub records: u64,
}

/// `GET /api/webhook`: the state of the webhook deliveries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(ToSchema))]
pub struct WebhookReport {
    /// The receivers; none: no webhook is configured.
    pub receivers: Vec<ReceiverReport>,
    /// Messages delivered since the server started.
    pub delivered: u64,
    /// Failed attempts since the server started.
    pub failed: u64,
    /// Messages abandoned since the server started.
    pub abandoned: u64,
    /// The last failed attempt since the server started.
    pub last_error: Option<WebhookError>,
    /// Pending messages, the oldest first, at most 1000.
    pub pending: Vec<PendingMessage>,
    /// Messages that were abandoned in the last seven days, the last one first, at most 100.
    pub abandoned_messages: Vec<AbandonedMessage>,
}

/// A receiver of messages. Its numbers are since the server started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(ToSchema))]
pub struct ReceiverReport {
    /// Its name in the configuration.
    pub name: String,
    /// The address to which messages are posted, without its query.
    pub url: String,
    /// The types of messages that it gets; empty: all.
    pub types: Vec<String>,
    /// Whether the messages contain `deliver_once` credentials.
    pub include_credential: bool,
    /// Delivered messages.
    pub delivered: u64,
    /// Failed attempts.
    pub failed: u64,
    /// Abandoned messages.
    pub abandoned: u64,
    /// The last failed attempt.
    #[cfg_attr(feature = "utoipa", schema(required))]
    pub last_error: Option<WebhookError>,
}

/// `POST /api/webhook/test`: the receivers that get a message of the type `webhook.test`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "utoipa", derive(ToSchema))]
pub struct WebhookTestRequest {
    /// Only the receiver of this name. Default: all.
    #[serde(default)]
    pub receiver: Option<String>,
}

/// What came of the test of one receiver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(ToSchema))]
pub struct WebhookTestResult {
    /// The `webhook-id` of the message.
    pub id: MessageId,
    /// The name of the receiver.
    pub receiver: String,
    /// Its address without the query.
    pub url: String,
    /// Why it did not accept the message; `null`: it did.
    #[cfg_attr(feature = "utoipa", schema(required))]
    pub error: Option<String>,
}

/// The results of `POST /api/webhook/test`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(ToSchema))]
pub struct WebhookTestResults {
    /// One for each receiver.
    pub results: Vec<WebhookTestResult>,
}

/// A message that will not be delivered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(ToSchema))]
pub struct AbandonedMessage {
    /// The `webhook-id`.
    pub id: MessageId,
    /// The type of the message.
    pub kind: String,
    /// The name of its receiver.
    pub receiver: String,
    /// Its session.
    pub session: Option<SessionId>,
    /// Its credential.
    pub credential: Option<CredentialId>,
    /// When it was created.
    pub created_at: String,
    /// When it was abandoned.
    pub abandoned_at: String,
    /// The attempts.
    pub attempts: u64,
    /// Why the last attempt failed.
    pub last_error: String,
}

/// A failed attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(ToSchema))]
pub struct WebhookError {
    /// When it failed.
    pub at: String,
    /// The message, by its `webhook-id`.
    pub message: MessageId,
    /// Why it failed.
    pub why: String,
}

/// A message that was not delivered yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(ToSchema))]
pub struct PendingMessage {
    /// The `webhook-id`.
    pub id: MessageId,
    /// The type of the message.
    pub kind: String,
    /// The name of its receiver.
    pub receiver: String,
    /// Its session.
    pub session: Option<SessionId>,
    /// Its credential.
    pub credential: Option<CredentialId>,
    /// When it was created.
    pub created_at: String,
    /// When the next attempt is due.
    pub due_at: String,
    /// Attempts so far.
    pub attempts: u64,
    /// Why the last attempt failed.
    pub last_error: Option<String>,
}
