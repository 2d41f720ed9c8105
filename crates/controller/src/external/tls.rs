//! TLS to external desktops: which certificate is accepted, and why another is not.

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{
        CertificateDer, InvalidDnsNameError, ServerName, UnixTime,
        pem::{self, PemObject},
    },
};
use sha2::{Digest, Sha256};
use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// Bytes of a SHA-256.
const SHA256_BYTES: usize = 32;

/// Which certificate a desktop must show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Trust {
    /// One for the desktop's host, by an authority that this host trusts.
    SystemRoots,
    /// One for the desktop's host, by an authority in this PEM file.
    CaFile(PathBuf),
    /// Exactly the one with this SHA-256, whatever its host, authority and age.
    Certificate([u8; SHA256_BYTES]),
}

/// What is wrong with the settings. The sentence is a clause after the name of the machine.
#[derive(Debug, thiserror::Error)]
pub(super) enum TlsSettingsError {
    #[error(".ca_file {} cannot be read", path.display())]
    CaFile {
        path: PathBuf,
        #[source]
        source: pem::Error,
    },
    #[error(".ca_file {} contains no certificate", path.display())]
    NoCertificate { path: PathBuf },
    #[error(": this host trusts no certificates; install ca-certificates, or set ca_file")]
    NoTrustedCertificates,
    #[error(".desktop names a host for which there can be no certificate")]
    InvalidHost(#[from] InvalidDnsNameError),
    #[error(": TLS cannot be set up")]
    Tls(#[from] rustls::Error),
}

/// Opens TLS connections to one desktop.
#[derive(Clone)]
pub struct DesktopTls {
    connector: TlsConnector,
    server_name: ServerName<'static>,
}

impl std::fmt::Debug for DesktopTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DesktopTls")
    }
}

impl DesktopTls {
    /// For the desktop on `host`: a name or an IP address.
    pub(super) fn new(host: &str, trust: &Trust) -> Result<Self, TlsSettingsError> {
        let server_name = ServerName::try_from(host.to_owned())?;
        let provider = Arc::new(ring::default_provider());
        let config =
            ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions()?;
        let config = match trust {
            Trust::SystemRoots => config.with_root_certificates(system_roots()?),
            Trust::CaFile(path) => config.with_root_certificates(read_ca_file(path)?),
            Trust::Certificate(sha256) => config
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(PinnedCertificate { sha256: *sha256, provider })),
        };
        Ok(Self { connector: TlsConnector::from(Arc::new(config.with_no_client_auth())), server_name })
    }

    /// The TLS handshake. The caller must set a timeout.
    pub(super) async fn connect<S>(&self, stream: S) -> Result<TlsStream<S>, TlsFault>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        self.connector.connect(self.server_name.clone(), stream).await.map_err(TlsFault::from)
    }
}

fn system_roots() -> Result<RootCertStore, TlsSettingsError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() { Err(TlsSettingsError::NoTrustedCertificates) } else { Ok(roots) }
}

fn read_ca_file(path: &Path) -> Result<RootCertStore, TlsSettingsError> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let certificates = read.map_err(|source| TlsSettingsError::CaFile { path: path.to_owned(), source })?;
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(certificates);
    if added == 0 { Err(TlsSettingsError::NoCertificate { path: path.to_owned() }) } else { Ok(roots) }
}

/// Parses the SHA-256 of a certificate: 64 hexadecimal digits, with or without colons.
pub(super) fn parse_sha256(text: &str) -> Option<[u8; SHA256_BYTES]> {
    hex::decode(text.replace(':', "")).ok()?.try_into().ok()
}

/// Why a TLS handshake failed. The sentence contains no address.
#[derive(Debug, thiserror::Error)]
pub enum TlsFault {
    /// The end of its validity is past.
    #[error("its certificate has expired")]
    Expired(#[source] rustls::Error),
    /// The start of its validity is in the future.
    #[error("its certificate is not valid yet")]
    NotValidYet(#[source] rustls::Error),
    /// It does not contain the host of the desktop's address.
    #[error("its certificate is for another host")]
    WrongName(#[source] rustls::Error),
    /// No trusted authority signed it.
    #[error("its certificate is signed by an unknown authority")]
    UnknownAuthority(#[source] rustls::Error),
    /// It does not have the configured SHA-256.
    #[error("its certificate is not the one with the configured certificate_sha256")]
    NotThePinnedOne(#[source] rustls::Error),
    /// Any other fault of the certificate.
    #[error("its certificate is invalid")]
    InvalidCertificate(#[source] rustls::Error),
    /// Its bytes are not TLS.
    #[error("it does not speak TLS")]
    NotTls(#[source] rustls::Error),
    /// It speaks TLS, but the handshake failed.
    #[error("the TLS handshake failed")]
    Handshake(#[source] rustls::Error),
    /// The stream ended.
    #[error("it closed during the TLS handshake")]
    Closed(#[source] io::Error),
}

impl TlsFault {
    /// Whether the desktop showed a certificate that is not accepted.
    pub(super) fn is_certificate(&self) -> bool {
        match self {
            Self::Expired(_)
            | Self::NotValidYet(_)
            | Self::WrongName(_)
            | Self::UnknownAuthority(_)
            | Self::NotThePinnedOne(_)
            | Self::InvalidCertificate(_) => true,
            Self::NotTls(_) | Self::Handshake(_) | Self::Closed(_) => false,
        }
    }
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "enums of a library that grow; everything else has no sentence of its own"
)]
impl From<io::Error> for TlsFault {
    fn from(error: io::Error) -> Self {
        let Some(cause) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) else {
            return Self::Closed(error);
        };
        let cause = cause.clone();
        match &cause {
            rustls::Error::InvalidCertificate(fault) => match fault {
                CertificateError::Expired | CertificateError::ExpiredContext { .. } => Self::Expired(cause),
                CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => Self::NotValidYet(cause),
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                    Self::WrongName(cause)
                }
                CertificateError::UnknownIssuer => Self::UnknownAuthority(cause),
                CertificateError::ApplicationVerificationFailure => Self::NotThePinnedOne(cause),
                _ => Self::InvalidCertificate(cause),
            },
            rustls::Error::InvalidMessage(_)
            | rustls::Error::InappropriateMessage { .. }
            | rustls::Error::PeerSentOversizedRecord => Self::NotTls(cause),
            _ => Self::Handshake(cause),
        }
    }
}

/// Accepts exactly one certificate.
#[derive(Debug)]
struct PinnedCertificate {
    sha256: [u8; SHA256_BYTES],
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for PinnedCertificate {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if Sha256::digest(end_entity)[..] == self.sha256 {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(rustls::Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }

    fn root_hint_subjects(&self) -> Option<&[DistinguishedName]> {
        None
    }
}
