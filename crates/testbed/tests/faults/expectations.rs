//! The table of expected results: one cell for each fault and session state.

use crate::states::State;
use anteroom_wire::api::SessionStatus;
use std::fmt;

/// A fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    MachineKilled,
    KeeperKilled,
    DesktopKilled,
    MachineFrozen,
    ServerKilled,
    ServerRestarted,
    DatabaseLocked,
    DatabaseReadOnly,
    DiskFull,
    ViewerDisconnected,
    ViewerStalled,
    ToolCrashed,
    ClockForward,
    ClockBack,
}

impl Fault {
    pub(crate) const ALL: [Self; 14] = [
        Self::MachineKilled,
        Self::KeeperKilled,
        Self::DesktopKilled,
        Self::MachineFrozen,
        Self::ServerKilled,
        Self::ServerRestarted,
        Self::DatabaseLocked,
        Self::DatabaseReadOnly,
        Self::DiskFull,
        Self::ViewerDisconnected,
        Self::ViewerStalled,
        Self::ToolCrashed,
        Self::ClockForward,
        Self::ClockBack,
    ];

    /// The title in the document.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::MachineKilled => "The machine's process is killed",
            Self::KeeperKilled => "The machine's keeper is killed",
            Self::DesktopKilled => "The machine's desktop is killed",
            Self::MachineFrozen => "The machine is frozen (SIGSTOP)",
            Self::ServerKilled => "The server is killed (kill -9) and started again",
            Self::ServerRestarted => "The server is stopped (SIGTERM) and started again",
            Self::DatabaseLocked => "The database is locked",
            Self::DatabaseReadOnly => "The database files are read-only",
            Self::DiskFull => "The disk is full",
            Self::ViewerDisconnected => "The viewer disconnects without a close",
            Self::ViewerStalled => "The viewer stops reading while the desktop sends much data",
            Self::ToolCrashed => "The tool crashes (exit code 3)",
            Self::ClockForward => "The wall clock jumps two hours forward",
            Self::ClockBack => "The wall clock jumps two hours back",
        }
    }
}

/// The effect of a fault on the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    /// The session has nothing that this fault can hit.
    NotApplicable,
    /// The same state, the same machine.
    Unchanged,
    /// The machine is replaced.
    MachineReplaced,
    /// The same state; timeline and diagnosis report the tool's exit.
    ToolExited,
}

/// The result for the viewer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ViewerOutcome {
    /// Its socket stays open.
    StaysConnected,
    /// Its socket is closed with this code and reason.
    Closed(u16, String),
    /// The connection is lost without a close frame.
    ConnectionLost,
    /// The viewer itself disconnected; the server no longer counts it.
    Disconnected,
    /// The session has ended; new viewers are rejected with this code and reason.
    Rejected(u16, String),
}

/// The expected or observed result of one fault in one state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cell {
    pub effect: Effect,
    pub viewer: ViewerOutcome,
    /// The longest time from the fault until status and viewer report it.
    pub within_ms: u64,
    /// The final status of the session after everything that held it is released.
    pub final_status: SessionStatus,
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotApplicable => "nothing to hit",
            Self::Unchanged => "unchanged",
            Self::MachineReplaced => "machine replaced, `vm_stopped` until the new one is ready",
            Self::ToolExited => "unchanged; timeline and diagnosis report the tool's exit",
        })
    }
}

impl fmt::Display for ViewerOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::StaysConnected => f.write_str("stays connected"),
            Self::Closed(code, cause) => write!(f, "closed: {code} {cause}"),
            Self::ConnectionLost => f.write_str("connection lost, can reconnect immediately"),
            Self::Disconnected => f.write_str("disconnected, no longer counted"),
            Self::Rejected(code, cause) => write!(f, "new viewers are rejected: {code} {cause}"),
        }
    }
}

/// Limit for reporting a machine event: some hundredths of a second on an idle host, plus a margin for a busy disk (another test
/// checks the two seconds of an idle host).
const MACHINE_MS: u64 = 5_000;
/// Limit for a restarted server to report the state of its sessions.
const RESTART_MS: u64 = 10_000;
/// Limit for reporting a database fault: twice `busy_ms_max`, plus a margin for a busy host.
const DATABASE_MS: u64 = 10_000;
/// Limit for disconnecting a stalled viewer: the stall timeout of the tunnel, plus a margin for a busy host.
const STALL_MS: u64 = 10_000;
/// Limit for replacing a machine that freezes before it is ready: `machines.ready_…_ms_max` of this fixture, plus a margin.
const READY_MS: u64 = FROZEN_READY_MS + 4_000;
/// See [`READY_MS`].
pub(crate) const FROZEN_READY_MS: u64 = 8_000;
/// Limit for detecting a frozen machine: `machines.liveness_timeout_s`, a ping, and a margin for a busy host.
const LIVENESS_MS: u64 = 8_000;

/// The expected result of a fault in a state.
pub(crate) fn cell(fault: Fault, state: State) -> Cell {
    let effect = effect(fault, state);
    let within_ms = match (fault, effect) {
        (Fault::MachineFrozen, _) if state == State::Created => READY_MS,
        (Fault::ServerKilled | Fault::ServerRestarted, _) => RESTART_MS,
        (_, Effect::NotApplicable) => 0,
        (Fault::MachineFrozen, _) => LIVENESS_MS,
        (Fault::ViewerStalled, _) => STALL_MS,
        (Fault::DatabaseLocked | Fault::DatabaseReadOnly | Fault::DiskFull, _) => DATABASE_MS,
        _ => MACHINE_MS,
    };
    Cell { effect, viewer: expected_viewer(fault, state, effect), within_ms, final_status: final_status(fault, state) }
}

fn effect(fault: Fault, state: State) -> Effect {
    use State::*;
    match (fault, state) {
        (
            Fault::ServerKilled
            | Fault::ServerRestarted
            | Fault::DatabaseLocked
            | Fault::DatabaseReadOnly
            | Fault::DiskFull
            | Fault::ClockForward
            | Fault::ClockBack,
            Completed | Failed | Cancelled | Expired,
        ) => Effect::Unchanged,
        (_, Completed | Failed | Cancelled | Expired) => Effect::NotApplicable,
        (Fault::MachineKilled | Fault::MachineFrozen, Created | Started | Authenticating | Delivering) => {
            Effect::MachineReplaced
        }
        (Fault::MachineKilled | Fault::MachineFrozen, Queued | MachineRequested | Stopped) => Effect::NotApplicable,
        (Fault::KeeperKilled, Queued) => Effect::NotApplicable,
        (Fault::KeeperKilled, MachineRequested | Created | Started | Authenticating | Delivering | Stopped) => {
            Effect::MachineReplaced
        }
        // The desktop process does not run yet.
        (Fault::DesktopKilled, Queued | MachineRequested | Created | Stopped) => Effect::NotApplicable,
        (Fault::DesktopKilled, Started | Authenticating | Delivering) => Effect::Unchanged,
        // A paused keeper does not answer the next server, which requests another machine.
        (Fault::ServerKilled | Fault::ServerRestarted, MachineRequested | Stopped) => Effect::MachineReplaced,
        (Fault::ServerKilled | Fault::ServerRestarted, Queued | Created | Started | Authenticating | Delivering) => {
            Effect::Unchanged
        }
        (Fault::ToolCrashed, Started | Authenticating | Delivering) => Effect::ToolExited,
        (Fault::ToolCrashed, Queued | MachineRequested | Created | Stopped) => Effect::NotApplicable,
        (Fault::ViewerStalled, Queued | MachineRequested | Created | Stopped) => Effect::NotApplicable,
        (
            Fault::ViewerDisconnected
            | Fault::ViewerStalled
            | Fault::DatabaseLocked
            | Fault::DatabaseReadOnly
            | Fault::DiskFull
            | Fault::ClockForward
            | Fault::ClockBack,
            Queued | MachineRequested | Created | Started | Authenticating | Delivering | Stopped,
        ) => Effect::Unchanged,
    }
}

fn expected_viewer(fault: Fault, state: State, effect: Effect) -> ViewerOutcome {
    let cause = match state {
        State::Completed => Some("completed"),
        State::Failed => Some("machine_failed"),
        State::Cancelled => Some("cancelled"),
        State::Expired => Some("idle_expired"),
        State::Queued
        | State::MachineRequested
        | State::Created
        | State::Started
        | State::Authenticating
        | State::Delivering
        | State::Stopped => None,
    };
    if let Some(cause) = cause {
        return ViewerOutcome::Rejected(4410, cause.into());
    }
    match fault {
        Fault::ServerKilled => ViewerOutcome::ConnectionLost,
        Fault::ServerRestarted => ViewerOutcome::Closed(4503, "shutting_down".into()),
        Fault::MachineKilled | Fault::KeeperKilled | Fault::MachineFrozen if effect == Effect::MachineReplaced => {
            ViewerOutcome::Closed(4510, "machine_replaced".into())
        }
        Fault::DesktopKilled if state.has_desktop() => ViewerOutcome::Closed(4502, "desktop_unreachable".into()),
        Fault::ViewerDisconnected => ViewerOutcome::Disconnected,
        Fault::ViewerStalled if state.has_desktop() => ViewerOutcome::ConnectionLost,
        Fault::MachineKilled
        | Fault::KeeperKilled
        | Fault::MachineFrozen
        | Fault::DesktopKilled
        | Fault::ViewerStalled
        | Fault::ToolCrashed
        | Fault::DatabaseLocked
        | Fault::DatabaseReadOnly
        | Fault::DiskFull
        | Fault::ClockForward
        | Fault::ClockBack => ViewerOutcome::StaysConnected,
    }
}

fn final_status(fault: Fault, state: State) -> SessionStatus {
    match (fault, state) {
        (_, State::Failed) => SessionStatus::Failed,
        (_, State::Cancelled) => SessionStatus::Cancelled,
        (_, State::Expired) => SessionStatus::Expired,
        // A tool that crashed before it wrote a credential never writes one: the user cancels.
        (Fault::ToolCrashed, State::Started | State::Authenticating) => SessionStatus::Cancelled,
        _ => SessionStatus::Completed,
    }
}
