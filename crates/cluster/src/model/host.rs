//! The host with the session: its server, the deadline that it shares with its keepers, and its machine.

use super::{Mutation, NOW_MS, Setting};
use crate::Deadline;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Server {
    Running,
    Paused,
    Down,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(in super::super) struct Host {
    pub(super) server: Server,
    /// The whole host is suspended, with its machine.
    pub(super) suspended: bool,
    pub(super) incarnation: u64,
    /// As the server knows it. A server that has just started may not act.
    pub(super) deadline: Deadline,
    /// As the keepers read it.
    pub(super) keepers: Deadline,
    pub(super) machine: bool,
}

impl Host {
    pub(super) fn new() -> Self {
        let deadline = Deadline::begun(NOW_MS, NOW_MS, Setting::times()).expect("it is in time");
        Self { server: Server::Running, suspended: false, incarnation: 1, deadline, keepers: deadline, machine: true }
    }

    pub(super) fn server_runs(&self) -> bool {
        self.server == Server::Running && !self.suspended
    }

    pub(super) fn may_act(&self) -> bool {
        self.deadline.may_act(NOW_MS)
    }

    /// The register has acknowledged a heartbeat.
    pub(super) fn acknowledged(&mut self, sent_ms: u64, setting: &Setting) {
        let (sent_ms, times) = (counted_from(sent_ms, setting), Setting::times());
        let extended = match self.deadline.extended(sent_ms, NOW_MS, times) {
            None if setting.is(Mutation::LateAnswerRevives) => Deadline::begun(sent_ms, NOW_MS, times),
            extended => extended,
        };
        self.set(extended.unwrap_or(Deadline::STOPPED));
    }

    /// The database has acknowledged that this incarnation is not fenced.
    pub(super) fn began(&mut self, sent_ms: u64, setting: &Setting) {
        if let Some(deadline) = Deadline::begun(counted_from(sent_ms, setting), NOW_MS, Setting::times()) {
            self.set(deadline);
        }
    }

    /// The database has answered that this incarnation is fenced.
    pub(super) fn is_fenced(&mut self) {
        self.set(Deadline::STOPPED);
        self.machine = false;
        self.incarnation += 1;
    }

    fn set(&mut self, deadline: Deadline) {
        (self.deadline, self.keepers) = (deadline, deadline);
    }

    pub(super) fn move_back(&mut self, by_ms: u64) {
        self.deadline = self.deadline.moved_back(by_ms, NOW_MS);
        self.keepers = self.keepers.moved_back(by_ms, NOW_MS);
    }

    /// What keepers do at their first instruction after the deadline, unless the host is suspended.
    pub(super) fn keepers_look(&mut self, setting: &Setting) {
        let keepers_end = !self.suspended && !setting.is(Mutation::NoKeeperDeadline);
        let server_ends = self.server_runs() && !self.may_act() && setting.is(Mutation::NoKeeperDeadline);
        if keepers_end && !self.keepers.may_act(NOW_MS) || server_ends {
            self.machine = false;
        }
    }
}

fn counted_from(sent_ms: u64, setting: &Setting) -> u64 {
    if setting.is(Mutation::CountsFromTheAnswer) { NOW_MS } else { sent_ms }
}
