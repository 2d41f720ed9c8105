//! The table: what must become of a session in each state under each fault.

use crate::states::State;
use anteroom_wire::api::Status;
use std::fmt;

/// A fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    MachineKilled,
    KeeperKilled,
    PartKilled,
    MachineFrozen,
    ServerKilled,
    ServerRestarted,
    DatabaseLocked,
    DatabaseReadOnly,
    DiskFull,
    ViewerGone,
    ViewerStuck,
    ToolCrashed,
    ClockForward,
    ClockBack,
}

impl Fault {
    pub(crate) const ALL: [Self; 14] = [
        Self::MachineKilled,
        Self::KeeperKilled,
        Self::PartKilled,
        Self::MachineFrozen,
        Self::ServerKilled,
        Self::ServerRestarted,
        Self::DatabaseLocked,
        Self::DatabaseReadOnly,
        Self::DiskFull,
        Self::ViewerGone,
        Self::ViewerStuck,
        Self::ToolCrashed,
        Self::ClockForward,
        Self::ClockBack,
    ];

    /// The heading in the document.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::MachineKilled => "The machine's process is killed",
            Self::KeeperKilled => "The machine's keeper is killed",
            Self::PartKilled => "A part of the machine is killed: its desktop",
            Self::MachineFrozen => "The machine is frozen (SIGSTOP)",
            Self::ServerKilled => "The server is killed (kill -9) and started again",
            Self::ServerRestarted => "The server is stopped (SIGTERM) and started again",
            Self::DatabaseLocked => "The database is locked",
            Self::DatabaseReadOnly => "The database cannot be written: read-only files",
            Self::DiskFull => "The disk is full",
            Self::ViewerGone => "The viewer is gone without a word",
            Self::ViewerStuck => "The viewer reads nothing while the desktop floods it",
            Self::ToolCrashed => "The tool crashes (exit code 3)",
            Self::ClockForward => "The wall clock jumps two hours forward",
            Self::ClockBack => "The wall clock jumps two hours back",
        }
    }
}

/// What is so after the fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Now {
    /// There is nothing that this fault could hit.
    NothingThere,
    /// The same state, the same machine.
    Unchanged,
    /// Another machine takes the place of this one.
    NewMachine,
    /// The same state; the timeline and the diagnosis say that the tool ended.
    ToolEnded,
}

/// What the viewer was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Told {
    /// Its socket stays open.
    Stays,
    /// It was closed with this code and cause.
    Closed(u16, String),
    /// The connection broke off: nobody was left to say anything.
    BrokeOff,
    /// It is the viewer that is gone; the server counts it out.
    CountedOut,
    /// The session is over; who comes is refused with this code and cause.
    Refused(u16, String),
}

/// One cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cell {
    pub now: Now,
    pub told: Told,
    /// From the fault to the moment when whoever asks is told the truth, at most.
    pub within_ms: u64,
    /// How the session ends when everything that holds it has let go.
    pub end: Status,
}

impl fmt::Display for Now {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NothingThere => "nothing there to hit",
            Self::Unchanged => "unchanged",
            Self::NewMachine => "another machine, `vm_stopped` until it is ready",
            Self::ToolEnded => "unchanged; timeline and diagnosis name the tool's end",
        })
    }
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stays => f.write_str("nothing: its socket stays open"),
            Self::Closed(code, cause) => write!(f, "closed: {code} {cause}"),
            Self::BrokeOff => f.write_str("broke off; may come back at once"),
            Self::CountedOut => f.write_str("(gone) counted out"),
            Self::Refused(code, cause) => write!(f, "who comes is refused: {code} {cause}"),
        }
    }
}

/// How soon what happens to a machine is known: some hundredths of a second, and a host whose disk is busy with other tests (the
/// two seconds of an idle one are held elsewhere).
const MACHINE_MS: u64 = 5_000;
/// How soon a server that was started again knows what is so.
const RESTART_MS: u64 = 10_000;
/// How soon a database in trouble is said: twice `store.busy_ms_max`, and a busy host.
const DATABASE_MS: u64 = 10_000;
/// How soon a viewer that reads nothing is let go: `tunnel.stall_ms_max`, and a busy host.
const STUCK_MS: u64 = 10_000;
/// How soon a machine that stands still before it was ready is given up: `machines.ready_…_ms_max`, as this scene sets it.
const READY_MS: u64 = FROZEN_READY_MS + 4_000;
/// See [`READY_MS`].
pub(crate) const FROZEN_READY_MS: u64 = 8_000;
/// How soon a frozen machine is recognised: `machines.liveness_timeout_s`, a ping, and a busy host.
const HUNG_MS: u64 = 8_000;

/// What must become of it.
pub(crate) fn cell(fault: Fault, state: State) -> Cell {
    let now = now(fault, state);
    let within_ms = match (fault, now) {
        (Fault::MachineFrozen, _) if state == State::Created => READY_MS,
        (Fault::ServerKilled | Fault::ServerRestarted, _) => RESTART_MS,
        (_, Now::NothingThere) => 0,
        (Fault::MachineFrozen, _) => HUNG_MS,
        (Fault::ViewerStuck, _) => STUCK_MS,
        (Fault::DatabaseLocked | Fault::DatabaseReadOnly | Fault::DiskFull, _) => DATABASE_MS,
        _ => MACHINE_MS,
    };
    Cell { now, told: told(fault, state, now), within_ms, end: end(fault, state) }
}

fn now(fault: Fault, state: State) -> Now {
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
        ) => Now::Unchanged,
        (_, Completed | Failed | Cancelled | Expired) => Now::NothingThere,
        (Fault::MachineKilled | Fault::MachineFrozen, Created | Started | Authenticating | Delivering) => {
            Now::NewMachine
        }
        (Fault::MachineKilled | Fault::MachineFrozen, Queued | Asked | Stopped) => Now::NothingThere,
        (Fault::KeeperKilled, Queued) => Now::NothingThere,
        (Fault::KeeperKilled, Asked | Created | Started | Authenticating | Delivering | Stopped) => Now::NewMachine,
        // Before it has a display nothing of that part runs.
        (Fault::PartKilled, Queued | Asked | Created | Stopped) => Now::NothingThere,
        (Fault::PartKilled, Started | Authenticating | Delivering) => Now::Unchanged,
        // A keeper that has not begun does not answer the next server: another machine is asked for.
        (Fault::ServerKilled | Fault::ServerRestarted, Asked | Stopped) => Now::NewMachine,
        (Fault::ServerKilled | Fault::ServerRestarted, Queued | Created | Started | Authenticating | Delivering) => {
            Now::Unchanged
        }
        (Fault::ToolCrashed, Started | Authenticating | Delivering) => Now::ToolEnded,
        (Fault::ToolCrashed, Queued | Asked | Created | Stopped) => Now::NothingThere,
        (Fault::ViewerStuck, Queued | Asked | Created | Stopped) => Now::NothingThere,
        (
            Fault::ViewerGone
            | Fault::ViewerStuck
            | Fault::DatabaseLocked
            | Fault::DatabaseReadOnly
            | Fault::DiskFull
            | Fault::ClockForward
            | Fault::ClockBack,
            Queued | Asked | Created | Started | Authenticating | Delivering | Stopped,
        ) => Now::Unchanged,
    }
}

fn told(fault: Fault, state: State, now: Now) -> Told {
    let cause = match state {
        State::Completed => Some("completed"),
        State::Failed => Some("machine_failed"),
        State::Cancelled => Some("cancelled"),
        State::Expired => Some("idle_expired"),
        State::Queued
        | State::Asked
        | State::Created
        | State::Started
        | State::Authenticating
        | State::Delivering
        | State::Stopped => None,
    };
    if let Some(cause) = cause {
        return Told::Refused(4410, cause.into());
    }
    match fault {
        Fault::ServerKilled => Told::BrokeOff,
        Fault::ServerRestarted => Told::Closed(4503, "shutting_down".into()),
        Fault::MachineKilled | Fault::KeeperKilled | Fault::MachineFrozen if now == Now::NewMachine => {
            Told::Closed(4510, "machine_replaced".into())
        }
        Fault::PartKilled if state.has_desktop() => Told::Closed(4502, "desktop_unreachable".into()),
        Fault::ViewerGone => Told::CountedOut,
        Fault::ViewerStuck if state.has_desktop() => Told::BrokeOff,
        Fault::MachineKilled
        | Fault::KeeperKilled
        | Fault::MachineFrozen
        | Fault::PartKilled
        | Fault::ViewerStuck
        | Fault::ToolCrashed
        | Fault::DatabaseLocked
        | Fault::DatabaseReadOnly
        | Fault::DiskFull
        | Fault::ClockForward
        | Fault::ClockBack => Told::Stays,
    }
}

fn end(fault: Fault, state: State) -> Status {
    match (fault, state) {
        (_, State::Failed) => Status::Failed,
        (_, State::Cancelled) => Status::Cancelled,
        (_, State::Expired) => Status::Expired,
        // A tool that crashed before it wrote a credential never will: the person gives up.
        (Fault::ToolCrashed, State::Started | State::Authenticating) => Status::Cancelled,
        _ => Status::Completed,
    }
}
