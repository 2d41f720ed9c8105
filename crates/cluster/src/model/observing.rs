//! A host that observes the one with the session, fences it and takes its session.

use super::{Mutation, NOW_MS, Setting, database::Database};
use crate::{DatabaseLook, FenceOutcome, FenceStep, Fencing, Liveness, Mark, Member, Observer, Verdict};
use anteroom_wire::HostId;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(in super::super) struct Observing {
    me: HostId,
    pub(super) observer: Observer,
    pub(super) fencing: Option<Fencing>,
    /// The number of heartbeats that the attempt remembers.
    pub(super) looked: Option<u64>,
    /// What etcd contained when the attempt began.
    read_before: Option<Member>,
}

/// The host with the session.
fn observed() -> HostId {
    HostId::from_parts(1, [0; 10])
}

impl Observing {
    pub(super) fn new(number: usize) -> Self {
        let me = HostId::from_parts(2 + number as u64, [0; 10]);
        let observer = Observer::new(me.clone(), Setting::times());
        Self { me, observer, fencing: None, looked: None, read_before: None }
    }

    pub(super) fn marks(&self) -> impl Iterator<Item = Mark> {
        let suspect = self.fencing.iter().filter_map(|fencing| fencing.suspect().member.mark);
        let before = self.read_before.iter().filter_map(|member| member.mark);
        self.observer.marks().chain(suspect).chain(before)
    }

    /// Reads the register, and begins a fence if that shows a suspect.
    pub(super) fn read(&mut self, setting: &Setting, database: &Database, mark: Mark) {
        let host = Member { host: observed(), incarnation: database.incarnation, mark: Some(mark) };
        let me = Member { host: self.me.clone(), incarnation: 1, mark: None };
        let members = [me].into_iter().chain(database.is_member().then_some(host));
        self.observer.observe(NOW_MS, NOW_MS, members);
        if let Verdict::Suspects(suspects) = self.observer.verdict()
            && let Some(suspect) = suspects.into_iter().next()
        {
            let reads_now = setting.is(Mutation::ReadsEtcdFirst);
            self.read_before = reads_now.then(|| Member { mark: Some(mark), ..suspect.member.clone() });
            self.fencing = Some(Fencing::new(suspect, setting.liveness, Setting::times()));
        }
    }

    /// Does what the attempt asks for.
    pub(super) fn fence(&mut self, setting: &Setting, database: &mut Database, mark: Mark) {
        let Some(fencing) = &mut self.fencing else { return };
        let suspect = fencing.suspect().member.clone();
        let one_register = setting.liveness == Liveness::Database;
        let skips_database =
            setting.is(Mutation::LooksAtEtcdOnly) || one_register && setting.is(Mutation::NoSecondRead);
        match fencing.step() {
            FenceStep::LookAtDatabase => {
                let look = database.look();
                let silent_ms = if skips_database { u64::MAX } else { look.silent_ms };
                fencing.looked_at_database(Some(DatabaseLook { silent_ms, ..look }));
                self.looked = Some(look.heartbeats);
            }
            FenceStep::ReadEtcd => {
                let now = Member { incarnation: database.incarnation, mark: Some(mark), ..suspect.clone() };
                let read = match setting.mutation {
                    Some(Mutation::NoSecondRead) => suspect,
                    Some(Mutation::ReadsEtcdFirst) => self.read_before.take().unwrap_or(now),
                    Some(_) | None => now,
                };
                fencing.read_etcd(Some(&read));
            }
            FenceStep::Fence { heartbeats } => {
                let same = |look: DatabaseLook| look.heartbeats == heartbeats || setting.is(Mutation::ComparesNoNumber);
                let old = |look: DatabaseLook| look.silent_ms >= Setting::times().fence_after_ms();
                let is_silent = |look| skips_database || old(look) && same(look);
                fencing.fenced(Some(database.fence(suspect.incarnation, is_silent)));
            }
            FenceStep::Done(outcome) => {
                if outcome == FenceOutcome::NotFenced {
                    self.observer.saw_alive(&suspect.host, NOW_MS);
                }
                (self.fencing, self.looked, self.read_before) = (None, None, None);
            }
        }
    }
}
