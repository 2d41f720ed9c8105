//! Until when this host may act, and what it knows about itself and the others.

use super::{offered_sessions::OfferedSessions, other_hosts::OtherHosts, registers::Registers, report::ClusterState};
use crate::api_error::ApiError;
use anteroom_cluster::{ClusterTimes, Heartbeat, Liveness, Mark, RenewDeadline, boottime_ms};
use anteroom_machine::RenewDeadlineFile;
use anteroom_store::{Holder, HostRow};
use anteroom_wire::Problem;
use parking_lot::Mutex;
use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio::sync::watch;

/// The version of the protocol between hosts.
pub const PEER_PROTOCOL: u32 = 1;

/// This host in its cluster, or alone.
#[derive(Debug)]
pub struct Cluster {
    pub(super) deadline: RenewDeadline,
    /// `None`: it is alone.
    pub(super) membership: Option<Membership>,
    /// Whether it acts, as tasks see it; the deadline decides.
    pub(super) acts: watch::Sender<bool>,
    refusals: AtomicU64,
    pub(super) offered: OfferedSessions,
    pub(super) other_hosts: OtherHosts,
}

/// A host of a cluster.
#[derive(Debug)]
pub(super) struct Membership {
    pub(super) name: String,
    pub(super) times: ClusterTimes,
    pub(super) liveness: Liveness,
    /// What it says about itself, as far as that does not change.
    pub(super) profile: Heartbeat,
    pub(super) registers: Registers,
    pub(super) deadline_file: RenewDeadlineFile,
    pub(super) host_file: PathBuf,
    pub(super) holder: Mutex<Holder>,
    pub(super) state: Mutex<ClusterState>,
    pub(super) hosts: Mutex<Arc<[ObservedHost]>>,
}

/// Another host, or this one, as this host saw it last.
#[derive(Debug, Clone)]
pub struct ObservedHost {
    /// Its row.
    pub row: HostRow,
    /// Its newest heartbeat; `None`: none was read.
    pub heartbeat: Option<Heartbeat>,
    /// The mark of its newest heartbeat.
    pub mark: Option<Mark>,
    /// How long no new heartbeat of it was seen, milliseconds.
    pub silent_ms: u64,
}

impl Cluster {
    /// A server without a cluster. Keepers of an earlier server that was in one go on.
    ///
    /// # Errors
    /// The file with the deadline of that server cannot be removed.
    pub fn alone(run_dir: &Path) -> std::io::Result<Self> {
        RenewDeadlineFile::remove(run_dir)?;
        Ok(Self::new(RenewDeadline::alone(), None))
    }

    pub(super) fn new(deadline: RenewDeadline, membership: Option<Membership>) -> Self {
        let acts = watch::Sender::new(deadline.may_act());
        let (offered, other_hosts) = Default::default();
        Self { deadline, membership, acts, refusals: AtomicU64::new(0), offered, other_hosts }
    }

    /// Whether this host may act for its sessions now.
    pub fn may_act(&self) -> bool {
        self.deadline.may_act()
    }

    /// Whether this host may act for its sessions now. A refusal is counted.
    ///
    /// # Errors
    /// [`Problem::ClusterContactLost`].
    pub fn require_may_act(&self) -> Result<(), ApiError> {
        if self.may_act() {
            return Ok(());
        }
        self.refusals.fetch_add(1, Ordering::Relaxed);
        Err(Problem::ClusterContactLost.into())
    }

    /// Waits until this host may act.
    pub async fn wait_may_act(&self) {
        let mut acts = self.acts.subscribe();
        while !self.may_act() {
            // The sender is a part of this value.
            let _ = acts.changed().await;
        }
    }

    /// How often something was refused because this host might not act.
    pub fn refusals(&self) -> u64 {
        self.refusals.load(Ordering::Relaxed)
    }

    /// Whether this host is one of several.
    pub fn is_member(&self) -> bool {
        self.membership.is_some()
    }

    /// All hosts of the cluster, as this host saw them last.
    pub fn hosts(&self) -> Arc<[ObservedHost]> {
        self.membership.as_ref().map_or_else(|| Arc::from([]), |member| Arc::clone(&member.hosts.lock()))
    }

    /// The file in which keepers see the deadline; `None`: it is alone.
    pub fn deadline_file(&self) -> Option<&Path> {
        self.membership.as_ref().map(|member| member.deadline_file.path())
    }

    /// Begins to act: the database has acknowledged this incarnation, asked at `sent_at_ms`. Whether that was in time.
    pub(super) fn begin(&self, member: &Membership, sent_at_ms: u64) -> bool {
        // The thread that watches the deadline stops only after it has seen it pass.
        let began = self.deadline.begin(sent_at_ms);
        if began {
            member.deadline_file.set(self.deadline.deadline().at_ms());
            self.acts.send_replace(true);
        }
        began
    }

    /// A heartbeat that was sent at `sent_at_ms` was acknowledged.
    pub(super) fn acknowledged(&self, member: &Membership, by: &'static str, sent_at_ms: u64) {
        if self.deadline.extend(sent_at_ms) {
            // Read again: an answer to a later heartbeat may have been faster.
            let at_ms = self.deadline.deadline().at_ms();
            if at_ms > member.deadline_file.get() {
                member.deadline_file.set(at_ms);
            }
            let mut state = member.state.lock();
            (state.acknowledged_by, state.acknowledged_at_ms) = (Some(by), boottime_ms());
        }
    }

    /// This host may not act any more.
    pub(super) fn stop(&self) {
        self.deadline.stop();
        self.acts.send_replace(self.may_act());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_without_contact_is_refused_by_name_and_refusals_are_counted() {
        let cluster = Cluster::new(RenewDeadline::new(ClusterTimes::ETCD), None);
        assert_eq!(cluster.require_may_act().unwrap_err().problem, Problem::ClusterContactLost);
        assert!(!cluster.may_act() && cluster.refusals() == 1);
        assert!(cluster.deadline.begin(boottime_ms()) && cluster.require_may_act().is_ok());
        assert_eq!(cluster.refusals(), 1);
    }

    #[test]
    fn server_without_a_cluster_may_always_act() {
        let dir = tempfile::tempdir().unwrap();
        let cluster = Cluster::alone(dir.path()).unwrap();
        cluster.stop();
        assert!(cluster.may_act() && !cluster.is_member());
        assert_eq!((cluster.deadline_file(), cluster.hosts().len()), (None, 0));
        assert!(std::fs::read_dir(dir.path()).unwrap().next().is_none(), "it leaves no file");
    }
}
