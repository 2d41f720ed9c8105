//! The keeper's control of a running VMM, of either kind: starts the guest, saves it, and reports events.

use super::{firecracker_session::FirecrackerSession, qmp_session::QmpSession};
use crate::{
    qmp::QmpError,
    spec::{Monitor, QmpStart},
};
use std::{
    io,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net::UnixStream,
    },
    path::Path,
    time::{Duration, Instant},
};

/// The last event of the guest that its VMM reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GuestEvent {
    PowerOff,
    Reset,
    Panic,
}

/// An event of the virtual machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum VmEvent {
    /// The VMM has started: it has made its devices, and only the guest does not run yet.
    Started,
    /// The guest is running (again).
    Resumed,
    /// The guest powered off, reset or panicked.
    Guest(GuestEvent),
    /// The state is saved.
    Saved,
    /// A command failed.
    Failed(String),
    /// The VMM paused the guest and cannot resume it; the VMM's name of the state.
    UnrecoverableError(String),
}

/// Why the VMM cannot be controlled.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MonitorError {
    #[error("the spec has no socket for the VMM's monitor")]
    NoSocket,
    #[error(transparent)]
    Qmp(#[from] QmpError),
    #[error(transparent)]
    Firecracker(#[from] anteroom_firecracker::Error),
}

/// The control connection to a VMM.
pub(crate) enum MonitorSession {
    Qmp { session: QmpSession, start: QmpStart },
    Firecracker(Box<FirecrackerSession>),
}

impl AsFd for MonitorSession {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Qmp { session, .. } => session.as_fd(),
            Self::Firecracker(session) => session.as_fd(),
        }
    }
}

impl MonitorSession {
    /// Opens the session on `stream`; `None`: the process is not a VMM.
    pub(crate) fn new(monitor: &Monitor, stream: Option<UnixStream>) -> Result<Option<Self>, MonitorError> {
        match monitor {
            Monitor::None => Ok(None),
            Monitor::Qmp { start } => {
                let session = QmpSession::new(stream.ok_or(MonitorError::NoSocket)?)?;
                Ok(Some(Self::Qmp { session, start: start.clone() }))
            }
            Monitor::Firecracker { start, answer_ms_max } => {
                let stream = stream.ok_or(MonitorError::NoSocket)?;
                let session = FirecrackerSession::new(stream, start.clone(), *answer_ms_max)?;
                Ok(Some(Self::Firecracker(Box::new(session))))
            }
        }
    }

    /// Lets the guest run, after [`VmEvent::Started`].
    pub(crate) fn run_guest(&mut self) -> Result<(), MonitorError> {
        match self {
            Self::Qmp { session, start: QmpStart::Boot } => session.run()?,
            Self::Qmp { session, start: QmpStart::Load { state } } => session.load_state(*state)?,
            Self::Firecracker(session) => session.run_guest()?,
        }
        Ok(())
    }

    /// Starts saving the state; the end is [`VmEvent::Saved`] or [`VmEvent::Failed`].
    pub(crate) fn save(&mut self, state: &Path) -> io::Result<()> {
        match self {
            Self::Qmp { session, .. } => session.save_state(state),
            // Into the files of its spec.
            Self::Firecracker(session) => session.save().map_err(io::Error::other),
        }
    }

    /// Whether the VMM has closed the connection.
    pub(crate) fn is_closed(&self) -> bool {
        match self {
            Self::Qmp { session, .. } => session.is_closed(),
            Self::Firecracker(session) => session.is_closed(),
        }
    }

    /// The events that have arrived. Call when this is readable.
    pub(crate) fn read_events(&mut self) -> Result<Vec<VmEvent>, MonitorError> {
        match self {
            Self::Qmp { session, .. } => Ok(session.read_events()?),
            Self::Firecracker(session) => Ok(session.read_events()?),
        }
    }

    /// How long the keeper may wait until it calls [`MonitorSession::check`].
    pub(crate) fn check_after(&self) -> Duration {
        match self {
            // QEMU has no request whose answer shows that it is alive and that costs nothing; the agent's pings show it.
            Self::Qmp { .. } => Duration::MAX,
            Self::Firecracker(session) => session.check_after(),
        }
    }

    /// Checks that the VMM still answers. The event is [`VmEvent::UnrecoverableError`] if it does not.
    pub(crate) fn check(&mut self, now: Instant) -> Result<Option<VmEvent>, MonitorError> {
        match self {
            Self::Qmp { .. } => Ok(None),
            Self::Firecracker(session) => Ok(session.check(now)?),
        }
    }
}
