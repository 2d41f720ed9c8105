//! Who answers, and how far its machine is.

use crate::{MachineId, SessionId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

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
    /// [`PROTOCOL`](super::PROTOCOL) of the agent.
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
