//! The status of every component from a session to its credential.

use serde::{Deserialize, Serialize};

/// The components between a session and its credential, in order of dependency.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub enum Component {
    /// The session itself.
    Session,
    /// The machine's process.
    Machine,
    /// The byte channel into it.
    Channel,
    /// Its agent.
    Agent,
    /// Its desktop.
    Display,
    /// The tunnel of viewers to the desktop.
    Tunnel,
    /// The provider's tool.
    Cli,
    /// The egress of the machine.
    Egress,
    /// The credential.
    Credential,
}

/// The state of one component.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub enum ComponentState {
    /// It works, or has done its work.
    Ok,
    /// It is not ready yet.
    Waiting,
    /// It does not work, or ended before its work was done.
    Failed,
    /// No record shows its state.
    Unknown,
    /// A component before it is not ready, or it was never needed.
    NotReached,
}

/// The status of one component.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct ComponentStatus {
    /// The component.
    pub component: Component,
    /// Its state.
    pub state: ComponentState,
    /// What was observed, one sentence.
    pub detail: String,
}
