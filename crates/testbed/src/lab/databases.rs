//! PostgreSQL and etcd of a lab, each in a network namespace of its own.

use super::{Network, Place};
use anyhow::Context;
use rustix::process::Signal;
use sqlx::{AssertSqlSafe, ConnectOptions, PgConnection, postgres::PgConnectOptions};
use std::{fs, net::SocketAddr, os::unix::fs::PermissionsExt};

#[allow(clippy::unwrap_used, clippy::expect_used, dead_code, reason = "tests of other crates use the same file")]
#[path = "../../../cluster/tests/registers/etcd_cluster.rs"]
mod etcd_cluster;
#[allow(clippy::unwrap_used, clippy::expect_used, dead_code, reason = "tests of other crates use the same file")]
#[path = "../../../store/tests/store_on_postgres/own_server.rs"]
mod own_server;

use etcd_cluster::EtcdCluster;
use own_server::OwnServer;

/// Who may connect: the test over its socket, the hosts over the network.
const CLIENTS: &str = "local all all trust\nhost all all 10.78.0.0/24 trust\n";
/// The number of members of etcd.
pub const MEMBERS: u16 = 3;

/// PostgreSQL.
pub struct LabPostgres {
    /// Where it is.
    pub place: Place,
    server: OwnServer,
    arguments: Vec<String>,
    _clients: tempfile::TempDir,
}

impl LabPostgres {
    /// Starts it.
    ///
    /// # Errors
    /// Its place or its files cannot be made.
    pub(super) async fn start(network: &Network) -> anyhow::Result<Self> {
        let place = network.add(20)?;
        let dir = tempfile::tempdir()?;
        let clients = dir.path().join("pg_hba.conf");
        fs::write(&clients, CLIENTS)?;
        for path in [dir.path(), clients.as_path()] {
            fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
        }
        let settings = [format!("listen_addresses={}", place.address()), format!("hba_file={}", clients.display())];
        let arguments: Vec<_> = settings.into_iter().flat_map(|setting| ["-c".to_owned(), setting]).collect();
        let words: Vec<_> = arguments.iter().map(String::as_str).collect();
        let server = OwnServer::start_with_prefix(place.prefix(), &words).await;
        Ok(Self { place, server, arguments, _clients: dir })
    }

    /// The address for hosts.
    pub fn url(&self) -> String {
        format!("postgresql://anteroom@{}/postgres?sslmode=disable", self.place.address())
    }

    /// Stops it: it ends all connections.
    pub fn stop(&mut self) {
        self.server.stop();
    }

    /// Starts it again.
    pub async fn start_again(&mut self) {
        let words: Vec<_> = self.arguments.iter().map(String::as_str).collect();
        self.server.start_again(&words).await;
    }

    /// Sends a signal to all its processes.
    pub fn signal(&self, signal: Signal) {
        self.server.signal_all(signal);
    }

    /// A connection of the test.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn connect(&self) -> anyhow::Result<PgConnection> {
        let options = PgConnectOptions::new_without_pgpass().socket(self.server.directory());
        options.username("anteroom").database("postgres").connect().await.context("PostgreSQL")
    }

    /// Executes statements.
    ///
    /// # Errors
    /// One fails.
    pub async fn execute(&self, statements: &str) -> anyhow::Result<()> {
        let text = AssertSqlSafe(statements.to_owned());
        sqlx::raw_sql(text).execute(&mut self.connect().await?).await.with_context(|| statements.to_owned())?;
        Ok(())
    }
}

/// etcd with three members.
pub struct LabEtcd {
    /// Where they are.
    pub place: Place,
    members: EtcdCluster,
}

impl LabEtcd {
    /// Starts the members.
    ///
    /// # Errors
    /// Their place cannot be made.
    pub(super) async fn start(network: &Network) -> anyhow::Result<Self> {
        let place = network.add(21)?;
        let at = |port: u16| SocketAddr::from((place.address(), port));
        let addresses = (0..MEMBERS).map(|number| (at(2379 + 10 * number), at(2380 + 10 * number))).collect();
        let members = EtcdCluster::start_at(place.prefix(), addresses).await;
        Ok(Self { place, members })
    }

    /// The members, as in the configuration.
    pub fn endpoints(&self) -> Vec<String> {
        self.members.endpoints()
    }

    /// The number of the leader.
    pub fn leader(&self) -> usize {
        self.members.leader()
    }

    /// Sends a signal to a member.
    pub fn signal(&self, number: usize, signal: Signal) {
        self.members.signal(number, signal);
    }

    /// Sends a signal to each member.
    pub fn signal_all(&self, signal: Signal) {
        (0..usize::from(MEMBERS)).for_each(|number| self.members.signal(number, signal));
    }
}
