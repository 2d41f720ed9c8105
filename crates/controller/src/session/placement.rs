//! On which host of the cluster a session starts.
//!
//! The host that accepts a session keeps it, unless it has no room or another one has clearly more. Then the session waits, and is offered
//! to the best other hosts, one after the other: the host that is asked takes it, or says why not. If none does, the first host with room
//! takes it when it looks for waiting sessions.

use super::{server_context::ServerContext, waiting_sessions};
use crate::{
    api_error::ApiError,
    cluster::{OpenOffer, PEER_PROTOCOL, TakeResponse},
    random, unix_time,
};
use anteroom_cluster::{HostLabels, HostRequest, KnownHost, PULL_AFTER_MS, SplitMix64, keeps_session, place};
use anteroom_store::{HostRow, NewSessionPlace, WaitingSession};
use anteroom_wire::{HostId, Problem, SessionId, hosts::TakeAnswer};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, time::Duration};

/// So many hosts are asked. Together they have less time than a waiting session is left to them ([`PULL_AFTER_MS`]).
pub const ASKED_MAX: usize = 3;
/// How long a host may take to answer, milliseconds.
pub const ANSWER_MS_MAX: u64 = 150;
/// The label that is the zone of a host.
const ZONE: &str = "zone";

const _: () = assert!(ANSWER_MS_MAX * (ASKED_MAX as u64) < PULL_AFTER_MS, "hosts are asked before any may pull");

/// What is stored with a session that waits for certain hosts only.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Required {
    labels: BTreeMap<String, String>,
}

/// Where a session starts.
#[derive(Debug, Default)]
pub(super) struct Choice {
    pub(super) place: NewSessionPlace,
    /// The hosts to ask, the best first.
    ask: Vec<HostId>,
    /// The offer to the first of them: it counts from now on, so that the next session goes elsewhere.
    first: Option<OpenOffer>,
}

/// Chooses where a session of this provider starts, on a host with these labels. Without a cluster, that is this host.
///
/// # Errors
/// No host has the labels.
pub(super) fn choose(
    server_context: &ServerContext,
    provider: &str,
    labels: &BTreeMap<String, String>,
) -> Result<Choice, ApiError> {
    let (holder, times) = (server_context.store.holder(), server_context.cluster.times());
    let (Some(holder), Some(times)) = (holder, times) else {
        return if labels.is_empty() {
            Ok(Choice::default())
        } else {
            Err(no_host(labels, "this server is in no cluster"))
        };
    };
    let hosts = server_context.cluster.hosts();
    let own_fits = own_has(server_context, labels);
    if !own_fits && !hosts.iter().any(|host| host.is_joined() && has_labels(&host.row, labels)) {
        return Err(no_host(labels, "no host of the cluster has them"));
    }
    let request = HostRequest {
        labels: to_host_labels(labels),
        provider: provider.to_owned(),
        image: Some(server_context.image.hash.clone()),
        peer_protocol: PEER_PROTOCOL,
    };
    // What this host knows about itself is newer than its heartbeat.
    let others = hosts.iter().filter(|host| host.is_joined() && host.row.id != holder.host);
    let offered = server_context.cluster.offered_sessions();
    let known: Vec<_> = others
        .filter_map(|host| {
            let heartbeat = host.heartbeat.as_ref()?;
            let (room, unanswered) = offered.of_host(&host.row.id);
            Some(KnownHost { heartbeat, room, silent_ms: host.silent_ms, unanswered })
        })
        .collect();
    let mut random = SplitMix64::new(u64::from_le_bytes(random::random_bytes()));
    let placement = place(known.iter().copied(), &request, &holder.host, times, &mut random);
    let best = placement.hosts.first().and_then(|best| known.iter().find(|host| host.heartbeat.host == **best));
    let has_room = waiting_sessions::has_room(server_context) && !server_context.cluster.is_draining();
    if own_fits && has_room && best.is_none_or(|best| keeps_session(server_context.queue.capacity(), best.capacity())) {
        return Ok(Choice::default());
    }
    let required = Required { labels: labels.clone() };
    let placement_text = if labels.is_empty() { None } else { serde_json::to_string(&required).ok() };
    let ask: Vec<_> = placement.hosts.into_iter().take(ASKED_MAX).cloned().collect();
    let first = ask.first().map(|host| offered.open(host));
    Ok(Choice { place: NewSessionPlace::Waits { placement: placement_text }, ask, first })
}

fn no_host(labels: &BTreeMap<String, String>, why: &str) -> ApiError {
    let labels: Vec<_> = labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    ApiError::new(Problem::Malformed, format!("labels: {}: {why}", labels.join(", ")))
}

fn to_host_labels(labels: &BTreeMap<String, String>) -> HostLabels {
    let mut labels = labels.clone();
    HostLabels { zone: labels.remove(ZONE), labels }
}

fn has_labels(host: &HostRow, labels: &BTreeMap<String, String>) -> bool {
    let HostLabels { zone, labels } = to_host_labels(labels);
    (zone.is_none() || zone == host.zone) && labels.iter().all(|(name, value)| host.labels.get(name) == Some(value))
}

fn own_has(server_context: &ServerContext, labels: &BTreeMap<String, String>) -> bool {
    let HostLabels { zone, labels } = to_host_labels(labels);
    let config = server_context.config();
    let own = &config.cluster;
    (zone.is_none() || zone == own.zone) && labels.iter().all(|(name, value)| own.labels.get(name) == Some(value))
}

/// Offers a session that waits to the chosen hosts until one has it.
pub(super) async fn offer(server_context: ServerContext, session: SessionId, choice: Choice) {
    let Choice { ask, mut first, .. } = choice;
    let Some(channel) = server_context.cluster.other_hosts().channel() else { return };
    for host in ask {
        let open = first.take().unwrap_or_else(|| server_context.cluster.offered_sessions().open(&host));
        let answer = channel.offer(host.clone(), session.clone());
        // On a task of its own: an answer that is late says what room the host has, and until then the offer counts.
        let (given, to) = (session.clone(), host.clone());
        let answer = server_context.tasks.spawn(async move {
            let TakeResponse { answer, room } = answer.await?;
            open.close(room);
            if answer == TakeAnswer::Taken {
                tracing::info!(outcome = "session_given", session = %given, host = %to, "session given to another host");
            }
            Some(answer)
        });
        let answer = tokio::time::timeout(Duration::from_millis(ANSWER_MS_MAX), answer).await;
        match answer.ok().and_then(Result::ok).flatten() {
            Some(TakeAnswer::Taken | TakeAnswer::NotWaiting) => return,
            // A host that has not answered may have taken it; then the next one finds that it waits no longer.
            answer @ (Some(
                TakeAnswer::Draining | TakeAnswer::NoRoom | TakeAnswer::Unsuitable | TakeAnswer::Unavailable,
            )
            | None) => {
                tracing::debug!(outcome = "session_not_given", session = %session, host = %host, ?answer, "another host does not take the session");
            }
        }
    }
}

/// Whether a host that looks for waiting sessions may take this one: other hosts are not asked about it any more.
pub(super) fn may_pull(waiting: &WaitingSession) -> bool {
    waiting.had_host || unix_time::now_unix_ms().saturating_sub(waiting.queued_at_ms) >= PULL_AFTER_MS
}

/// Whether this host has the labels that the waiting session needs.
pub(super) fn fits(server_context: &ServerContext, placement: Option<&str>) -> bool {
    let required = placement.and_then(|text| serde_json::from_str::<Required>(text).ok());
    required.is_none_or(|required| own_has(server_context, &required.labels))
}
