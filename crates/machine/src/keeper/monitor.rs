//! The keeper's control of a running VMM, of either kind: starts the guest, saves it, and reports events.

use super::qmp_session::QmpSession;
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
    #[error("the spec has no QMP socket")]
    NoQmpSocket,
    #[error(transparent)]
    Qmp(#[from] QmpError),
}

/// The control connection to a VMM.
pub(crate) enum MonitorSession {
    Qmp { session: QmpSession, start: QmpStart },
}

impl AsFd for MonitorSession {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Qmp { session, .. } => session.as_fd(),
        }
    }
}

impl MonitorSession {
    /// Opens the session on `stream`; `None`: the process is not a VMM.
    pub(crate) fn new(monitor: &Monitor, stream: Option<UnixStream>) -> Result<Option<Self>, MonitorError> {
        match monitor {
            Monitor::None => Ok(None),
            Monitor::Qmp { start } => {
                let session = QmpSession::new(stream.ok_or(MonitorError::NoQmpSocket)?)?;
                Ok(Some(Self::Qmp { session, start: start.clone() }))
            }
        }
    }

    /// Lets the guest run, after [`VmEvent::Started`].
    pub(crate) fn run_guest(&mut self) -> Result<(), MonitorError> {
        match self {
            Self::Qmp { session, start: QmpStart::Boot } => session.run()?,
            Self::Qmp { session, start: QmpStart::Load { state } } => session.load_state(*state)?,
        }
        Ok(())
    }

    /// Starts saving the state; the end is [`VmEvent::Saved`] or [`VmEvent::Failed`].
    pub(crate) fn save(&mut self, state: &Path) -> io::Result<()> {
        match self {
            Self::Qmp { session, .. } => session.save_state(state),
        }
    }

    /// Whether the VMM has closed the connection.
    pub(crate) fn is_closed(&self) -> bool {
        match self {
            Self::Qmp { session, .. } => session.is_closed(),
        }
    }

    /// The events that have arrived. Call when this is readable.
    pub(crate) fn read_events(&mut self) -> Result<Vec<VmEvent>, MonitorError> {
        match self {
            Self::Qmp { session, .. } => Ok(session.read_events()?),
        }
    }
}
