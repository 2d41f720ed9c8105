//! The HTTP client for servers that the operator names: the webhook's receiver and the identity provider. Redirects and the proxy
//! variables of the environment are not followed.
//!
//! It uses hyper's client and not reqwest: features of a dependency apply to the whole build, and with TLS (rustls, ring) every reqwest
//! client would need a process-wide crypto provider and the certificates of this host, also those that use plain HTTP or a Unix socket.

use bytes::Bytes;
use http_body_util::Full;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, Error as ClientError, connect::HttpConnector},
    rt::TokioExecutor,
};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{
        CertificateDer,
        pem::{self, PemObject},
    },
};
use std::{
    error::Error,
    path::{Path, PathBuf},
    sync::Arc,
};

/// The client. It opens a connection for each request.
pub(crate) type HttpsClient = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// The setting `ca_file` of a section of the configuration.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CaFile<'a> {
    /// The section.
    pub(crate) section: &'static str,
    /// The setting.
    pub(crate) path: Option<&'a Path>,
}

/// Why the client cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ClientSetupError {
    /// TLS is not supported as configured.
    #[error("TLS")]
    Tls(#[source] rustls::Error),
    /// `ca_file` cannot be read.
    #[error("{section}.ca_file {} cannot be read", path.display())]
    CaFile {
        /// The section of the configuration.
        section: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        source: pem::Error,
    },
    /// `ca_file` has no certificate.
    #[error("{section}.ca_file {} contains no certificate", path.display())]
    NoCertificate {
        /// The section of the configuration.
        section: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// No certificate is trusted.
    #[error("the URL in [{section}] is https, and this host trusts no certificates: install ca-certificates")]
    NoTrustedCertificates {
        /// The section of the configuration.
        section: &'static str,
    },
}

/// An error of the HTTP client. It prints only the cause, since the client's sentence contains nothing about it.
#[derive(Debug)]
pub(crate) struct RequestError(pub(crate) ClientError);

impl std::fmt::Display for RequestError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0.source() {
            Some(cause) => std::fmt::Display::fmt(cause, f),
            None => std::fmt::Display::fmt(&self.0, f),
        }
    }
}

impl Error for RequestError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source().and_then(Error::source)
    }
}

/// Makes a client. With TLS it loads the trusted certificates.
///
/// # Errors
/// No certificate is trusted, or the file cannot be read.
pub(crate) fn https_client(is_tls: bool, ca_file: CaFile<'_>) -> Result<HttpsClient, ClientSetupError> {
    let roots = if is_tls { trusted_certificates(ca_file)? } else { RootCertStore::empty() };
    let tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(ClientSetupError::Tls)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().build();
    Ok(Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).retry_canceled_requests(false).build(connector))
}

/// The certificates that this host trusts, and those in the file.
pub(crate) fn trusted_certificates(ca_file: CaFile<'_>) -> Result<RootCertStore, ClientSetupError> {
    let CaFile { section, path } = ca_file;
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = path {
        let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        let read = read.map_err(|source| ClientSetupError::CaFile { section, path: path.to_owned(), source })?;
        let (added, _) = roots.add_parsable_certificates(read);
        if added == 0 {
            return Err(ClientSetupError::NoCertificate { section, path: path.to_owned() });
        }
    }
    if roots.is_empty() {
        return Err(ClientSetupError::NoTrustedCertificates { section });
    }
    Ok(roots)
}
