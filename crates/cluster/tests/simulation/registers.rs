//! The two registers, in memory: what PostgreSQL and etcd keep, with the conditions of their writes.

use anteroom_cluster::{ClusterTimes, DatabaseLook, Mark, PULL_AFTER_MS, fair_rank};
use std::collections::{BTreeMap, BTreeSet};

/// Class, rank, time, number: the order in which waiting sessions get machines.
type Place = (u8, u64, u64, usize);

/// A host in an incarnation.
pub(crate) type Holder = (usize, u64);

pub(crate) struct SessionRow {
    pub(crate) holder: Option<Holder>,
    /// How often it ended: at most once.
    pub(crate) ends: u8,
    pub(crate) owner: u8,
    pub(crate) place: Option<Place>,
    /// Statements until it was held for the first time.
    pub(crate) statements: u32,
    was_held: bool,
}

pub(crate) struct HostRow {
    pub(crate) incarnation: u64,
    pub(crate) fenced: u64,
    heartbeat_ms: u64,
    heartbeats: u64,
}

#[derive(Default)]
pub(crate) struct Database {
    pub(crate) is_down: bool,
    /// Its clock is ahead of true time by so much.
    pub(crate) ahead_ms: u64,
    pub(crate) hosts: Vec<HostRow>,
    pub(crate) sessions: Vec<SessionRow>,
    waiting: BTreeSet<Place>,
    ranks_of_owner: BTreeMap<u8, BTreeSet<u64>>,
    held: Vec<BTreeSet<usize>>,
}

impl Database {
    pub(crate) fn new(hosts: usize) -> Self {
        let row = || HostRow { incarnation: 0, fenced: 0, heartbeat_ms: 0, heartbeats: 0 };
        Self { hosts: (0..hosts).map(|_| row()).collect(), held: vec![BTreeSet::new(); hosts], ..Self::default() }
    }

    /// A join, or a heartbeat. False: this incarnation is fenced, or another has joined.
    pub(crate) fn heartbeat(&mut self, (host, incarnation): Holder, joins: bool, now_ms: u64) -> bool {
        let row = &mut self.hosts[host];
        let accepted =
            row.fenced < incarnation && (row.incarnation == incarnation || joins && row.incarnation < incarnation);
        if accepted {
            row.incarnation = incarnation;
            row.heartbeat_ms = now_ms + self.ahead_ms;
            row.heartbeats += 1;
        }
        accepted
    }

    pub(crate) fn look(&self, host: usize, now_ms: u64) -> DatabaseLook {
        let row = &self.hosts[host];
        DatabaseLook {
            silent_ms: (now_ms + self.ahead_ms).saturating_sub(row.heartbeat_ms),
            heartbeats: row.heartbeats,
        }
    }

    pub(crate) fn mark(&self, host: usize) -> Mark {
        Mark(self.hosts[host].heartbeats)
    }

    /// Takes the sessions of an incarnation away. `None`: it is not as silent as it was, or fenced already.
    pub(crate) fn fence(
        &mut self,
        (host, incarnation): Holder,
        heartbeats: u64,
        times: ClusterTimes,
        now_ms: u64,
    ) -> Option<usize> {
        let look = self.look(host, now_ms);
        let row = &mut self.hosts[host];
        let is_silent = look.silent_ms >= times.fence_after_ms() && look.heartbeats == heartbeats;
        if !is_silent || row.incarnation != incarnation || row.fenced >= incarnation {
            return None;
        }
        row.fenced = incarnation;
        let released = std::mem::take(&mut self.held[host]);
        for &session in &released {
            self.sessions[session].holder = None;
            self.wait(session, now_ms);
        }
        Some(released.len())
    }

    /// A new session, held by the host that inserts it, or waiting.
    pub(crate) fn insert(&mut self, session: usize, owner: u8, holder: Option<Holder>, now_ms: u64) {
        assert_eq!(session, self.sessions.len(), "sessions are inserted in order");
        self.sessions.push(SessionRow { holder: None, ends: 0, owner, place: None, statements: 1, was_held: false });
        match holder.filter(|holder| self.may_hold(*holder)) {
            Some(holder) => self.hold(session, holder),
            None => self.wait(session, now_ms),
        }
    }

    fn may_hold(&self, (host, incarnation): Holder) -> bool {
        self.hosts[host].incarnation == incarnation && self.hosts[host].fenced < incarnation
    }

    fn wait(&mut self, session: usize, now_ms: u64) {
        let row = &mut self.sessions[session];
        let ranks = self.ranks_of_owner.entry(row.owner).or_default();
        let least = self.waiting.first().map(|place| place.1);
        // A session that waited before keeps its rank.
        let rank = row.place.map_or_else(|| fair_rank(least, ranks.last().copied()), |place| place.1);
        let place = row.place.map_or((0, rank, now_ms, session), |place| place);
        row.place = Some(place);
        ranks.insert(rank);
        self.waiting.insert(place);
    }

    fn hold(&mut self, session: usize, holder: Holder) {
        let row = &mut self.sessions[session];
        row.holder = Some(holder);
        row.was_held = true;
        self.held[holder.0].insert(session);
        if let Some(place) = row.place
            && self.waiting.remove(&place)
            && let Some(ranks) = self.ranks_of_owner.get_mut(&row.owner)
        {
            ranks.remove(&place.1);
        }
    }

    /// The host takes this session, if it waits.
    pub(crate) fn take(&mut self, session: usize, holder: Holder) -> bool {
        let row = &mut self.sessions[session];
        row.statements += u32::from(!row.was_held);
        let is_free = row.holder.is_none() && row.ends == 0 && self.may_hold(holder);
        if is_free {
            self.hold(session, holder);
        }
        is_free
    }

    /// The host takes the session that is next. One that has just begun to wait is left to those who are asked for it.
    pub(crate) fn pull(&mut self, holder: Holder, now_ms: u64) -> Option<usize> {
        let session = self.waiting.iter().find(|place| place.2 + PULL_AFTER_MS <= now_ms)?.3;
        self.take(session, holder).then_some(session)
    }

    pub(crate) fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// The session ends, if the host still holds it.
    pub(crate) fn complete(&mut self, session: usize, holder: Holder) -> bool {
        let row = &mut self.sessions[session];
        let accepted = row.holder == Some(holder) && row.ends == 0;
        if accepted {
            row.ends += 1;
            self.held[holder.0].remove(&session);
        }
        accepted
    }

    pub(crate) fn held_by(&self, (host, incarnation): Holder) -> Vec<usize> {
        let is_of = |session: &&usize| self.sessions[**session].holder == Some((host, incarnation));
        self.held[host].iter().filter(is_of).copied().collect()
    }
}

/// The marks of the heartbeats in etcd.
pub(crate) struct Etcd {
    pub(crate) is_down: bool,
    revision: u64,
    marks: Vec<Option<Mark>>,
}

impl Etcd {
    pub(crate) fn new(hosts: usize) -> Self {
        Self { is_down: false, revision: 0, marks: vec![None; hosts] }
    }

    pub(crate) fn write(&mut self, host: usize) {
        self.revision += 1;
        self.marks[host] = Some(Mark(self.revision));
    }

    pub(crate) fn mark(&self, host: usize) -> Option<Mark> {
        self.marks[host]
    }

    /// The host is held to be expired though it lives; its next heartbeat brings it back.
    pub(crate) fn expire(&mut self, host: usize) {
        self.marks[host] = None;
    }
}
