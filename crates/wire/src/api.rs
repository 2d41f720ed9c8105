//! The public API's bodies, as backends, pages and the command line see them.
//!
//! Times are RFC 3339 in UTC with milliseconds. Ids are texts (see [`crate::id`]). Absent values are `null`.

mod providers;

pub use providers::{ProviderList, ProviderView};

use crate::{
    CredentialId, ProviderId, SessionId,
    agent::{Stage, UsePurpose},
    provider::{Lane, StoragePolicy},
};
use serde::{Deserialize, Serialize};

#[cfg(feature = "utoipa")]
use utoipa::ToSchema;

/// `POST /api/auth/start`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "utoipa", derive(ToSchema))]
pub struct StartRequest {
    /// Which tool.
    pub provider: String,
    /// The caller's own name for the person, 1 to 200 characters.
    #[serde(default)]
    pub user_id: Option<String>,
    /// Where the page sends the person at the end: `http(s)://`, up to 2 KiB.
    #[serde(default)]
    pub return_url: Option<String>,
    /// Two starts of one caller with the same key are one session. 1 to 200 characters.
    #[serde(default)]
    pub idempotency_key: Option<String>,
    /// An external machine of the configuration, by its name, instead of a cloned one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<String>,
    /// One of the provider's methods; absent: the preferred one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// Sign in again for this credential: it keeps its id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renews: Option<String>,
}

/// `POST …/method`: sign in by another method, in the same machine; the tool is started anew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "utoipa", derive(ToSchema))]
pub struct MethodRequest {
    /// One of the provider's methods.
    pub method: String,
}

/// `POST /api/credentials/{id}/use`: a fresh machine with the credential laid down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "utoipa", derive(ToSchema))]
pub struct UseRequest {
    /// What for.
    pub purpose: UsePurpose,
    /// For `exec`: program, then arguments, at most 256 and 64 KiB together. Else absent.
    #[serde(default)]
    pub argv: Vec<String>,
}

/// 202: the session exists, its machine is on the way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(ToSchema))]
pub struct StartResponse {
    /// The session as it is now.
    pub session: SessionView,
    /// The page for the person, with a single-use pass in its fragment (fragments are not sent to servers and not logged).
    pub viewer_url: String,
}

/// What a session is, derived from the session and its machine at the moment of the question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "utoipa", derive(ToSchema))]
pub enum Status {
    /// Accepted; a machine is asked for, or waits for capacity.
    VmCreating,
    /// The machine's process exists; not yet ready.
    VmCreated,
    /// Desktop and terminal can be opened.
    VmStarted,
    /// The tool's sign-in runs.
    Authenticating,
    /// The machine is gone and another is being cloned.
    VmStopped,
    /// The credential is sealed and stored.
    Completed,
    /// Ended by a fault; the reason says which.
    Failed,
    /// Ended by its owner.
    Cancelled,
    /// Ended by its deadline.
    Expired,
}

impl Status {
    /// All of them.
    pub const ALL: &'static [Self] = &[
        Self::VmCreating,
        Self::VmCreated,
        Self::VmStarted,
        Self::Authenticating,
        Self::VmStopped,
        Self::Completed,
        Self::Failed,
        Self::Cancelled,
        Self::Expired,
    ];

    /// As it travels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::VmCreating => "vm_creating",
            Self::VmCreated => "vm_created",
            Self::VmStarted => "vm_started",
            Self::Authenticating => "authenticating",
            Self::VmStopped => "vm_stopped",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
        }
    }

    /// Whether nothing can change any more.
    pub fn is_terminal(self) -> bool {
        match self {
            Self::VmCreating | Self::VmCreated | Self::VmStarted | Self::Authenticating | Self::VmStopped => false,
            Self::Completed | Self::Failed | Self::Cancelled | Self::Expired => true,
        }
    }
}

/// One session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(ToSchema))]
pub struct SessionView {
    /// Its id.
    pub id: SessionId,
    /// The tool.
    pub provider: ProviderId,
    /// The tool's name for people.
    pub provider_name: String,
    /// The caller's name for the person.
    pub user_id: Option<String>,
    /// What is so now.
    pub status: Status,
    /// Why it ended, or why the machine is being replaced.
    pub reason: Option<Reason>,
    /// The stage being waited for, while the machine is not ready.
    pub stage: Option<Stage>,
    /// Place in the queue, 1 is next; only while waiting for capacity.
    pub queue_position: Option<u32>,
    /// Which machine this is: 1 for the first, more after restarts.
    pub generation: u32,
    /// Machines this session may use in all; 1 on an external machine.
    pub generations_max: u32,
    /// The external machine that the session uses, by its name; `null`: a cloned one.
    pub machine: Option<String>,
    /// When it was accepted.
    pub created_at: String,
    /// When it ends if nobody uses it.
    pub idle_deadline_at: Option<String>,
    /// When it ends whatever happens.
    pub deadline_at: String,
    /// When it ended.
    pub ended_at: Option<String>,
    /// What is known of the sign-in.
    pub sign_in: SignInView,
    /// The ways of signing in, the preferred one first.
    pub lanes: Vec<Lane>,
    /// What the person does next, one sentence.
    pub next_action: String,
    /// Where the page sends the person at the end.
    pub return_url: Option<String>,
    /// The stored credential.
    pub credential: Option<CredentialMeta>,
    /// What happens with a captured credential.
    pub policy: StoragePolicy,
    /// The same in a sentence, for the person who signs in.
    pub policy_sentence: String,
    /// The method by which the tool is being signed in.
    pub method: String,
    /// All methods of the provider, the preferred one first.
    pub methods: Vec<MethodView>,
    /// The credential that this session signs in for again.
    pub renews: Option<CredentialId>,
    /// What a stored credential is used for here; `null`: somebody signs in.
    pub credential_use: Option<UseView>,
    /// Desktop viewers connected now.
    pub viewers: u32,
}

/// One of the commands by which a tool can be signed in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(ToSchema))]
pub struct MethodView {
    /// Its name.
    pub id: String,
    /// In a few words, for people; empty where there is only one method.
    pub label: String,
    /// Its ways of taking part, the preferred one first.
    pub lanes: Vec<Lane>,
}

/// A session that uses a stored credential.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(ToSchema))]
pub struct UseView {
    /// What for.
    pub purpose: UsePurpose,
    /// Which.
    pub credential: CredentialId,
    /// How the command ended: exit code, or 128 + signal; `null`: it has not.
    pub exit_code: Option<i32>,
}

/// `GET …/screen`: the tool's terminal as text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(ToSchema))]
pub struct ScreenView {
    /// The visible lines; a line that wrapped is one line.
    pub lines: Vec<String>,
    /// The command that used a credential has ended, and this stood there then.
    pub is_final: bool,
}

/// What is known of the sign-in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(ToSchema))]
pub struct SignInView {
    /// The address to open in the person's own browser.
    pub url: Option<String>,
    /// The address that the tool handed to the machine's browser; a person's own browser ends with it at an address on its own loopback,
    /// which can be pasted here.
    pub browser_url: Option<String>,
    /// The code to type there.
    pub device_code: Option<String>,
    /// When the code ends.
    pub device_code_until: Option<String>,
    /// What the tool asks now.
    pub prompt: Option<PromptView>,
    /// Why the tool says that its sign-in failed.
    pub failed: Option<String>,
    /// The credential is whole and stays in the machine (`keep_in_machine`).
    pub kept_in_machine: bool,
}

/// A question of the tool's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(ToSchema))]
pub struct PromptView {
    /// The rule's name.
    pub id: String,
    /// What is asked for, for people.
    pub label: String,
    /// Not to be shown while it is typed.
    pub secret: bool,
    /// What a good answer looks like.
    pub hint: Option<String>,
    /// Why the tool did not take the last answer.
    pub rejected: Option<String>,
}

/// A cause with its stable code.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(ToSchema))]
pub struct Reason {
    /// Stable, for programs (`machine_exited`).
    pub code: String,
    /// One sentence, for people.
    pub sentence: String,
}

/// One line of a session's timeline.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(ToSchema))]
pub struct TimelineEntry {
    /// 1, 2, 3 … within the session; the id of the server-sent event.
    pub number: u64,
    /// When.
    pub at: String,
    /// Stable, for programs (`machine_ready`).
    pub kind: String,
    /// One sentence, for people.
    pub sentence: String,
    /// Details, by kind.
    #[cfg_attr(feature = "utoipa", schema(value_type = Object))]
    pub data: serde_json::Value,
}

/// `GET …/events` as JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(ToSchema))]
pub struct Timeline {
    /// Oldest first.
    pub entries: Vec<TimelineEntry>,
}

/// A credential without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(ToSchema))]
pub struct CredentialMeta {
    /// Its id.
    pub id: CredentialId,
    /// The tool.
    pub provider: ProviderId,
    /// The caller's name for the person.
    pub user_id: Option<String>,
    /// The session it came from.
    pub session: SessionId,
    /// When it was stored.
    pub stored_at: String,
    /// Its files.
    pub files: Vec<CredentialFile>,
    /// What happens with it.
    pub policy: StoragePolicy,
    /// Until when it waits to be handed out (`deliver_once`).
    pub deliver_until: Option<String>,
    /// Whether it can be used.
    pub health: CredentialHealth,
    /// What that was concluded from, one sentence.
    pub health_detail: String,
    /// When the tool itself was asked last; the sign-in counts.
    pub checked_at: String,
    /// When it ends for good, as it says itself.
    pub expires_at: Option<String>,
}

/// Whether a credential can be used, as far as is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "utoipa", derive(ToSchema))]
pub enum CredentialHealth {
    /// The tool agreed when it was asked last.
    Valid,
    /// It ends soon.
    Expiring,
    /// The tool did not agree, or it has ended: sign in again.
    NeedsAuth,
}

impl CredentialHealth {
    /// All of them.
    pub const ALL: &'static [Self] = &[Self::Valid, Self::Expiring, Self::NeedsAuth];

    /// As it travels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::Expiring => "expiring",
            Self::NeedsAuth => "needs_auth",
        }
    }
}

/// One file of a credential, without its bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(ToSchema))]
pub struct CredentialFile {
    /// Path below the home directory.
    pub path: String,
    /// Size.
    pub bytes: u64,
    /// Permission bits.
    pub mode: u32,
}

/// `GET /api/credentials` and `GET …/credentials`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(ToSchema))]
pub struct CredentialList {
    /// Newest first.
    pub credentials: Vec<CredentialMeta>,
}

/// `POST /api/credentials/{id}/lease`: the files, in the clear, to their owner; the lease is on the record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(ToSchema))]
pub struct Lease {
    /// The credential.
    pub credential: CredentialMeta,
    /// The files, byte for byte.
    #[cfg_attr(feature = "utoipa", schema(value_type = Vec<Object>))]
    pub files: Vec<crate::agent::DeliveredFile>,
}

/// `POST …/ticket`: what opens one WebSocket, once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(ToSchema))]
pub struct Ticket {
    /// Sent as the WebSocket subprotocol `ticket.<this>` beside `binary`.
    pub ticket: String,
    /// Seconds it lives.
    pub expires_in_s: u64,
}

/// `POST /api/login`: turns a single-use pass into a cookie.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "utoipa", derive(ToSchema))]
pub struct LoginRequest {
    /// The pass, from the link's fragment.
    pub login_token: String,
}

/// Who is asking, as the server sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(ToSchema))]
pub struct CurrentCaller {
    /// `operator`, `backend` or `viewer`.
    pub role: String,
    /// The only session a viewer may see.
    pub session: Option<SessionId>,
}

/// `GET /api/sessions`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(ToSchema))]
pub struct SessionList {
    /// Newest first.
    pub sessions: Vec<SessionView>,
}

/// `GET /health`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(ToSchema))]
pub struct Health {
    /// `ok`, `degraded` (works, see the checks) or `down`.
    pub status: HealthStatus,
    /// The server's version.
    pub version: String,
    /// One line for each dependency that was really asked.
    pub checks: Vec<HealthCheck>,
}

/// A verdict on health.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "utoipa", derive(ToSchema))]
pub enum HealthStatus {
    /// All well.
    Ok,
    /// Works, but something is worse than it should be.
    Degraded,
    /// Does not work.
    Down,
}

/// One dependency.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(ToSchema))]
pub struct HealthCheck {
    /// `store`, `vault`, `image`, `accelerator`, `machines`, `disk`, `memory`, `sweep`.
    pub name: String,
    /// Its verdict.
    pub status: HealthStatus,
    /// What was seen, one sentence.
    pub detail: String,
}
