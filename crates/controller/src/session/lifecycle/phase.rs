//! The phases of a session under its supervisor.

use anteroom_machine::StopReason;
use anteroom_wire::EndReason;

/// The phase of a session.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Waits in the queue for a machine permit.
    Queued,
    /// The request for a machine is being recorded; then the machine is started.
    Requesting,
    /// The machine exists and is not ready.
    Preparing,
    /// The machine is ready and is being claimed.
    Claiming,
    /// The machine is claimed.
    Open {
        /// Whether the channel to its agent is open.
        reachable: bool,
    },
    /// Further deliveries are rejected; those in flight are answered before the machine is stopped.
    DrainingDelivery {
        /// What follows.
        then: AfterDrain,
    },
    /// The machine is being stopped and will be replaced.
    Replacing,
    /// The machine exited, which is published. When its keeper has finished cleaning up, it is replaced.
    CleaningUp {
        /// The reason with which the session ends if no machine is left.
        reason: EndReason,
        /// Details for people.
        detail: String,
    },
    /// The replacement of the machine is being recorded.
    RecordingReplacement,
    /// Waits before it requests another machine.
    BackingOff,
    /// Bound to an external desktop: this server runs no machine for it.
    Attached,
    /// The session's end is being written.
    Ending {
        /// Whether there still is a machine.
        machine: bool,
    },
    /// The session has ended and the machine is being stopped.
    Stopping,
    /// The session has ended and nothing of the machine is left.
    Finished,
    /// The server is stopping: the next server resumes row and machine.
    Detached,
}

/// What follows once deliveries in flight are answered.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum AfterDrain {
    /// The machine is stopped and replaced.
    Replace(StopReason),
    /// The session has ended; the machine is stopped.
    Finish(EndReason),
    /// The machine has exited or is removed; its delivery may still complete the session.
    MachineLost {
        /// The reason with which the session ends if no machine is left.
        reason: EndReason,
        /// Details for people.
        detail: String,
    },
}

/// Whether the current machine has a credential whose delivery is unanswered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum DeliveryState {
    /// None.
    #[default]
    None,
    /// The agent has one, or may have one after an adoption, and sends it until it is answered.
    Pending,
    /// A delivery is being answered.
    InFlight,
}

impl Phase {
    /// Whether there is a machine that must be removed before the supervisor may finish.
    pub(super) fn has_machine(&self) -> bool {
        match self {
            Self::Preparing
            | Self::Claiming
            | Self::Open { .. }
            | Self::Replacing
            | Self::CleaningUp { .. }
            | Self::Ending { machine: true }
            | Self::DrainingDelivery { then: AfterDrain::Replace(_) | AfterDrain::Finish(_) }
            | Self::Stopping => true,
            Self::DrainingDelivery { then: AfterDrain::MachineLost { .. } }
            | Self::Queued
            | Self::Requesting
            | Self::RecordingReplacement
            | Self::BackingOff
            | Self::Attached
            | Self::Ending { machine: false }
            | Self::Finished
            | Self::Detached => false,
        }
    }

    /// Whether the end of the session or of the server was received: another one changes nothing.
    pub(in crate::session) fn has_received_end(&self) -> bool {
        match self {
            Self::DrainingDelivery { then: AfterDrain::Finish(_) }
            | Self::Stopping
            | Self::Finished
            | Self::Detached => true,
            Self::Queued
            | Self::Requesting
            | Self::Preparing
            | Self::Claiming
            | Self::Open { .. }
            | Self::DrainingDelivery { then: AfterDrain::Replace(_) | AfterDrain::MachineLost { .. } }
            | Self::Replacing
            | Self::CleaningUp { .. }
            | Self::RecordingReplacement
            | Self::BackingOff
            | Self::Attached
            | Self::Ending { .. } => false,
        }
    }

    /// Whether the session is active as far as the supervisor knows, and its end is not being written.
    pub(super) fn is_active(&self) -> bool {
        match self {
            Self::Queued
            | Self::Requesting
            | Self::Preparing
            | Self::Claiming
            | Self::Open { .. }
            | Self::Replacing
            | Self::CleaningUp { .. }
            | Self::RecordingReplacement
            | Self::DrainingDelivery { then: AfterDrain::Replace(_) | AfterDrain::MachineLost { .. } }
            | Self::BackingOff
            | Self::Attached => true,
            Self::Ending { .. }
            | Self::DrainingDelivery { then: AfterDrain::Finish(_) }
            | Self::Stopping
            | Self::Finished
            | Self::Detached => false,
        }
    }
}

/// The stop reason for the machine of a session that ended with this reason.
pub(super) fn stop_reason(end: EndReason) -> StopReason {
    match end {
        EndReason::Completed | EndReason::UseCompleted => StopReason::Completed,
        EndReason::Cancelled => StopReason::Cancelled,
        EndReason::IdleExpired => StopReason::IdleExpired,
        EndReason::DeadlineExpired => StopReason::DeadlineExpired,
        EndReason::MachineFailed
        | EndReason::MachineCompromised
        | EndReason::ReadyTimeout
        | EndReason::AgentMismatch
        | EndReason::ControllerRestarted
        | EndReason::NoCapacity
        | EndReason::NoImage
        | EndReason::ProviderRemoved
        | EndReason::CredentialDeleted
        | EndReason::CredentialInUse
        | EndReason::OtherAccount
        | EndReason::SessionTampered
        | EndReason::Internal => StopReason::Failed,
    }
}
