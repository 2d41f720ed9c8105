//! The agent protocol.
//!
//! Controller → agent (port [`AGENT_SERVER_PORT`](crate::channel::AGENT_SERVER_PORT), HTTP/2, the agent is the server):
//!
//! | request | body → answer | for |
//! |---|---|---|
//! | `GET /hello` | → [`AgentInfo`] | identity, protocol version, image and readiness |
//! | `POST /claim` | [`Claim`] → [`ClaimResult`] | time, entropy, identity, provider, token; starts the tool. 409 if claimed for another session; repeating the same claim returns 200 and starts nothing |
//! | `GET /sign-in` | → [`SignInStatus`] | the current state of the sign-in |
//! | `POST /open-url` | [`OpenUrl`] → 204 | open an address in the machine's browser |
//! | `POST /paste` | [`Paste`] → [`PasteResult`] | text that the user pastes: a code for the open prompt, the callback address from their own browser, or the secret the tool waits for |
//! | `POST /method` | [`ChangeMethod`] → 204 | stop the tool and start it with another sign-in method |
//! | `POST /input` | [`TypeText`] → 204 | type into the tool's terminal |
//! | `POST /terminal/{id}/size` | [`TerminalSize`] → 204 | resize one terminal stream |
//! | `GET /screen` | → [`Screen`] | the terminal as text; during a credential use with the scrollback, and after the command has exited its final screen |
//! | `CONNECT` [`DESKTOP_AUTHORITY`] | raw RFB, both ways | desktop |
//! | `CONNECT` [`TERMINAL_AUTHORITY`] | raw terminal bytes, both ways; headers [`TERMINAL_ID_HEADER`], [`TERMINAL_COLS_HEADER`], [`TERMINAL_ROWS_HEADER`] | terminal |
//! | `CONNECT` [`EXEC_AUTHORITY`](crate::exec::EXEC_AUTHORITY) | messages of [`crate::exec`], both ways | a command with its own streams, in a machine that uses a credential |
//!
//! Agent → controller (port [`CONTROLLER_SERVER_PORT`](crate::channel::CONTROLLER_SERVER_PORT), HTTP/2, the controller is the server; every request but
//! `CONNECT` has `Authorization: Bearer <agent token>`):
//!
//! | request | body → answer | for |
//! |---|---|---|
//! | `POST /api/agent/events` | [`EventBatch`] → 204 | events of the machine, in order |
//! | `POST /api/auth/credentials/store` | [`CredentialDelivery`] → 200 [`Delivered`] | the credential; 4xx: do not send it again, 5xx or no answer: keep it and retry |
//! | `GET /api/agent/session` | → [`AgentSession`] | the session of the machine; an external machine is not claimed, so its agent asks. 404: none at the moment |
//! | `CONNECT host:port` | raw bytes, both ways; header [`EGRESS_BY_HEADER`]; errors are 403, 502 or 504 with a `ProblemBody` | egress |

mod agent_info;
mod claim;
mod delivery;
mod egress_by;
mod events;
mod requests;
mod sign_in;

pub use agent_info::{AgentInfo, ClaimedBy, Stage, StageReport, StageState};
pub use claim::{CaptureLimits, Claim, ClaimResult, Geometry, UseCredential, UsePurpose};
pub use delivery::{AgentSession, CredentialDelivery, DeliveredFile, DeliveryResult, is_permanent_rejection};
pub use egress_by::EgressBy;
pub use events::{
    AgentEvent, CaptureEvent, CredentialUseEvent, EventBatch, MachineEvent, NumberedEvent, SignInEvent, ToolEvent,
};
pub use requests::{ChangeMethod, OpenUrl, Paste, PasteResult, SCREEN_LINES_MAX, Screen, TerminalSize, TypeText};
pub use sign_in::{
    BrowserPage, BrowserPageState, CaptureState, CliState, KEY_ENTRY_PROMPT_ID, OpenPrompt, SignInOutcome,
    SignInStatus, SignInUrl, UrlSource,
};

/// The version of this protocol. A peer with another version is rejected with both numbers.
pub const PROTOCOL_VERSION: u32 = 4;

/// Columns of a machine's terminal while no viewer has another size.
pub const TERMINAL_COLS: u16 = 160;
/// Rows of a machine's terminal while no viewer has another size.
pub const TERMINAL_ROWS: u16 = 45;
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
/// Header of an egress request: which program in the machine asks, one of [`EgressBy`]. Evidence only: the machine can claim anything.
pub const EGRESS_BY_HEADER: &str = "anteroom-by";
/// The path to which the agent posts events.
pub const EVENTS_PATH: &str = "/api/agent/events";
/// The path to which the agent posts the credential.
pub const STORE_CREDENTIAL_PATH: &str = "/api/auth/credentials/store";
/// The path at which the agent of an external machine gets its session.
pub const AGENT_SESSION_PATH: &str = "/api/agent/session";
