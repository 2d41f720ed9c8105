//! A host of the simulation: the real rules, with its own clock.

use crate::{events::Event, registers::Holder};
use anteroom_cluster::{Capacity, ClusterTimes, Deadline, Fencing, Heartbeat, HostLabels, Observer};
use anteroom_wire::HostId;
use std::collections::BTreeMap;

pub(crate) const PROVIDER: &str = "codex";

pub(crate) struct Host {
    pub(crate) number: usize,
    pub(crate) id: HostId,
    pub(crate) times: ClusterTimes,
    /// Its clock runs by so many millionths faster or slower than true time.
    pub(crate) rate_ppm: i64,
    pub(crate) machines_max: u32,
    pub(crate) is_on: bool,
    pub(crate) is_suspended: bool,
    pub(crate) is_paused: bool,
    pub(crate) no_etcd: bool,
    pub(crate) no_database: bool,
    /// Counts the server's processes: what belongs to an earlier one is ignored.
    pub(crate) process: u64,
    pub(crate) incarnation: u64,
    /// As the server knows it.
    pub(crate) deadline: Deadline,
    /// As the keepers read it.
    pub(crate) keepers: Deadline,
    pub(crate) observer: Observer,
    pub(crate) fencing: Option<Fencing>,
    /// The number of the attempt to fence, and since when it runs by the host's clock.
    pub(crate) attempt: (u64, u64),
    /// The machines that run, by session, with the number of their run.
    pub(crate) machines: BTreeMap<usize, u64>,
    pub(crate) heartbeats: u64,
    pub(crate) acknowledged: u64,
    /// Sessions for which it asks other hosts: whom, and who is next.
    pub(crate) asks: BTreeMap<usize, (Vec<usize>, usize)>,
    /// How long each host is silent, as it learned last.
    pub(crate) silences: Vec<u64>,
    /// What waits until the server runs again.
    pub(crate) deferred: Vec<Event>,
}

impl Host {
    pub(crate) fn new(number: usize, rate_ppm: i64, machines_max: u32, times: ClusterTimes) -> Self {
        let id = HostId::from_parts(number as u64 + 1, [0; 10]);
        Self {
            number,
            observer: Observer::new(id.clone(), times),
            id,
            times,
            rate_ppm,
            machines_max,
            is_on: true,
            is_suspended: false,
            is_paused: false,
            no_etcd: false,
            no_database: false,
            process: 1,
            incarnation: 1,
            deadline: Deadline::STOPPED,
            keepers: Deadline::STOPPED,
            fencing: None,
            attempt: (0, 0),
            machines: BTreeMap::new(),
            heartbeats: 0,
            acknowledged: 0,
            asks: BTreeMap::new(),
            silences: Vec::new(),
            deferred: Vec::new(),
        }
    }

    /// Its own clock at this true time. It has been on for a day.
    pub(crate) fn clock_ms(&self, now_ms: u64) -> u64 {
        let elapsed = i64::try_from(now_ms).expect("a simulation is short");
        (86_400_000 + elapsed + elapsed * self.rate_ppm / 1_000_000).unsigned_abs()
    }

    pub(crate) fn holder(&self) -> Holder {
        (self.number, self.incarnation)
    }

    pub(crate) fn may_act(&self, now_ms: u64) -> bool {
        self.deadline.may_act(self.clock_ms(now_ms))
    }

    /// Whether its machines run: keepers end them at the deadline, also while the server is paused or dead.
    pub(crate) fn acts(&self, now_ms: u64) -> bool {
        self.is_on && !self.is_suspended && self.keepers.may_act(self.clock_ms(now_ms))
    }

    /// Forgets machines that keepers have ended.
    pub(crate) fn forget_ended(&mut self, now_ms: u64) {
        if !self.keepers.may_act(self.clock_ms(now_ms)) {
            self.machines.clear();
        }
    }

    /// A register has acknowledged a heartbeat, or the database a join.
    pub(crate) fn acknowledge(&mut self, sent_ms: u64, joins: bool, now_ms: u64) {
        self.forget_ended(now_ms);
        let clock_ms = self.clock_ms(now_ms);
        if !joins {
            self.set(self.deadline.extended(sent_ms, clock_ms, self.times).unwrap_or(Deadline::STOPPED));
        } else if !self.may_act(now_ms)
            && let Some(begun) = Deadline::begun(sent_ms, clock_ms, self.times)
        {
            self.set(begun);
        }
    }

    /// The database has refused: this incarnation is fenced.
    pub(crate) fn refused(&mut self) {
        self.set(Deadline::STOPPED);
        self.machines.clear();
        self.incarnation += 1;
    }

    fn set(&mut self, deadline: Deadline) {
        (self.deadline, self.keepers) = (deadline, deadline);
    }

    /// The server's process has ended; machines go on.
    pub(crate) fn next_process(&mut self) {
        self.process += 1;
        self.deadline = Deadline::STOPPED;
        self.observer = Observer::new(self.id.clone(), self.times);
        (self.fencing, self.is_paused) = (None, false);
        self.asks.clear();
        self.deferred.clear();
    }

    pub(crate) fn has_room(&self) -> bool {
        self.machines.len() < self.machines_max as usize
    }

    pub(crate) fn capacity(&self) -> Capacity {
        let machines = u32::try_from(self.machines.len()).unwrap_or(u32::MAX);
        Capacity { machines_max: self.machines_max, machines, waiting: 0 }
    }

    pub(crate) fn heartbeat(&self) -> Heartbeat {
        Heartbeat {
            host: self.id.clone(),
            incarnation: self.incarnation,
            process: self.process,
            number: self.heartbeats,
            capacity: self.capacity(),
            draining: false,
            labels: HostLabels::default(),
            providers: vec![PROVIDER.to_owned()],
            image: String::new(),
            peer_protocol: 1,
            version: String::new(),
            peer_url: None,
            direct_url: None,
        }
    }
}
