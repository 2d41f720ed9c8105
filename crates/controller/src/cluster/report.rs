//! What operators see of this host in its cluster: the line of its health.

use super::{
    clock,
    membership::{Cluster, Membership, ObservedHost},
};
use anteroom_cluster::{Liveness, boottime_ms};
use anteroom_wire::api::HealthStatus;

/// What this host knows about its heartbeats and about the others.
#[derive(Debug, Default)]
pub(super) struct ClusterState {
    /// Heartbeats that were sent.
    pub(super) heartbeats: u64,
    /// The register that acknowledged the last heartbeat, and when, CLOCK_BOOTTIME milliseconds.
    pub(super) acknowledged_by: Option<&'static str>,
    pub(super) acknowledged_at_ms: u64,
    /// Why the last heartbeat was not written to etcd, or nowhere.
    pub(super) heartbeat_error: Option<String>,
    /// Why the hosts could not be read last.
    pub(super) read_error: Option<String>,
    /// Silent hosts of all hosts, if that are too many to believe it.
    pub(super) engine_suspect: Option<(usize, usize)>,
    /// How far this host's clock is before the database's, milliseconds.
    pub(super) clock_ahead_ms: i64,
    /// Whether an operator drains this host.
    pub(super) is_draining: bool,
    /// What is wrong with this host's certificate for the others.
    pub(super) certificate_fault: Option<String>,
    /// Whether another process writes heartbeats with the id of this host.
    pub(super) is_replaced: bool,
}

/// The line of this host's health; `None`: it is alone.
pub fn health(cluster: &Cluster) -> Option<(HealthStatus, String)> {
    let member = cluster.membership.as_ref()?;
    let (holder, state) = (member.holder(), member.state.lock());
    let ago_s = boottime_ms().saturating_sub(state.acknowledged_at_ms) / 1_000;
    let by = state.acknowledged_by.unwrap_or("no register yet");
    let hosts = cluster.hosts().iter().filter(|host| ObservedHost::is_joined(host)).count();
    let mut text = format!(
        "host {} ({}), incarnation {}, of {hosts} hosts; the last heartbeat was acknowledged by {by} {ago_s} s ago",
        member.name, holder.host, holder.incarnation
    );
    let mut status = HealthStatus::Ok;
    let mut add = |worse: HealthStatus, more: String| {
        status = status.max(worse);
        text = format!("{text}; {more}");
    };
    if state.is_replaced {
        add(HealthStatus::Down, "another process runs with the id of this host: stop one of them".to_owned());
    } else if !cluster.may_act() {
        let what = format!(
            "it does nothing for its sessions until it has contact again; {} requests were refused",
            cluster.refusals()
        );
        add(HealthStatus::Down, what);
    }
    if let Some(error) = &state.heartbeat_error {
        let place = if member.liveness == Liveness::Etcd && state.acknowledged_by == Some("database") {
            "etcd cannot be written, so heartbeats go to the database"
        } else {
            "heartbeats cannot be written"
        };
        add(HealthStatus::Degraded, format!("{place}: {error}"));
    }
    faults_of_others(cluster, member).into_iter().for_each(|fault| add(HealthStatus::Degraded, fault));
    if let Some(error) = &state.read_error {
        add(HealthStatus::Degraded, format!("no host can be fenced, since the hosts cannot be read: {error}"));
    }
    if let Some((silent, hosts)) = state.engine_suspect {
        let what = format!(
            "{silent} of {hosts} hosts are silent, so none is fenced: look at {}, and fence hosts that are dead with `anteroom host fence`",
            if member.liveness == Liveness::Etcd { "etcd" } else { "the database" }
        );
        add(HealthStatus::Degraded, what);
    }
    if let Some(fault) = &state.certificate_fault {
        add(HealthStatus::Degraded, format!("its certificate for other hosts: {fault}"));
    }
    if state.clock_ahead_ms.unsigned_abs() > clock::DIFFERENCE_MS_MAX {
        let what = format!("its clock differs by {} ms from the database's: synchronise it", state.clock_ahead_ms);
        add(HealthStatus::Degraded, what);
    }
    Some((status, text))
}

/// The hosts that are silent, and those that were fenced and have not joined again.
fn faults_of_others(cluster: &Cluster, member: &Membership) -> Vec<String> {
    let own = member.holder().host;
    let others = cluster.hosts();
    let others = others.iter().filter(|host| host.row.left_at_ms.is_none() && host.row.id != own);
    let fault = |host: &ObservedHost| match host.silent_ms {
        _ if host.row.is_fenced() => Some(format!("host {} was fenced and has not joined again", host.row.name)),
        silent_ms if silent_ms > member.times.renew_deadline_ms() => {
            Some(format!("host {} is silent for {} s", host.row.name, silent_ms / 1_000))
        }
        _ => None,
    };
    others.filter_map(fault).collect()
}

impl Cluster {
    /// Reports what is wrong with this host's certificate for the others; `None`: nothing.
    pub fn report_certificate(&self, fault: Option<String>) {
        if let Some(member) = &self.membership {
            member.state.lock().certificate_fault = fault;
        }
    }
}

impl ObservedHost {
    /// Whether the host is in the cluster and was not fenced in its present incarnation.
    pub fn is_joined(&self) -> bool {
        self.row.left_at_ms.is_none() && !self.row.is_fenced()
    }
}
