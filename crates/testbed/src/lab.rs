//! A lab: several hosts of a cluster, PostgreSQL and etcd, each in a network namespace of its own.
//!
//! ```text
//!  test ─ Door ─▶ server of host 1 ─ Place ─┐
//!       ─ Door ─▶ server of host 2 ─ Place ─┼─ Network ─ LabPostgres, LabEtcd
//!       ─ Door ─▶ server of host 3 ─ Place ─┘
//!  Census: which machines are alive at once.   The database records which host wrote to which session.
//! ```
//!
//! A test of the lab runs in a network namespace that nothing else uses ([`Network::new`]). [`Lab::finish`] checks that no session had two
//! machines at once, that no host wrote to a session that it did not hold, and that nothing is left.

mod census;
mod databases;
mod door;
mod host;
mod network;
mod write_record;

pub use census::Census;
pub use databases::{LabEtcd, LabPostgres, MEMBERS};
pub use door::Door;
pub use host::LabHost;
pub use network::{Network, Place};

use crate::{ApiClient, MachineBackend, TestConfig, WAIT_MAX, eventually};
use anteroom_wire::{
    HostId, MachineId, SessionId, TimelineKind,
    hosts::{HostInvitation, HostList, HostState},
};
use anyhow::{Context, ensure};
use futures_util::future::try_join_all;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};

/// The port of host 0.
const LISTEN_PORT: u16 = 7_080;

/// What a lab has.
#[derive(Debug, Clone)]
pub struct LabOptions {
    /// The number of its hosts, 1 to 8.
    pub hosts: u8,
    /// Whether heartbeats are in etcd.
    pub has_etcd: bool,
    /// Settings of `[cluster]` that all hosts have: the times.
    pub times: &'static str,
}

/// Several hosts of a cluster.
pub struct Lab<M: MachineBackend = crate::PlainProcess> {
    /// The hosts, in the order in which they joined.
    pub hosts: Vec<LabHost<M>>,
    /// The database.
    pub postgres: LabPostgres,
    /// etcd, if the lab has it.
    pub etcd: Option<LabEtcd>,
    /// Which machines are alive.
    pub census: Census,
    _keys: tempfile::TempDir,
    _network: Network,
}

impl<M: MachineBackend + Clone> Lab<M> {
    /// Starts the databases and the hosts with this configuration, and waits until all hosts answer each other.
    ///
    /// # Errors
    /// Something does not start.
    pub async fn start(options: &LabOptions, config: &TestConfig<M>) -> anyhow::Result<Self> {
        let network = Network::new()?;
        let postgres = LabPostgres::start(&network).await?;
        let etcd = if options.has_etcd { Some(LabEtcd::start(&network).await?) } else { None };
        let keys = tempfile::tempdir()?;
        let (url, key) = (postgres.url(), keys.path().join("vault.key"));
        let liveness = etcd.as_ref().map_or("liveness = 'database'\n".to_owned(), |etcd| {
            format!("[cluster.etcd]\nendpoints = {:?}\n", etcd.endpoints())
        });
        let shared =
            format!("[log]\nlevel = 'info'\n[database]\nurl = '{url}'\n[vault]\nkey_file = '{}'\n", key.display());
        let start = |number: u8| {
            let (place, shared, cluster) = (network.add(10 + number), &shared, format!("{}{liveness}", options.times));
            async move {
                let place = place?;
                let peer = format!("{}:7061", place.address());
                let own = format!(
                    "[cluster]\nname = 'lab'\nhost_name = 'h{number}'\npeer_listen = '{peer}'\npeer_url = 'https://{peer}'\n"
                );
                let mut config = config.clone().with_settings(&format!("{shared}{own}{cluster}"));
                // The same port after a restart, as a server has.
                config.settings.insert_str(0, &format!("listen = '127.0.0.1:{}'\n", LISTEN_PORT + u16::from(number)));
                LabHost::start(place, config).await
            }
        };
        // The first one makes the keys and the authority.
        let mut hosts = vec![start(1).await?];
        hosts.extend(try_join_all((2..=options.hosts).map(start)).await?);
        let census = Census::begin(hosts.iter().map(|host| host.server.path().to_owned()).collect())?;
        let mut lab = Self { hosts, postgres, etcd, census, _keys: keys, _network: network };
        let joined = lab.join_all().await;
        if joined.is_err() {
            lab.give_up();
        }
        joined.map(|()| lab)
    }

    async fn join_all(&mut self) -> anyhow::Result<()> {
        let operator = self.hosts[0].server.operator_client()?;
        for host in self.hosts.iter_mut().skip(1) {
            join(&operator, host).await.context("a host joins")?;
        }
        let ids: anyhow::Result<Vec<_>> =
            self.hosts.iter().map(|host| Ok((host.place.address(), host.id()?))).collect();
        write_record::begin(&self.postgres, &ids?).await?;
        for host in 0..self.hosts.len() {
            self.wait_states(host, HostState::Answers, self.hosts.len()).await?;
        }
        Ok(())
    }

    fn give_up(&mut self) {
        self.hosts.iter_mut().for_each(|host| host.server.give_up());
    }
}

/// Lets a host join through another one, which issues its certificate.
///
/// # Errors
/// It is refused, or its server does not start again.
pub async fn join<M: MachineBackend>(inviting: &ApiClient, host: &mut LabHost<M>) -> anyhow::Result<()> {
    let made: HostInvitation = inviting.post("/api/hosts/invitations", json!({})).await?.parse()?;
    let (id, dir) = (host.id()?, host.server.state_dir());
    host.server.stop_server().await?;
    anteroom_server::join_cluster(made.invitation.expose(), &id, &dir).await?;
    host.server.start_server().await
}

impl<M: MachineBackend> Lab<M> {
    /// A client of a host, by its number from 0, with an operator's token.
    ///
    /// # Errors
    /// Its server is not running.
    pub fn operator(&self, host: usize) -> anyhow::Result<ApiClient> {
        self.hosts[host].server.client_with_token(self.hosts[0].server.operator_token())
    }

    /// Waits until so many hosts are in this state, as host `asked` sees them.
    ///
    /// # Errors
    /// They are not in time.
    pub async fn wait_states(&self, asked: usize, state: HostState, count: usize) -> anyhow::Result<()> {
        let operator = self.operator(asked)?;
        let found = async || {
            let list: HostList = operator.get("/api/hosts").await?.parse()?;
            Ok((list.hosts.iter().filter(|host| host.state == state).count() == count).then_some(()))
        };
        eventually(&format!("{count} hosts that are {state:?}"), WAIT_MAX, found).await
    }

    /// A host takes further sessions, or none.
    ///
    /// # Errors
    /// Host `asked` refuses.
    pub async fn set_draining(&self, asked: usize, host: &HostId, is_draining: bool) -> anyhow::Result<()> {
        let verb = if is_draining { "drain" } else { "undrain" };
        let answer = self.operator(asked)?.post(&format!("/api/hosts/{host}/{verb}"), json!({})).await?;
        ensure!(answer.status < 300, "{answer:?}");
        Ok(())
    }

    /// Checks the censuses of machines and of writes, and that the hosts leave nothing. `sessions`: all of the test.
    ///
    /// # Errors
    /// What was found.
    pub async fn finish(self, sessions: &[SessionId]) -> anyhow::Result<()> {
        let machines = self.machines_of(sessions).await?;
        let doubles = self.census.doubles(&machines);
        ensure!(doubles.is_empty(), "two machines at once: {doubles:?} of {machines:?}");
        let (writes, stale) = write_record::read(&self.postgres).await?;
        ensure!(writes > 0 && stale.is_empty(), "{writes} writes, of which are stale: {stale:#?}");
        let Self { hosts, postgres, etcd, .. } = self;
        for host in hosts {
            host.place.set_link(true)?;
            host.server.stop_and_check_leaks().await?;
        }
        drop((postgres, etcd));
        Ok(())
    }

    async fn machines_of(&self, sessions: &[SessionId]) -> anyhow::Result<BTreeMap<MachineId, SessionId>> {
        let operator = self.operator(0)?;
        let mut machines = BTreeMap::new();
        for session in sessions {
            let timeline = operator.get_timeline(session).await?;
            let requested = timeline.iter().filter(|entry| entry.kind == TimelineKind::MachineRequested);
            machines.extend(
                requested.filter_map(|entry| Some((entry.data["machine"].as_str()?.parse().ok()?, session.clone()))),
            );
        }
        Ok(machines)
    }

    /// The machines of a host that have a process.
    pub fn alive_on(&self, host: usize) -> BTreeSet<MachineId> {
        let own: BTreeSet<_> = self.hosts[host].server.list_machines().into_iter().collect();
        self.census.alive().intersection(&own).cloned().collect()
    }
}
