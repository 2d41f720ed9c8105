//! The certificate with which this server speaks TLS: read and checked as a browser would, and replaced while the server runs. It comes
//! from files, or from an authority that speaks ACME.

#[cfg(feature = "acme")]
mod acme;
#[cfg_attr(not(feature = "acme"), allow(dead_code, reason = "only ACME writes them"))]
mod acme_files;
mod error;
mod load;
mod report;

pub use error::TlsError;
pub use report::CertificateReport;

use crate::{
    api_error::chain,
    config::{Acme, Config},
    unix_time,
};
use acme_files::{AcmeFiles, Failure};
use load::Loaded;
use parking_lot::RwLock;
use rustls::{
    ServerConfig,
    crypto::ring,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use std::{
    collections::HashMap,
    fmt, fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Interval between two looks at the files.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);
const HTTP_1_1: &[u8] = b"http/1.1";
const HTTP_2: &[u8] = b"h2";
/// The protocol of a connection with which an authority checks a name (RFC 8737).
pub const ACME_TLS: &[u8] = b"acme-tls/1";

/// The server's certificate.
pub struct TlsCertificate {
    certificate_file: PathBuf,
    key_file: PathBuf,
    /// The host of `public_url`.
    host: String,
    /// `None`: the files are the operator's.
    acme: Option<FromAcme>,
    /// `None`: ACME has not obtained one yet, or it cannot be used.
    current: RwLock<Option<Loaded>>,
    /// What authorities are shown that check a name now, by name.
    challenges: RwLock<HashMap<String, Arc<CertifiedKey>>>,
    /// The configuration was read again.
    reloaded: Notify,
}

/// What is known about a certificate that ACME obtains.
#[cfg_attr(not(feature = "acme"), allow(dead_code, reason = "only ACME uses all of it"))]
struct FromAcme {
    settings: Acme,
    files: AcmeFiles,
    failure: RwLock<Option<Failure>>,
    /// Why the stored certificate is not enough.
    unusable: RwLock<Option<String>>,
}

/// Shows the paths.
impl fmt::Debug for TlsCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TlsCertificate({})", self.certificate_file.display())
    }
}

/// A certificate that was read and is not used yet.
pub struct NewCertificate(Loaded);

impl TlsCertificate {
    /// Reads the certificate of this configuration. `None`: it has none. One of ACME may be missing: the server starts without it, and
    /// [`Self::run`] obtains it.
    ///
    /// # Errors
    /// The operator's files cannot be used; the text names the file and what is wrong.
    pub fn open(config: &Config) -> Result<Option<Self>, TlsError> {
        let host = config.public_url.as_deref().and_then(|url| url::Url::parse(url).ok());
        let host = host.and_then(|url| url.host_str().map(str::to_owned)).unwrap_or_default();
        if config.tls.acme.is_set() {
            return Ok(Some(Self::open_acme(config, host)));
        }
        let (Some(certificate_file), Some(key_file)) = (&config.tls.certificate_file, &config.tls.key_file) else {
            return Ok(None);
        };
        let current = load::load(certificate_file, key_file, &host, unix_time::now_unix_ms())?;
        Ok(Some(Self::new([certificate_file, key_file], host, None, Some(current))))
    }

    fn open_acme(config: &Config, host: String) -> Self {
        let files = AcmeFiles::new(&config.state_dir);
        let path = files.certificate();
        let loaded = load::load(&path, &path, &host, unix_time::now_unix_ms());
        let is_for_all = |loaded: &Loaded| config.tls.acme.domains.iter().all(|name| loaded.is_for(name));
        let unusable = match &loaded {
            Ok(loaded) if !is_for_all(loaded) => {
                Some("the stored certificate is not for all of tls.acme.domains".to_owned())
            }
            Ok(_) => None,
            Err(TlsError::Unreadable { source, .. }) if source.kind() == io::ErrorKind::NotFound => None,
            Err(error) => Some(chain(error)),
        };
        let failure = RwLock::new(files.failure());
        let acme = FromAcme { settings: config.tls.acme.clone(), files, failure, unusable: RwLock::new(unusable) };
        Self::new([&path, &path], host, Some(acme), loaded.ok())
    }

    fn new([certificate, key]: [&PathBuf; 2], host: String, acme: Option<FromAcme>, current: Option<Loaded>) -> Self {
        Self {
            certificate_file: certificate.clone(),
            key_file: key.clone(),
            host,
            acme,
            current: RwLock::new(current),
            challenges: RwLock::default(),
            reloaded: Notify::new(),
        }
    }

    /// Reads the operator's files again. `None`: the certificate is of ACME, which obtains another one by itself.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn read(&self) -> Result<Option<NewCertificate>, TlsError> {
        if self.acme.is_some() {
            return Ok(None);
        }
        load::load(&self.certificate_file, &self.key_file, &self.host, unix_time::now_unix_ms())
            .map(NewCertificate)
            .map(Some)
    }

    /// Uses another certificate for new connections; `None`: ACME tries again at once if its last attempt failed.
    pub fn replace(&self, new: Option<NewCertificate>) {
        let Some(NewCertificate(new)) = new else { return self.reloaded.notify_one() };
        let ends_at = unix_time::format_rfc3339(new.ends_at_ms);
        let former = self.current.write().replace(new.clone());
        if former.is_none_or(|former| former.key.cert != new.key.cert) {
            tracing::info!(outcome = "certificate_reloaded", ends_at, "new certificate in use");
        }
    }

    /// How connections are accepted: TLS 1.2 and 1.3, HTTP/1.1, and HTTP/2 if `with_http2`.
    ///
    /// # Errors
    /// The library cannot be set up.
    pub fn server_config(self: &Arc<Self>, with_http2: bool) -> Result<Arc<ServerConfig>, rustls::Error> {
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth();
        let mut config = config.with_cert_resolver(Arc::new(Resolver(Arc::clone(self))));
        let offered = [(with_http2, HTTP_2), (true, HTTP_1_1), (self.acme.is_some(), ACME_TLS)];
        config.alpn_protocols = offered.iter().filter(|(is_on, _)| *is_on).map(|(_, name)| name.to_vec()).collect();
        Ok(Arc::new(config))
    }

    /// Keeps the certificate current until the server stops.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        #[cfg(feature = "acme")]
        if let Some(from_acme) = &self.acme {
            return acme::run(&self, from_acme, stop).await;
        }
        self.watch(stop).await;
    }

    /// Reads the files again when they have changed. If they cannot be used, the log names the fault once, and the certificate in use
    /// stays.
    async fn watch(&self, stop: CancellationToken) {
        let mut seen = self.stamps();
        while stop.run_until_cancelled(tokio::time::sleep(LOOK_INTERVAL)).await.is_some() {
            let stamps = self.stamps();
            if stamps == seen {
                continue;
            }
            seen = stamps;
            match self.read() {
                Ok(new) => self.replace(new),
                Err(error) => {
                    tracing::error!(outcome = "certificate_not_reloaded", error = %chain(&error), "the changed certificate cannot be used; the former one stays in use");
                }
            }
        }
    }

    fn stamps(&self) -> [Option<(u64, u64, i64, i64)>; 2] {
        let stamp = |path: &Path| -> io::Result<_> {
            let meta = fs::metadata(path)?;
            Ok((meta.ino(), meta.len(), meta.mtime(), meta.mtime_nsec()))
        };
        [&self.certificate_file, &self.key_file].map(|path| stamp(path).ok())
    }
}

#[derive(Debug)]
struct Resolver(Arc<TlsCertificate>);

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        if hello.alpn().is_some_and(|mut names| names.any(|name| name == ACME_TLS)) {
            return self.0.challenges.read().get(hello.server_name()?).cloned();
        }
        self.0.current.read().as_ref().map(|loaded| Arc::clone(&loaded.key))
    }
}
