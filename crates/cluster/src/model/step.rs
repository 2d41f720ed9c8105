//! What may happen, and what it changes.

use super::{
    Mutation, Setting, World,
    database::Owner,
    host::Server,
    world::{Flight, Register},
};
use crate::Liveness;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in super::super) enum Step {
    Tick,
    SendHeartbeat(Register),
    AskToBegin,
    Arrives(usize),
    IsLost(usize),
    IsAnswered(usize),
    StartMachine,
    SendDelivery,
    StoreDelivery,
    PauseServer,
    ContinueServer,
    Suspend,
    WakeUp,
    Crash,
    Restart,
    Read(usize),
    FenceOn(usize),
    Take(usize),
    ReportsExpiry(usize),
    StoreAtTaker(usize),
}

impl World {
    pub(in super::super) fn steps(&self, setting: &Setting, steps: &mut Vec<Step>) {
        if self.delivery.is_some() {
            steps.push(Step::StoreDelivery);
        }
        if self.is_settled() {
            return;
        }
        steps.push(Step::Tick);
        self.server_steps(setting, steps);
        self.fault_steps(steps);
        for at in 0..self.flights.len() {
            steps.push(Step::IsLost(at));
            match self.flights[at].accepted {
                None => steps.push(Step::Arrives(at)),
                Some(_) if self.host.server_runs() => steps.push(Step::IsAnswered(at)),
                Some(_) => {}
            }
        }
        for at in 0..self.observing.len() {
            self.observer_steps(at, setting, steps);
        }
    }

    fn server_steps(&self, setting: &Setting, steps: &mut Vec<Step>) {
        if !self.host.server_runs() {
            return;
        }
        let has_room = self.flights.len() < self.remaining.flights;
        if self.host.may_act() {
            if has_room {
                steps.push(Step::SendHeartbeat(Register::Database));
            }
            if has_room && setting.liveness == Liveness::Etcd {
                steps.push(Step::SendHeartbeat(Register::Etcd));
            }
            if !self.host.machine && self.database.owner == Owner::Host(self.host.incarnation) {
                steps.push(Step::StartMachine);
            }
            if self.host.machine && self.delivery.is_none() && self.remaining.deliveries > 0 {
                steps.push(Step::SendDelivery);
            }
        } else if has_room && self.host.incarnation <= self.remaining.incarnations {
            steps.push(Step::AskToBegin);
        }
    }

    fn fault_steps(&self, steps: &mut Vec<Step>) {
        match self.host.server {
            Server::Running if self.remaining.pauses > 0 => steps.push(Step::PauseServer),
            Server::Paused => steps.push(Step::ContinueServer),
            Server::Running | Server::Down => {}
        }
        match self.host.server {
            Server::Down => steps.push(Step::Restart),
            Server::Running | Server::Paused if self.remaining.crashes > 0 => steps.push(Step::Crash),
            Server::Running | Server::Paused => {}
        }
        if self.host.suspended {
            steps.push(Step::WakeUp);
        } else if self.remaining.suspends > 0 {
            steps.push(Step::Suspend);
        }
    }

    fn observer_steps(&self, at: usize, setting: &Setting, steps: &mut Vec<Step>) {
        if self.observing[at].fencing.is_some() {
            steps.push(Step::FenceOn(at));
        } else {
            steps.push(Step::Read(at));
        }
        let suspects = self.observing[at].fencing.is_some() && setting.is(Mutation::TakesBeforeTheFence);
        let unfenced = matches!(self.database.owner, Owner::Host(_)) && suspects;
        if self.database.stored == 0 && (self.database.owner == Owner::Waiting || unfenced) {
            steps.push(Step::Take(at));
        }
        if setting.is(Mutation::BelievesExpiry) && self.database.is_member() {
            steps.push(Step::ReportsExpiry(at));
        }
        if self.database.owner == Owner::Observer(at) && self.database.stored == 0 {
            steps.push(Step::StoreAtTaker(at));
        }
    }

    pub(in super::super) fn apply(&mut self, step: Step, setting: &Setting) {
        match step {
            Step::Tick => self.tick(setting),
            Step::SendHeartbeat(to) => self.send(to, false),
            Step::AskToBegin => self.send(Register::Database, true),
            Step::Arrives(at) => self.arrives(at, setting),
            Step::IsLost(at) => drop(self.flights.remove(at)),
            Step::IsAnswered(at) => self.is_answered(at, setting),
            Step::StartMachine => self.host.machine = true,
            Step::SendDelivery => {
                self.remaining.deliveries -= 1;
                self.delivery = Some(self.host.incarnation);
            }
            Step::StoreDelivery => {
                if let Some(incarnation) = self.delivery.take() {
                    self.database.store(Owner::Host(incarnation));
                }
            }
            Step::PauseServer => {
                self.remaining.pauses -= 1;
                self.host.server = Server::Paused;
            }
            Step::ContinueServer => self.host.server = Server::Running,
            Step::Suspend => {
                self.remaining.suspends -= 1;
                self.host.suspended = true;
            }
            Step::WakeUp => self.host.suspended = false,
            Step::Crash => {
                self.remaining.crashes -= 1;
                self.host.server = Server::Down;
            }
            Step::Restart => (self.host.server, self.host.deadline) = (Server::Running, crate::Deadline::STOPPED),
            Step::Read(at) => self.observing[at].read(setting, &self.database, self.mark),
            Step::FenceOn(at) => self.observing[at].fence(setting, &mut self.database, self.mark),
            Step::Take(at) => self.database.take(at),
            Step::ReportsExpiry(_) => drop(self.database.fence(self.database.incarnation, |_| true)),
            Step::StoreAtTaker(at) => self.database.store(Owner::Observer(at)),
        }
        self.host.keepers_look(setting);
        self.flights.sort();
    }

    fn send(&mut self, to: Register, begins: bool) {
        let incarnation = self.host.incarnation;
        self.flights.push(Flight { to, begins, incarnation, sent_ms: super::NOW_MS, accepted: None });
    }

    fn arrives(&mut self, at: usize, setting: &Setting) {
        let Flight { to, incarnation, .. } = self.flights[at];
        let accepted = to == Register::Etcd || self.database.heartbeat(incarnation, self.new_number());
        self.flights[at].accepted = Some(accepted);
        if accepted && (to == Register::Etcd) == (setting.liveness == Liveness::Etcd) {
            self.mark = self.new_mark();
        }
    }

    fn is_answered(&mut self, at: usize, setting: &Setting) {
        let flight = self.flights.remove(at);
        if flight.incarnation != self.host.incarnation {
            return;
        }
        match flight.accepted {
            Some(true) if flight.begins => self.host.began(flight.sent_ms, setting),
            Some(true) => self.host.acknowledged(flight.sent_ms, setting),
            Some(false) => self.host.is_fenced(),
            None => {}
        }
    }
}
