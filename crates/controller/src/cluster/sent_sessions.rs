//! How many sessions this host has sent to each other host since its newest heartbeat, which does not show them.

use super::{Cluster, ObservedHost};
use anteroom_cluster::{ClusterTimes, Mark};
use anteroom_wire::HostId;
use parking_lot::Mutex;
use std::collections::HashMap;

/// Counts of one host, at most one for each host of the cluster.
#[derive(Debug, Default)]
pub(crate) struct SentSessions(Mutex<HashMap<HostId, (Option<Mark>, u32)>>);

impl SentSessions {
    /// The sessions that were sent since the host's newest heartbeat.
    pub(crate) fn since_heartbeat(&self, host: &ObservedHost) -> u32 {
        let sent = self.0.lock().get(&host.row.id).copied();
        sent.filter(|(mark, _)| *mark == host.mark).map_or(0, |(_, sent)| sent)
    }

    /// A session is sent to the host.
    pub(crate) fn add(&self, host: &ObservedHost) {
        let sent = self.since_heartbeat(host).saturating_add(1);
        self.0.lock().insert(host.row.id.clone(), (host.mark, sent));
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

    /// The sessions that this host has sent to others.
    pub(crate) fn sent_sessions(&self) -> &SentSessions {
        &self.sent
    }
}
