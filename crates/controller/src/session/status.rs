//! What a session's status is, from the row and from what its owner knows: pure, never stored.

use anteroom_machine::State as MachineState;
use anteroom_store::{RowStatus, SessionOutcome};
use anteroom_wire::{agent::Stage, api::Status};

/// How far a live session's owner is. Carries exactly what is true in each step.
#[derive(Debug, Clone)]
pub enum Progress {
    /// No machine yet: waiting for room.
    Queued {
        /// Place in the queue, 1 is next.
        position: u32,
    },
    /// A machine was asked for; it is not claimed yet.
    Preparing {
        /// The stage being waited for.
        stage: Stage,
    },
    /// The machine is up and is being made this session's: its desktop can be looked at.
    Claiming {
        /// The way to its agent.
        channels: anteroom_machine::Channels,
    },
    /// The machine is this session's: desktop and terminal can be opened.
    Open {
        /// The way to its agent.
        channels: anteroom_machine::Channels,
    },
    /// It is bound to a desktop that exists outside: it can be opened.
    Attached,
    /// The machine is gone and another will be asked for.
    Lost,
    /// The session has ended; the machine is being stopped.
    Closing,
}

impl Progress {
    /// The stage being waited for, while there is one.
    pub fn stage(&self) -> Option<Stage> {
        match self {
            Self::Preparing { stage } => Some(*stage),
            Self::Claiming { .. } => Some(Stage::Cli),
            Self::Queued { .. } | Self::Open { .. } | Self::Attached | Self::Lost | Self::Closing => None,
        }
    }
}

/// The status people and programs are told.
///
/// `generation` is 1 for the first machine; `signing_in` is whether an address or a code to sign in with is known.
pub fn status(life: &RowStatus, progress: Option<&Progress>, generation: u32, signing_in: bool) -> Status {
    match life {
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

/// The stage a machine's state stands for, while it is not ready.
pub fn stage_of(state: &MachineState) -> Stage {
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
    use anteroom_wire::{CredentialId, Problem};

    #[test]
    fn a_terminal_state_is_the_status_whatever_the_owner_thinks() {
        let credential = CredentialId::from_parts(1, [1; 10]);
        for (outcome, expected) in [
            (SessionOutcome::Completed(credential), Status::Completed),
            (SessionOutcome::Failed, Status::Failed),
            (SessionOutcome::Cancelled, Status::Cancelled),
            (SessionOutcome::Expired, Status::Expired),
        ] {
            let life = RowStatus::Ended(End { outcome, reason: Reason::new(Problem::Cancelled, ""), at_ms: 1 });
            for progress in
                [None, Some(Progress::Lost), Some(Progress::Queued { position: 1 }), Some(Progress::Closing)]
            {
                assert_eq!(status(&life, progress.as_ref(), 1, true), expected);
            }
        }
    }

    #[test]
    fn an_active_session_is_what_its_machine_is() {
        let life = RowStatus::Active { replacement_reason: None };
        let of = |progress: Option<Progress>, generation| status(&life, progress.as_ref(), generation, false);
        assert_eq!(of(None, 1), Status::VmCreating);
        assert_eq!(of(Some(Progress::Queued { position: 3 }), 1), Status::VmCreating);
        assert_eq!(of(Some(Progress::Preparing { stage: Stage::Process }), 1), Status::VmCreating);
        assert_eq!(of(Some(Progress::Preparing { stage: Stage::Hello }), 1), Status::VmCreated);
        assert_eq!(of(Some(Progress::Lost), 1), Status::VmStopped);
        assert_eq!(of(Some(Progress::Preparing { stage: Stage::Hello }), 2), Status::VmStopped);
    }
}
