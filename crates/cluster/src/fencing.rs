//! What a host looks at before it fences another. Pure: it says what to do next, and gets the answers.
//!
//! ```text
//!  heartbeats in the database: silent there ─────────────────────────▶ fence, which looks at the database again
//!  heartbeats in etcd: silent in the database ─▶ unchanged in etcd ──▶ fence, which looks at the database again
//! ```
//!
//! The order matters. A host whose heartbeats alternate between the two registers acts on the newer of both. What it writes to the
//! database after the first look is found by the fence itself. What it wrote to etcd before the read is found by the read; what it writes
//! to etcd later cannot extend a deadline that was not extended in the database. With etcd read first, both could be missed.
//!
//! The fence compares the number of heartbeats in the database with that of the first look. Their age alone is not enough: the host that fences
//! may be paused before it does, for so long that a host that began again in the database and then wrote to etcd seems to be silent.

use crate::{ClusterTimes, Suspect};

/// Where the heartbeats of a cluster are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Liveness {
    /// In etcd, and in the database while etcd cannot be written.
    Etcd,
    /// In the database.
    Database,
}

/// What the database shows of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DatabaseLook {
    /// Milliseconds since the last heartbeat there, or since the host joined, by the database's clock.
    pub silent_ms: u64,
    /// The number of its heartbeats there.
    pub heartbeats: u64,
}

/// The next step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FenceStep {
    /// Ask the database for the suspect's last heartbeat there.
    LookAtDatabase,
    /// Read the suspect's mark from etcd, linearizably.
    ReadEtcd,
    /// Take its sessions away, if the database shows no heartbeat within `fence_after` and no other than at the first look.
    Fence {
        /// The number of heartbeats at the first look.
        heartbeats: u64,
    },
    /// Nothing more.
    Done(FenceOutcome),
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FenceOutcome {
    /// The suspect is fenced.
    Fenced,
    /// The suspect is alive, or another host was faster: its silence is counted from now on.
    NotFenced,
    /// Something could not be read or written. The next verdict tries again.
    Unknown,
}

/// One attempt to fence a suspect.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Fencing {
    suspect: Suspect,
    liveness: Liveness,
    fence_after_ms: u64,
    heartbeats: u64,
    step: FenceStep,
}

impl Fencing {
    /// Begins with the first look.
    pub fn new(suspect: Suspect, liveness: Liveness, times: ClusterTimes) -> Self {
        let fence_after_ms = times.fence_after_ms();
        Self { suspect, liveness, fence_after_ms, heartbeats: 0, step: FenceStep::LookAtDatabase }
    }

    /// The host that is suspected.
    pub fn suspect(&self) -> &Suspect {
        &self.suspect
    }

    /// What to do next.
    pub fn step(&self) -> FenceStep {
        self.step
    }

    /// The answer to [`FenceStep::LookAtDatabase`]; `None`: the database could not be read.
    pub fn looked_at_database(&mut self, look: Option<DatabaseLook>) {
        self.heartbeats = look.map_or(0, |look| look.heartbeats);
        self.answer(FenceStep::LookAtDatabase, look.map(|look| look.silent_ms >= self.fence_after_ms));
    }

    /// The answer to [`FenceStep::ReadEtcd`]: the suspect as it is now, `None` if etcd could not be read.
    pub fn read_etcd(&mut self, member: Option<&crate::Member>) {
        self.answer(FenceStep::ReadEtcd, member.map(|member| *member == self.suspect.member));
    }

    /// The answer to [`FenceStep::Fence`]: whether the database accepted it, `None` if that is not known.
    pub fn fenced(&mut self, accepted: Option<bool>) {
        self.answer(FenceStep::Fence { heartbeats: self.heartbeats }, accepted);
    }

    /// An answer to another question than the last one ends the attempt.
    fn answer(&mut self, question: FenceStep, silent: Option<bool>) {
        let fence = FenceStep::Fence { heartbeats: self.heartbeats };
        let after = match question {
            FenceStep::LookAtDatabase if self.liveness == Liveness::Etcd => FenceStep::ReadEtcd,
            FenceStep::LookAtDatabase | FenceStep::ReadEtcd => fence,
            FenceStep::Fence { .. } => FenceStep::Done(FenceOutcome::Fenced),
            FenceStep::Done(outcome) => FenceStep::Done(outcome),
        };
        self.step = match silent {
            _ if self.step != question => FenceStep::Done(FenceOutcome::Unknown),
            Some(true) => after,
            Some(false) => FenceStep::Done(FenceOutcome::NotFenced),
            None => FenceStep::Done(FenceOutcome::Unknown),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Mark, Member};
    use anteroom_wire::HostId;

    fn look(silent_ms: u64) -> Option<DatabaseLook> {
        Some(DatabaseLook { silent_ms, heartbeats: 3 })
    }

    fn fencing(liveness: Liveness) -> Fencing {
        let member = Member { host: HostId::from_parts(1, [1; 10]), incarnation: 1, mark: Some(Mark(7)) };
        Fencing::new(Suspect { member, silent_ms: 15_000 }, liveness, ClusterTimes::ETCD)
    }

    #[test]
    fn the_database_is_looked_at_before_etcd_is_read() {
        let mut fencing = fencing(Liveness::Etcd);
        let member = fencing.suspect().member.clone();
        assert_eq!(fencing.step(), FenceStep::LookAtDatabase);
        fencing.looked_at_database(look(15_000));
        assert_eq!(fencing.step(), FenceStep::ReadEtcd);
        fencing.read_etcd(Some(&member));
        assert_eq!(fencing.step(), FenceStep::Fence { heartbeats: 3 });
        fencing.fenced(Some(true));
        assert_eq!(fencing.step(), FenceStep::Done(FenceOutcome::Fenced));
    }

    #[test]
    fn with_one_register_the_look_is_followed_by_the_fence() {
        let mut fencing = fencing(Liveness::Database);
        fencing.looked_at_database(look(15_000));
        assert_eq!(fencing.step(), FenceStep::Fence { heartbeats: 3 });
    }

    #[test]
    fn a_sign_of_life_or_an_answer_that_is_missing_ends_the_attempt() {
        type Answer = fn(&mut Fencing);
        let looks: [(Answer, FenceOutcome); 3] = [
            (|fencing| fencing.looked_at_database(look(14_999)), FenceOutcome::NotFenced),
            (|fencing| fencing.looked_at_database(None), FenceOutcome::Unknown),
            (|fencing| fencing.fenced(Some(true)), FenceOutcome::Unknown),
        ];
        for (answer, outcome) in looks {
            let mut fencing = fencing(Liveness::Etcd);
            answer(&mut fencing);
            assert_eq!(fencing.step(), FenceStep::Done(outcome));
        }
        let same = fencing(Liveness::Etcd).suspect().member.clone();
        let reads = [
            (Some(Member { mark: Some(Mark(8)), ..same.clone() }), FenceOutcome::NotFenced),
            (Some(Member { incarnation: 2, ..same }), FenceOutcome::NotFenced),
            (None, FenceOutcome::Unknown),
        ];
        for (read, outcome) in reads {
            let mut fencing = fencing(Liveness::Etcd);
            fencing.looked_at_database(look(20_000));
            fencing.read_etcd(read.as_ref());
            assert_eq!(fencing.step(), FenceStep::Done(outcome));
        }
    }
}
