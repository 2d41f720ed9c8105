//! Which hosts are silent, measured by one observer on its own clock. Pure: no clock, no I/O.
//!
//! The expiry that a register computes itself is not used: a register whose leader was frozen may report living hosts as expired. An
//! observer therefore times how long the mark of a host has not changed, from the moment at which it *received* the first reading with
//! that mark to the moment at which it *sent* the last one.

use crate::{ClusterTimes, Mark};
use anteroom_wire::HostId;
use std::collections::{BTreeMap, VecDeque};

/// One fence is always permitted within `fence_after`, and one more for each ten hosts.
const HOSTS_PER_FENCE: usize = 10;

/// A member of the cluster: a host that has joined and was neither fenced in this incarnation nor removed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Member {
    /// The host.
    pub host: HostId,
    /// Its incarnation.
    pub incarnation: u64,
    /// The mark of its newest heartbeat in the register; `None`: the register has none.
    pub mark: Option<Mark>,
}

/// A host that was silent for `fence_after`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Suspect {
    /// The host as it was last seen.
    pub member: Member,
    /// How long its mark has not changed, milliseconds.
    pub silent_ms: u64,
}

/// What an observer concludes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// These hosts may be fenced, after the looks of [`Fencing`](crate::Fencing). Often none.
    Suspects(Vec<Suspect>),
    /// More than half of the hosts are silent: rather the register is at fault than they. Only an operator fences.
    EngineSuspect {
        /// Hosts that were silent for the renew deadline or longer.
        silent: usize,
        /// All hosts, with the observer's own.
        hosts: usize,
    },
}

/// What one host knows about the silence of the others.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Observer {
    me: HostId,
    times: ClusterTimes,
    seen: BTreeMap<HostId, Seen>,
    /// When members were fenced, by any host, as this observer learned it.
    fences_ms: VecDeque<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Seen {
    incarnation: u64,
    mark: Option<Mark>,
    /// When the first reading with this mark was received.
    changed_ms: u64,
    /// When the last reading with this mark was sent.
    confirmed_ms: u64,
}

impl Seen {
    fn silent_ms(&self) -> u64 {
        self.confirmed_ms.saturating_sub(self.changed_ms)
    }
}

impl Observer {
    /// An observer that has seen nothing yet: every silence begins with the first reading.
    pub fn new(me: HostId, times: ClusterTimes) -> Self {
        Self { me, times, seen: BTreeMap::new(), fences_ms: VecDeque::new() }
    }

    /// A reading of all members, which must be linearizable. One reading is sent after another.
    pub fn observe(&mut self, sent_at_ms: u64, received_at_ms: u64, members: impl IntoIterator<Item = Member>) {
        let mut before = std::mem::take(&mut self.seen);
        for member in members {
            let is_same = before.get(&member.host).is_some_and(|seen| seen.incarnation == member.incarnation);
            let same = if is_same { before.remove(&member.host) } else { None };
            let changed_ms = match same.filter(|seen| seen.mark == member.mark) {
                Some(seen) => seen.changed_ms,
                None => received_at_ms,
            };
            let Member { host, incarnation, mark } = member;
            self.seen.insert(host, Seen { incarnation, mark, changed_ms, confirmed_ms: sent_at_ms });
        }
        // What was silent and is no member any more, or one of another incarnation, was fenced, by this host or another.
        let fenced = before.values().filter(|seen| seen.silent_ms() >= self.times.renew_deadline_ms()).count();
        self.fences_ms.extend(std::iter::repeat_n(received_at_ms, fenced));
        let fence_after_ms = self.times.fence_after_ms();
        self.fences_ms.retain(|at_ms| received_at_ms.saturating_sub(*at_ms) < fence_after_ms);
    }

    /// A look at the database at `now_ms` showed that the host is alive: its silence begins again.
    pub fn saw_alive(&mut self, host: &HostId, now_ms: u64) {
        if let Some(seen) = self.seen.get_mut(host) {
            seen.changed_ms = seen.changed_ms.max(now_ms);
        }
    }

    /// How long a host has been silent, milliseconds. `None`: it is not a member.
    pub fn silent_ms(&self, host: &HostId) -> Option<u64> {
        self.seen.get(host).map(Seen::silent_ms)
    }

    /// Whom to suspect: those who were silent for `fence_after`, the longest first, no more than may be fenced in that time.
    pub fn verdict(&self) -> Verdict {
        let others = || self.seen.iter().filter(|(host, _)| **host != self.me);
        let hosts = others().count() + 1;
        let silent = others().filter(|(_, seen)| seen.silent_ms() >= self.times.renew_deadline_ms()).count();
        if silent * 2 > hosts {
            return Verdict::EngineSuspect { silent, hosts };
        }
        let mut suspects: Vec<_> = others()
            .filter(|(_, seen)| seen.silent_ms() >= self.times.fence_after_ms())
            .map(|(host, seen)| Suspect {
                member: Member { host: host.clone(), incarnation: seen.incarnation, mark: seen.mark },
                silent_ms: seen.silent_ms(),
            })
            .collect();
        suspects.sort_by(|a, b| b.silent_ms.cmp(&a.silent_ms).then_with(|| a.member.host.cmp(&b.member.host)));
        suspects.truncate((1 + hosts / HOSTS_PER_FENCE).saturating_sub(self.fences_ms.len()));
        Verdict::Suspects(suspects)
    }

    /// The marks that it has seen last.
    #[cfg(test)]
    pub(crate) fn marks(&self) -> impl Iterator<Item = Mark> {
        self.seen.values().filter_map(|seen| seen.mark)
    }

    /// Moves all silences back, but not below `floor_ms`, for a model in which the present is always the same time. What only limits the
    /// number of fences is forgotten.
    #[cfg(test)]
    pub(crate) fn move_back(&mut self, by_ms: u64, floor_ms: u64) {
        for seen in self.seen.values_mut() {
            seen.changed_ms = seen.changed_ms.saturating_sub(by_ms).max(floor_ms);
            seen.confirmed_ms = seen.changed_ms;
        }
        self.fences_ms.clear();
    }
}

#[cfg(test)]
mod tests;
