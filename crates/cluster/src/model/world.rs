//! The state of the model.

use super::{
    FAST_TICK_MS, Mutation, NOW_MS, SLOW_TICK_MS, Setting, TICK_MS,
    database::{Database, Owner},
    host::Host,
    observing::Observing,
};
use crate::Mark;

/// How often events may happen that would otherwise repeat without end, or make too many states.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in super::super) struct Bounds {
    /// Heartbeats under way at once.
    pub(in super::super) flights: usize,
    pub(in super::super) pauses: u8,
    pub(in super::super) suspends: u8,
    pub(in super::super) crashes: u8,
    pub(in super::super) deliveries: u8,
    pub(in super::super) incarnations: u64,
}

/// Where a message is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(in super::super) enum Register {
    Etcd,
    Database,
}

/// A message of the host that has not been answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(in super::super) struct Flight {
    pub(super) to: Register,
    /// It joins, or asks whether it may act again; else it is a heartbeat.
    pub(super) begins: bool,
    pub(super) incarnation: u64,
    /// By the host's clock.
    pub(super) sent_ms: u64,
    /// Whether the register accepted it; `None`: it has not arrived.
    pub(super) accepted: Option<bool>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(in super::super) struct World {
    pub(super) host: Host,
    pub(super) flights: Vec<Flight>,
    /// A delivery of the machine of this incarnation, which has passed the gate.
    pub(super) delivery: Option<u64>,
    pub(super) database: Database,
    /// The host's mark in the register that is observed.
    pub(super) mark: Mark,
    pub(super) observing: Vec<Observing>,
    pub(super) remaining: Bounds,
}

impl World {
    /// A host that has just joined and runs the session's machine.
    pub(in super::super) fn new(setting: &Setting) -> Self {
        Self {
            host: Host::new(),
            flights: Vec::new(),
            delivery: None,
            database: Database::new(),
            mark: Mark(0),
            observing: (0..setting.observers).map(Observing::new).collect(),
            remaining: setting.bounds,
        }
    }

    /// A mark that differs from all that are remembered.
    pub(super) fn new_mark(&self) -> Mark {
        let used: Vec<_> = self.observing.iter().flat_map(Observing::marks).collect();
        (0..).map(Mark).find(|mark| !used.contains(mark)).expect("there are more marks than memories")
    }

    /// A number of heartbeats in the database that differs from all that are remembered.
    pub(super) fn new_number(&self) -> u64 {
        let used: Vec<_> = self.observing.iter().filter_map(|observing| observing.looked).collect();
        (0..).find(|number| !used.contains(number)).expect("there are more numbers than memories")
    }

    /// One second passes.
    pub(super) fn tick(&mut self, setting: &Setting) {
        let times = Setting::times();
        if !(self.host.suspended && setting.is(Mutation::ClockStopsInSuspend)) {
            self.host.move_back(SLOW_TICK_MS);
            let floor_ms = NOW_MS - times.renew_deadline_ms();
            for flight in &mut self.flights {
                flight.sent_ms = (flight.sent_ms - SLOW_TICK_MS).max(floor_ms);
            }
        }
        self.database.heartbeat_ms = (self.database.heartbeat_ms - TICK_MS).max(NOW_MS - times.fence_after_ms());
        let floor_ms = NOW_MS - times.fence_after_ms();
        self.observing.iter_mut().for_each(|observing| observing.observer.move_back(FAST_TICK_MS, floor_ms));
    }

    /// Whether nothing can happen to the session any more: it has ended, or another owner has it and the host has learned that.
    pub(super) fn is_settled(&self) -> bool {
        let host_knows = self.host.incarnation > 1 || self.host.incarnation > self.remaining.incarnations;
        self.database.stored > 0 || matches!(self.database.owner, Owner::Observer(_)) && host_knows
    }

    /// Whether the host acts for the session: its machine runs.
    pub(in super::super) fn host_acts(&self) -> bool {
        self.host.machine && !self.host.suspended
    }
}
