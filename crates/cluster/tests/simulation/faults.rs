//! What goes wrong, and when.

use crate::{
    events::{Event, Fault},
    world::World,
};
use anteroom_cluster::Deadline;

impl World {
    /// So many faults of all kinds, each of which ends by itself.
    pub(crate) fn plan_faults(&mut self, faults: usize, from_ms: u64, to_ms: u64) {
        for _ in 0..faults {
            let at_ms = from_ms + self.random.below(usize::try_from(to_ms - from_ms).expect("it is short")) as u64;
            let until_ms = at_ms + self.random.below(14_000) as u64;
            let host = self.random.below(self.hosts.len());
            let (begins, ends) = match self.random.below(11) {
                0 | 1 => (Fault::PowerOff(host), Fault::PowerOn(host)),
                2 => (Fault::KillServer(host), Fault::KillServer(host)),
                3 | 4 => (Fault::Pause(host), Fault::Continue(host)),
                5 | 6 => (Fault::Suspend(host), Fault::WakeUp(host)),
                7 => (Fault::EtcdDown(true), Fault::EtcdDown(false)),
                8 => (Fault::DatabaseDown(true), Fault::DatabaseDown(false)),
                9 => {
                    let etcd = self.random.below(2) == 0;
                    (Fault::Cut { host, etcd, cut: true }, Fault::Cut { host, etcd, cut: false })
                }
                _ => (Fault::Expire(host), Fault::Expire(host)),
            };
            self.at(at_ms, Event::Fault(begins));
            self.at(until_ms, Event::Fault(ends));
        }
        let ahead_ms = self.random.below(1_000) as u64;
        self.at((from_ms + to_ms) / 2, Event::Fault(Fault::ClockOfDatabase(ahead_ms)));
    }

    /// Hosts lose power, so many percent of them in an hour, and come back after two minutes.
    pub(crate) fn plan_power_losses(&mut self, percent: u64, to_ms: u64) {
        let losses = self.hosts.len() as u64 * percent * to_ms / 100 / 3_600_000;
        for _ in 0..losses {
            let at_ms = self.random.below(usize::try_from(to_ms).expect("it is short")) as u64;
            let host = self.random.below(self.hosts.len());
            self.at(at_ms, Event::Fault(Fault::PowerOff(host)));
            self.at(at_ms + 120_000, Event::Fault(Fault::PowerOn(host)));
        }
    }

    pub(crate) fn on_fault(&mut self, fault: Fault) {
        self.note("fault", [0, 0]);
        match fault {
            Fault::PowerOff(host) => {
                let this = &mut self.hosts[host];
                (this.is_on, this.keepers) = (false, Deadline::STOPPED);
                this.machines.clear();
                this.next_process();
            }
            Fault::PowerOn(host) => {
                let this = &mut self.hosts[host];
                if !this.is_on {
                    (this.is_on, this.is_suspended) = (true, false);
                    self.start_timers(host);
                }
            }
            Fault::KillServer(host) => {
                if self.hosts[host].is_on && !self.hosts[host].is_suspended {
                    self.hosts[host].next_process();
                    self.start_timers(host);
                }
            }
            Fault::Pause(host) => self.hosts[host].is_paused = true,
            Fault::Suspend(host) => self.hosts[host].is_suspended = true,
            Fault::Continue(host) => {
                self.hosts[host].is_paused = false;
                self.resume(host);
            }
            Fault::WakeUp(host) => {
                self.hosts[host].is_suspended = false;
                self.resume(host);
            }
            Fault::EtcdDown(is_down) => self.etcd.is_down = is_down,
            Fault::DatabaseDown(is_down) => self.database.is_down = is_down,
            Fault::Cut { host, etcd: true, cut } => self.hosts[host].no_etcd = cut,
            Fault::Cut { host, etcd: false, cut } => self.hosts[host].no_database = cut,
            Fault::Expire(host) => self.etcd.expire(host),
            Fault::ClockOfDatabase(ahead_ms) => self.database.ahead_ms = ahead_ms,
        }
    }

    /// What came while the server did not run is handled now.
    fn resume(&mut self, host: usize) {
        let this = &mut self.hosts[host];
        if this.is_on && !this.is_paused && !this.is_suspended {
            let deferred = std::mem::take(&mut this.deferred);
            deferred.into_iter().for_each(|event| self.at(self.now_ms, event));
            self.check_host(host);
        }
    }
}
