//! The registers of heartbeats, as configured.

use super::error::JoinError;
use crate::{
    config::EtcdSection,
    https_client::{CaFile, trusted_certificates},
    private_file::{PrivateFile, Readers, read_private_file},
};
use anteroom_cluster::{DatabaseRegister, EtcdRegister, EtcdSettings, Heartbeat, Register, RegisterError, Written};
use anteroom_store::Store;
use anteroom_wire::Secret;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

/// How long the database may take to accept a heartbeat, milliseconds.
const DATABASE_MS_MAX: u64 = 4_000;
/// The most bytes of a password's file.
const PASSWORD_BYTES_MAX: u64 = 1_024;

/// Where heartbeats are written: in etcd, and in the database while etcd cannot be written; or in the database alone.
#[derive(Debug)]
pub(super) struct Registers {
    pub(super) etcd: Option<Register>,
    pub(super) database: Register,
    /// Whether etcd did not accept the last heartbeat.
    etcd_failed: AtomicBool,
}

/// A heartbeat that was answered.
pub(super) struct Answered {
    pub(super) written: Written,
    /// The register that answered.
    pub(super) by: &'static str,
    /// Why etcd did not accept it; `None`: it did, or is not configured.
    pub(super) etcd_error: Option<RegisterError>,
}

impl Registers {
    /// The name of the database as a register.
    pub(super) const DATABASE: &'static str = "database";

    /// The registers of a cluster. Nothing is connected yet.
    pub(super) fn new(cluster: &str, etcd: Option<&EtcdSection>, store: Store) -> Result<Self, JoinError> {
        let etcd = etcd.map(|etcd| etcd_settings(cluster, etcd)).transpose()?;
        Ok(Self {
            etcd: etcd.map(EtcdRegister::new).map(Register::Etcd),
            database: Register::Database(DatabaseRegister::new(store)),
            etcd_failed: AtomicBool::new(false),
        })
    }

    /// Writes to etcd, else to the database. While etcd fails, both are written at once, and `acknowledged` is called with the register that
    /// accepts the heartbeat before the other one has answered: to find out that no member of etcd answers takes a second for each.
    pub(super) async fn write(
        &self,
        heartbeat: &Heartbeat,
        acknowledged: impl Fn(&'static str),
    ) -> Result<Answered, RegisterError> {
        let Some(etcd) = &self.etcd else { return self.write_database(heartbeat, None).await };
        if self.etcd_failed.load(Ordering::Relaxed) {
            let report = |register: &Register, written: &Result<Written, RegisterError>| {
                if matches!(written, Ok(Written::Acknowledged)) {
                    acknowledged(register.name());
                }
            };
            let database = async {
                let written = self.try_database(heartbeat).await;
                report(&self.database, &written);
                written
            };
            let in_etcd = async {
                let written = etcd.write(heartbeat).await;
                report(etcd, &written);
                written
            };
            let (database, etcd) = tokio::join!(database, in_etcd);
            self.etcd_failed.store(etcd.is_err(), Ordering::Relaxed);
            let by = if database.is_ok() { self.database.name() } else { "etcd" };
            return match (database, etcd) {
                (Ok(written), etcd) => Ok(Answered { written, by, etcd_error: etcd.err() }),
                (Err(_), Ok(written)) => Ok(Answered { written, by, etcd_error: None }),
                (Err(database), Err(etcd)) => Err(RegisterError(format!("{etcd}; database: {database}"))),
            };
        }
        match etcd.write(heartbeat).await {
            Ok(written) => Ok(Answered { written, by: etcd.name(), etcd_error: None }),
            Err(error) => {
                self.etcd_failed.store(true, Ordering::Relaxed);
                self.write_database(heartbeat, Some(error)).await
            }
        }
    }

    /// A database that hangs must not hold up the heartbeats to etcd.
    async fn try_database(&self, heartbeat: &Heartbeat) -> Result<Written, RegisterError> {
        let limit = Duration::from_millis(DATABASE_MS_MAX);
        let hangs = || Err(RegisterError(format!("no answer in {DATABASE_MS_MAX} ms")));
        tokio::time::timeout(limit, self.database.write(heartbeat)).await.unwrap_or_else(|_| hangs())
    }

    async fn write_database(
        &self,
        heartbeat: &Heartbeat,
        etcd_error: Option<RegisterError>,
    ) -> Result<Answered, RegisterError> {
        match self.try_database(heartbeat).await {
            Ok(written) => Ok(Answered { written, by: self.database.name(), etcd_error }),
            Err(error) => Err(match etcd_error {
                Some(etcd) => RegisterError(format!("{etcd}; database: {error}")),
                None => error,
            }),
        }
    }
}

fn etcd_settings(cluster: &str, etcd: &EtcdSection) -> Result<EtcdSettings, JoinError> {
    let endpoints = etcd.endpoints.iter().filter_map(|endpoint| endpoint.parse().ok()).collect();
    let user = match (&etcd.username, &etcd.password_file) {
        (Some(name), Some(path)) => Some((name.clone(), read_password(path)?)),
        (Some(_) | None, _) => None,
    };
    Ok(EtcdSettings { cluster: cluster.to_owned(), endpoints, tls: Arc::new(tls(etcd)?), user })
}

fn tls(etcd: &EtcdSection) -> Result<ClientConfig, JoinError> {
    let failed = |what: &str, error: &dyn std::fmt::Display| JoinError::Etcd(format!("{what}: {error}"));
    let is_tls = etcd.endpoints.iter().any(|endpoint| endpoint.starts_with("https:"));
    let ca_file = CaFile { section: "cluster.etcd", path: etcd.ca_file.as_deref() };
    let roots = if is_tls {
        trusted_certificates(ca_file).map_err(|error| failed("ca_file", &error))?
    } else {
        RootCertStore::empty()
    };
    let tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| failed("TLS", &error))?
        .with_root_certificates(roots);
    let (Some(certificate), Some(key)) = (&etcd.certificate_file, &etcd.key_file) else {
        return Ok(tls.with_no_client_auth());
    };
    let chain = CertificateDer::pem_file_iter(certificate).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let chain = chain.map_err(|error| failed("certificate_file", &error))?;
    let key = PrivateKeyDer::from_pem_file(key).map_err(|error| failed("key_file", &error))?;
    tls.with_client_auth_cert(chain, key).map_err(|error| failed("certificate_file and key_file", &error))
}

fn read_password(path: &Path) -> Result<Secret, JoinError> {
    let failed = |why: &str| JoinError::Etcd(format!("password_file {} {why}", path.display()));
    match read_private_file(path, Readers::Owner, PASSWORD_BYTES_MAX) {
        Ok(PrivateFile::Text(text)) => {
            let line = text.strip_suffix('\n').unwrap_or(&text);
            if line.is_empty() || line.contains(char::is_control) {
                return Err(failed("must contain one line"));
            }
            Ok(Secret::new(line.to_owned()))
        }
        Ok(PrivateFile::NotAFile) => Err(failed("is not a file")),
        Ok(PrivateFile::ReadableByOthers { .. }) => Err(failed("may be read by others: chmod 600 it")),
        Err(error) => Err(failed(&format!("cannot be read: {error}"))),
    }
}
