//! A model of a session and its surroundings: its row, its supervisor (with the real [`Lifecycle`]), its machines (with the real
//! `State::handle_event` of the machine crate), the deliveries of their agents, and a server that crashes. The model adds only what may
//! happen at each moment. The check visits every order of events within the [`Bounds`].

#![allow(
    clippy::expect_used,
    clippy::unreachable,
    clippy::wildcard_enum_match_arm,
    reason = "a model that is used wrongly must fail at once"
)]

mod check;
mod parts;
mod step;
mod supervisor;

use super::{Command, Event, InitialState, Lifecycle, initial_state};
use anteroom_machine::{Event as MachineEvent, State, StopReason};
use anteroom_wire::EndReason;
pub(super) use parts::{Credential, Job, Machine, Row, Server, Supervisor};
use std::collections::VecDeque;
pub(super) use step::Step;

/// How often events may happen that would otherwise repeat without end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Bounds {
    pub(super) restarts_max: u32,
    pub(super) crashes: u8,
    pub(super) stops: u8,
    pub(super) restart_requests: u8,
    pub(super) channel_losses: u8,
    pub(super) database_faults: u8,
    pub(super) machines_ignoring_stops: u8,
    pub(super) forbidden_system_calls: u8,
}

/// The session and its surroundings.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct SessionModel {
    pub(super) row: Row,
    pub(super) server: Option<Server>,
    pub(super) machines: Vec<Machine>,
    pub(super) remaining: Bounds,
    /// The first guarantee that was violated.
    pub(super) violation: Option<&'static str>,
}

impl SessionModel {
    /// A session that a server has just accepted.
    pub(super) fn new(bounds: Bounds) -> Self {
        let (lifecycle, commands) = Lifecycle::begin(InitialState::Queued, 1, bounds.restarts_max);
        let supervisor = Supervisor::new(lifecycle, commands);
        Self {
            row: Row { generation: 1, ..Row::default() },
            server: Some(Server { supervisor: Some(supervisor), ..Server::default() }),
            machines: Vec::new(),
            remaining: bounds,
            violation: None,
        }
    }

    /// Whether the session has ended and no machine runs.
    pub(super) fn is_settled(&self) -> bool {
        self.row.ended.is_some() && !self.machines.iter().any(|machine| machine.running_process)
    }

    pub(super) fn running_machines(&self) -> usize {
        self.machines.iter().filter(|machine| machine.running_process).count()
    }

    pub(super) fn steps(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        self.server_steps(&mut steps);
        self.supervisor_steps(&mut steps);
        for (at, machine) in self.machines.iter().enumerate() {
            self.machine_steps(at, machine, &mut steps);
        }
        steps
    }

    fn server_steps(&self, steps: &mut Vec<Step>) {
        let Some(server) = &self.server else {
            if !self.is_settled() {
                steps.push(Step::StartServer);
            }
            return;
        };
        if self.remaining.crashes > 0 {
            steps.push(Step::Crash);
        }
        if self.remaining.stops > 0 && !server.stopping {
            steps.push(Step::StopServer);
        }
        if server.stopping && server.supervisor.is_none() {
            steps.push(Step::ServerEnds);
        }
        if server.supervisor.is_none() && self.row.ended.is_none() && !server.stopping {
            steps.push(Step::Resume);
        }
        if server.unnotified_end.is_some() {
            steps.push(Step::NotifyEnd);
        }
        if self.row.ended.is_none() {
            steps.push(Step::Cancels);
        }
        if self.remaining.restart_requests > 0
            && server.supervisor.as_ref().is_some_and(|supervisor| !supervisor.restart_requested)
        {
            steps.push(Step::RequestRestart);
        }
        // A reconciliation first resumes sessions, then stops orphaned machines.
        let resumed = self.row.ended.is_some() || server.supervisor.is_some();
        for (at, machine) in self.machines.iter().enumerate() {
            let is_listed = machine
                .record
                .as_ref()
                .is_some_and(|record| !matches!(record, State::Exited { .. } | State::Removed { .. }));
            let is_owned = server.supervisor.as_ref().is_some_and(|supervisor| supervisor.requested == Some(at));
            if resumed && is_listed && !is_owned && !machine.stop_requested && !server.stopping {
                steps.push(Step::StopUnowned(at));
            }
        }
    }

    fn machine_steps(&self, at: usize, machine: &Machine, steps: &mut Vec<Step>) {
        let server_runs = self.server.is_some();
        if machine.running_process {
            steps.push(Step::Exits(at));
            if self.remaining.forbidden_system_calls > 0 {
                steps.push(Step::MakesForbiddenSystemCall(at));
            }
            if machine.stop_requested && !machine.ignores_stops {
                steps.push(Step::StopsOnRequest(at));
            }
            if self.remaining.machines_ignoring_stops > 0 && !machine.ignores_stops {
                steps.push(Step::IgnoresStops(at));
            }
            match &machine.record {
                Some(State::Cloning) => steps.push(Step::ProcessStarted(at)),
                Some(State::Waiting { .. }) => steps.push(Step::BecomesReady(at)),
                Some(State::Ready { .. }) if self.remaining.channel_losses > 0 => steps.push(Step::LosesChannel(at)),
                Some(
                    State::Requested
                    | State::Ready { .. }
                    | State::Stopping { .. }
                    | State::Exited { .. }
                    | State::Removed { .. },
                )
                | None => {}
            }
        } else if machine.cleaning_up && !server_runs {
            steps.push(Step::CleansUpUnobserved(at));
        } else if machine.cleaning_up && machine.record.as_ref().is_some_and(|record| !record.is_removed()) {
            // A keeper of an older version reports only the removal.
            if !matches!(machine.record, Some(State::Exited { .. })) {
                steps.push(Step::ReportsExit(at));
            }
            steps.push(Step::ReportsRemoval(at));
        }
        match machine.credential {
            Credential::None if machine.running_process && machine.claimed => steps.push(Step::WritesCredential(at)),
            // What it sent before it exited is read until it is removed.
            Credential::Written
                if server_runs && (machine.running_process || machine.cleaning_up && machine.record.is_some()) =>
            {
                let supervisor = self.server.as_ref().and_then(|server| server.supervisor.as_ref());
                if supervisor.is_some_and(|supervisor| supervisor.requested == Some(at) && !supervisor.delivery_pending)
                {
                    steps.push(Step::AnnouncesDelivery(at));
                }
                steps.push(Step::SendsDelivery(at));
            }
            // A delivery that the server has received can be stored whatever happens to the machine.
            Credential::Sent { .. } => {
                steps.push(Step::StoresDelivery(at));
                if self.remaining.database_faults > 0 {
                    steps.push(Step::DatabaseFails(at));
                }
            }
            Credential::Stored { .. } => steps.push(Step::AnswersDelivery(at)),
            Credential::None | Credential::Written | Credential::Answered => {}
        }
    }

    pub(super) fn apply(&mut self, step: &Step) {
        match step {
            Step::StartServer => self.start_server(),
            Step::Crash => {
                self.remaining.crashes -= 1;
                self.server_ended();
            }
            Step::StopServer => {
                self.remaining.stops -= 1;
                self.server_mut().stopping = true;
            }
            Step::ServerEnds => self.server_ended(),
            Step::Resume => self.resume(),
            Step::StopUnowned(at) => self.stop(*at, StopReason::Orphaned),
            Step::NotifyEnd => self.notify_end(),
            Step::RequestRestart => {
                self.remaining.restart_requests -= 1;
                self.supervisor_mut().restart_requested = true;
            }
            Step::Cancels => self.end_row(EndReason::Cancelled),
            Step::ProcessStarted(at) => self.machine_on(*at, MachineEvent::ProcessStarted),
            Step::BecomesReady(at) => self.machine_on(*at, MachineEvent::BecameReady(())),
            Step::LosesChannel(at) => {
                self.remaining.channel_losses -= 1;
                self.machine_on(*at, MachineEvent::ChannelLost { error: String::new() });
            }
            Step::Exits(at) | Step::StopsOnRequest(at) => {
                self.machines[*at].running_process = false;
                self.machines[*at].cleaning_up = true;
            }
            Step::MakesForbiddenSystemCall(at) => {
                self.remaining.forbidden_system_calls -= 1;
                self.machines[*at].compromised = true;
                self.apply(&Step::Exits(*at));
            }
            Step::IgnoresStops(at) => {
                self.remaining.machines_ignoring_stops -= 1;
                self.machines[*at].ignores_stops = true;
            }
            Step::ReportsExit(at) => {
                let reason = self.machines[*at].exit_reason();
                self.machine_on(*at, MachineEvent::ProcessExited { reason });
            }
            Step::CleansUpUnobserved(at) => self.machines[*at].cleaning_up = false,
            Step::ReportsRemoval(at) => {
                self.machines[*at].cleaning_up = false;
                let reason = self.machines[*at].exit_reason();
                self.machine_on(*at, MachineEvent::Removed { reason, receipt: None });
            }
            Step::WritesCredential(at) => self.machines[*at].credential = Credential::Written,
            Step::AnnouncesDelivery(_) => self.supervisor_mut().delivery_pending = true,
            Step::SendsDelivery(at) => self.send_delivery(*at),
            Step::StoresDelivery(at) => self.store_delivery(*at),
            Step::DatabaseFails(at) => {
                self.remaining.database_faults -= 1;
                if let Some(supervisor) = self.supervisor_of(*at) {
                    supervisor.delivery_pending = true;
                }
                self.machines[*at].credential = Credential::Written;
            }
            Step::AnswersDelivery(at) => {
                if let Some(supervisor) = self.supervisor_of(*at) {
                    supervisor.delivery_pending = false;
                }
                self.machines[*at].credential = Credential::Answered;
            }
            supervisor_step => self.supervisor_applies(supervisor_step),
        }
    }

    pub(super) fn server_mut(&mut self) -> &mut Server {
        self.server.as_mut().expect("a server runs")
    }

    pub(super) fn supervisor_mut(&mut self) -> &mut Supervisor {
        self.server_mut().supervisor.as_mut().expect("a supervisor runs")
    }

    fn supervisor_of(&mut self, at: usize) -> Option<&mut Supervisor> {
        self.server.as_mut()?.supervisor.as_mut().filter(|supervisor| supervisor.requested == Some(at))
    }

    pub(super) fn violate(&mut self, which: &'static str) {
        self.violation = self.violation.or(Some(which));
    }

    fn notify_end(&mut self) {
        let server = self.server_mut();
        let why = server.unnotified_end.take();
        if let Some(supervisor) = &mut server.supervisor {
            supervisor.end = supervisor.end.or(why);
        }
    }

    fn start_server(&mut self) {
        self.server = Some(Server::default());
        for at in 0..self.machines.len() {
            if self.machines[at].running_process || self.machines[at].cleaning_up {
                self.machines[at].record = Some(State::Requested);
                self.machine_on(at, MachineEvent::KeeperFound);
            }
        }
    }

    fn server_ended(&mut self) {
        self.server = None;
        for machine in &mut self.machines {
            machine.record = None;
            // The connection broke with the server: an agent without an answer sends the credential again.
            if let Credential::Sent { .. } | Credential::Stored { .. } = machine.credential {
                machine.credential = Credential::Written;
            }
        }
    }

    /// Resumes the session as the reconciliation does.
    fn resume(&mut self) {
        let is_running =
            |machine: &usize| self.machines[*machine].record.as_ref().is_some_and(|record| !record.is_removed());
        let found = initial_state(false, self.row.machine.is_some(), self.row.machine.as_ref().is_some_and(is_running));
        let (lifecycle, commands) = Lifecycle::begin(found, self.row.generation, self.remaining.restarts_max);
        let mut supervisor = Supervisor::new(lifecycle, commands);
        match found {
            InitialState::Adopted => {
                supervisor.requested = self.row.machine;
                supervisor.running = self.row.machine;
                supervisor.state_changed = true;
                supervisor.delivery_pending = true;
            }
            InitialState::Lost => {
                let is_compromised = self.row.machine.is_some_and(|at| self.machines[at].compromised);
                let reason =
                    if is_compromised { EndReason::MachineCompromised } else { EndReason::ControllerRestarted };
                supervisor.pending.push_back(Event::MachineRemoved { reason, detail: String::new() });
            }
            InitialState::Queued | InitialState::Attached => {}
        }
        self.server_mut().supervisor = Some(supervisor);
    }

    /// Writes the session's end to the row if it has none.
    pub(super) fn end_row(&mut self, why: EndReason) {
        if self.row.ended.is_none() {
            self.row.ended = Some(why);
            self.row.ends += 1;
            self.server_mut().unnotified_end = Some(why);
        }
    }

    pub(super) fn stop(&mut self, at: usize, why: StopReason) {
        self.machine_on(at, MachineEvent::StopRequested(why));
        if matches!(self.machines[at].record, Some(State::Stopping { .. })) {
            self.machines[at].stop_requested = true;
        }
    }

    pub(super) fn machine_on(&mut self, at: usize, event: MachineEvent<()>) {
        let Some(record) = &self.machines[at].record else { return };
        let Ok(next) = record.handle_event(event) else { return };
        self.machines[at].record = Some(next);
        if let Some(supervisor) = self.server.as_mut().and_then(|server| server.supervisor.as_mut())
            && supervisor.running == Some(at)
        {
            supervisor.state_changed = true;
        }
    }

    fn send_delivery(&mut self, at: usize) {
        let is_current = self.row.machine == Some(at);
        let supervisor = self.server.as_ref().and_then(|server| server.supervisor.as_ref());
        let counted = is_current && supervisor.is_some_and(|supervisor| !supervisor.new_deliveries_not_awaited);
        self.machines[at].credential = Credential::Sent { counted };
    }

    /// One transaction: the credential and the session's completion, if the row is active and the machine is the current one.
    fn store_delivery(&mut self, at: usize) {
        let Credential::Sent { counted } = self.machines[at].credential else { return };
        if self.row.ended.is_none() {
            if self.row.machine == Some(at) {
                self.row.stored += 1;
                self.end_row(EndReason::Completed);
            } else if counted {
                self.violate("a delivery in flight was rejected although its session was active");
            }
        }
        self.machines[at].credential = Credential::Stored { counted };
    }
}

impl Supervisor {
    fn new(lifecycle: Lifecycle, commands: Vec<Command>) -> Self {
        Self {
            lifecycle,
            commands: commands.into(),
            pending: VecDeque::new(),
            job: None,
            requested: None,
            running: None,
            state_changed: false,
            end: None,
            restart_requested: false,
            delivery_pending: false,
            new_deliveries_not_awaited: false,
            awaiting_cleanup: false,
            exit_recorded: false,
        }
    }
}
