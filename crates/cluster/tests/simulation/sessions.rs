//! Sessions: where they start, who asks whom, and how they end.

use crate::{
    events::{Answer, Event, Request, Timer},
    host::PROVIDER,
    world::World,
};
use anteroom_cluster::{HostRequest, KnownHost, SplitMix64, keeps_session, place};
use anteroom_wire::HostId;

/// So many hosts are asked, each for so long; then the session waits.
const ASKED_MAX: usize = 3;
const ANSWER_MS_MAX: u64 = 150;

impl World {
    /// The number of the host with this id.
    pub(crate) fn number(id: &HostId) -> usize {
        usize::try_from(id.unix_ms() - 1).expect("the id was made from the number")
    }

    /// A user starts a session at a host that answers; while there is none, the user tries again.
    pub(crate) fn on_arrival(&mut self) {
        let host = self.random.below(self.hosts.len());
        let this = &self.hosts[host];
        let runs = this.is_on && !this.is_paused && !this.is_suspended && this.may_act(self.now_ms);
        if !runs || this.no_database || self.database.is_down {
            let delay_ms = 1 + self.random.below(200) as u64;
            self.at(self.now_ms + delay_ms, Event::Arrival);
            return;
        }
        let (session, holder) = (self.arrived, this.holder());
        self.arrived += 1;
        self.next_arrival();
        let asked = self.place(host);
        let owner = u8::try_from(self.random.below(7)).expect("it is small");
        let keeps =
            |best: &usize| *best == host || keeps_session(self.hosts[host].capacity(), self.reports[*best].capacity);
        let is_own = asked.first().is_some_and(keeps);
        self.database.insert(session, owner, is_own.then_some(holder), self.now_ms);
        self.note("start", [session as u64, host as u64]);
        if is_own {
            let process = self.hosts[host].process;
            self.answer(host, process, Answer::Holds { sessions: vec![session], holder });
            self.figures.asks += 1;
            self.figures.asks_of_full_hosts += u64::from(!self.hosts[host].has_room());
        } else {
            self.hosts[host].asks.insert(session, (asked, 0));
            self.ask_next(host, session);
        }
    }

    fn next_arrival(&mut self) {
        let (first_ms, first) = self.setting.first;
        let (ms, sessions) = if self.arrived < first {
            (first_ms, first)
        } else {
            (self.setting.arrivals_ms - first_ms, self.setting.sessions - first)
        };
        if self.arrived < self.setting.sessions {
            // Microseconds, since there may be several arrivals in a millisecond.
            self.arrival_us += ms * 1_000 / sessions as u64;
            let at_ms = self.arrival_us / 1_000 + self.random.below(20) as u64;
            self.at(at_ms.max(self.now_ms), Event::Arrival);
        }
    }

    /// The hosts to ask, as the host knows them.
    fn place(&mut self, host: usize) -> Vec<usize> {
        let request = HostRequest { provider: PROVIDER.to_owned(), peer_protocol: 1, ..HostRequest::default() };
        let observer = host - host % self.setting.observer_every;
        let silences = &self.hosts[observer].silences;
        let known = self.reports.iter().enumerate().map(|(number, heartbeat)| KnownHost {
            heartbeat,
            room: None,
            silent_ms: silences.get(number).copied().unwrap_or_default(),
            unanswered: 0,
        });
        let placement = place(known, &request, &self.hosts[host].id, self.setting.times, &mut self.random);
        placement.hosts.into_iter().map(World::number).collect()
    }

    /// After a reading: how long each host is silent.
    pub(crate) fn learn_silence(&mut self, host: usize) {
        let observer = &self.hosts[host].observer;
        let silences = self.hosts.iter().map(|other| observer.silent_ms(&other.id).unwrap_or(u64::MAX)).collect();
        self.hosts[host].silences = silences;
    }

    pub(crate) fn ask_next(&mut self, from: usize, session: usize) {
        let Some((asked, next)) = self.hosts[from].asks.get_mut(&session) else { return };
        let (host, nth) = (asked.get(*next).copied(), *next + 1);
        match host.filter(|_| nth <= ASKED_MAX) {
            Some(asked) => {
                *next = nth;
                self.message(Event::Ask { session, from, asked });
                self.timer(from, ANSWER_MS_MAX, Timer::AskNext { session, nth });
            }
            None => {
                self.hosts[from].asks.remove(&session);
                self.figures.waited += 1;
            }
        }
    }

    /// The host that is asked takes the session, or says why not.
    pub(crate) fn on_ask(&mut self, session: usize, from: usize, asked: usize) {
        let this = &self.hosts[asked];
        let (has_room, holder) = (this.has_room(), this.holder());
        self.figures.asks += 1;
        if this.may_act(self.now_ms) && has_room {
            self.request(asked, Request::Take { session, holder, from });
        } else {
            self.figures.asks_of_full_hosts += u64::from(!has_room);
            self.message(Event::Refuses { session, from });
        }
    }

    pub(crate) fn on_took(&mut self, session: usize, from: usize) {
        self.hosts[from].asks.remove(&session);
    }

    /// Starts a machine for a session that the host holds, unless it has one.
    pub(crate) fn start_machine(&mut self, host: usize, session: usize) {
        let this = &self.hosts[host];
        if this.machines.contains_key(&session) || !this.has_room() || !this.may_act(self.now_ms) {
            return;
        }
        self.check_alone(session, host);
        self.runs += 1;
        let run = self.runs;
        self.hosts[host].machines.insert(session, run);
        self.note("machine", [session as u64, host as u64]);
        self.check_host(host);
        self.finish_later(host, session, run);
    }

    pub(crate) fn finish_later(&mut self, host: usize, session: usize, run: u64) {
        let duration = |random: &mut SplitMix64, mean_ms: usize| random.below(2 * mean_ms) as u64;
        let mut duration_ms = duration(&mut self.random, self.setting.mean_duration_ms);
        // The first sessions are those that have already run for some time: the lesser of two such numbers is what remains of them.
        if session < self.setting.first.1 {
            duration_ms = duration_ms.min(duration(&mut self.random, self.setting.mean_duration_ms));
        }
        self.timer(host, duration_ms, Timer::Finished { session, run });
    }

    /// The machine has done its work; the host tries until the database knows.
    pub(crate) fn finish(&mut self, host: usize, session: usize, run: u64) {
        let this = &self.hosts[host];
        if this.machines.get(&session) == Some(&run) {
            let holder = this.holder();
            if this.may_act(self.now_ms) {
                self.request(host, Request::Complete { session, run, holder });
            }
            self.timer(host, 1_000, Timer::Finished { session, run });
        }
    }

    /// The load of the hosts now, and how it is spread.
    pub(crate) fn measure(&mut self) {
        self.at(self.now_ms + 10_000, Event::Measure);
        let (from_ms, to_ms) = (self.setting.first.0 * 3, self.setting.arrivals_ms);
        if self.now_ms < from_ms {
            (self.figures.asks, self.figures.asks_of_full_hosts, self.figures.waited) = (0, 0, 0);
        }
        if (from_ms..to_ms).contains(&self.now_ms) {
            let acting = self.hosts.iter().filter(|host| host.may_act(self.now_ms));
            let load = |host: &crate::host::Host| host.machines.len() as f64 * 100.0 / f64::from(host.machines_max);
            let loads: Vec<_> = acting.map(load).collect();
            let mean = loads.iter().sum::<f64>() / loads.len() as f64;
            let variance = loads.iter().map(|load| (load - mean).powi(2)).sum::<f64>() / loads.len() as f64;
            self.figures.loads.push(mean);
            self.figures.spreads.push(variance.sqrt());
        }
    }
}
