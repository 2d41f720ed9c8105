//! Request and response bodies of the public API, used by backends, pages and the command line.
//!
//! Times are RFC 3339 in UTC with milliseconds. Ids are texts (see [`crate::id`]). Absent values are `null`.
//! The OpenAPI document marks such fields of responses as required (`schema(required)`): they are always present.

mod consent;
mod credentials;
mod health;
mod helpers;
mod machines;
mod overview;
mod providers;
mod sign_in;

pub use consent::{ConsentStatus, ConsentView};
pub use credentials::{CredentialFile, CredentialHealth, CredentialList, CredentialMeta, Lease};
pub use health::{Health, HealthCheck, HealthStatus, Isolation, IsolationLevel, LayerOff};
pub use helpers::{HelperList, HelperStatus, HelperView};
pub use machines::{ImageFile, ImageView, MachineList, MachineState, MachineView};
pub use overview::{
    CauseCount, HostCapacity, LiveSessions, Outcomes, Overview, RefusedHost, RefusedHostList, StageDurations,
    StartInterval, StartStage, StatusCount,
};
pub use providers::{ProviderList, ProviderView, SettingView};
pub use sign_in::{
    CurrentCaller, LoginRequest, OidcAnswer, OidcOutcome, OidcProvider, OidcRequest, OidcResult, OidcStart,
    ServerAddresses, SignInKind,
};

use crate::{
    CredentialId, ProviderId, SessionId, TimelineKind,
    agent::{Stage, UsePurpose},
    diagnosis::Verdict,
    provider::{Lane, StoragePolicy},
    situation::ForPerson,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

#[cfg(feature = "utoipa")]
use utoipa::ToSchema;

/// `POST /api/auth/start`.
#[derive(Default, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "utoipa", derive(ToSchema))]
pub struct StartRequest {
    /// The provider's id.
    pub provider: String,
    /// The caller's id for the user, 1 to 255 characters.
    #[serde(default)]
    pub user_id: Option<String>,
    /// Where the page redirects the user at the end: `http(s)://`, up to 2 KiB.
    #[serde(default)]
    pub return_url: Option<String>,
    /// Two requests of one caller with the same key start only one session. 1 to 255 characters.
    #[serde(default)]
    pub idempotency_key: Option<String>,
    /// The name of an external machine from the configuration; absent: a cloned machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<String>,
    /// One of the provider's methods; absent: the preferred one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// The credential to renew by signing in again: it keeps its id. It must be of the same `user_id`, if that is sent. A sign-in to
    /// another account does not replace it: the session fails with `other_account`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renews: Option<String>,
    /// Settings that the user's account needs, id → value. The list of providers names those that there are. Without one that is needed,
    /// the session asks for it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub settings: BTreeMap<String, String>,
    /// Labels that the host must have on which the session runs, name → value; `zone` is its zone. Only in a cluster.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

impl StartRequest {
    /// A sign-in to this provider, without any option.
    pub fn new(provider: &str) -> Self {
        Self { provider: provider.to_owned(), ..Self::default() }
    }
}

/// `POST …/method`: sign in with another method in the same machine; the tool is restarted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "utoipa", derive(ToSchema))]
pub struct MethodRequest {
    /// One of the provider's methods.
    pub method: String,
}

/// `POST /api/credentials/{id}/use`: use a credential in a new machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "utoipa", derive(ToSchema))]
pub struct CredentialUseRequest {
    /// What it is used for.
    pub purpose: UsePurpose,
    /// For `exec`: program, then arguments, at most 256 and 64 KiB together. Otherwise absent.
    #[serde(default)]
    pub argv: Vec<String>,
    /// For `exec`: the command waits for its caller, who starts it through `GET /api/auth/session/{id}/exec` and exchanges its standard
    /// streams there (docs/exec.md). Otherwise it runs in the session's terminal as soon as the machine is ready.
    #[serde(default)]
    pub attached: bool,
}

/// 202: the session exists, its machine is being started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(ToSchema))]
pub struct StartResponse {
    /// The session.
    pub session: SessionView,
    /// The page for the user, with a single-use login token in its fragment (fragments are not sent to servers and not logged).
    pub viewer_url: String,
}

/// The status of a session, computed from the session and its machine for each request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "utoipa", derive(ToSchema))]
pub enum SessionStatus {
    /// Accepted; a machine was requested, or the session is queued.
    VmCreating,
    /// The machine's process exists; not yet ready.
    VmCreated,
    /// Desktop and terminal can be opened.
    VmStarted,
    /// The tool's sign-in is running.
    Authenticating,
    /// The machine exited and another is being cloned.
    VmStopped,
    /// The credential is sealed and stored.
    Completed,
    /// Ended by a fault, named by the reason.
    Failed,
    /// Ended by its owner.
    Cancelled,
    /// Ended by its deadline.
    Expired,
}

impl SessionStatus {
    /// All statuses.
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

    /// The text in JSON.
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

    /// What it means, for documents.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::VmCreating => "It was accepted; it waits in the queue (`queue_position`), or a machine is requested.",
            Self::VmCreated => "The machine's process runs; it is not ready yet.",
            Self::VmStarted => {
                "Desktop and terminal can be opened; the tool starts, or has ended without a credential."
            }
            Self::Authenticating => "The tool runs; what its person must do is in `sign_in` and `for_person`.",
            Self::VmStopped => "The machine was lost, and another one is started.",
            Self::Completed => {
                "The credential is stored, or the use of a credential is over. There is no machine any more."
            }
            Self::Failed => "It was ended by a fault, which `reason` names.",
            Self::Cancelled => "It was cancelled by its owner or its person.",
            Self::Expired => "It was ended by a deadline.",
        }
    }

    /// Whether the session has ended.
    pub fn is_ended(self) -> bool {
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
    /// The provider.
    pub provider: ProviderId,
    /// The provider's name for people.
    pub provider_name: String,
    /// The display name of its owner: the caller that started it, for whom the credential is stored.
    pub owner_name: String,
    /// The host to which the page redirects the user at the end.
    #[cfg_attr(feature = "utoipa", schema(required))]
    pub return_host: Option<String>,
    /// The caller's id for the user.
    #[cfg_attr(feature = "utoipa", schema(required))]
    pub user_id: Option<String>,
    /// The present status.
    pub status: SessionStatus,
    /// Why it ended, or why the machine is being replaced.
    #[cfg_attr(feature = "utoipa", schema(required))]
    pub reason: Option<Reason>,
    /// The stage being waited for, while the machine is not ready.
    #[cfg_attr(feature = "utoipa", schema(required))]
    pub stage: Option<Stage>,
    /// Position in the queue, 1 is next; only while waiting for capacity.
    #[cfg_attr(feature = "utoipa", schema(required))]
    pub queue_position: Option<u32>,
    /// The generation of the machine: 1 for the first, one more after each restart.
    pub generation: u32,
    /// The most machines that this session may use; 1 on an external machine.
    pub generations_max: u32,
    /// The name of the external machine that the session uses; `null`: a cloned machine.
    #[cfg_attr(feature = "utoipa", schema(required))]
    pub machine: Option<String>,
    /// When it was accepted.
    pub created_at: String,
    /// When it ends unless it is used before.
    #[cfg_attr(feature = "utoipa", schema(required))]
    pub idle_deadline_at: Option<String>,
    /// When it ends at the latest.
    pub deadline_at: String,
    /// When it ended.
    #[cfg_attr(feature = "utoipa", schema(required))]
    pub ended_at: Option<String>,
    /// The state of the sign-in.
    pub sign_in: SignInView,
    /// The lanes of the present method, the preferred one first.
    pub lanes: Vec<Lane>,
    /// What must be done next, one sentence for operators, backends and the command line.
    pub next_action: String,
    /// The same for the person at the session's page.
    pub for_person: ForPerson,
    /// Where the page redirects the user at the end.
    #[cfg_attr(feature = "utoipa", schema(required))]
    pub return_url: Option<String>,
    /// The stored credential.
    #[cfg_attr(feature = "utoipa", schema(required))]
    pub credential: Option<CredentialMeta>,
    /// What happens with a captured credential.
    #[serde(rename = "policy")]
    pub storage_policy: StoragePolicy,
    /// The policy in one sentence, for the person: it names the owner.
    pub policy_sentence: String,
    /// The present sign-in method.
    pub method: String,
    /// All methods of the provider, the preferred one first.
    pub methods: Vec<MethodView>,
    /// The credential that this session renews.
    #[cfg_attr(feature = "utoipa", schema(required))]
    pub renews: Option<CredentialId>,
    /// How a stored credential is used; `null`: the session is a sign-in.
    #[cfg_attr(feature = "utoipa", schema(required))]
    pub credential_use: Option<CredentialUseView>,
    /// Desktop viewers connected now.
    pub viewers: u32,
    /// The host of the cluster that holds it, or held it last; absent: it waits for one, or there is no cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// In a list: the host did not answer within half a second, so that only what the database has is shown.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub host_is_silent: bool,
}

/// One of a provider's sign-in methods.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(ToSchema))]
pub struct MethodView {
    /// Its name.
    pub id: String,
    /// A short description, for people; empty if there is only one method.
    pub label: String,
    /// Its lanes, the preferred one first.
    pub lanes: Vec<Lane>,
}

/// How a session uses a stored credential.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(ToSchema))]
pub struct CredentialUseView {
    /// What it is used for.
    pub purpose: UsePurpose,
    /// The credential.
    pub credential: CredentialId,
    /// Exit code of the command, or 128 + signal; `null`: it has not exited.
    #[cfg_attr(feature = "utoipa", schema(required))]
    pub exit_code: Option<i32>,
    /// The session whose use of the same credential must end before this one begins.
    #[serde(default)]
    #[cfg_attr(feature = "utoipa", schema(required))]
    pub waits_for: Option<SessionId>,
}

/// `GET …/screen`: the tool's terminal as text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(ToSchema))]
pub struct ScreenView {
    /// The visible lines; a line that wrapped is one line.
    pub lines: Vec<String>,
    /// The command that used a credential has exited; these are its final lines.
    pub is_final: bool,
}

/// The state of the sign-in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(ToSchema))]
pub struct SignInView {
    /// The address to open in the user's own browser.
    #[cfg_attr(feature = "utoipa", schema(required))]
    pub url: Option<String>,
    /// The address that the tool passed to the machine's browser. Opened in the user's own browser, the sign-in ends at a loopback
    /// address there, which can be pasted here.
    #[cfg_attr(feature = "utoipa", schema(required))]
    pub browser_url: Option<String>,
    /// A warning: the machine wants to open a page that does not belong to the provider.
    #[cfg_attr(feature = "utoipa", schema(required))]
    pub unexpected_address: Option<UnexpectedAddress>,
    /// The code to type there.
    #[cfg_attr(feature = "utoipa", schema(required))]
    pub device_code: Option<String>,
    /// When the code expires.
    #[cfg_attr(feature = "utoipa", schema(required))]
    pub device_code_until: Option<String>,
    /// The prompt that is open now.
    #[cfg_attr(feature = "utoipa", schema(required))]
    pub prompt: Option<PromptView>,
    /// The reason that the tool shows for a failed sign-in.
    #[cfg_attr(feature = "utoipa", schema(required))]
    pub failed: Option<String>,
    /// The credential is complete and stays in the machine (`keep_in_machine`).
    pub kept_in_machine: bool,
}

/// An address that the machine wants to open and that is not a page of the provider. The address itself is withheld.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(ToSchema))]
pub struct UnexpectedAddress {
    /// The host that it leads to; with the scheme, the port and a mark for a user name, if they are unusual.
    pub host: String,
    /// The warning, for people: names this host and the provider.
    pub sentence: String,
}

/// A prompt of the tool that the user answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(ToSchema))]
pub struct PromptView {
    /// The rule's name.
    pub id: String,
    /// What is asked for, for people.
    pub label: String,
    /// The input must not be shown while it is typed.
    pub secret: bool,
    /// A description of the expected answer.
    #[cfg_attr(feature = "utoipa", schema(required))]
    pub expected_format: Option<String>,
    /// Why the tool rejected the last answer.
    #[cfg_attr(feature = "utoipa", schema(required))]
    pub rejection: Option<String>,
}

/// A cause with its stable code.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(ToSchema))]
pub struct Reason {
    /// The stable code, for programs (`machine_failed`).
    pub code: String,
    /// One sentence, for people.
    pub sentence: String,
}

/// One entry of a session's timeline.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(ToSchema))]
pub struct TimelineEntry {
    /// The sequence number within the session, from 1; the id of the server-sent event.
    pub number: u64,
    /// When it happened.
    pub at: String,
    /// The stable kind, for programs.
    pub kind: TimelineKind,
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

/// `POST …/ticket`: a single-use ticket for one WebSocket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(ToSchema))]
pub struct Ticket {
    /// Sent as the WebSocket subprotocol `ticket.<this>` in addition to `binary`.
    pub ticket: String,
    /// Its lifetime in seconds.
    pub expires_in_s: u64,
}

/// `GET /api/sessions`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(ToSchema))]
pub struct SessionList {
    /// Newest first.
    pub sessions: Vec<SessionView>,
    /// Why those of them that have ended did so, by id; only with `include=verdict`.
    pub verdicts: BTreeMap<SessionId, Verdict>,
    /// The value of `cursor` for the next page; `null`: there are no more sessions. A page may have fewer sessions than it could.
    #[cfg_attr(feature = "utoipa", schema(required))]
    pub next_cursor: Option<SessionId>,
    /// How many sessions all pages have together; `null` without `count=true`.
    #[cfg_attr(feature = "utoipa", schema(required))]
    pub total: Option<u64>,
}
