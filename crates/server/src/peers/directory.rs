//! The hosts of the cluster, as the database has them.

use anteroom_controller::cluster::Cluster;
use anteroom_store::{HostRow, Store, StoreError};
use anteroom_wire::HostId;
use serde::Deserialize;
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use url::Url;

/// Time between two looks at the database, milliseconds: a host that was removed gets nothing after it.
const LOOK_MS: u64 = 2_000;
/// The port of other hosts if an address has none.
pub(crate) const PEER_PORT: u16 = 7061;

/// A host of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PeerHost {
    /// Its id.
    pub(crate) id: HostId,
    /// Its name, for people.
    pub(crate) name: String,
    /// Host name or IP address, and port, where others reach it; `None`: it has reported none.
    pub(crate) address: Option<(String, u16)>,
    /// Its last heartbeat in the database, milliseconds since 1970.
    pub(crate) heartbeat_at_ms: Option<u64>,
}

/// The hosts that were neither removed nor unknown at the last look.
#[derive(Clone)]
pub(crate) struct Directory {
    store: Store,
    cluster: Arc<Cluster>,
    hosts: Arc<watch::Sender<BTreeMap<HostId, PeerHost>>>,
}

/// The part of a host's report that others need to reach it.
#[derive(Deserialize)]
struct Report {
    peer_url: Option<String>,
}

impl Directory {
    /// The hosts of this database.
    ///
    /// # Errors
    /// The database cannot be read.
    pub(crate) async fn open(store: Store, cluster: Arc<Cluster>) -> Result<Self, StoreError> {
        let directory = Self { store, cluster, hosts: Arc::new(watch::Sender::new(BTreeMap::new())) };
        directory.look().await?;
        Ok(directory)
    }

    /// The host, if it is in the cluster.
    pub(crate) fn get(&self, host: &HostId) -> Option<PeerHost> {
        self.hosts.borrow().get(host).cloned()
    }

    /// All hosts of the cluster.
    pub(crate) fn list(&self) -> Vec<PeerHost> {
        self.hosts.borrow().values().cloned().collect()
    }

    /// Whether the host is in the cluster: asks the database if it was not there at the last look.
    pub(crate) async fn contains(&self, host: &HostId) -> bool {
        if self.hosts.borrow().contains_key(host) {
            return true;
        }
        match self.look().await {
            Ok(()) => self.hosts.borrow().contains_key(host),
            Err(error) => {
                tracing::warn!(outcome = "hosts_unreadable", %error, "the hosts of the cluster cannot be read");
                false
            }
        }
    }

    /// Waits until the host is not in the cluster any more. Cancel-safe.
    pub(crate) async fn wait_removed(&self, host: &HostId) {
        let mut hosts = self.hosts.subscribe();
        // The sender is as old as this.
        let _ = hosts.wait_for(|hosts| !hosts.contains_key(host)).await;
    }

    /// Reads the hosts.
    ///
    /// # Errors
    /// The database cannot be read.
    pub(crate) async fn look(&self) -> Result<(), StoreError> {
        let rows = self.store.list_hosts().await?;
        let observed = self.cluster.hosts();
        let peer_url = |row: &HostRow| {
            let heartbeat = observed.iter().find(|host| host.row.id == row.id)?.heartbeat.as_ref()?;
            heartbeat.peer_url.clone()
        };
        let members = rows.into_iter().filter(|row| row.left_at_ms.is_none());
        let found: BTreeMap<_, _> = members.map(|row| (row.id.clone(), to_host(peer_url(&row), row))).collect();
        self.hosts.send_if_modified(|hosts| {
            let is_other = *hosts != found;
            *hosts = found;
            is_other
        });
        Ok(())
    }

    /// Reads the hosts again and again until the server stops. While the database cannot be read, the last ones count.
    pub(crate) async fn run(self, stop: CancellationToken) {
        while stop.run_until_cancelled(tokio::time::sleep(Duration::from_millis(LOOK_MS))).await.is_some() {
            if let Err(error) = self.look().await {
                tracing::debug!(outcome = "hosts_unreadable", %error, "the hosts of the cluster cannot be read");
            }
        }
    }
}

/// `peer_url`: of its heartbeat in etcd, if there is one.
fn to_host(peer_url: Option<String>, row: HostRow) -> PeerHost {
    let report = || row.report.as_deref().and_then(|report| serde_json::from_str::<Report>(report).ok());
    let address = peer_url.or_else(|| report()?.peer_url).and_then(|url| parse_peer_url(&url));
    PeerHost { id: row.id, name: row.name, address, heartbeat_at_ms: row.heartbeat_at_ms }
}

/// Host and port of `https://host:port`.
pub(crate) fn parse_peer_url(url: &str) -> Option<(String, u16)> {
    let url = Url::parse(url).ok().filter(|url| url.scheme() == "https")?;
    let host = url.host_str()?.trim_matches(['[', ']']).to_owned();
    // The default port of https is left out by the parser, and is meant where it is written.
    let port = url.port().unwrap_or(if url.as_str().contains(":443") { 443 } else { PEER_PORT });
    Some((host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_of_a_host() {
        for (url, expected) in [
            ("https://h1.example:7062", Some(("h1.example", 7062))),
            ("https://h1.example", Some(("h1.example", PEER_PORT))),
            ("https://192.0.2.1:1", Some(("192.0.2.1", 1))),
            ("https://[2001:db8::1]:7061/", Some(("2001:db8::1", 7061))),
            ("http://h1.example:7061", None),
            ("h1.example:7061", None),
        ] {
            assert_eq!(parse_peer_url(url), expected.map(|(host, port)| (host.to_owned(), port)), "{url}");
        }
    }
}
