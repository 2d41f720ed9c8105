//! The machine that a session uses now, with the state that its agent reports.

use super::sign_in_changes::SignInChanges;
use crate::unix_time::{self, UnixMs};
use anteroom_store::Sha256Hex;
use anteroom_wire::{
    GuestText, MachineId,
    agent::{BrowserPage, BrowserPageState, CaptureState, CliState, SignInOutcome, SignInStatus},
};
use std::time::Duration;
use tokio::time::Instant;

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
    /// When this server received the device code.
    pub device_code_at: Option<Moment>,
    /// Whether the tool is signed in with a credential that stays in the machine.
    pub kept_in_machine: bool,
    /// The page in the machine's browser. It outlives the tool's process.
    pub page: Option<ReportedPage>,
    /// How long the last page took that was opened, until it is recorded.
    pub page_time: Option<Duration>,
    /// Where the last reported address leads that is not a page of the provider.
    pub unexpected_origin: Option<GuestText>,
    /// The addresses and codes that were reported.
    pub changes: SignInChanges,
    /// When the tool was started.
    pub tool_started: Option<Moment>,
    /// When this server learned that the tool had exited or that its sign-in had failed.
    pub ended_at: Option<Instant>,
    /// The last lines of a tool that exited.
    pub last_lines: String,
    /// Whether the tool could not be started.
    pub tool_not_started: bool,
    /// When this server learned of the first address, code or prompt since the tool was started.
    pub shown_at: Option<Instant>,
    /// Whether the tool has an answer of the person and has not reacted yet.
    pub is_answered: bool,
    /// The time of the next change of the situation for which a task waits.
    pub next_change: Option<Instant>,
}

/// A point in time by both clocks.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// By the monotonic clock.
    pub at: Instant,
    /// By the system clock, milliseconds since 1970.
    pub at_ms: UnixMs,
}

impl Moment {
    /// Now.
    pub fn now() -> Self {
        Self { at: Instant::now(), at_ms: unix_time::now_unix_ms() }
    }
}

/// A page in the machine's browser, as reported by the agent.
#[derive(Debug, Clone)]
pub struct ReportedPage {
    /// The host of its address.
    pub host: GuestText,
    /// Whether it is shown.
    pub state: BrowserPageState,
    /// When this server learned of it.
    pub reported: Moment,
}

impl MachineSignIn {
    /// The browser reports a page. Returns whether it is on another host or in another state than the last one.
    pub fn set_page(&mut self, page: BrowserPage) -> bool {
        let BrowserPage { host, state } = page;
        let last = self.page.as_ref();
        let changed = last.is_none_or(|last| (&last.host, last.state) != (&host, state));
        if let Some(opening) = last.filter(|last| last.state == BrowserPageState::Opening)
            && state == BrowserPageState::Shown
        {
            self.page_time = Some(opening.reported.at.elapsed());
        }
        self.page = Some(ReportedPage { host, state, reported: Moment::now() });
        changed
    }

    /// Clears the data that the tool's process reported: it is void for the next process.
    pub fn clear_tool_output(&mut self) {
        self.reported_status.url = None;
        self.reported_status.browser_url = None;
        self.reported_status.device_code = None;
        self.reported_status.prompt = None;
        self.reported_status.outcome = None;
        self.device_code_at = None;
        self.unexpected_origin = None;
        self.ended_at = None;
        self.last_lines.clear();
        self.tool_not_started = false;
        self.shown_at = None;
        self.is_answered = false;
    }

    /// The time from the start of the tool to the first address, code or prompt: returned once for each start.
    pub fn take_start_time(&mut self) -> Option<Duration> {
        if self.shown_at.is_some() || !self.reported_status.is_in_progress() {
            return None;
        }
        self.shown_at = Some(Instant::now());
        self.tool_started.map(|started| started.at.elapsed())
    }

    /// The tool shows another address or code: a failure that it showed before is over.
    pub fn clear_failure(&mut self) {
        if matches!(self.reported_status.outcome, Some(SignInOutcome::Failed { .. })) {
            self.reported_status.outcome = None;
            self.ended_at = None;
        }
    }

    /// Resets the sign-in for a tool that is started again with this method.
    pub fn reset_for_method(&mut self, method: &str) {
        self.clear_tool_output();
        self.reported_status.method = Some(method.into());
        self.reported_status.cli = CliState::Waiting;
        self.reported_status.capture = CaptureState::Waiting;
        self.kept_in_machine = false;
        self.tool_started = None;
    }
}
