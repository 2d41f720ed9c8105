//! A model of one host with a session, of the hosts that observe it, and of the two registers. Deadlines, silence and the looks before a
//! fence are the real [`Deadline`](crate::Deadline), [`Observer`](crate::Observer) and [`Fencing`](crate::Fencing); the model adds only what
//! may happen at each moment: messages that are late or lost, a server that crashes, restarts or is paused, a host that is suspended, and
//! clocks whose rates differ by 5 %. The present is always the same number on every clock; time moves everything else into the past, so
//! that the states are finite.

mod check;
mod database;
mod host;
mod observing;
mod step;
mod world;

pub(super) use step::Step;
pub(super) use world::{Bounds, World};

use crate::{ClusterTimes, Liveness};

/// The present on each clock, ms.
const NOW_MS: u64 = 100_000;
/// Of a true clock. The clock of the host with the session is slow by 5 %, those of the observers are fast by 5 %.
const TICK_MS: u64 = 1_000;
const SLOW_TICK_MS: u64 = 950;
const FAST_TICK_MS: u64 = 1_050;

/// One rule that is broken on purpose. The check must find out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Mutation {
    /// The renew deadline counts from the answer to a heartbeat.
    CountsFromTheAnswer,
    /// Keepers do not end machines at the deadline; only the server does.
    NoKeeperDeadline,
    /// A register's own report that a host has expired is believed.
    BelievesExpiry,
    /// The host's clock stops while it is suspended.
    ClockStopsInSuspend,
    /// A session is taken once its host is suspected.
    TakesBeforeTheFence,
    /// A fence relies on the reading that led to the suspicion.
    NoSecondRead,
    /// A fence looks only at the age of the last heartbeat in the database, not at their number.
    ComparesNoNumber,
    /// etcd is read before the database.
    ReadsEtcdFirst,
    /// A fence looks at etcd only.
    LooksAtEtcdOnly,
    /// An answer that arrives after the deadline extends it.
    LateAnswerRevives,
}

/// What is checked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Setting {
    pub(super) liveness: Liveness,
    pub(super) observers: usize,
    pub(super) mutation: Option<Mutation>,
    pub(super) bounds: Bounds,
}

impl Setting {
    fn is(&self, mutation: Mutation) -> bool {
        self.mutation == Some(mutation)
    }

    fn times() -> ClusterTimes {
        ClusterTimes::new(500, 2, 4).expect("the times are safe")
    }
}
