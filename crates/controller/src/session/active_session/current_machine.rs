//! The machine that a session uses now, with the state that its agent reports.

use super::sign_in_changes::SignInChanges;
use anteroom_store::Sha256Hex;
use anteroom_wire::{
    GuestText, MachineId,
    agent::{CaptureState, CliState, SignInStatus},
};

/// The machine that a session uses now. It exists from the request for the machine until the machine is lost.
#[derive(Debug, Clone)]
pub struct CurrentMachine {
    /// Where it runs.
    pub host: MachineHost,
    /// Its number among the machines of the session; the first is 1.
    pub generation: u32,
    /// The hash of its agent's token.
    pub agent_token: Sha256Hex,
    /// The number of the last event from its agent.
    pub last_event: u64,
    /// The sign-in in it.
    pub sign_in: MachineSignIn,
    /// Whether its agent has a credential whose delivery has no final answer.
    pub delivery_pending: bool,
}

/// Where a machine runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MachineHost {
    /// This server runs it.
    ThisServer(MachineId),
    /// Elsewhere: this server connects to its desktop, and its agent delivers over HTTP.
    External,
}

impl CurrentMachine {
    /// A machine from whose agent no event was received.
    pub fn new(host: MachineHost, generation: u32, agent_token: Sha256Hex) -> Self {
        let sign_in = MachineSignIn::default();
        Self { host, generation, agent_token, last_event: 0, sign_in, delivery_pending: false }
    }

    /// Its id; `None` for an external machine.
    pub fn id(&self) -> Option<&MachineId> {
        match &self.host {
            MachineHost::ThisServer(id) => Some(id),
            MachineHost::External => None,
        }
    }
}

/// The sign-in in a machine.
#[derive(Debug, Clone, Default)]
pub struct MachineSignIn {
    /// The sign-in as last reported by the agent.
    pub reported_status: SignInStatus,
    /// When this server received the device code, milliseconds since 1970.
    pub device_code_at_ms: Option<u64>,
    /// Whether the tool is signed in with a credential that stays in the machine.
    pub kept_in_machine: bool,
    /// Where the last reported address leads that is not a page of the provider.
    pub unexpected_origin: Option<GuestText>,
    /// The addresses and codes that were reported.
    pub changes: SignInChanges,
}

impl MachineSignIn {
    /// Clears the data that the tool's process reported: it is void for the next process.
    pub fn clear_tool_output(&mut self) {
        self.reported_status.url = None;
        self.reported_status.browser_url = None;
        self.reported_status.device_code = None;
        self.reported_status.prompt = None;
        self.reported_status.outcome = None;
        self.device_code_at_ms = None;
        self.unexpected_origin = None;
    }

    /// Resets the sign-in for a tool that is started again with this method.
    pub fn reset_for_method(&mut self, method: &str) {
        self.clear_tool_output();
        self.reported_status.method = Some(method.into());
        self.reported_status.cli = CliState::Waiting;
        self.reported_status.capture = CaptureState::Waiting;
        self.kept_in_machine = false;
    }
}
