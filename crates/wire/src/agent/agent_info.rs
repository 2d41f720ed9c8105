//! The agent's identity and the readiness of its machine.

use crate::{GuestText, MachineId, SessionId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The boot stages of a machine, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub enum Stage {
    /// The machine's process runs.
    Process,
    /// The byte channel answers the nonce.
    Channel,
    /// The agent answers `GET /hello` with the expected protocol and image.
    Hello,
    /// The display server answers with an RFB greeting.
    Display,
    /// The window manager owns the display.
    WindowManager,
    /// The terminal in which the tool will run exists.
    Terminal,
    /// The browser has a window (desktop images).
    Browser,
    /// The provider's tool runs (after the claim).
    Cli,
}

/// The state of one stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StageState {
    /// Not started yet.
    Waiting,
    /// Starting.
    Trying,
    /// Ready.
    Ready,
    /// Failed, or keeps failing.
    Failed,
}

/// The report of one stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StageReport {
    /// The stage.
    pub stage: Stage,
    /// Its state.
    pub state: StageState,
    /// How often it was attempted.
    pub attempts: u32,
    /// The last error, with the last lines of the program's output if there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<GuestText>,
    /// Milliseconds from the agent's start to the last change.
    pub changed_at_ms: u64,
}

/// The agent's answer to `GET /hello`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AgentInfo {
    /// [`PROTOCOL_VERSION`](super::PROTOCOL_VERSION) of the agent.
    pub protocol: u32,
    /// The agent's version.
    pub agent_version: GuestText,
    /// The hash of the image it was started from, from the kernel command line or the agent's configuration.
    pub image_hash: GuestText,
    /// The names of its optional features.
    pub capabilities: Vec<GuestText>,
    /// Tool name → version, as found in the image.
    pub clis: BTreeMap<GuestText, GuestText>,
    /// The stages of this machine, in order.
    pub stages: Vec<StageReport>,
    /// Who claimed the machine; `None`: not claimed yet.
    pub claimed_by: Option<ClaimedBy>,
}

/// The session that claimed a machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimedBy {
    /// The session.
    pub session: SessionId,
    /// The machine's id, from the claim.
    pub machine: MachineId,
    /// The session's generation.
    pub generation: u32,
}
