//! The database: members, the owner of the session, and heartbeats.

use super::NOW_MS;
use crate::DatabaseLook;

/// Who holds the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in super::super) enum Owner {
    Waiting,
    /// The host, in this incarnation.
    Host(u64),
    /// The observer with this number.
    Observer(usize),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(in super::super) struct Database {
    pub(super) owner: Owner,
    /// How often a credential was stored; the first one ends the session.
    pub(super) stored: u8,
    /// The newest incarnation of the host.
    pub(super) incarnation: u64,
    /// The newest incarnation that was fenced.
    pub(super) fenced: u64,
    /// The last heartbeat, by the database's clock.
    pub(super) heartbeat_ms: u64,
    /// Differs from each number that is remembered of earlier heartbeats.
    pub(super) heartbeats: u64,
}

impl Database {
    pub(super) fn new() -> Self {
        Self { owner: Owner::Host(1), stored: 0, incarnation: 1, fenced: 0, heartbeat_ms: NOW_MS, heartbeats: 0 }
    }

    pub(super) fn is_member(&self) -> bool {
        self.fenced < self.incarnation
    }

    pub(super) fn look(&self) -> DatabaseLook {
        DatabaseLook { silent_ms: NOW_MS - self.heartbeat_ms, heartbeats: self.heartbeats }
    }

    /// A heartbeat or a join. False: this incarnation is fenced.
    pub(super) fn heartbeat(&mut self, incarnation: u64, number: u64) -> bool {
        let accepted = self.fenced < incarnation && self.incarnation <= incarnation;
        if accepted {
            (self.incarnation, self.heartbeat_ms, self.heartbeats) = (incarnation, NOW_MS, number);
        }
        accepted
    }

    /// The transaction that takes the sessions of an incarnation away, under this condition.
    pub(super) fn fence(&mut self, incarnation: u64, is_silent: impl Fn(DatabaseLook) -> bool) -> bool {
        let accepted = self.incarnation == incarnation && self.fenced < incarnation && is_silent(self.look());
        if accepted {
            self.fenced = incarnation;
            if self.stored == 0 && matches!(self.owner, Owner::Host(owner) if owner <= incarnation) {
                self.owner = Owner::Waiting;
            }
        }
        accepted
    }

    pub(super) fn take(&mut self, observer: usize) {
        self.owner = Owner::Observer(observer);
    }

    /// A delivery is stored only for the owner of an active session.
    pub(super) fn store(&mut self, owner: Owner) {
        if self.stored == 0 && self.owner == owner {
            self.stored += 1;
        }
    }
}
