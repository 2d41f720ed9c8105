//! Several hosts that share one database.

use crate::settings::settings;
use anteroom_cluster::{ClusterTimes, InvalidTimes, Liveness};
use http::Uri;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf};

/// The longest name of a cluster or a host, and of a label, bytes (RFC 1123).
const NAME_BYTES_MAX: usize = 63;
/// The most members of etcd. Clusters of etcd have 3 or 5.
const ENDPOINTS_MAX: usize = 9;
/// The most labels of a host.
const LABELS_MAX: usize = 32;

/// Where the heartbeats of hosts are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LivenessSetting {
    /// In etcd, and in the database while etcd cannot be written.
    Etcd,
    /// In the database.
    Database,
}

settings! {
    /// Several hosts that share one database of PostgreSQL (docs/cluster.md). Without `name` this host is alone.
    pub struct ClusterSettings {
        /// The name of the cluster, the same on all its hosts.
        name: Option<String> = None, example r#""production""#;
        /// The name of this host, which no other host of the cluster has. Default: the host name of the system.
        host_name: Option<String> = None, example r#""host-1""#;
        /// Where heartbeats are: `etcd`, or `database`, which needs no etcd and finds out later that a host is dead.
        liveness: LivenessSetting = LivenessSetting::Etcd;
        /// Address for the other hosts.
        peer_listen: SocketAddr = SocketAddr::from(([0, 0, 0, 0], 7_061));
        /// Where the other hosts reach this one. Default: `https://`, the name of the host, and the port of `peer_listen`.
        peer_url: Option<String> = None, example r#""https://host-1.internal:7061""#;
        /// Where browsers reach this host directly, past the address that all hosts share. Default: none.
        direct_url: Option<String> = None, example r#""https://host-1.anteroom.example""#;
        /// The zone of failure of this host. Default: none.
        zone: Option<String> = None, example r#""a""#;
        /// Time between two heartbeats, milliseconds.
        heartbeat_interval_ms: u64 = 2_000, within 100..=60_000;
        /// A host may act for so long after it sent its last acknowledged heartbeat; then its machines are ended. Default: 12, with
        /// `liveness = "database"` 60.
        renew_deadline_s: Option<u64> = None, within 1..=3_600, example "12";
        /// Other hosts take over its sessions after so long without a heartbeat. Default: 15, with `liveness = "database"` 75.
        fence_after_s: Option<u64> = None, within 1..=3_600, example "15";
        /// What sessions can ask for, name and value:
        labels: BTreeMap<String, String> = BTreeMap::new(), lines "[cluster.labels]\ngpu = \"yes\"";
    }
    sections {
        /// etcd, if heartbeats are there.
        etcd: EtcdSection;
        /// Certificates for the other hosts, if they do not come from `anteroom host join`.
        tls: PeerTls;
    }
}

settings! {
    /// etcd, if heartbeats are there.
    pub struct EtcdSection {
        /// All its members, `http://` or `https://`. They must serve etcd's HTTP interface (`enable-grpc-gateway`, the default).
        endpoints: Vec<String> = Vec::new(), example r#"["https://etcd-1:2379", "https://etcd-2:2379", "https://etcd-3:2379"]"#;
        /// Certificates (PEM) that are trusted in addition to those of this host. Default: none.
        ca_file: Option<PathBuf> = None, example r#""/etc/anteroom/etcd/ca.pem""#;
        /// This host's certificate for etcd (PEM), with the key below. Default: none.
        certificate_file: Option<PathBuf> = None, example r#""/etc/anteroom/etcd/client.pem""#;
        /// Its key (PEM).
        key_file: Option<PathBuf> = None, example r#""/etc/anteroom/etcd/client.key""#;
        /// The user at etcd. Default: none.
        username: Option<String> = None, example r#""anteroom""#;
        /// File with the user's password; only its owner may read it.
        password_file: Option<PathBuf> = None, example r#""/etc/anteroom/etcd/password""#;
    }
}

settings! {
    /// Certificates for the other hosts, if they do not come from `anteroom host join`.
    pub struct PeerTls {
        /// The authority of all hosts' certificates (PEM).
        ca_file: Option<PathBuf> = None, example r#""/etc/anteroom/cluster/ca.pem""#;
        /// This host's certificate (PEM).
        certificate_file: Option<PathBuf> = None, example r#""/etc/anteroom/cluster/host.pem""#;
        /// Its key (PEM), which only its owner may read.
        key_file: Option<PathBuf> = None, example r#""/etc/anteroom/cluster/host.key""#;
    }
}

impl ClusterSettings {
    /// Whether this host is one of several.
    pub fn is_set(&self) -> bool {
        self.name.is_some()
    }

    /// Where heartbeats are.
    pub fn liveness(&self) -> Liveness {
        match self.liveness {
            LivenessSetting::Etcd => Liveness::Etcd,
            LivenessSetting::Database => Liveness::Database,
        }
    }

    /// The times of the cluster.
    ///
    /// # Errors
    /// They are not safe.
    pub fn times(&self) -> Result<ClusterTimes, InvalidTimes> {
        let (renew_deadline_s, fence_after_s) = match self.liveness {
            LivenessSetting::Etcd => (12, 15),
            LivenessSetting::Database => (60, 75),
        };
        ClusterTimes::new(
            self.heartbeat_interval_ms,
            self.renew_deadline_s.unwrap_or(renew_deadline_s),
            self.fence_after_s.unwrap_or(fence_after_s),
        )
    }

    /// The name of this host.
    pub fn host_name(&self) -> String {
        let of_system = || rustix::system::uname().nodename().to_string_lossy().to_lowercase();
        self.host_name.clone().unwrap_or_else(of_system)
    }

    /// One sentence for each error. Files are not read.
    pub(super) fn validation_errors(&self, has_postgres: bool) -> Vec<String> {
        let mut errors = Vec::new();
        let Some(name) = &self.name else {
            if *self != Self::default() {
                errors.push("cluster.name is missing: set it, or remove the section [cluster]".to_owned());
            }
            return errors;
        };
        if !is_name(name) {
            errors.push(name_error("cluster.name", name));
        }
        if !is_name(&self.host_name()) {
            errors.push(name_error("cluster.host_name", &self.host_name()));
        }
        if !has_postgres {
            errors.push("cluster needs database.url: its hosts share one database of PostgreSQL".to_owned());
        }
        if let Err(error) = self.times() {
            errors.push(format!("cluster: {error}"));
        }
        for (setting, url) in [("peer_url", &self.peer_url), ("direct_url", &self.direct_url)] {
            if url.as_ref().is_some_and(|url| !is_address(url, &["https"])) {
                errors.push(format!("cluster.{setting} must be https://, a host name and a port, without a path"));
            }
        }
        if self.labels.len() > LABELS_MAX
            || self.labels.iter().flat_map(|(name, value)| [name, value]).any(|text| !is_name(text))
        {
            errors.push(format!(
                "cluster.labels must be at most {LABELS_MAX} names and values of letters, digits, . and -"
            ));
        }
        errors.extend(self.etcd_errors());
        errors
    }

    fn etcd_errors(&self) -> Vec<String> {
        let (mut errors, etcd) = (Vec::new(), &self.etcd);
        let is_used = self.liveness == LivenessSetting::Etcd;
        if is_used && (etcd.endpoints.is_empty() || etcd.endpoints.len() > ENDPOINTS_MAX) {
            errors.push(format!(
                "cluster.etcd.endpoints must have 1 to {ENDPOINTS_MAX} members, or set cluster.liveness = \"database\""
            ));
        }
        if !etcd.endpoints.iter().all(|endpoint| is_address(endpoint, &["http", "https"])) {
            errors.push(
                "cluster.etcd.endpoints must be http:// or https://, a host name and a port, without a path".to_owned(),
            );
        }
        if etcd.certificate_file.is_some() != etcd.key_file.is_some() {
            errors.push("cluster.etcd needs both certificate_file and key_file".to_owned());
        }
        if etcd.username.is_some() != etcd.password_file.is_some() {
            errors.push("cluster.etcd needs both username and password_file".to_owned());
        }
        errors
    }
}

fn name_error(setting: &str, name: &str) -> String {
    format!("{setting} is {name:?}; it must be 1 to {NAME_BYTES_MAX} small letters, digits, . and -")
}

fn is_name(text: &str) -> bool {
    let is_permitted = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'-');
    (1..=NAME_BYTES_MAX).contains(&text.len()) && text.bytes().all(is_permitted)
}

/// Whether a text is one of the schemes, a host and perhaps a port.
fn is_address(text: &str, schemes: &[&str]) -> bool {
    text.parse::<Uri>().is_ok_and(|uri| {
        uri.scheme_str().is_some_and(|scheme| schemes.contains(&scheme))
            && uri.authority().is_some_and(|authority| !authority.as_str().contains('@'))
            && matches!(uri.path(), "" | "/")
            && uri.query().is_none()
    })
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    const POSTGRES: &str = "[database]\nurl = 'postgresql://a@h/d'\n";

    #[test]
    fn what_a_cluster_needs_is_checked() {
        let etcd = "[cluster.etcd]\nendpoints = ['http://h:2379']\n";
        for (text, part) in [
            ("[cluster]\nhost_name = 'a'\n".to_owned(), "cluster.name is missing"),
            (format!("[cluster]\nname = 'a'\n{etcd}"), "database.url"),
            (format!("{POSTGRES}[cluster]\nname = 'a'\n"), "cluster.etcd.endpoints"),
            (format!("{POSTGRES}[cluster]\nname = 'A b'\n{etcd}"), "cluster.name is \"A b\""),
            (format!("{POSTGRES}[cluster]\nname = 'a'\nhost_name = 'x/y'\n{etcd}"), "cluster.host_name"),
            (format!("{POSTGRES}[cluster]\nname = 'a'\nfence_after_s = 12\n{etcd}"), "fence_after_s = 12 is too short"),
            (format!("{POSTGRES}[cluster]\nname = 'a'\nrenew_deadline_s = 4000\n{etcd}"), "renew_deadline_s is 4000"),
            (format!("{POSTGRES}[cluster]\nname = 'a'\npeer_url = 'http://h'\n{etcd}"), "cluster.peer_url"),
            (format!("{POSTGRES}[cluster]\nname = 'a'\n{etcd}username = 'u'\n"), "password_file"),
            (
                format!(
                    "public_url = 'https://h'\n{POSTGRES}[cluster]\nname = 'a'\n{etcd}[tls.acme]\ndomains = ['h']\n"
                ),
                "tls.acme cannot be used with [cluster]",
            ),
            (format!("{POSTGRES}[cluster]\nname = 'a'\n[cluster.etcd]\nendpoints = ['h:1']\n"), "must be http"),
        ] {
            let errors = Config::parse(&text).expect_err(&text);
            assert!(errors.iter().any(|error| error.contains(part)), "{text}: {errors:?}");
        }
        let complete = format!("{POSTGRES}[cluster]\nname = 'a'\nhost_name = 'h-1.b'\nzone = 'z'\n{etcd}");
        assert_eq!(Config::parse(&complete).err(), None);
        let without_etcd = format!("{POSTGRES}[cluster]\nname = 'a'\nhost_name = 'h'\nliveness = 'database'\n");
        assert_eq!(Config::parse(&without_etcd).unwrap().cluster.times().unwrap().renew_deadline_ms(), 60_000);
    }
}
