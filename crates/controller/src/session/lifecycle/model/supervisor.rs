//! The supervisor's task in the model: it executes commands one by one and receives one event at a time, in the order in which
//! the real task polls its sources.

use super::{Credential, Job, Machine, SessionModel, Step, Supervisor};
use crate::session::{
    lifecycle::{Command, DeliveryState, Entry, Event},
    supervisor::end_reason_of,
};
use anteroom_machine::{Event as MachineEvent, State, StopReason};
use anteroom_wire::EndReason;

impl SessionModel {
    pub(super) fn supervisor_steps(&self, steps: &mut Vec<Step>) {
        let Some((server, supervisor)) =
            self.server.as_ref().and_then(|server| Some((server, server.supervisor.as_ref()?)))
        else {
            return;
        };
        match &supervisor.job {
            Some(Job::Done(_)) | None => {}
            Some(Job::Claim(_)) => steps.extend([Step::AdvanceJob, Step::ClaimFails]),
            Some(Job::WaitInQueue | Job::RequestMachine(_) | Job::RecordReplacement | Job::BackOff | Job::End(_)) => {
                steps.push(Step::AdvanceJob)
            }
        }
        if !supervisor.commands.is_empty() {
            return steps.push(Step::ExecuteCommand);
        }
        if !supervisor.pending.is_empty() {
            return steps.push(Step::ReceivePending);
        }
        if self.delivery(supervisor) != supervisor.lifecycle.delivery() {
            return steps.push(Step::ReceiveDelivery);
        }
        if !supervisor.lifecycle.phase().has_received_end() && (supervisor.end.is_some() || server.stopping) {
            return steps.push(Step::ReceiveEnd);
        }
        if matches!(supervisor.job, Some(Job::Done(_))) {
            return steps.push(Step::ReceiveJobResult);
        }
        if supervisor.state_changed {
            return steps.push(Step::ReceiveMachine);
        }
        if server.stopping && supervisor.running.is_some() {
            steps.push(Step::ReceiveWatcherClosed);
        }
        if supervisor.restart_requested {
            steps.push(Step::ReceiveRestart);
        }
        if supervisor.awaiting_cleanup {
            steps.push(Step::ReceiveCleanupTimeout);
        }
        steps.extend([false, true].map(|hold_expired| Step::ReceiveDeadline { hold_expired }));
    }

    /// The state of the delivery as in the session's state.
    fn delivery(&self, supervisor: &Supervisor) -> DeliveryState {
        let in_flight = self.machines.iter().any(|machine| match machine.credential {
            Credential::Sent { counted } | Credential::Stored { counted } => counted,
            Credential::None | Credential::Written | Credential::Answered => false,
        });
        match (in_flight, supervisor.delivery_pending) {
            (true, _) => DeliveryState::InFlight,
            (false, true) => DeliveryState::Pending,
            (false, false) => DeliveryState::None,
        }
    }

    fn delivery_now(&self) -> DeliveryState {
        let supervisor = self.server.as_ref().and_then(|server| server.supervisor.as_ref());
        supervisor.map_or(DeliveryState::None, |supervisor| self.delivery(supervisor))
    }

    pub(super) fn supervisor_applies(&mut self, step: &Step) {
        let event = match step {
            Step::ExecuteCommand => {
                let command = self.supervisor_mut().commands.pop_front().expect("a command");
                if let Some(event) = self.execute(command) {
                    self.supervisor_mut().pending.push_back(event);
                }
                return self.remove_if_finished();
            }
            Step::AdvanceJob => return self.advance_job(),
            Step::ClaimFails => {
                self.supervisor_mut().job = Some(Job::Done(Event::ClaimFailed { why: String::new() }));
                return;
            }
            Step::ReceivePending => self.supervisor_mut().pending.pop_front().expect("a pending event"),
            Step::ReceiveDelivery => Event::DeliveryChanged(self.delivery_now()),
            Step::ReceiveEnd => self.supervisor_mut().end.map_or(Event::ServerStopping, Event::SessionEnded),
            Step::ReceiveJobResult => match self.supervisor_mut().job.take() {
                Some(Job::Done(event)) => event,
                other => unreachable!("{other:?}"),
            },
            Step::ReceiveMachine => self.machine_event(),
            Step::ReceiveWatcherClosed => {
                self.supervisor_mut().running = None;
                Event::WatcherClosed
            }
            Step::ReceiveRestart => {
                self.supervisor_mut().restart_requested = false;
                Event::RestartRequested
            }
            Step::ReceiveCleanupTimeout => {
                self.supervisor_mut().awaiting_cleanup = false;
                Event::CleanupTimedOut
            }
            Step::ReceiveDeadline { hold_expired } => Event::DeadlinePassed {
                reason: EndReason::IdleExpired,
                detail: String::new(),
                hold_expired: *hold_expired,
            },
            other => unreachable!("{other:?}"),
        };
        let is_delivering = self.supervisor_mut().lifecycle.delivery() != DeliveryState::None;
        let may_not_end = is_delivering && !matches!(event, Event::DeadlinePassed { hold_expired: true, .. });
        let commands = self.supervisor_mut().lifecycle.handle_event(event);
        if may_not_end && commands.iter().any(is_automatic) {
            self.violate("a pending credential did not postpone an automatic end");
        }
        self.supervisor_mut().commands.extend(commands);
        self.remove_if_finished();
    }

    fn remove_if_finished(&mut self) {
        let supervisor = self.supervisor_mut();
        if supervisor.commands.is_empty() && supervisor.lifecycle.is_finished() {
            self.server_mut().supervisor = None;
        }
    }

    fn machine_event(&mut self) -> Event {
        let supervisor = self.supervisor_mut();
        supervisor.state_changed = false;
        let at = supervisor.running.expect("a machine");
        match self.machines[at].record.as_ref().expect("a record") {
            State::Ready { .. } => Event::MachineReady,
            State::Exited { reason } => Event::MachineExited { reason: end_reason_of(reason), detail: String::new() },
            State::Removed { reason, .. } => {
                let reason = end_reason_of(reason);
                let supervisor = self.supervisor_mut();
                supervisor.running = None;
                supervisor.awaiting_cleanup = false;
                Event::MachineRemoved { reason, detail: String::new() }
            }
            State::Requested | State::Cloning | State::Waiting { .. } | State::Stopping { .. } => {
                Event::MachineNotReady
            }
        }
    }

    fn execute(&mut self, command: Command) -> Option<Event> {
        let at = self.machines.len();
        let supervisor = self.supervisor_mut();
        match command {
            Command::Enqueue => supervisor.job = Some(Job::WaitInQueue),
            Command::RequestMachine => {
                supervisor.requested = Some(at);
                supervisor.job = Some(Job::RequestMachine(at));
                self.machines.push(Machine { record: Some(State::Requested), ..Machine::default() });
            }
            Command::StartMachine => return Some(self.start()),
            Command::ClaimMachine => {
                let at = supervisor.running?;
                if matches!(self.machines[at].record, Some(State::Ready { .. })) {
                    self.supervisor_mut().job = Some(Job::Claim(at));
                }
            }
            Command::RecordReplacement { .. } => supervisor.job = Some(Job::RecordReplacement),
            Command::BackOff { .. } => supervisor.job = Some(Job::BackOff),
            Command::EndSession { reason, .. } => supervisor.job = Some(Job::End(reason)),
            Command::StopAwaitingDeliveries => {
                supervisor.new_deliveries_not_awaited = true;
                return Some(Event::DeliveryChanged(self.delivery_now()));
            }
            Command::StopMachine(why) => self.stop_held(why),
            Command::AwaitCleanup => {
                supervisor.job = None;
                supervisor.awaiting_cleanup = true;
            }
            Command::Record(entry) => self.record_entry(&entry),
            Command::PublishMachineLost => {
                supervisor.requested = None;
                supervisor.delivery_pending = false;
                supervisor.new_deliveries_not_awaited = false;
            }
            Command::PublishProgress | Command::CloseSockets(_) => {}
        }
        None
    }

    fn record_entry(&mut self, entry: &Entry) {
        let supervisor = self.supervisor_mut();
        let (was_recorded, is_removed) = (supervisor.exit_recorded, supervisor.running.is_none());
        match entry {
            Entry::MachineExited | Entry::MachineExitedAndRemoved if was_recorded => {
                self.violate("a machine's exit was recorded twice")
            }
            Entry::MachineRemoved if !was_recorded => self.violate("a machine's removal was recorded before its exit"),
            Entry::MachineRemoved | Entry::MachineExitedAndRemoved if !is_removed => {
                self.violate("a machine's removal was recorded before it was removed");
            }
            Entry::MachineExited => supervisor.exit_recorded = true,
            Entry::MachineRemoved => supervisor.exit_recorded = false,
            _ => {}
        }
    }

    fn start(&mut self) -> Event {
        if self.server_mut().stopping {
            return Event::ServerStopping;
        }
        let supervisor = self.supervisor_mut();
        let at = supervisor.requested.expect("a machine that was requested");
        supervisor.running = Some(at);
        supervisor.state_changed = true;
        supervisor.restart_requested = false;
        let others = self.machines.iter().enumerate().filter(|(other, machine)| *other != at && machine.started);
        if others.into_iter().any(|(_, machine)| machine.record.as_ref().is_some_and(|record| !record.is_removed())) {
            self.violate("a machine was started before the last one was removed");
        }
        if self.machines.iter().any(|machine| machine.compromised) {
            self.violate("a compromised machine was replaced");
        }
        self.machines[at].running_process = true;
        self.machines[at].started = true;
        self.machine_on(at, MachineEvent::KeeperFound);
        if self.running_machines() > 1 {
            self.violate("a second machine was started while the first one ran");
        }
        Event::MachineStarted
    }

    fn stop_held(&mut self, why: StopReason) {
        let supervisor = self.supervisor_mut();
        let Some(at) = supervisor.running else { return };
        supervisor.job = None;
        supervisor.awaiting_cleanup = true;
        if let Credential::Sent { counted: true } | Credential::Stored { counted: true } = self.machines[at].credential
        {
            self.violate("a machine was stopped while its delivery was in flight");
        }
        self.stop(at, why);
    }

    /// One step of the job: its one write, if it has one.
    fn advance_job(&mut self) {
        let active = self.row.ended.is_none();
        let ended = |world: &SessionModel| Event::SessionEnded(world.row.ended.expect("an end"));
        let generation = self.supervisor_mut().lifecycle.generation();
        let done = match self.supervisor_mut().job.clone().expect("a job") {
            Job::WaitInQueue => Event::PermitGranted,
            Job::BackOff => Event::BackoffElapsed,
            Job::RequestMachine(at) if active => {
                self.row.generation = generation;
                self.row.machine = Some(at);
                Event::RequestRecorded
            }
            Job::RecordReplacement if active => {
                self.row.generation = generation;
                self.row.machine = None;
                Event::ReplacementRecorded
            }
            Job::RequestMachine(_) | Job::RecordReplacement => ended(self),
            Job::End(why) => {
                self.end_row(why);
                ended(self)
            }
            Job::Claim(at) => self.claim(at),
            Job::Done(event) => event,
        };
        self.supervisor_mut().job = Some(Job::Done(done));
    }

    fn claim(&mut self, at: usize) -> Event {
        let machine = &mut self.machines[at];
        if !machine.running_process || !matches!(machine.record, Some(State::Ready { .. })) {
            return Event::ClaimFailed { why: String::new() };
        }
        machine.claimed = true;
        // An agent that waits for an answer reports that it has a credential to deliver.
        let has_one = !matches!(machine.credential, Credential::None | Credential::Answered);
        self.supervisor_mut().delivery_pending = has_one;
        Event::Claimed
    }
}

/// Whether the command ends or replaces the machine without an explicit cancellation.
fn is_automatic(command: &Command) -> bool {
    matches!(
        command,
        Command::EndSession { reason: EndReason::IdleExpired, .. } | Command::Record(Entry::RestartRequested)
    )
}
