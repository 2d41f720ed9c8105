//! The tasks of a host in a cluster: its heartbeats, its look at the others, and its return after it had lost contact.

use super::{
    clock::compare_clock,
    fence_hosts::fence_suspects,
    membership::{Cluster, Membership, ObservedHost},
    registers::{Answered, Registers},
};
use crate::{api_error::chain, config::Config, random, session::server_context::ServerContext};
use anteroom_cluster::{Member, Observed, Observer, Verdict, Written, boottime_ms};
use anteroom_machine::{Machines, StopReason};
use anteroom_store::{Store, StoreError};
use anteroom_tunnel::CloseCause;
use std::{sync::Arc, time::Duration};

/// Time between two questions to the database of a host that has lost contact, milliseconds.
const ASK_INTERVAL_MS: u64 = 1_000;
/// How long keepers may take to end machines at the deadline, milliseconds.
const KEEPERS_MS_MAX: u64 = 3_000;

/// Sends heartbeats until it is dropped, and does the rest until the server stops. Returns at once without a cluster.
pub async fn run_cluster(server_context: ServerContext) {
    let cluster = Arc::clone(&server_context.cluster);
    let Some(member) = &cluster.membership else { return };
    let others = async {
        tokio::join!(observe(&server_context, member), return_to_act(&server_context, member));
    };
    tokio::join!(send_heartbeats(&server_context, member), server_context.stop.run_until_cancelled(others));
}

async fn pause(milliseconds: u64) {
    tokio::time::sleep(Duration::from_millis(milliseconds)).await;
}

/// Sends a heartbeat again and again while this host acts.
async fn send_heartbeats(server_context: &ServerContext, member: &Membership) {
    let cluster = &server_context.cluster;
    loop {
        let sent_at_ms = boottime_ms();
        if cluster.may_act() {
            let heartbeat = member.heartbeat(|| server_context.queue.capacity());
            let acknowledged = |by| cluster.acknowledged(member, by, sent_at_ms);
            record_answer(cluster, member, sent_at_ms, member.registers.write(&heartbeat, acknowledged).await);
        }
        pause(member.times.next_heartbeat_ms(u64::from_le_bytes(random::random_bytes()))).await;
    }
}

fn record_answer(
    cluster: &Cluster,
    member: &Membership,
    sent_at_ms: u64,
    answer: Result<Answered, anteroom_cluster::RegisterError>,
) {
    let error = match answer {
        Ok(Answered { written: Written::Acknowledged, by, etcd_error }) => {
            cluster.acknowledged(member, by, sent_at_ms);
            etcd_error
        }
        Ok(Answered { written: Written::Replaced, by, .. }) => {
            // The database says so after a fence; then this host asks it what to do.
            member.state.lock().is_replaced = by != Registers::DATABASE;
            tracing::error!(
                outcome = "host_replaced",
                by,
                "this host may not act any more: it was fenced, or another process has its id"
            );
            cluster.stop();
            None
        }
        Err(error) => Some(error),
    };
    let error = error.map(|error| error.to_string());
    let mut state = member.state.lock();
    if state.heartbeat_error.is_none() != error.is_none() {
        match &error {
            Some(error) => {
                tracing::warn!(outcome = "heartbeat_failed", error, "heartbeat not written where it belongs")
            }
            None => tracing::info!(outcome = "heartbeat_written", "heartbeats are written again"),
        }
    }
    state.heartbeat_error = error;
}

/// Looks at all hosts again and again, and fences those that are silent for too long.
async fn observe(server_context: &ServerContext, member: &Membership) {
    let (cluster, store) = (&server_context.cluster, &server_context.store);
    let me = member.holder().host;
    let mut observer = Observer::new(me.clone(), member.times);
    loop {
        pause(member.times.heartbeat_interval_ms()).await;
        let sent_at_ms = boottime_ms();
        let read = read_hosts(store, member).await;
        member.state.lock().read_error = read.as_ref().err().cloned();
        let Ok(hosts) = read else { continue };
        if !is_my_incarnation(member, &hosts) && cluster.may_act() {
            tracing::error!(outcome = "host_fenced", "this host was fenced: it ends its machines and joins again");
            cluster.stop();
        }
        let joined = hosts.iter().filter(|host| host.is_joined());
        let members =
            joined.map(|host| Member { host: host.row.id.clone(), incarnation: host.row.incarnation, mark: host.mark });
        observer.observe(sent_at_ms, boottime_ms(), members);
        publish(member, &observer, hosts);
        let verdict = observer.verdict();
        member.state.lock().engine_suspect = match &verdict {
            Verdict::EngineSuspect { silent, hosts } => Some((*silent, *hosts)),
            Verdict::Suspects(_) => None,
        };
        if let (Verdict::Suspects(suspects), true) = (verdict, cluster.may_act()) {
            fence_suspects(store, member, &mut observer, suspects).await;
        }
    }
}

fn is_my_incarnation(member: &Membership, hosts: &[ObservedHost]) -> bool {
    let holder = member.holder();
    // A row that is missing was changed outside of this program, which is reported elsewhere.
    let mine = hosts.iter().find(|host| host.row.id == holder.host);
    mine.is_none_or(|host| host.is_joined() && host.row.holder() == holder)
}

/// The rows of all hosts, each with its newest heartbeat.
async fn read_hosts(store: &Store, member: &Membership) -> Result<Vec<ObservedHost>, String> {
    let failed = |error: StoreError| chain(&error);
    let clock_ahead_ms = compare_clock(store).await.map_err(failed)?;
    member.state.lock().clock_ahead_ms = clock_ahead_ms;
    let rows = store.list_hosts().await.map_err(failed)?;
    let register = member.registers.etcd.as_ref().unwrap_or(&member.registers.database);
    let heartbeats = register.read().await.map_err(|error| error.to_string())?;
    let mut hosts = Vec::new();
    for row in rows {
        let of_host = |observed: &&Observed| {
            observed.heartbeat.host == row.id && observed.heartbeat.incarnation == row.incarnation
        };
        let observed = heartbeats.iter().find(of_host).cloned();
        let mark = observed.as_ref().map(|observed| observed.mark);
        hosts.push(ObservedHost { row, heartbeat: observed.map(|observed| observed.heartbeat), mark, silent_ms: 0 });
    }
    Ok(hosts)
}

fn publish(member: &Membership, observer: &Observer, mut hosts: Vec<ObservedHost>) {
    let holder = member.holder();
    for host in &mut hosts {
        host.silent_ms = observer.silent_ms(&host.row.id).unwrap_or_default();
        if host.row.id == holder.host {
            member.state.lock().is_draining = host.row.is_draining;
        }
    }
    *member.hosts.lock() = hosts.into();
}

/// Each time this host may not act, also before it has begun: waits until its machines have ended, then asks the database whether it may
/// act again.
async fn return_to_act(server_context: &ServerContext, member: &Membership) {
    let ServerContext { machines, context, .. } = server_context;
    let mut acts = context.cluster.acts.subscribe();
    loop {
        // The sender is a part of the cluster.
        let _ = acts.wait_for(|acts| !acts).await.map(drop);
        context.sessions.close_sockets(CloseCause::ClusterContactLost);
        stop_all(machines, member).await;
        while !ask(server_context, member, &context.config()).await {
            pause(ASK_INTERVAL_MS).await;
        }
        tracing::info!(outcome = "cluster_contact", "this host is in contact with its cluster and acts again");
    }
}

/// Waits until all machines are removed. Their keepers end them if the deadline has passed; else, and if that takes too long, they are
/// stopped.
async fn stop_all(machines: &Machines, member: &Membership) {
    let is_over = member.deadline_file.get() <= boottime_ms();
    let mut patience = Duration::from_millis(if is_over { KEEPERS_MS_MAX } else { 0 });
    for (id, _) in machines.list() {
        let Some(mut state) = machines.watch(&id) else { continue };
        if tokio::time::timeout(patience, state.wait_for(anteroom_machine::State::is_removed)).await.is_err() {
            patience = Duration::ZERO;
            machines.stop(&id, StopReason::Orphaned);
            // An error: it was removed.
            let _ = state.wait_for(anteroom_machine::State::is_removed).await;
        }
    }
}

/// Asks the database whether this host may act again, and begins if so.
async fn ask(server_context: &ServerContext, member: &Membership, config: &Config) -> bool {
    let (cluster, store) = (&server_context.cluster, &server_context.store);
    if member.state.lock().is_replaced {
        return false;
    }
    let sent_at_ms = boottime_ms();
    let report = serde_json::to_string(&member.heartbeat(|| server_context.queue.capacity())).unwrap_or_default();
    let failure = match store.record_heartbeat(&member.holder(), &report).await {
        Ok(true) => return cluster.begin(member, sent_at_ms),
        Ok(false) => {
            // It was fenced: other hosts have its sessions, and nothing of them may write as the next incarnation.
            server_context.sessions.abandon_all(CloseCause::ClusterContactLost).await;
            cluster.join_again(config, store).await.err().map(|error| chain(&error))
        }
        Err(error) => Some(chain(&error)),
    };
    if let Some(error) = failure {
        tracing::warn!(outcome = "cluster_not_joined", error, "this host cannot act again yet");
        member.state.lock().heartbeat_error = Some(error);
    }
    false
}
