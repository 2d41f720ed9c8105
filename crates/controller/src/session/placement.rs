//! On which host of the cluster a session starts.
//!
//! The host that accepts a session keeps it, unless another one has clearly more room. Then the session waits for that host, which takes
//! it when it looks next, within a second. If it does not, any host takes it.

use super::{server_context::ServerContext, waiting_sessions};
use crate::{cluster::PEER_PROTOCOL, random, unix_time};
use anteroom_cluster::{Capacity, HostRequest, KnownHost, SplitMix64, keeps_session, place};
use anteroom_store::{NewSessionPlace, WaitingSession};
use anteroom_wire::HostId;
use serde::{Deserialize, Serialize};

/// For so long only the chosen host takes the session, milliseconds; it looks once a second.
const CHOSEN_ALONE_MS: u64 = 2_000;

/// What is stored with a session that waits for one host.
#[derive(Debug, Serialize, Deserialize)]
struct Preference {
    host: HostId,
}

/// Chooses where a session of this provider starts. Without a cluster, that is this host.
pub(super) fn choose(server_context: &ServerContext, provider: &str) -> NewSessionPlace {
    let (holder, times) = (server_context.store.holder(), server_context.cluster.times());
    let (Some(holder), Some(times)) = (holder, times) else { return NewSessionPlace::ThisHost };
    let has_room = waiting_sessions::has_room(server_context) && !server_context.cluster.is_draining();
    let hosts = server_context.cluster.hosts();
    let request = HostRequest {
        provider: provider.to_owned(),
        image: Some(server_context.image.hash.clone()),
        peer_protocol: PEER_PROTOCOL,
        ..HostRequest::default()
    };
    let own = own_capacity(server_context);
    let sent = |host| server_context.cluster.sent_sessions().since_heartbeat(host);
    // What this host knows about itself is newer than its heartbeat.
    let others = hosts.iter().filter(|host| host.is_joined() && host.row.id != holder.host);
    let known: Vec<_> = others
        .filter_map(|host| {
            let heartbeat = host.heartbeat.as_ref()?;
            Some(KnownHost { heartbeat, silent_ms: host.silent_ms, sent: sent(host) })
        })
        .collect();
    let mut random = SplitMix64::new(u64::from_le_bytes(random::random_bytes()));
    let placement = place(known.iter().copied(), &request, &holder.host, times, &mut random);
    let best = placement.hosts.first().and_then(|best| known.iter().find(|host| host.heartbeat.host == **best));
    if has_room && best.is_none_or(|best| keeps_session(own, best.capacity())) {
        return NewSessionPlace::ThisHost;
    }
    let Some(best) = best else { return NewSessionPlace::Waits { placement: None } };
    let chosen = &best.heartbeat.host;
    if let Some(host) = hosts.iter().find(|host| host.row.id == *chosen) {
        server_context.cluster.sent_sessions().add(host);
    }
    NewSessionPlace::Waits { placement: serde_json::to_string(&Preference { host: chosen.clone() }).ok() }
}

/// Whether this host may take the waiting session now: it is the chosen one, or that one does not take it.
pub(super) fn may_take(server_context: &ServerContext, waiting: &WaitingSession) -> bool {
    let preference = waiting.placement.as_deref().and_then(|text| serde_json::from_str::<Preference>(text).ok());
    let Some(Preference { host: chosen }) = preference else { return true };
    let is_own = server_context.store.holder().is_some_and(|own| own.host == chosen);
    let waited_ms = unix_time::now_unix_ms().saturating_sub(waiting.queued_at_ms);
    let is_alive = || server_context.cluster.hosts().iter().any(|host| host.row.id == chosen && host.is_joined());
    is_own || waited_ms >= CHOSEN_ALONE_MS || !is_alive()
}

fn own_capacity(server_context: &ServerContext) -> Capacity {
    let queue = &server_context.queue;
    Capacity {
        machines_max: server_context.config().machines.machines_max,
        machines: queue.permits_in_use(),
        waiting: u32::try_from(queue.waiting_count()).unwrap_or(u32::MAX),
    }
}
