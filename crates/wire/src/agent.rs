//! The agent's side of the wire.
//!
//! Controller → agent (port [`AGENT_PORT`](crate::channel::AGENT_PORT), HTTP/2, the agent is the server):
//!
//! | request | body → answer | for |
//! |---|---|---|
//! | `GET /hello` | → [`Hello`] | who answers, which protocol and image, how far readiness is |
//! | `POST /claim` | [`Claim`] → [`Claimed`] | time, entropy, identity, provider, token; starts the tool. 409 when claimed for another session; the same claim again answers 200 and starts nothing |
//! | `GET /sign-in` | → [`SignIn`] | what is known of the sign-in now |
//! | `POST /open-url` | [`OpenUrl`] → 204 | open an address in the machine's browser |
//! | `POST /paste` | [`Paste`] → [`Pasted`] | what the person brings from their own browser: a code for the open prompt, the address at which that browser ended, or the secret the tool waits for |
//! | `POST /method` | [`SwitchMethod`] → 204 | end the tool and start it by another method |
//! | `POST /input` | [`Input`] → 204 | type into the tool's terminal |
//! | `POST /terminal/{id}/size` | [`TerminalSize`] → 204 | resize one terminal stream |
//! | `GET /screen` | → [`Screen`] | the terminal as text; where a stored credential is used, with what scrolled off, and after the command's end as it ended |
//! | `CONNECT` [`DESKTOP_AUTHORITY`] | raw RFB, both ways | desktop |
//! | `CONNECT` [`TERMINAL_AUTHORITY`] | raw terminal bytes, both ways; headers [`TERMINAL_ID_HEADER`], [`TERMINAL_COLS_HEADER`], [`TERMINAL_ROWS_HEADER`] | terminal |
//!
//! Agent → controller (port [`HOST_PORT`](crate::channel::HOST_PORT), HTTP/2, the controller is the server; every request but
//! `CONNECT` carries `Authorization: Bearer <agent token>`):
//!
//! | request | body → answer | for |
//! |---|---|---|
//! | `POST /api/agent/events` | [`Events`] → 204 | what happened in the machine, in order |
//! | `POST /api/auth/credentials/store` | [`Delivery`] → 200 [`Delivered`] | the credential; 4xx: do not send it again, 5xx or no answer: keep it and try again |
//! | `GET /api/agent/session` | → [`BoundTo`] | which session the machine serves; an external machine is not claimed, so its agent asks. 404: none at the moment |
//! | `CONNECT host:port` | raw bytes, both ways; a refusal is 403, 502 or 504 with a `ProblemBody` | egress |

use crate::{
    Base64, CredentialId, MachineId, ProviderId, Secret, SessionId,
    provider::{Key, Provider},
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The version of this module's meaning. A different number on the other side is refused by name.
pub const PROTOCOL: u32 = 2;

/// Authority of the `CONNECT` that reaches the desktop (RFB).
pub const DESKTOP_AUTHORITY: &str = "desktop:1";
/// Authority of the `CONNECT` that reaches the tool's terminal.
pub const TERMINAL_AUTHORITY: &str = "terminal:1";
/// Header that names a terminal stream, chosen by the controller: 1 to 40 of `a-z 0-9`.
pub const TERMINAL_ID_HEADER: &str = "anteroom-terminal";
/// Header: columns at the start, 2 to 500.
pub const TERMINAL_COLS_HEADER: &str = "anteroom-cols";
/// Header: rows at the start, 2 to 300.
pub const TERMINAL_ROWS_HEADER: &str = "anteroom-rows";
/// Where the agent posts events.
pub const EVENTS_PATH: &str = "/api/agent/events";
/// Where the agent posts the credential.
pub const STORE_PATH: &str = "/api/auth/credentials/store";
/// Where the agent of an external machine asks for its session.
pub const SESSION_PATH: &str = "/api/agent/session";

/// What has to be up, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub enum Stage {
    /// The machine's process runs.
    Process,
    /// The byte channel answers the nonce.
    Channel,
    /// The agent says hello with the expected protocol and image.
    Hello,
    /// The display server answers with an RFB greeting.
    Display,
    /// The window manager owns the display.
    WindowManager,
    /// The terminal the tool will run in exists.
    Terminal,
    /// The browser has a window (desktop images).
    Browser,
    /// The provider's tool runs (after the claim).
    Cli,
}

/// How far one stage is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StageState {
    /// Not yet tried.
    Waiting,
    /// Being tried.
    Trying,
    /// Up.
    Ready,
    /// Given up, or keeps failing.
    Failed,
}

/// One stage as the agent sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StageReport {
    /// Which.
    pub stage: Stage,
    /// How far.
    pub state: StageState,
    /// How often it was tried.
    pub attempts: u32,
    /// The last error, with the last lines of the program's output where there are some.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// Milliseconds from the agent's start to the last change.
    pub at_ms: u64,
}

/// The agent's answer to `GET /hello`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Hello {
    /// [`PROTOCOL`] of the agent.
    pub protocol: u32,
    /// The agent's own version.
    pub agent_version: String,
    /// The hash of the image it was started from, as the kernel command line or its configuration told it.
    pub image_hash: String,
    /// Names of what it can do beyond the minimum.
    pub capabilities: Vec<String>,
    /// Tool name → version, as found in the image.
    pub clis: BTreeMap<String, String>,
    /// The stages this machine has, in order.
    pub stages: Vec<StageReport>,
    /// Whose machine it is by now; `None`: fresh.
    pub claimed: Option<ClaimedBy>,
}

/// Who claimed a machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimedBy {
    /// The session.
    pub session: SessionId,
    /// The machine's id, as the claim gave it.
    pub machine: MachineId,
    /// The session's generation.
    pub generation: u32,
}

/// What makes a clone somebody's machine. Applied in the order of the fields: entropy and time before any program starts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Claim {
    /// Fresh random bytes, at least 32; credited to the guest kernel, then a reseed is forced.
    pub entropy: Base64,
    /// The host's time, nanoseconds since 1970.
    pub now_unix_ns: u64,
    /// The guest's new `/etc/machine-id`: 32 hex digits.
    pub guest_machine_id: String,
    /// For whom.
    pub by: ClaimedBy,
    /// The size the desktop shall have.
    pub geometry: Geometry,
    /// The tool.
    pub provider: Provider,
    /// The machine's token towards the controller; good until a delivery was stored.
    pub agent_token: Secret,
    /// How the credential watch behaves.
    pub capture: CaptureLimits,
    /// The machine is for using a stored credential, not for signing in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub use_credential: Option<Use>,
}

/// A credential to be used: its files are laid down before anything starts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Use {
    /// What for.
    pub purpose: UsePurpose,
    /// The files, as they were delivered.
    pub files: Vec<DeliveredFile>,
    /// The command for [`UsePurpose::Exec`] and [`UsePurpose::Logout`], run in the terminal in the place of the provider's: program,
    /// then arguments. [`UsePurpose::Check`] runs `credential.status_argv` without a terminal and has none here.
    #[serde(default)]
    pub argv: Vec<String>,
}

/// What a stored credential is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub enum UsePurpose {
    /// A command of the owner's; a credential that it changes is delivered again.
    Exec,
    /// The tool's own status command.
    Check,
    /// The tool's own sign-out.
    Logout,
}

/// How the credential watch behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaptureLimits {
    /// A candidate must not change for this long, milliseconds.
    pub stable_ms: u64,
    /// The largest credential file, bytes.
    pub file_bytes_max: u64,
    /// The wait before a delivery is tried again, milliseconds; doubles up to `retry_ms_max`.
    pub retry_ms_min: u64,
    /// The longest such wait.
    pub retry_ms_max: u64,
    /// How long the tool's status command may take, milliseconds.
    pub status_ms_max: u64,
}

/// A desktop's size in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct Geometry {
    /// 320 to 3840.
    pub width: u16,
    /// 240 to 2160.
    pub height: u16,
}

/// The answer to a claim: everything below has happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claimed {
    /// The tool's process id in the guest; `None` while it is still being started.
    pub cli_pid: Option<u32>,
}

/// The state of the sign-in, as far as the agent can see it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SignIn {
    /// The tool's process.
    pub cli: CliState,
    /// The address for the person's own browser, whole.
    pub url: Option<SignInUrl>,
    /// The address that the tool handed to `BROWSER`, for the browser in the machine; often the same.
    #[serde(default)]
    pub browser_url: Option<String>,
    /// The code to type there.
    pub device_code: Option<String>,
    /// What the tool asks the person now.
    #[serde(default)]
    pub prompt: Option<OpenPrompt>,
    /// The tool's own last word on its sign-in.
    #[serde(default)]
    pub outcome: Option<Outcome>,
    /// How far the credential is.
    pub capture: CaptureState,
    /// The name of the method by which the tool signs in; `None`: it does not sign in (yet), or the agent is older than this field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
}

impl SignIn {
    /// Whether there is something for the person to do: an address, a code, a question.
    pub fn is_under_way(&self) -> bool {
        self.url.is_some() || self.browser_url.is_some() || self.device_code.is_some() || self.prompt.is_some()
    }
}

/// The tool's process.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum CliState {
    /// Not started.
    #[default]
    Waiting,
    /// Running.
    Running,
    /// Ended.
    Exited {
        /// Exit code, or 128 + signal.
        code: i32,
    },
}

/// An address to open and who told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignInUrl {
    /// The whole address.
    pub url: String,
    /// Where it was found.
    pub source: UrlSource,
}

/// A question of the tool's that the person answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenPrompt {
    /// The rule's name; `key_entry` for the secret on standard input.
    pub id: String,
    /// What is asked for, for people.
    pub label: String,
    /// Not to be shown while it is typed.
    pub secret: bool,
    /// What a good answer looks like.
    pub hint: Option<String>,
    /// Why the tool did not take the last answer, in its own words, masked.
    pub refused: Option<String>,
}

/// The rule name of [`OpenPrompt`] for the secret on standard input.
pub const KEY_ENTRY: &str = "key_entry";

/// What the tool says of its sign-in on its screen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "outcome")]
pub enum Outcome {
    /// Signed in. What counts is the credential.
    Done,
    /// It did not work.
    Failed {
        /// The tool's own words, masked.
        why: String,
    },
}

/// Where an address was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UrlSource {
    /// The tool called `BROWSER` with it.
    Shim,
    /// It was a hyperlink (OSC 8) on the terminal.
    Hyperlink,
    /// It stood on the terminal's screen.
    Screen,
}

/// How far the credential is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum CaptureState {
    /// No candidate.
    #[default]
    Waiting,
    /// A file appeared that is not a whole credential (yet).
    Rejected {
        /// Path below the home directory.
        path: String,
        /// What is missing: JSON pointers, never values.
        why: String,
    },
    /// Whole and stable; being delivered.
    Delivering {
        /// Tries so far.
        attempts: u32,
        /// Why the last one failed.
        last_error: Option<String>,
    },
    /// Whole and stable; it stays in the machine, since the provider's policy is `keep_in_machine`.
    Kept {
        /// Path below the home directory.
        path: String,
    },
    /// The controller answered.
    Delivered,
    /// The controller refused it for good.
    Refused {
        /// The problem's code.
        code: String,
    },
}

/// `POST /open-url`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct OpenUrl {
    /// `http://` or `https://`, up to 8 KiB, no control characters.
    pub url: String,
}

/// `POST /paste`. Never shown, never logged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Paste {
    /// As the person copied it, up to 16 KiB; blanks around it do not count, control characters are refused.
    pub text: Secret,
}

/// What became of what was pasted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "taken_as")]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub enum Pasted {
    /// The address at which the person's browser ended was asked for inside the machine, where the tool waits for it.
    Callback {
        /// What the tool answered, an HTTP status.
        status: u16,
    },
    /// It was typed at the tool's prompt, with Enter.
    Prompt {
        /// The rule's name.
        id: String,
    },
    /// It was typed into the terminal, with Enter: the provider has no rule that tells what the tool asks.
    Terminal,
    /// The tool was started with it on its standard input.
    Key,
}

/// `POST /method`: the descriptor as it is for the new method ([`Provider::with_method`]).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SwitchMethod {
    /// The same provider.
    pub provider: Provider,
}

/// `POST /input`: text, then keys, typed into the tool's terminal. Never shown, never logged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Text as it is, up to 16 KiB, no control characters.
    pub text: Secret,
    /// Press Enter afterwards.
    pub enter: bool,
}

/// `POST /terminal/{id}/size`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminalSize {
    /// Columns, 2 to 500.
    pub cols: u16,
    /// Rows, 2 to 300.
    pub rows: u16,
}

/// `GET /screen`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Screen {
    /// The visible lines; a line that wrapped is one line.
    pub lines: Vec<String>,
}

/// A batch of [`Event`]s, oldest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Events {
    /// The events. The agent sends each until it was answered; the receiver drops a number it has seen.
    pub events: Vec<NumberedEvent>,
}

/// An event with its place in the machine's order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NumberedEvent {
    /// 1, 2, 3 … since the claim.
    pub number: u64,
    /// Guest time, milliseconds since 1970.
    pub at_unix_ms: u64,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// What happened in the machine. Texts are the guest's: bounded (4 KiB each) and never trusted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Event {
    /// A stage changed.
    Stage(StageReport),
    /// The tool started.
    CliStarted,
    /// The tool ended.
    CliExited {
        /// Exit code, or 128 + signal.
        code: i32,
        /// Last lines of its screen, for people; a URL's query and anything that looks like a token is masked.
        last_lines: Vec<String>,
    },
    /// The tool wants an address opened.
    SignInUrl(SignInUrl),
    /// The tool shows a device code.
    DeviceCode {
        /// The code.
        code: String,
    },
    /// The tool asks something that a rule knows.
    PromptOpened {
        /// What the person is asked; `None`: the rule answers by itself.
        ask: Option<OpenPrompt>,
        /// The rule's name.
        id: String,
    },
    /// A question of the person's is no longer on the screen.
    PromptClosed {
        /// The rule's name.
        id: String,
    },
    /// A rule pressed keys.
    KeysPressed {
        /// The rule's name.
        id: String,
        /// The keys, in order.
        keys: Vec<Key>,
    },
    /// Something that the person brought was given to the tool.
    Pasted(Pasted),
    /// Something that the person brought was not given to the tool.
    PasteRefused {
        /// The problem's code.
        code: String,
    },
    /// The tool says on its screen how its sign-in ended.
    Outcome(Outcome),
    /// The tool was ended, to be started by another method.
    MethodSwitched {
        /// The method's name.
        method: String,
    },
    /// A whole credential was found and stays in the machine: the provider's policy is `keep_in_machine`.
    CredentialKept {
        /// Path below the home directory.
        path: String,
    },
    /// The tool's status command was asked about the credential that was laid down ([`UsePurpose::Check`]).
    Checked {
        /// Whether it says that it is signed in.
        agrees: bool,
        /// Why not, or what it said: masked, for people.
        detail: String,
    },
    /// The command of [`Use`] has ended, and a credential that it changed was delivered and answered.
    UseOver {
        /// Exit code, or 128 + signal.
        code: i32,
        /// Whether it had changed the credential.
        changed: bool,
    },
    /// The machine's browser was asked to open an address.
    BrowserOpened {
        /// Host of the address.
        host: String,
    },
    /// The machine's browser did not open an address that it was asked to open, although that was tried again for as long as it may
    /// take to start.
    BrowserNotOpened {
        /// Host of the address.
        host: String,
        /// Why.
        why: String,
    },
    /// A candidate credential was looked at and does not count.
    CandidateRejected {
        /// Path below the home directory.
        path: String,
        /// JSON pointers or a short cause; never values.
        why: String,
    },
    /// A whole credential was found and its delivery begins.
    CandidateAccepted {
        /// Path below the home directory.
        path: String,
        /// Size in bytes.
        bytes: u64,
    },
    /// A delivery failed and will be tried again.
    DeliveryRetry {
        /// Tries so far.
        attempts: u32,
        /// Why the last one failed.
        error: String,
    },
    /// A supervised program ended.
    ChildExited {
        /// Which.
        name: String,
        /// Exit code, or 128 + signal; `None`: could not be started at all.
        code: Option<i32>,
        /// Restarts so far.
        restarts: u32,
        /// Last lines of its output.
        last_lines: Vec<String>,
    },
    /// A supervised program ends again and again. It is still started again, after growing waits. Told once a window at most.
    CrashLoop {
        /// Which.
        name: String,
        /// How often it ended within the window.
        exits: u32,
        /// The window, seconds.
        window_s: u64,
        /// How it ended last: exit code, or 128 + signal; `None`: could not be started at all.
        code: Option<i32>,
        /// Last lines of its output.
        last_lines: Vec<String>,
    },
    /// A program that had ended again and again stays up by now.
    CrashLoopOver {
        /// Which.
        name: String,
    },
    /// The machine came to be short of memory, or is so no longer.
    MemoryPressure {
        /// Whether it is short of memory.
        low: bool,
        /// What programs can still have (`MemAvailable`), MiB.
        available_mib: u64,
        /// How much of the last ten seconds some program waited for memory, percent (the kernel's pressure stall information);
        /// `None`: the kernel does not say.
        some_avg10: Option<f64>,
    },
    /// The guest's kernel killed programs for want of memory.
    OutOfMemory {
        /// The name of the last one; `None`: the kernel's log did not say.
        victim: Option<String>,
        /// How many were killed since this was told last.
        kills: u64,
    },
}

/// `GET /api/agent/session`: what a delivery has to name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct BoundTo {
    /// The session.
    pub session: SessionId,
    /// Which of its machines this is.
    pub generation: u32,
    /// The tool.
    pub provider: ProviderId,
    /// The files that may be delivered, by their paths below the home directory.
    pub paths: Vec<String>,
}

/// The credential, on its way to the vault.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Delivery {
    /// Whose.
    pub session: SessionId,
    /// The session's generation.
    pub generation: u32,
    /// Which tool's.
    pub provider: ProviderId,
    /// The files, byte for byte as the tool wrote them; the first is the one that was checked.
    pub files: Vec<DeliveredFile>,
}

/// One file as the tool wrote it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeliveredFile {
    /// Path below the home directory.
    pub path: String,
    /// Permission bits.
    pub mode: u32,
    /// The bytes.
    pub content: Base64,
}

/// The controller's answer to a delivery. Either way the agent is done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "outcome")]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub enum Delivered {
    /// Sealed, stored, read back.
    Stored {
        /// Its id.
        credential: CredentialId,
    },
    /// The session had been completed or ended before: nothing was changed.
    Ignored,
}
