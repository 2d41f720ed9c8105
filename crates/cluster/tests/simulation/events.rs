//! What happens in the simulation, in the order of true time.

use crate::registers::Holder;
use anteroom_cluster::{DatabaseLook, Member};

#[derive(Debug, Clone)]
pub(crate) enum Event {
    /// A timer of a process of a host.
    Timer(usize, u64, Timer),
    /// A request of a process of a host arrives at a register.
    Request(usize, u64, Request),
    /// Its answer arrives.
    Answer(usize, u64, Answer),
    /// A host asks another to take a session.
    Ask {
        session: usize,
        from: usize,
        asked: usize,
    },
    /// The other has no room.
    Refuses {
        session: usize,
        from: usize,
    },
    /// The other holds it.
    Took {
        session: usize,
        from: usize,
    },
    /// A user starts a session.
    Arrival,
    Measure,
    Fault(Fault),
}

#[derive(Debug, Clone)]
pub(crate) enum Timer {
    Heartbeat,
    /// The heartbeat with this number was not acknowledged by etcd.
    EtcdTimeout(u64),
    Observe,
    Pull,
    Reconcile,
    /// No answer of the host that was asked, the so-many-th.
    AskNext {
        session: usize,
        nth: usize,
    },
    /// The session's machine, the run with this number, has done its work.
    Finished {
        session: usize,
        run: u64,
    },
}

#[derive(Debug, Clone)]
pub(crate) enum Request {
    Heartbeat { to_etcd: bool, joins: bool, sent_ms: u64, number: u64, holder: Holder },
    ReadMembers { sent_ms: u64 },
    LookAtDatabase { attempt: u64, host: usize },
    ReadEtcd { attempt: u64, host: usize },
    Fence { attempt: u64, of: Holder, heartbeats: u64 },
    Take { session: usize, holder: Holder, from: usize },
    Pull { holder: Holder },
    ReadHeld { holder: Holder },
    Complete { session: usize, run: u64, holder: Holder },
}

#[derive(Debug, Clone)]
pub(crate) enum Answer {
    Heartbeat { accepted: bool, joins: bool, sent_ms: u64, number: u64, holder: Holder },
    Members { sent_ms: u64, members: Vec<Member> },
    Looked { attempt: u64, look: DatabaseLook },
    EtcdRead { attempt: u64, member: Member },
    Fenced { attempt: u64, accepted: bool },
    Holds { sessions: Vec<usize>, holder: Holder },
    Completed { session: usize, run: u64 },
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Fault {
    PowerOff(usize),
    PowerOn(usize),
    KillServer(usize),
    Pause(usize),
    Continue(usize),
    Suspend(usize),
    WakeUp(usize),
    EtcdDown(bool),
    DatabaseDown(bool),
    /// The host cannot reach etcd, or the database.
    Cut {
        host: usize,
        etcd: bool,
        cut: bool,
    },
    /// etcd removes the heartbeat of a living host as expired.
    Expire(usize),
    /// The database fails over to a server whose clock is ahead.
    ClockOfDatabase(u64),
}
