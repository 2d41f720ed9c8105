//! The status of a session, computed from its row and its supervisor's progress; never stored. Pure.

use anteroom_machine::State as MachineState;
use anteroom_store::{RowStatus, SessionOutcome};
use anteroom_wire::{agent::Stage, api::Status};

/// The progress of a running session. Each variant carries the data that is valid in it.
#[derive(Debug, Clone)]
pub enum Progress {
    /// Waits in the queue for a machine.
    Queued {
        /// Position in the queue; 1 is next.
        position: u32,
    },
    /// A machine is requested and not ready yet.
    Preparing {
        /// The boot stage that is pending.
        stage: Stage,
    },
    /// The machine is ready and is being claimed: its desktop can be viewed.
    Claiming {
        /// The channels to its agent.
        channels: anteroom_machine::Channels,
    },
    /// The machine is claimed: desktop and terminal can be opened.
    Open {
        /// The channels to its agent.
        channels: anteroom_machine::Channels,
    },
    /// The session uses an external desktop, which can be opened.
    Attached,
    /// The machine is lost and will be replaced.
    Lost,
    /// The session has ended; the machine is being stopped.
    Closing,
}

impl Progress {
    /// The pending boot stage, if there is one.
    pub fn pending_stage(&self) -> Option<Stage> {
        match self {
            Self::Preparing { stage } => Some(*stage),
            Self::Claiming { .. } => Some(Stage::Cli),
            Self::Queued { .. } | Self::Open { .. } | Self::Attached | Self::Lost | Self::Closing => None,
        }
    }
}

/// The status as callers see it.
///
/// `generation` is the number of the current machine; `signing_in` is whether the sign-in is in progress.
pub fn status(row_status: &RowStatus, progress: Option<&Progress>, generation: u32, signing_in: bool) -> Status {
    match row_status {
        RowStatus::Ended(end) => match end.outcome {
            SessionOutcome::Completed(_) => Status::Completed,
            SessionOutcome::Failed => Status::Failed,
            SessionOutcome::Cancelled => Status::Cancelled,
            SessionOutcome::Expired => Status::Expired,
        },
        RowStatus::Active { .. } => match progress {
            None | Some(Progress::Queued { .. }) if generation <= 1 => Status::VmCreating,
            Some(Progress::Preparing { stage: Stage::Process }) if generation <= 1 => Status::VmCreating,
            Some(Progress::Preparing { .. } | Progress::Claiming { .. }) if generation <= 1 => Status::VmCreated,
            Some(Progress::Open { .. } | Progress::Attached) if signing_in => Status::Authenticating,
            Some(Progress::Open { .. } | Progress::Attached) => Status::VmStarted,
            None
            | Some(
                Progress::Queued { .. }
                | Progress::Preparing { .. }
                | Progress::Claiming { .. }
                | Progress::Lost
                | Progress::Closing,
            ) => Status::VmStopped,
        },
    }
}

/// The boot stage for the state of a machine that is not ready.
pub fn pending_stage_of(state: &MachineState) -> Stage {
    match state {
        MachineState::Requested | MachineState::Cloning => Stage::Process,
        MachineState::Waiting { stage, .. } => *stage,
        MachineState::Ready { .. } => Stage::Cli,
        MachineState::Stopping { .. } | MachineState::Exited { .. } | MachineState::Removed { .. } => Stage::Process,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anteroom_store::{End, Reason};
    use anteroom_wire::{CredentialId, EndReason};

    #[test]
    fn the_status_of_an_ended_session_ignores_the_progress() {
        let credential = CredentialId::from_parts(1, [1; 10]);
        for (outcome, expected) in [
            (SessionOutcome::Completed(credential), Status::Completed),
            (SessionOutcome::Failed, Status::Failed),
            (SessionOutcome::Cancelled, Status::Cancelled),
            (SessionOutcome::Expired, Status::Expired),
        ] {
            let row_status = RowStatus::Ended(End { outcome, reason: Reason::new(EndReason::Cancelled, ""), at_ms: 1 });
            for progress in
                [None, Some(Progress::Lost), Some(Progress::Queued { position: 1 }), Some(Progress::Closing)]
            {
                assert_eq!(status(&row_status, progress.as_ref(), 1, true), expected);
            }
        }
    }

    #[test]
    fn the_status_of_an_active_session_follows_its_machine() {
        let row_status = RowStatus::Active { replacement_reason: None };
        let of = |progress: Option<Progress>, generation| status(&row_status, progress.as_ref(), generation, false);
        assert_eq!(of(None, 1), Status::VmCreating);
        assert_eq!(of(Some(Progress::Queued { position: 3 }), 1), Status::VmCreating);
        assert_eq!(of(Some(Progress::Preparing { stage: Stage::Process }), 1), Status::VmCreating);
        assert_eq!(of(Some(Progress::Preparing { stage: Stage::Hello }), 1), Status::VmCreated);
        assert_eq!(of(Some(Progress::Lost), 1), Status::VmStopped);
        assert_eq!(of(Some(Progress::Preparing { stage: Stage::Hello }), 2), Status::VmStopped);
    }
}
