//! Heartbeats, deadlines, observation and fences of the hosts, and what the registers answer.

use crate::{
    events::{Answer, Event, Request, Timer},
    world::World,
};
use anteroom_cluster::{Deadline, FenceOutcome, FenceStep, Fencing, Liveness, Member, Verdict};

/// An attempt to fence without an answer is given up after so long, ms.
const ATTEMPT_MS_MAX: u64 = 5_000;

impl World {
    pub(crate) fn on_timer(&mut self, host: usize, timer: Timer) {
        let interval_ms = self.setting.times.heartbeat_interval_ms();
        match timer {
            Timer::Heartbeat => {
                let delay_ms = self.setting.times.next_heartbeat_ms(self.random.next_u64());
                self.timer(host, delay_ms, Timer::Heartbeat);
                self.send_heartbeat(host);
            }
            Timer::EtcdTimeout(number) => {
                if self.hosts[host].acknowledged < number && self.hosts[host].may_act(self.now_ms) {
                    self.write_heartbeat(host, false, false, number);
                }
            }
            Timer::Observe => {
                self.timer(host, interval_ms, Timer::Observe);
                self.observe(host);
            }
            Timer::Pull => {
                self.timer(host, 1_000, Timer::Pull);
                let (may_act, has_room) = (self.hosts[host].may_act(self.now_ms), self.hosts[host].has_room());
                if may_act && has_room && self.database.has_waiting() {
                    let holder = self.hosts[host].holder();
                    self.request(host, Request::Pull { holder });
                }
            }
            Timer::Reconcile => {
                self.timer(host, interval_ms * 2, Timer::Reconcile);
                if self.hosts[host].may_act(self.now_ms) {
                    let holder = self.hosts[host].holder();
                    self.request(host, Request::ReadHeld { holder });
                }
            }
            Timer::AskNext { session, nth } => {
                if self.hosts[host].asks.get(&session).is_some_and(|(_, next)| *next == nth) {
                    self.ask_next(host, session);
                }
            }
            Timer::Finished { session, run } => self.finish(host, session, run),
        }
    }

    fn send_heartbeat(&mut self, host: usize) {
        let now_ms = self.now_ms;
        let this = &mut self.hosts[host];
        this.heartbeats += 1;
        let number = this.heartbeats;
        if !this.may_act(now_ms) {
            if this.deadline != Deadline::STOPPED {
                this.deadline = Deadline::STOPPED;
                self.figures.self_stops += 1;
            }
            self.write_heartbeat(host, false, true, number);
        } else if self.setting.liveness == Liveness::Etcd {
            self.write_heartbeat(host, true, false, number);
            self.timer(host, self.setting.times.renew_deadline_ms() / 5, Timer::EtcdTimeout(number));
        } else {
            self.write_heartbeat(host, false, false, number);
        }
    }

    fn write_heartbeat(&mut self, host: usize, to_etcd: bool, joins: bool, number: u64) {
        let this = &self.hosts[host];
        let (sent_ms, holder) = (this.clock_ms(self.now_ms), this.holder());
        self.request(host, Request::Heartbeat { to_etcd, joins, sent_ms, number, holder });
    }

    fn observe(&mut self, host: usize) {
        let this = &mut self.hosts[host];
        let clock_ms = this.clock_ms(self.now_ms);
        if this.fencing.is_some() && clock_ms - this.attempt.1 > ATTEMPT_MS_MAX {
            this.fencing = None;
        }
        if host.is_multiple_of(self.setting.observer_every) && this.fencing.is_none() && this.may_act(self.now_ms) {
            self.request(host, Request::ReadMembers { sent_ms: clock_ms });
        }
    }

    pub(crate) fn on_request(&mut self, host: usize, process: u64, request: Request) {
        let at_etcd = match request {
            Request::Heartbeat { to_etcd, .. } => to_etcd,
            Request::ReadEtcd { .. } => true,
            Request::ReadMembers { .. } => self.setting.liveness == Liveness::Etcd,
            Request::LookAtDatabase { .. }
            | Request::Fence { .. }
            | Request::Take { .. }
            | Request::Pull { .. }
            | Request::ReadHeld { .. }
            | Request::Complete { .. } => false,
        };
        let is_cut = if at_etcd { self.hosts[host].no_etcd } else { self.hosts[host].no_database };
        let is_down = if at_etcd { self.etcd.is_down } else { self.database.is_down };
        if !is_cut
            && !is_down
            && let Some(answer) = self.register_answers(host, request)
        {
            self.answer(host, process, answer);
        }
    }

    fn register_answers(&mut self, host: usize, request: Request) -> Option<Answer> {
        let now_ms = self.now_ms;
        Some(match request {
            Request::Heartbeat { to_etcd, joins, sent_ms, number, holder } => {
                let accepted = to_etcd || self.database.heartbeat(holder, joins, now_ms);
                if accepted {
                    self.reports[host].capacity = self.hosts[host].capacity();
                }
                if to_etcd {
                    self.etcd.write(host);
                }
                Answer::Heartbeat { accepted, joins, sent_ms, number, holder }
            }
            Request::ReadMembers { sent_ms } => Answer::Members { sent_ms, members: self.members() },
            Request::LookAtDatabase { attempt, host } => {
                Answer::Looked { attempt, look: self.database.look(host, now_ms) }
            }
            Request::ReadEtcd { attempt, host } => Answer::EtcdRead { attempt, member: self.member(host) },
            Request::Fence { attempt, of, heartbeats } => {
                let released = self.database.fence(of, heartbeats, self.setting.times, now_ms);
                if let Some(sessions) = released {
                    self.fenced(of.0, sessions);
                }
                Answer::Fenced { attempt, accepted: released.is_some() }
            }
            Request::Take { session, holder, from } => {
                let accepted = self.database.take(session, holder);
                self.note("take", [session as u64, u64::from(accepted)]);
                if accepted {
                    self.message(Event::Took { session, from });
                }
                Answer::Holds { sessions: if accepted { vec![session] } else { vec![] }, holder }
            }
            Request::Pull { holder } => {
                let pulled = self.database.pull(holder, now_ms)?;
                self.note("pull", [pulled as u64, holder.0 as u64]);
                Answer::Holds { sessions: vec![pulled], holder }
            }
            Request::ReadHeld { holder } => Answer::Holds { sessions: self.database.held_by(holder), holder },
            Request::Complete { session, run, holder } => {
                if self.database.complete(session, holder) {
                    self.ended += 1;
                    self.note("end", [session as u64, holder.0 as u64]);
                }
                Answer::Completed { session, run }
            }
        })
    }

    fn member(&self, host: usize) -> Member {
        let mark = match self.setting.liveness {
            Liveness::Etcd => self.etcd.mark(host),
            Liveness::Database => Some(self.database.mark(host)),
        };
        Member { host: self.hosts[host].id.clone(), incarnation: self.database.hosts[host].incarnation, mark }
    }

    fn members(&self) -> Vec<Member> {
        let rows = self.database.hosts.iter().enumerate();
        rows.filter(|(_, row)| row.fenced < row.incarnation).map(|(host, _)| self.member(host)).collect()
    }

    /// A host that is fenced must have stopped.
    fn fenced(&mut self, host: usize, sessions: usize) {
        let victim = &self.hosts[host];
        assert!(!victim.acts(self.now_ms), "host {host} was fenced while it acts");
        self.figures.fences += 1;
        self.figures.fences_of_living += u64::from(victim.is_on && !victim.is_suspended && !victim.is_paused);
        self.note("fence", [host as u64, sessions as u64]);
    }

    pub(crate) fn on_answer(&mut self, host: usize, answer: Answer) {
        let clock_ms = self.hosts[host].clock_ms(self.now_ms);
        let this = &mut self.hosts[host];
        match answer {
            Answer::Heartbeat { accepted, joins, sent_ms, number, holder } if holder == this.holder() => {
                self.on_heartbeat(host, (accepted, joins), sent_ms, number);
            }
            Answer::Heartbeat { .. } => {}
            Answer::Members { sent_ms, members } => {
                this.observer.observe(sent_ms, clock_ms, members);
                let verdict = this.observer.verdict();
                self.learn_silence(host);
                if let Verdict::Suspects(suspects) = verdict
                    && let Some(suspect) = suspects.into_iter().next()
                    && self.hosts[host].fencing.is_none()
                {
                    let this = &mut self.hosts[host];
                    this.attempt = (this.attempt.0 + 1, clock_ms);
                    this.fencing = Some(Fencing::new(suspect, self.setting.liveness, self.setting.times));
                    self.fencing_step(host);
                }
            }
            Answer::Looked { attempt, look } => {
                self.continue_attempt(host, attempt, |fencing| fencing.looked_at_database(Some(look)));
            }
            Answer::EtcdRead { attempt, member } => {
                self.continue_attempt(host, attempt, |fencing| fencing.read_etcd(Some(&member)));
            }
            Answer::Fenced { attempt, accepted } => {
                self.continue_attempt(host, attempt, |fencing| fencing.fenced(Some(accepted)));
            }
            Answer::Holds { sessions, holder } => {
                if holder == this.holder() {
                    sessions.into_iter().for_each(|session| self.start_machine(host, session));
                }
            }
            Answer::Completed { session, run } => {
                if this.machines.get(&session) == Some(&run) {
                    this.machines.remove(&session);
                }
            }
        }
    }

    fn on_heartbeat(&mut self, host: usize, (accepted, joins): (bool, bool), sent_ms: u64, number: u64) {
        let this = &mut self.hosts[host];
        if !accepted {
            this.refused();
            return;
        }
        this.acknowledged = this.acknowledged.max(number);
        let acted = this.may_act(self.now_ms);
        this.acknowledge(sent_ms, joins, self.now_ms);
        let begins = !acted && this.may_act(self.now_ms);
        // A new process adopts the machines that its keepers still run.
        let adopted: Vec<_> = if begins { this.machines.clone().into_iter().collect() } else { vec![] };
        for (session, run) in adopted {
            self.finish_later(host, session, run);
        }
        self.check_host(host);
    }

    /// An answer belongs to the present attempt, or is too late.
    fn continue_attempt(&mut self, host: usize, attempt: u64, answer: impl Fn(&mut Fencing)) {
        let this = &mut self.hosts[host];
        if this.attempt.0 == attempt
            && let Some(fencing) = &mut this.fencing
        {
            answer(fencing);
            self.fencing_step(host);
        }
    }

    fn fencing_step(&mut self, host: usize) {
        let this = &mut self.hosts[host];
        let (attempt, clock_ms) = (this.attempt.0, this.clock_ms(self.now_ms));
        let Some(fencing) = &this.fencing else { return };
        let suspect = fencing.suspect().member.clone();
        let of = World::number(&suspect.host);
        match fencing.step() {
            FenceStep::LookAtDatabase => self.request(host, Request::LookAtDatabase { attempt, host: of }),
            FenceStep::ReadEtcd => self.request(host, Request::ReadEtcd { attempt, host: of }),
            FenceStep::Fence { heartbeats } => {
                let of = (of, suspect.incarnation);
                self.request(host, Request::Fence { attempt, of, heartbeats });
            }
            FenceStep::Done(outcome) => {
                this.fencing = None;
                if outcome == FenceOutcome::NotFenced {
                    this.observer.saw_alive(&suspect.host, clock_ms);
                }
            }
        }
    }
}
