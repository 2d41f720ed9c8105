//! A certificate authority for one test: servers with the host names of identity providers, and clients that trust them.
//!
//! ```text
//!  TestCa ─▶ pem ─▶ NODE_EXTRA_CA_CERTS, SSL_CERT_FILE: the released tools trust it
//!     └─▶ TlsServer: one loopback address that serves all host names of an identity provider
//! ```
//!
//! The keys are only in memory.

mod server;

pub use server::TlsServer;

use anteroom_wire::provider::{Provider, SettingsFile};
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use std::{io, sync::Arc};
use tokio_rustls::{
    TlsAcceptor, TlsConnector,
    rustls::{
        ClientConfig, ConfigBuilder, RootCertStore, ServerConfig, WantsVerifier,
        client::WantsClientCert,
        crypto::ring,
        pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    },
};

/// The home directory of the user in the guest.
const HOME: &str = "/home/user";
const FILE: &str = ".test-ca/ca.pem";

/// The authority.
pub struct TestCa {
    issuer: CertifiedIssuer<'static, KeyPair>,
    /// The first and the last year in which certificates for servers are valid.
    years: Option<(i32, i32)>,
}

impl std::fmt::Debug for TestCa {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TestCa").finish_non_exhaustive()
    }
}

impl TestCa {
    /// Creates an authority with a new key.
    ///
    /// # Errors
    /// No random bytes.
    pub fn new() -> io::Result<Self> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "Authority of one test");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().map_err(io::Error::other)?;
        let issuer = CertifiedIssuer::self_signed(params, key).map_err(io::Error::other)?;
        Ok(Self { issuer, years: None })
    }

    /// Certificates of [`Self::acceptor`] are valid from the beginning of the first year to the beginning of the last, as a host sees them
    /// whose clock is wrong.
    #[must_use]
    pub fn valid_in(self, first: i32, last: i32) -> Self {
        Self { years: Some((first, last)), ..self }
    }

    /// Its certificate, for a file of trusted certificates.
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// Makes a provider's tool trust this authority in every method: `variable` is the environment variable by which it is configured to
    /// trust a file of certificates.
    pub fn trusted_by(&self, provider: &mut Provider, variable: &str) {
        let file = SettingsFile { path: FILE.to_owned(), content: self.pem() };
        provider.settings_files.push(file.clone());
        for method in provider.methods.values_mut() {
            method.settings_files.iter_mut().for_each(|settings| settings.push(file.clone()));
        }
        provider.env.insert(variable.to_owned(), format!("{HOME}/{FILE}"));
    }

    /// A certificate for these host names and IP addresses, and its key. `expired`: its validity ended in 2021.
    ///
    /// # Errors
    /// A name is invalid.
    pub fn issue(&self, names: &[&str], expired: bool) -> io::Result<(Certificate, KeyPair)> {
        let mut params = params_of(names)?;
        if let Some((first, last)) = if expired { Some((2020, 2021)) } else { self.years } {
            (params.not_before, params.not_after) = (date_time_ymd(first, 1, 1), date_time_ymd(last, 1, 1));
        }
        self.sign(&params)
    }

    /// The same; its validity ends with the begin of this day: year, month, day.
    ///
    /// # Errors
    /// A name is invalid.
    pub fn issue_until(&self, names: &[&str], (year, month, day): (i32, u8, u8)) -> io::Result<(Certificate, KeyPair)> {
        let mut params = params_of(names)?;
        params.not_after = date_time_ymd(year, month, day);
        self.sign(&params)
    }

    fn sign(&self, params: &CertificateParams) -> io::Result<(Certificate, KeyPair)> {
        let key = KeyPair::generate().map_err(io::Error::other)?;
        Ok((params.signed_by(&key, &self.issuer).map_err(io::Error::other)?, key))
    }

    /// A TLS acceptor with a certificate for these host names.
    ///
    /// # Errors
    /// A name is invalid.
    pub fn acceptor(&self, names: &[&str]) -> io::Result<TlsAcceptor> {
        let (certificate, key) = self.issue(names, false)?;
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .and_then(|config| config.with_no_client_auth().with_single_cert(vec![certificate.der().clone()], key))
            .map_err(io::Error::other)?;
        Ok(TlsAcceptor::from(Arc::new(config)))
    }

    /// A TLS connector that trusts this authority and no other.
    ///
    /// # Errors
    /// The certificate is invalid.
    pub fn connector(&self) -> io::Result<TlsConnector> {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).map_err(io::Error::other)?;
        let config: ConfigBuilder<ClientConfig, WantsVerifier> =
            ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
                .with_safe_default_protocol_versions()
                .map_err(io::Error::other)?;
        let config: ConfigBuilder<ClientConfig, WantsClientCert> = config.with_root_certificates(roots);
        Ok(TlsConnector::from(Arc::new(config.with_no_client_auth())))
    }
}

/// A server's certificate for these names.
fn params_of(names: &[&str]) -> io::Result<CertificateParams> {
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let mut params = CertificateParams::new(names).map_err(io::Error::other)?;
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    Ok(params)
}
