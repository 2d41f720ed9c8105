//! Virtual time: events in their order, messages that are late, lost or repeated, and what must always hold.

use crate::{
    events::{Answer, Event, Request, Timer},
    host::Host,
    registers::{Database, Etcd},
};
use anteroom_cluster::{ClusterTimes, Heartbeat, Liveness, SplitMix64};
use std::{cmp::Reverse, collections::BinaryHeap};

#[derive(Debug, Clone, Copy)]
pub(crate) struct Setting {
    pub(crate) times: ClusterTimes,
    pub(crate) liveness: Liveness,
    pub(crate) hosts: usize,
    pub(crate) machines_max: u32,
    pub(crate) sessions: usize,
    /// Milliseconds from the first arrival to the last.
    pub(crate) arrivals_ms: u64,
    /// Of these milliseconds, and of the sessions, so many percent come first, in a row.
    pub(crate) first: (u64, usize),
    pub(crate) mean_duration_ms: usize,
    /// Whether messages are lost and repeated.
    pub(crate) unreliable: bool,
    /// Every so-many-th host observes the others.
    pub(crate) observer_every: usize,
    /// The simulation must have ended by then.
    pub(crate) limit_ms: u64,
}

pub(crate) struct World {
    pub(crate) setting: Setting,
    pub(crate) now_ms: u64,
    pub(crate) random: SplitMix64,
    pub(crate) hosts: Vec<Host>,
    pub(crate) database: Database,
    pub(crate) etcd: Etcd,
    /// What each host has reported with its last heartbeat.
    pub(crate) reports: Vec<Heartbeat>,
    pub(crate) figures: Figures,
    /// When the next session arrives, microseconds.
    pub(crate) arrival_us: u64,
    pub(crate) runs: u64,
    pub(crate) arrived: usize,
    pub(crate) ended: usize,
    queue: BinaryHeap<Reverse<(u64, u64, Wrapped)>>,
    sequence: u64,
}

/// What a run has shown.
#[derive(Debug, Default, Clone, PartialEq)]
pub(crate) struct Figures {
    /// Of all that happened, in its order.
    pub(crate) digest: u64,
    pub(crate) events: u64,
    pub(crate) asks: u64,
    pub(crate) asks_of_full_hosts: u64,
    pub(crate) waited: u64,
    pub(crate) fences: u64,
    pub(crate) self_stops: u64,
    /// Of hosts that were not dead, but could not renew their deadline.
    pub(crate) fences_of_living: u64,
    pub(crate) statements_max: u32,
    /// Standard deviation of the hosts' load, percent, at each measurement.
    pub(crate) spreads: Vec<f64>,
    pub(crate) loads: Vec<f64>,
}

/// An event is ordered only by time and number.
struct Wrapped(Event);

impl PartialEq for Wrapped {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}
impl Eq for Wrapped {}
impl PartialOrd for Wrapped {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Wrapped {
    fn cmp(&self, _: &Self) -> std::cmp::Ordering {
        std::cmp::Ordering::Equal
    }
}

impl World {
    pub(crate) fn new(setting: Setting, seed: u64) -> Self {
        let mut random = SplitMix64::new(seed);
        let mut host = |number| {
            // Clocks differ by up to 5 % each.
            let rate_ppm = i64::try_from(random.below(100_001)).expect("it is small") - 50_000;
            Host::new(number, rate_ppm, setting.machines_max, setting.times)
        };
        let hosts: Vec<_> = (0..setting.hosts).map(&mut host).collect();
        let mut world = Self {
            setting,
            now_ms: 0,
            random,
            database: Database::new(setting.hosts),
            etcd: Etcd::new(setting.hosts),
            reports: hosts.iter().map(Host::heartbeat).collect(),
            hosts,
            figures: Figures::default(),
            arrival_us: 5_000_000,
            runs: 0,
            arrived: 0,
            ended: 0,
            queue: BinaryHeap::new(),
            sequence: 0,
        };
        (0..setting.hosts).for_each(|host| world.start_timers(host));
        world.at(5_000, Event::Arrival);
        world
    }

    pub(crate) fn start_timers(&mut self, host: usize) {
        let timers = [Timer::Heartbeat, Timer::Observe, Timer::Pull, Timer::Reconcile];
        for timer in timers {
            let delay_ms = self.random.below(1_000) as u64;
            self.timer(host, delay_ms, timer);
        }
    }

    pub(crate) fn at(&mut self, at_ms: u64, event: Event) {
        self.sequence += 1;
        self.queue.push(Reverse((at_ms, self.sequence, Wrapped(event))));
    }

    pub(crate) fn timer(&mut self, host: usize, delay_ms: u64, timer: Timer) {
        let process = self.hosts[host].process;
        self.at(self.now_ms + delay_ms, Event::Timer(host, process, timer));
    }

    /// When messages arrive: often once, sometimes never or twice.
    fn delays(&mut self) -> Vec<u64> {
        let usual = 1 + self.random.below(20) as u64;
        if !self.setting.unreliable {
            return vec![usual];
        }
        match self.random.below(100) {
            0..3 => vec![],
            3..6 => vec![usual + self.random.below(4_000) as u64],
            6..8 => vec![usual, usual + self.random.below(6_000) as u64],
            _ => vec![usual],
        }
    }

    pub(crate) fn request(&mut self, host: usize, request: Request) {
        let process = self.hosts[host].process;
        for delay_ms in self.delays() {
            self.at(self.now_ms + delay_ms, Event::Request(host, process, request.clone()));
        }
    }

    pub(crate) fn answer(&mut self, host: usize, process: u64, answer: Answer) {
        for delay_ms in self.delays() {
            self.at(self.now_ms + delay_ms, Event::Answer(host, process, answer.clone()));
        }
    }

    pub(crate) fn message(&mut self, event: Event) {
        for delay_ms in self.delays() {
            self.at(self.now_ms + delay_ms, event.clone());
        }
    }

    /// Runs until every session has ended.
    pub(crate) fn run(&mut self) {
        while self.ended < self.setting.sessions {
            let Reverse((at_ms, _, Wrapped(event))) = self.queue.pop().expect("timers go on");
            self.now_ms = at_ms;
            assert!(at_ms < self.setting.limit_ms, "{} of {} sessions were lost", self.lost(), self.setting.sessions);
            self.figures.events += 1;
            self.handle(event);
        }
        let statements = self.database.sessions.iter().map(|session| session.statements);
        self.figures.statements_max = statements.max().unwrap_or_default();
    }

    fn lost(&self) -> usize {
        self.setting.sessions - self.ended
    }

    fn handle(&mut self, event: Event) {
        let receiver = match &event {
            Event::Timer(host, process, _) | Event::Answer(host, process, _) => Some((*host, *process)),
            Event::Ask { asked, .. } => Some((*asked, self.hosts[*asked].process)),
            Event::Refuses { from, .. } | Event::Took { from, .. } => Some((*from, self.hosts[*from].process)),
            Event::Request(..) | Event::Arrival | Event::Measure | Event::Fault(_) => None,
        };
        if let Some((host, process)) = receiver {
            let host = &mut self.hosts[host];
            if !host.is_on || host.process != process {
                return;
            }
            if host.is_paused || host.is_suspended {
                host.deferred.push(event);
                return;
            }
            host.forget_ended(self.now_ms);
        }
        match event {
            Event::Timer(host, _, timer) => self.on_timer(host, timer),
            Event::Request(host, process, request) => self.on_request(host, process, request),
            Event::Answer(host, _, answer) => self.on_answer(host, answer),
            Event::Ask { session, from, asked } => self.on_ask(session, from, asked),
            Event::Refuses { session, from } => self.ask_next(from, session),
            Event::Took { session, from } => self.on_took(session, from),
            Event::Arrival => self.on_arrival(),
            Event::Measure => self.measure(),
            Event::Fault(fault) => self.on_fault(fault),
        }
    }

    /// Adds to the digest of the run.
    pub(crate) fn note(&mut self, what: &str, numbers: [u64; 2]) {
        let bytes = self.now_ms.to_le_bytes().into_iter().chain(what.bytes());
        let bytes = bytes.chain(numbers.into_iter().flat_map(u64::to_le_bytes));
        // FNV-1a.
        let add = |digest: u64, byte: u8| (digest ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        self.figures.digest = bytes.fold(self.figures.digest ^ 0xcbf2_9ce4_8422_2325, add);
    }

    /// The host that acts for a session is its holder. Checked whenever a host begins to act, may act for longer, or wakes up.
    pub(crate) fn check_host(&self, host: usize) {
        let host = &self.hosts[host];
        if host.acts(self.now_ms) {
            for session in host.machines.keys() {
                let row = &self.database.sessions[*session];
                let is_holder = row.holder == Some(host.holder());
                assert!(is_holder, "host {} acts for session {session} of {:?}", host.number, row.holder);
            }
        }
    }

    /// Whether another host acts for the session.
    pub(crate) fn check_alone(&self, session: usize, host: usize) {
        let acts = |other: &&Host| other.machines.contains_key(&session) && other.acts(self.now_ms);
        let other = self.hosts.iter().filter(|other| other.number != host).find(acts);
        assert!(other.is_none(), "session {session} runs on {host} and {}", other.map_or(0, |other| other.number));
    }
}
