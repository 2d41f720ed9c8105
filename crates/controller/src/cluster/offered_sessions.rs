//! What this host knows about the room of the others besides their heartbeats: the sessions that it has offered and that have no answer
//! yet, and the room that came with the last answer. A heartbeat alone is up to an interval old, in which many sessions start.

use super::Cluster;
use anteroom_cluster::{Capacity, ClusterTimes, Room};
use anteroom_wire::HostId;
use parking_lot::Mutex;
use std::{collections::HashMap, sync::Arc};

/// At most one entry for each host of the cluster.
#[derive(Debug, Clone, Default)]
pub(crate) struct OfferedSessions(Arc<Mutex<HashMap<HostId, OfHost>>>);

#[derive(Debug, Clone, Copy, Default)]
struct OfHost {
    unanswered: u32,
    room: Option<Room>,
}

/// A session that is offered to a host. It counts as one of the host's until this is dropped.
#[derive(Debug)]
pub(crate) struct OpenOffer {
    offered: OfferedSessions,
    host: HostId,
}

impl OfferedSessions {
    /// The room in the host's last answer, and how many offers it has not answered.
    pub(crate) fn of_host(&self, host: &HostId) -> (Option<Room>, u32) {
        self.0.lock().get(host).map_or((None, 0), |found| (found.room, found.unanswered))
    }

    /// A session is about to be offered to the host.
    pub(crate) fn open(&self, host: &HostId) -> OpenOffer {
        self.0.lock().entry(host.clone()).or_default().unanswered += 1;
        OpenOffer { offered: self.clone(), host: host.clone() }
    }
}

impl OpenOffer {
    /// The host has answered, with the room that it has now.
    pub(crate) fn close(self, room: Option<Room>) {
        if let Some(of_host) = self.offered.0.lock().get_mut(&self.host).filter(|_| room.is_some()) {
            of_host.room = room;
        }
    }
}

impl Drop for OpenOffer {
    fn drop(&mut self) {
        if let Some(of_host) = self.offered.0.lock().get_mut(&self.host) {
            of_host.unanswered = of_host.unanswered.saturating_sub(1);
        }
    }
}

impl Cluster {
    /// The times of the cluster; `None`: this host is alone.
    pub fn times(&self) -> Option<ClusterTimes> {
        self.membership.as_ref().map(|member| member.times)
    }

    /// Whether this host takes no new sessions.
    pub fn is_draining(&self) -> bool {
        self.membership.as_ref().is_some_and(|member| member.state.lock().is_draining)
    }

    /// Sets it before the next look at the database.
    pub(crate) fn set_draining(&self, is_draining: bool) {
        if let Some(member) = &self.membership {
            member.state.lock().is_draining = is_draining;
        }
    }

    /// What this host has offered to others.
    pub(crate) fn offered_sessions(&self) -> &OfferedSessions {
        &self.offered
    }

    /// The room of this host, for one that offers it a session; `None`: this host is alone.
    pub(crate) fn room(&self, capacity: impl FnOnce() -> Capacity) -> Option<Room> {
        let member = self.membership.as_ref()?;
        // Before the capacity is read: a later heartbeat is newer.
        let heartbeat = member.state.lock().heartbeats;
        Some(Room { process: member.profile.process, heartbeat, capacity: capacity() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offer_counts_until_it_is_answered_and_the_answered_room_stays() {
        let (offered, host) = (OfferedSessions::default(), HostId::from_parts(1, [0; 10]));
        let (first, second) = (offered.open(&host), offered.open(&host));
        assert_eq!(offered.of_host(&host), (None, 2));
        let room = Room { process: 1, heartbeat: 2, capacity: Capacity { machines_max: 3, machines: 1, waiting: 0 } };
        first.close(Some(room));
        assert_eq!(offered.of_host(&host), (Some(room), 1));
        drop(second);
        offered.open(&host).close(None);
        assert_eq!(offered.of_host(&host), (Some(room), 0));
    }
}
