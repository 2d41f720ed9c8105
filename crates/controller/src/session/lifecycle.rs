//! The lifecycle of a session under its supervisor. Pure: no clock, no I/O, no log. The supervisor's task ([`super::supervisor`])
//! executes the commands that this returns and feeds the results back as events.
//!
//! ```text
//!  Queued ─▶ Requesting ─▶ Preparing ─▶ Claiming ─▶ Open ──(machine exited)─▶ CleaningUp ─(removed)▶ RecordingReplacement ─▶ BackingOff ─┐
//!   ▲                          │            │         │                                                      ▲                          │
//!   │                          └────────────┴─────────┴─▶ DrainingDelivery ─▶ Replacing ──────────────────────┘                          │
//!   └──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────┘
//!  (a deadline, no machine left, or a compromised machine) ─▶ Ending ─┐
//!  (the session has ended in the database) ────┴─▶ DrainingDelivery ─▶ Stopping ─▶ Finished
//!  (the server stops) ─▶ Detached: the machine keeps running for the next server
//! ```
//!
//! A machine's exit is published immediately; the next machine is requested only when the last one is removed. The model check in
//! `lifecycle/model.rs` verifies for every order of events: a session has at most one running machine; every session ends once; a
//! machine is not stopped while a delivery from it is being answered; a pending delivery postpones deadlines and restarts; a
//! compromised machine is not replaced.

use anteroom_machine::StopReason;
use anteroom_wire::EndReason;
use phase::stop_reason;

mod initial_state;
mod messages;
#[cfg(test)]
mod model;
mod phase;
#[cfg(test)]
mod tests;

pub use initial_state::{InitialState, initial_state};
pub use messages::{Command, Entry, Event, RestartRejection};
pub use phase::{AfterDrain, DeliveryState, Phase};

/// The wait before the third machine, milliseconds; it doubles for each further one. The second is requested at once.
const BACKOFF_MS: u64 = 200;
/// Upper limit of the doublings.
const DOUBLINGS_MAX: u32 = 5;

/// The state of a session under its supervisor.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Lifecycle {
    phase: Phase,
    generation: u32,
    restarts_max: u32,
    delivery: DeliveryState,
    /// The current machine's exit is recorded and its keeper has not finished cleaning up.
    exited: bool,
}

impl Lifecycle {
    /// The lifecycle and its first commands. After [`InitialState::Lost`] the caller sends [`Event::MachineRemoved`].
    pub fn begin(from: InitialState, generation: u32, restarts_max: u32) -> (Self, Vec<Command>) {
        let (phase, delivery, commands) = match from {
            InitialState::Queued => (Phase::Queued, DeliveryState::None, vec![Command::Enqueue]),
            // Whether its agent has a credential is unknown until it is asked.
            InitialState::Adopted => (Phase::Preparing, DeliveryState::Pending, vec![Command::PublishProgress]),
            InitialState::Lost => (Phase::Preparing, DeliveryState::None, vec![Command::PublishProgress]),
            InitialState::Attached => (Phase::Attached, DeliveryState::None, vec![Command::PublishProgress]),
        };
        (Self { phase, generation, restarts_max, delivery, exited: false }, commands)
    }

    /// The current phase.
    pub fn phase(&self) -> &Phase {
        &self.phase
    }

    /// The number of the current machine; the first is 1.
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// The state of the current machine's delivery.
    pub fn delivery(&self) -> DeliveryState {
        self.delivery
    }

    /// Whether there is a machine that must be removed before the supervisor may finish.
    pub fn has_machine(&self) -> bool {
        self.exited || self.phase.has_machine()
    }

    /// Whether the supervisor may finish.
    pub fn is_finished(&self) -> bool {
        matches!(self.phase, Phase::Finished | Phase::Detached)
    }

    /// Applies an event and returns the commands that follow from it. An event that has no meaning in the current phase changes
    /// nothing.
    pub fn handle_event(&mut self, event: Event) -> Vec<Command> {
        match (self.phase.clone(), event) {
            (Phase::Finished | Phase::Detached, _) => Vec::new(),
            (phase, Event::SessionEnded(why)) => self.session_ended(phase, why),
            (phase, Event::ServerStopping) => self.server_stopping(phase),
            (phase, Event::DeliveryChanged(delivery)) => self.delivery_changed(phase, delivery),
            (phase, Event::DeadlinePassed { reason, detail, hold_expired }) => {
                self.deadline_passed(phase, reason, detail, hold_expired)
            }
            (phase, Event::RestartRequested) => self.restart_requested(phase),
            (phase, Event::MachineExited { reason, detail }) => self.machine_exited(phase, reason, detail),
            (phase, Event::MachineRemoved { reason, detail }) => self.machine_removed(phase, reason, detail),
            (phase, Event::MachineReady) => self.machine_ready(phase),
            (phase, Event::MachineNotReady) => self.machine_not_ready(phase),

            (Phase::Queued, Event::PermitGranted) => self.enter(Phase::Requesting, vec![Command::RequestMachine]),
            (Phase::Queued, Event::QueueTimedOut { reason, detail }) => self.fail(reason, detail),
            (Phase::Requesting, Event::RequestRecorded) => vec![Command::StartMachine],
            (Phase::Requesting, Event::MachineStarted) => self.enter(Phase::Preparing, vec![Command::PublishProgress]),
            (Phase::Requesting, Event::StartFailed { reason, detail }) => {
                let mut commands = self.publish_lost(reason);
                commands.extend(self.replace_or_fail(reason, detail));
                commands
            }
            (Phase::Claiming, Event::Claimed) => {
                self.enter(Phase::Open { reachable: true }, vec![Command::PublishProgress])
            }
            (Phase::Claiming, Event::ClaimFailed { why }) => {
                let commands = vec![Command::Record(Entry::ClaimFailed { why }), Command::StopAwaitingDeliveries];
                self.enter(Phase::DrainingDelivery { then: AfterDrain::Replace(StopReason::Failed) }, commands)
            }
            (Phase::RecordingReplacement, Event::ReplacementRecorded) => self.back_off(),
            (Phase::BackingOff, Event::BackoffElapsed) => self.enter(Phase::Queued, vec![Command::Enqueue]),
            (Phase::Stopping, Event::CleanupTimedOut) => {
                self.enter(Phase::Finished, vec![Command::Record(Entry::CleanupTimedOut)])
            }
            // A second machine must not start while the first may still run.
            (Phase::Replacing | Phase::CleaningUp { .. }, Event::CleanupTimedOut) => {
                let detail = "The cleanup of the last machine did not finish.".to_owned();
                let end = Command::EndSession { reason: EndReason::MachineFailed, detail };
                self.enter(Phase::Ending { machine: true }, vec![Command::Record(Entry::CleanupTimedOut), end])
            }
            (Phase::Stopping | Phase::DrainingDelivery { then: AfterDrain::Finish(_) }, Event::WatcherClosed) => {
                self.enter(Phase::Finished, vec![Command::Record(Entry::MachineLeftRunning)])
            }
            (
                _,
                Event::PermitGranted
                | Event::QueueTimedOut { .. }
                | Event::RequestRecorded
                | Event::MachineStarted
                | Event::StartFailed { .. }
                | Event::Claimed
                | Event::ClaimFailed { .. }
                | Event::ReplacementRecorded
                | Event::BackoffElapsed
                | Event::CleanupTimedOut
                | Event::WatcherClosed,
            ) => Vec::new(),
        }
    }

    fn has_machine_left(&self) -> bool {
        self.generation <= self.restarts_max
    }

    /// Whether another machine continues the session after the last one was lost for this reason.
    fn is_replaced(&self, reason: EndReason) -> bool {
        self.has_machine_left() && reason.permits_replacement()
    }

    /// Publishes that the machine is lost. A delivery in flight may still complete the session: if no machine is left, nothing
    /// is published before it is answered.
    fn publish_lost(&self, reason: EndReason) -> Vec<Command> {
        match (self.is_replaced(reason), self.delivery) {
            (true, _) => vec![Command::PublishMachineLost],
            (false, DeliveryState::None | DeliveryState::Pending) => {
                vec![Command::CloseSockets(reason)]
            }
            (false, DeliveryState::InFlight) => Vec::new(),
        }
    }

    fn enter(&mut self, phase: Phase, commands: Vec<Command>) -> Vec<Command> {
        self.phase = phase;
        commands
    }

    fn session_ended(&mut self, phase: Phase, why: EndReason) -> Vec<Command> {
        if matches!(phase, Phase::DrainingDelivery { then: AfterDrain::Finish(_) } | Phase::Stopping) {
            return Vec::new();
        }
        let closing = Command::PublishProgress;
        if !self.has_machine() {
            return self.enter(Phase::Finished, vec![closing, Command::Record(Entry::EgressTotals)]);
        }
        self.enter(
            Phase::DrainingDelivery { then: AfterDrain::Finish(why) },
            vec![closing, Command::StopAwaitingDeliveries],
        )
    }

    fn server_stopping(&mut self, phase: Phase) -> Vec<Command> {
        match phase {
            // The session has ended: the machine is stopped before the supervisor finishes.
            Phase::DrainingDelivery { then: AfterDrain::Finish(_) } | Phase::Stopping => Vec::new(),
            Phase::Queued
            | Phase::Requesting
            | Phase::Preparing
            | Phase::Claiming
            | Phase::Open { .. }
            | Phase::DrainingDelivery { then: AfterDrain::Replace(_) | AfterDrain::MachineLost { .. } }
            | Phase::Replacing
            | Phase::CleaningUp { .. }
            | Phase::RecordingReplacement
            | Phase::BackingOff
            | Phase::Attached
            | Phase::Ending { .. }
            | Phase::Finished
            | Phase::Detached => self.enter(Phase::Detached, Vec::new()),
        }
    }

    fn delivery_changed(&mut self, phase: Phase, delivery: DeliveryState) -> Vec<Command> {
        self.delivery = delivery;
        match (phase, delivery) {
            (
                Phase::DrainingDelivery { then: AfterDrain::Finish(why) },
                DeliveryState::None | DeliveryState::Pending,
            ) => self.enter(
                Phase::Stopping,
                vec![Command::StopMachine(stop_reason(why)), Command::Record(Entry::EgressTotals)],
            ),
            (
                Phase::DrainingDelivery { then: AfterDrain::Replace(why) },
                DeliveryState::None | DeliveryState::Pending,
            ) => self.enter(Phase::Replacing, vec![Command::StopMachine(why)]),
            (
                Phase::DrainingDelivery { then: AfterDrain::MachineLost { reason, detail } },
                DeliveryState::None | DeliveryState::Pending,
            ) => {
                // If another machine is left, the loss is published already.
                let mut commands = if self.is_replaced(reason) { Vec::new() } else { self.publish_lost(reason) };
                commands.extend(self.replace_or_fail(reason, detail));
                commands
            }
            (_, _) => Vec::new(),
        }
    }

    fn deadline_passed(&mut self, phase: Phase, reason: EndReason, detail: String, hold_expired: bool) -> Vec<Command> {
        if !phase.is_active() || (self.delivery != DeliveryState::None && !hold_expired) {
            return Vec::new();
        }
        let machine = self.has_machine();
        self.enter(Phase::Ending { machine }, vec![Command::EndSession { reason, detail }])
    }

    fn restart_requested(&mut self, phase: Phase) -> Vec<Command> {
        if !matches!(phase, Phase::Preparing | Phase::Claiming | Phase::Open { .. }) {
            return Vec::new();
        }
        let rejection = if self.delivery != DeliveryState::None {
            Some(RestartRejection::DeliveryPending)
        } else if !self.has_machine_left() {
            Some(RestartRejection::NoMachineLeft)
        } else {
            None
        };
        match rejection {
            Some(why) => vec![Command::Record(Entry::RestartRejected(why))],
            None => {
                let commands = vec![Command::Record(Entry::RestartRequested), Command::StopAwaitingDeliveries];
                self.enter(Phase::DrainingDelivery { then: AfterDrain::Replace(StopReason::Restarted) }, commands)
            }
        }
    }

    fn machine_ready(&mut self, phase: Phase) -> Vec<Command> {
        match phase {
            Phase::Preparing => self.enter(Phase::Claiming, vec![Command::PublishProgress, Command::ClaimMachine]),
            // The same machine with new channels.
            Phase::Open { reachable } => {
                let mut commands = vec![Command::PublishProgress];
                if !reachable {
                    commands.push(Command::Record(Entry::ChannelReopened));
                }
                self.enter(Phase::Open { reachable: true }, commands)
            }
            Phase::Queued
            | Phase::Requesting
            | Phase::Claiming
            | Phase::Replacing
            | Phase::CleaningUp { .. }
            | Phase::RecordingReplacement
            | Phase::BackingOff
            | Phase::Attached
            | Phase::Ending { .. }
            | Phase::DrainingDelivery { .. }
            | Phase::Stopping
            | Phase::Finished
            | Phase::Detached => Vec::new(),
        }
    }

    fn machine_not_ready(&mut self, phase: Phase) -> Vec<Command> {
        let publish = vec![Command::PublishProgress];
        match phase {
            Phase::Preparing | Phase::Replacing => publish,
            // The claim broke with the channel and can be repeated.
            Phase::Claiming => self.enter(Phase::Preparing, publish),
            Phase::Open { reachable: true } => {
                let commands = vec![Command::PublishProgress, Command::Record(Entry::ChannelLost)];
                self.enter(Phase::Open { reachable: false }, commands)
            }
            Phase::Open { reachable: false } => publish,
            Phase::Queued
            | Phase::Requesting
            | Phase::CleaningUp { .. }
            | Phase::RecordingReplacement
            | Phase::BackingOff
            | Phase::Attached
            | Phase::Ending { .. }
            | Phase::DrainingDelivery { .. }
            | Phase::Stopping
            | Phase::Finished
            | Phase::Detached => Vec::new(),
        }
    }

    /// The process has ended: publish it, and wait until the machine is removed.
    fn machine_exited(&mut self, phase: Phase, reason: EndReason, detail: String) -> Vec<Command> {
        match phase {
            Phase::Preparing
            | Phase::Claiming
            | Phase::Open { .. }
            | Phase::DrainingDelivery { then: AfterDrain::Replace(_) }
            | Phase::Replacing => {
                self.exited = true;
                self.machine_lost(reason, detail)
            }
            Phase::Ending { machine: true } if !self.exited => {
                self.exited = true;
                vec![Command::Record(Entry::MachineExited)]
            }
            // It was being stopped: one entry when it is removed is enough.
            Phase::DrainingDelivery { then: AfterDrain::Finish(_) } | Phase::Stopping => Vec::new(),
            Phase::Queued
            | Phase::Requesting
            | Phase::DrainingDelivery { then: AfterDrain::MachineLost { .. } }
            | Phase::CleaningUp { .. }
            | Phase::RecordingReplacement
            | Phase::BackingOff
            | Phase::Attached
            | Phase::Ending { .. }
            | Phase::Finished
            | Phase::Detached => Vec::new(),
        }
    }

    fn machine_removed(&mut self, phase: Phase, reason: EndReason, detail: String) -> Vec<Command> {
        let is_recorded = std::mem::take(&mut self.exited);
        let note = Command::Record(if is_recorded { Entry::MachineRemoved } else { Entry::MachineExitedAndRemoved });
        match phase {
            Phase::Preparing
            | Phase::Claiming
            | Phase::Open { .. }
            | Phase::DrainingDelivery { then: AfterDrain::Replace(_) }
            | Phase::Replacing => {
                // Exit and removal are reported together.
                let mut commands = self.machine_lost(reason, detail);
                let after = commands
                    .iter()
                    .position(|command| *command == Command::Record(Entry::MachineExited))
                    .map_or(0, |at| at + 1);
                commands.insert(after, Command::Record(Entry::MachineRemoved));
                commands
            }
            // A delivery that it sent before it exited may still be in flight.
            Phase::CleaningUp { reason, detail } if self.delivery == DeliveryState::InFlight => {
                self.enter(Phase::DrainingDelivery { then: AfterDrain::MachineLost { reason, detail } }, vec![note])
            }
            Phase::CleaningUp { reason, detail } => {
                let mut commands = vec![note];
                commands.extend(self.replace_or_fail(reason, detail));
                commands
            }
            Phase::Ending { machine: true } if is_recorded => self.enter(Phase::Ending { machine: false }, vec![note]),
            Phase::Ending { machine: true } => self.enter(
                Phase::Ending { machine: false },
                vec![Command::Record(Entry::MachineExited), Command::Record(Entry::MachineRemoved)],
            ),
            Phase::DrainingDelivery { then: AfterDrain::Finish(_) } => {
                self.enter(Phase::Finished, vec![note, Command::Record(Entry::EgressTotals)])
            }
            Phase::Stopping => self.enter(Phase::Finished, vec![note]),
            // Its exit is recorded; its delivery is still being answered.
            Phase::DrainingDelivery { then: AfterDrain::MachineLost { .. } } if is_recorded => vec![note],
            Phase::Queued
            | Phase::Requesting
            | Phase::DrainingDelivery { then: AfterDrain::MachineLost { .. } }
            | Phase::RecordingReplacement
            | Phase::BackingOff
            | Phase::Attached
            | Phase::Ending { machine: false }
            | Phase::Finished
            | Phase::Detached => Vec::new(),
        }
    }

    /// The machine has exited or is removed: publish it first, then record it.
    fn machine_lost(&mut self, reason: EndReason, detail: String) -> Vec<Command> {
        let mut commands = self.publish_lost(reason);
        commands.push(Command::Record(Entry::MachineExited));
        if self.delivery == DeliveryState::InFlight {
            self.phase = Phase::DrainingDelivery { then: AfterDrain::MachineLost { reason, detail } };
        } else {
            commands.extend(self.replace_or_fail(reason, detail));
        }
        commands
    }

    /// Replaces a lost machine as soon as it is removed, or ends the session if no machine is left or the reason permits none.
    fn replace_or_fail(&mut self, reason: EndReason, detail: String) -> Vec<Command> {
        self.delivery = DeliveryState::None;
        if !self.is_replaced(reason) {
            return self.fail(reason, detail);
        }
        if self.exited {
            return self.enter(Phase::CleaningUp { reason, detail }, vec![Command::AwaitCleanup]);
        }
        self.generation += 1;
        self.enter(Phase::RecordingReplacement, vec![Command::RecordReplacement { reason, detail }])
    }

    fn fail(&mut self, reason: EndReason, detail: String) -> Vec<Command> {
        let machine = self.exited;
        self.enter(Phase::Ending { machine }, vec![Command::EndSession { reason, detail }])
    }

    fn back_off(&mut self) -> Vec<Command> {
        if self.generation <= 2 {
            return self.enter(Phase::Queued, vec![Command::Enqueue]);
        }
        let doublings = (self.generation - 3).min(DOUBLINGS_MAX);
        self.enter(Phase::BackingOff, vec![Command::BackOff { ms: BACKOFF_MS << doublings }])
    }
}
