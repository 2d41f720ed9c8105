//! Joins the cluster when the server starts, and again after this host was fenced.

use super::{
    clock::compare_clock,
    error::JoinError,
    host_file::{HOST_FILE, HostFile},
    membership::{Cluster, Membership, PEER_PROTOCOL},
    registers::Registers,
    report::ClusterState,
    same_times,
};
use crate::{config::Config, random, unix_time};
use anteroom_cluster::{Capacity, Heartbeat, HostLabels, Liveness, RenewDeadline, boottime_ms};
use anteroom_machine::RenewDeadlineFile;
use anteroom_store::{Holder, JoinedHost, NewHost, Store};
use anteroom_wire::HostId;
use parking_lot::Mutex;
use std::{path::Path, sync::Arc};

/// What this host says about itself, as far as it does not change.
#[derive(Debug, Clone, Default)]
pub struct HostProfile {
    /// The digest of its machine image.
    pub image: String,
    /// The providers whose tools are in its image.
    pub providers: Vec<String>,
}

/// Joins the configured cluster, if there is one. A host whose machines go on acts at once; another one begins
/// when those of an earlier incarnation have ended ([`run_cluster`](super::run_cluster)).
///
/// # Errors
/// See [`JoinError`].
pub async fn join(config: &Config, store: &Store, run_dir: &Path, profile: HostProfile) -> Result<Cluster, JoinError> {
    let Some(name) = &config.cluster.name else {
        return Cluster::alone(run_dir)
            .map_err(|source| JoinError::File { what: "the file of the renew deadline", source });
    };
    let times = config.cluster.times().map_err(|error| JoinError::Settings(error.to_string()))?;
    let file = |what| move |source| JoinError::File { what, source };
    let deadline_file = RenewDeadlineFile::open(run_dir).map_err(file("the file of the renew deadline"))?;
    let path = config.state_dir.join(HOST_FILE);
    let before = HostFile::read(&path).map_err(file(HOST_FILE))?;
    // The keepers of an earlier server end its machines at its deadline.
    let resumes = before.as_ref().filter(|before| before.is_of_this_boot() && deadline_file.get() > boottime_ms());
    let resumes = resumes.map(|before| before.incarnation);
    let id = before.map_or_else(|| random::random_id(HostId::from_parts), |before| before.id);
    let etcd = (config.cluster.liveness() == Liveness::Etcd).then_some(&config.cluster.etcd);
    let registers = Registers::new(name, etcd, store.clone())?;
    same_times::require(store, &registers, times, &id).await?;
    let sent_at_ms = boottime_ms();
    let joined = store.join_host(&new_host(config, id.clone(), resumes)).await?;
    HostFile::new(id, joined.holder.incarnation).and_then(|host| host.write(&path)).map_err(file(HOST_FILE))?;
    store.hold_as(Some(joined.holder.clone()));
    // Before anything that others have stored is compared with the time.
    compare_clock(store).await?;
    let membership = Membership {
        name: config.cluster.host_name(),
        times,
        liveness: config.cluster.liveness(),
        profile: heartbeat_of(config, &joined.holder, profile),
        registers,
        deadline_file,
        host_file: path,
        holder: Mutex::new(joined.holder.clone()),
        state: Mutex::new(ClusterState::default()),
        hosts: Mutex::new(Arc::from([])),
    };
    let cluster = Cluster::new(RenewDeadline::new(times), Some(membership));
    if let (true, Some(member)) = (joined.is_resumed, &cluster.membership) {
        cluster.begin(member, sent_at_ms);
    }
    log_joined(&config.cluster.host_name(), &joined);
    Ok(cluster)
}

fn log_joined(name: &str, joined: &JoinedHost) {
    let Holder { host, incarnation } = &joined.holder;
    tracing::info!(outcome = "joined", host = %host, name, incarnation, resumed = joined.is_resumed, "host joined the cluster");
}

fn new_host(config: &Config, id: HostId, resumes: Option<u64>) -> NewHost {
    NewHost {
        id,
        name: config.cluster.host_name(),
        zone: config.cluster.zone.clone(),
        labels: config.cluster.labels.clone(),
        certificate: None,
        resumes,
        at_ms: unix_time::now_unix_ms(),
    }
}

fn heartbeat_of(config: &Config, holder: &Holder, profile: HostProfile) -> Heartbeat {
    let cluster = &config.cluster;
    let port = cluster.peer_listen.port();
    Heartbeat {
        host: holder.host.clone(),
        incarnation: holder.incarnation,
        process: u64::from_le_bytes(random::random_bytes()),
        number: 0,
        capacity: Capacity { machines_max: config.machines.machines_max, machines: 0, waiting: 0 },
        draining: false,
        labels: HostLabels { zone: cluster.zone.clone(), labels: cluster.labels.clone() },
        providers: profile.providers,
        image: profile.image,
        peer_protocol: PEER_PROTOCOL,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        peer_url: Some(cluster.peer_url.clone().unwrap_or_else(|| format!("https://{}:{port}", cluster.host_name()))),
        direct_url: cluster.direct_url.clone(),
    }
}

impl Cluster {
    /// Joins with the next incarnation, after this host was fenced and all that it did for its sessions has ended.
    pub(super) async fn join_again(&self, config: &Config, store: &Store) -> Result<(), JoinError> {
        let Some(member) = &self.membership else { return Ok(()) };
        let joined = store.join_host(&new_host(config, member.holder().host, None)).await?;
        HostFile::new(joined.holder.host.clone(), joined.holder.incarnation)
            .and_then(|host| host.write(&member.host_file))
            .map_err(|source| JoinError::File { what: HOST_FILE, source })?;
        store.hold_as(Some(joined.holder.clone()));
        log_joined(&member.name, &joined);
        *member.holder.lock() = joined.holder;
        Ok(())
    }
}

impl Membership {
    /// As whom this host writes.
    pub(super) fn holder(&self) -> Holder {
        self.holder.lock().clone()
    }

    /// The next heartbeat.
    pub(super) fn heartbeat(&self, capacity: impl FnOnce() -> Capacity) -> Heartbeat {
        let mut state = self.state.lock();
        state.heartbeats += 1;
        let (number, draining) = (state.heartbeats, state.is_draining);
        drop(state);
        let incarnation = self.holder.lock().incarnation;
        Heartbeat { incarnation, number, capacity: capacity(), draining, ..self.profile.clone() }
    }
}
