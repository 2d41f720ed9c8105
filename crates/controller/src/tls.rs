//! The certificate with which this server speaks TLS: read and checked as a browser would, and replaced while the server runs.

mod error;
mod load;

pub use error::TlsError;

use crate::{api_error::chain, config::Config, unix_time};
use load::Loaded;
use parking_lot::RwLock;
use rustls::{
    ServerConfig,
    crypto::ring,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use std::{
    fmt, fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio_util::sync::CancellationToken;

/// A certificate that is valid for less is reported, seconds.
pub const RENEW_BEFORE_S: u64 = 14 * 24 * 3_600;
/// Interval between two looks at the files.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);
const HTTP_1_1: &[u8] = b"http/1.1";
const HTTP_2: &[u8] = b"h2";

/// The server's certificate.
pub struct TlsCertificate {
    certificate_file: PathBuf,
    key_file: PathBuf,
    /// The host of `public_url`.
    host: String,
    current: RwLock<Loaded>,
}

/// Shows the paths.
impl fmt::Debug for TlsCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TlsCertificate({})", self.certificate_file.display())
    }
}

/// What is left of a certificate's validity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// Its end, milliseconds since 1970.
    pub ends_at_ms: u64,
    /// Whole days until then; 0: it ends within a day, or has ended.
    pub days: u64,
    /// Whether it must be renewed now.
    pub is_ending: bool,
}

impl Validity {
    /// For people.
    pub fn sentence(&self) -> String {
        let remedy = if self.is_ending { ": renew it; the server reads the new files by itself" } else { "" };
        format!("valid for {} more days, until {}{remedy}", self.days, unix_time::format_rfc3339(self.ends_at_ms))
    }
}

/// A certificate that was read and is not used yet.
pub struct NewCertificate(Loaded);

impl TlsCertificate {
    /// Reads the certificate of this configuration. `None`: it has none.
    ///
    /// # Errors
    /// The files cannot be used; the text names the file and what is wrong.
    pub fn open(config: &Config) -> Result<Option<Self>, TlsError> {
        let (Some(certificate_file), Some(key_file)) = (&config.tls.certificate_file, &config.tls.key_file) else {
            return Ok(None);
        };
        let host = config.public_url.as_deref().and_then(|url| url::Url::parse(url).ok());
        let host = host.and_then(|url| url.host_str().map(str::to_owned)).unwrap_or_default();
        let current = RwLock::new(load::load(certificate_file, key_file, &host, unix_time::now_unix_ms())?);
        Ok(Some(Self { certificate_file: certificate_file.clone(), key_file: key_file.clone(), host, current }))
    }

    /// Reads the files again.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn read(&self) -> Result<NewCertificate, TlsError> {
        load::load(&self.certificate_file, &self.key_file, &self.host, unix_time::now_unix_ms()).map(NewCertificate)
    }

    /// Uses another certificate for new connections.
    pub fn replace(&self, NewCertificate(new): NewCertificate) {
        let ends_at = unix_time::format_rfc3339(new.ends_at_ms);
        let is_same = self.current.read().key.cert == new.key.cert;
        *self.current.write() = new;
        if !is_same {
            tracing::info!(outcome = "certificate_reloaded", ends_at, "new certificate in use");
        }
    }

    /// How long the certificate is valid.
    pub fn validity(&self) -> Validity {
        let ends_at_ms = self.current.read().ends_at_ms;
        let left_s = ends_at_ms.saturating_sub(unix_time::now_unix_ms()) / 1_000;
        Validity { ends_at_ms, days: left_s / (24 * 3_600), is_ending: left_s <= RENEW_BEFORE_S }
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
        config.alpn_protocols =
            [HTTP_2, HTTP_1_1].iter().skip(usize::from(!with_http2)).map(|name| name.to_vec()).collect();
        Ok(Arc::new(config))
    }

    /// Reads the files again when they have changed, until the server stops. If they cannot be used, the log names the fault once, and the
    /// certificate in use stays.
    pub async fn run_watch(self: Arc<Self>, stop: CancellationToken) {
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
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.current.read().key))
    }
}
