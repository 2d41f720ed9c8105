//! The status of a session, computed from its row and its supervisor's progress; never stored. Pure.

use super::lifecycle::{AfterDrain, Phase};
use anteroom_machine::{Channels, State as MachineState};
use anteroom_store::{RowStatus, SessionOutcome};
use anteroom_wire::{agent::Stage, api::SessionStatus};

/// The progress of a running session. Each variant carries the data that is valid in it. `C` is the type of the channels to a ready
/// machine, or a placeholder in code that does not use them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress<C = Channels> {
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
        channels: C,
    },
    /// The machine is claimed: desktop and terminal can be opened.
    Open {
        /// The channels to its agent.
        channels: C,
    },
    /// The session uses an external desktop, which can be opened.
    Attached,
    /// The machine is lost and will be replaced.
    Lost,
    /// The session has ended; the machine is being stopped.
    Closing,
}

impl<C: Clone> Progress<C> {
    /// The progress in this phase with a machine in this state; `None`: it stays as it is. In the queue the queue reports it; while
    /// an end is being written or a delivery is being answered, callers see no change.
    pub fn from_phase(phase: &Phase, machine: Option<&MachineState<C>>) -> Option<Self> {
        let preparing = || Self::Preparing { stage: machine.map_or(Stage::Process, pending_stage_of) };
        let channels = match machine {
            Some(MachineState::Ready { channels }) => Some(channels.clone()),
            Some(
                MachineState::Requested
                | MachineState::Cloning
                | MachineState::Waiting { .. }
                | MachineState::Stopping { .. }
                | MachineState::Exited { .. }
                | MachineState::Removed { .. },
            )
            | None => None,
        };
        match phase {
            Phase::Requesting | Phase::Preparing | Phase::Replacing | Phase::Open { reachable: false } => {
                Some(preparing())
            }
            // If the machine is no longer ready, that event is pending.
            Phase::Claiming => Some(channels.map_or_else(preparing, |channels| Self::Claiming { channels })),
            Phase::Open { reachable: true } => {
                Some(channels.map_or_else(preparing, |channels| Self::Open { channels }))
            }
            Phase::Attached => Some(Self::Attached),
            Phase::CleaningUp { .. } | Phase::RecordingReplacement | Phase::BackingOff => Some(Self::Lost),
            Phase::DrainingDelivery { then: AfterDrain::Finish(_) } | Phase::Stopping | Phase::Finished => {
                Some(Self::Closing)
            }
            Phase::Queued
            | Phase::DrainingDelivery { then: AfterDrain::Replace(_) | AfterDrain::MachineLost { .. } }
            | Phase::Ending { .. }
            | Phase::Detached => None,
        }
    }
}

impl<C> Progress<C> {
    /// The progress without the channels.
    pub fn without_channels(&self) -> Progress<()> {
        match self {
            Self::Queued { position } => Progress::Queued { position: *position },
            Self::Preparing { stage } => Progress::Preparing { stage: *stage },
            Self::Claiming { .. } => Progress::Claiming { channels: () },
            Self::Open { .. } => Progress::Open { channels: () },
            Self::Attached => Progress::Attached,
            Self::Lost => Progress::Lost,
            Self::Closing => Progress::Closing,
        }
    }

    /// The position in the queue; 1 is next.
    pub fn queue_position(&self) -> Option<u32> {
        match self {
            Self::Queued { position } => Some(*position),
            Self::Preparing { .. }
            | Self::Claiming { .. }
            | Self::Open { .. }
            | Self::Attached
            | Self::Lost
            | Self::Closing => None,
        }
    }

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
pub fn derive_status(
    row_status: &RowStatus,
    progress: Option<&Progress>,
    generation: u32,
    signing_in: bool,
) -> SessionStatus {
    match row_status {
        RowStatus::Ended(end) => match end.outcome {
            SessionOutcome::Completed(_) => SessionStatus::Completed,
            SessionOutcome::Failed => SessionStatus::Failed,
            SessionOutcome::Cancelled => SessionStatus::Cancelled,
            SessionOutcome::Expired => SessionStatus::Expired,
        },
        RowStatus::Active { .. } => match progress {
            None | Some(Progress::Queued { .. }) if generation <= 1 => SessionStatus::VmCreating,
            Some(Progress::Preparing { stage: Stage::Process }) if generation <= 1 => SessionStatus::VmCreating,
            Some(Progress::Preparing { .. } | Progress::Claiming { .. }) if generation <= 1 => SessionStatus::VmCreated,
            Some(Progress::Open { .. } | Progress::Attached) if signing_in => SessionStatus::Authenticating,
            Some(Progress::Open { .. } | Progress::Attached) => SessionStatus::VmStarted,
            None
            | Some(
                Progress::Queued { .. }
                | Progress::Preparing { .. }
                | Progress::Claiming { .. }
                | Progress::Lost
                | Progress::Closing,
            ) => SessionStatus::VmStopped,
        },
    }
}

/// The boot stage for the state of a machine that is not ready.
pub fn pending_stage_of<C>(state: &MachineState<C>) -> Stage {
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
    use anteroom_machine::{ExitReason, StopReason};
    use anteroom_store::{Reason, SessionEnd};
    use anteroom_wire::{CredentialId, EndReason};

    #[test]
    fn the_status_of_an_ended_session_ignores_the_progress() {
        let credential = CredentialId::from_parts(1, [1; 10]);
        for (outcome, expected) in [
            (SessionOutcome::Completed(credential), SessionStatus::Completed),
            (SessionOutcome::Failed, SessionStatus::Failed),
            (SessionOutcome::Cancelled, SessionStatus::Cancelled),
            (SessionOutcome::Expired, SessionStatus::Expired),
        ] {
            let row_status =
                RowStatus::Ended(SessionEnd { outcome, reason: Reason::new(EndReason::Cancelled, ""), at_ms: 1 });
            for progress in
                [None, Some(Progress::Lost), Some(Progress::Queued { position: 1 }), Some(Progress::Closing)]
            {
                assert_eq!(derive_status(&row_status, progress.as_ref(), 1, true), expected);
            }
        }
    }

    const CLAIMING: Progress<()> = Progress::Claiming { channels: () };
    const OPEN: Progress<()> = Progress::Open { channels: () };

    fn preparing(stage: Stage) -> Option<Progress<()>> {
        Some(Progress::Preparing { stage })
    }

    #[test]
    fn the_progress_follows_from_the_phase_and_the_state_of_the_machine() {
        let waiting = MachineState::Waiting { stage: Stage::Hello, last_error: None, attempts: 1 };
        let (ready, stopping) =
            (MachineState::Ready { channels: () }, MachineState::Stopping { reason: StopReason::Restarted });
        // With a machine that is ready, that waits for a stage, and that is being stopped.
        let of = |phase: Phase| [&ready, &waiting, &stopping].map(|state| Progress::from_phase(&phase, Some(state)));
        let (hello, process) = (preparing(Stage::Hello), preparing(Stage::Process));
        let not_open = [preparing(Stage::Cli), hello, process];
        assert_eq!(of(Phase::Preparing), not_open);
        assert_eq!(of(Phase::Claiming), [Some(CLAIMING), hello, process]);
        assert_eq!(of(Phase::Open { reachable: true }), [Some(OPEN), hello, process]);
        assert_eq!(
            of(Phase::Open { reachable: false }),
            not_open,
            "until the lifecycle receives that it is ready again"
        );
        assert_eq!(of(Phase::Replacing), not_open);
        for (phase, progress) in [
            (Phase::CleaningUp { reason: EndReason::MachineFailed, detail: String::new() }, Progress::Lost),
            (Phase::DrainingDelivery { then: AfterDrain::Finish(EndReason::Cancelled) }, Progress::Closing),
            (Phase::Stopping, Progress::Closing),
        ] {
            assert_eq!(of(phase), [Some(progress); 3]);
        }
    }

    #[test]
    fn the_progress_without_a_machine_follows_from_the_phase() {
        for (phase, progress) in [
            (Phase::Requesting, preparing(Stage::Process)),
            (Phase::Preparing, preparing(Stage::Process)),
            (Phase::Attached, Some(Progress::Attached)),
            (Phase::RecordingReplacement, Some(Progress::Lost)),
            (Phase::BackingOff, Some(Progress::Lost)),
            (Phase::Finished, Some(Progress::Closing)),
        ] {
            assert_eq!(Progress::from_phase(&phase, None), progress, "{phase:?}");
        }
    }

    #[test]
    fn the_progress_stays_in_the_queue_and_while_an_end_is_written_or_a_delivery_is_answered() {
        let removed = MachineState::Removed { reason: ExitReason::KeeperLost, receipt: None };
        let lost = AfterDrain::MachineLost { reason: EndReason::MachineFailed, detail: String::new() };
        for phase in [
            Phase::Queued,
            Phase::Ending { machine: true },
            Phase::Ending { machine: false },
            Phase::DrainingDelivery { then: AfterDrain::Replace(StopReason::Restarted) },
            Phase::DrainingDelivery { then: lost },
            Phase::Detached,
        ] {
            for machine in [None, Some(&MachineState::Ready { channels: () }), Some(&removed)] {
                assert_eq!(Progress::from_phase(&phase, machine), None, "{phase:?}");
            }
        }
    }

    #[test]
    fn the_status_of_an_active_session_follows_its_machine() {
        let row_status = RowStatus::Active { replacement_reason: None };
        let of =
            |progress: Option<Progress>, generation| derive_status(&row_status, progress.as_ref(), generation, false);
        assert_eq!(of(None, 1), SessionStatus::VmCreating);
        assert_eq!(of(Some(Progress::Queued { position: 3 }), 1), SessionStatus::VmCreating);
        assert_eq!(of(Some(Progress::Preparing { stage: Stage::Process }), 1), SessionStatus::VmCreating);
        assert_eq!(of(Some(Progress::Preparing { stage: Stage::Hello }), 1), SessionStatus::VmCreated);
        assert_eq!(of(Some(Progress::Lost), 1), SessionStatus::VmStopped);
        assert_eq!(of(Some(Progress::Preparing { stage: Stage::Hello }), 2), SessionStatus::VmStopped);
    }
}
