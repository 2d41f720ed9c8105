//! A check of the way to one host, by the gate's own code, for `anteroom doctor --network`.

use super::{EgressError, EgressGate, GatedStream, HostName, Route, Way, dial::ByteStream, require_granted};
use anteroom_wire::{chain, provider::Provider, time::to_millis};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error as TlsError, ProtocolVersion, RootCertStore,
    SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use std::{
    io,
    net::IpAddr,
    sync::{Arc, OnceLock},
    time::Duration,
};
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;
use x509_parser::{certificate::X509Certificate, prelude::FromDer};

/// Longest name of an issuer in a report, characters.
const ISSUER_CHARS_MAX: usize = 200;
const PLAIN_HTTP_PORT: u16 = 80;
const TLS_PORT: u16 = 443;

/// What was found on the way to one host.
#[derive(Debug)]
pub struct Probe {
    /// The addresses of the name; empty if the gate did not resolve it.
    pub answers: Vec<IpAddr>,
    /// How the host was, or would have been, reached; `None`: the gate did not get so far.
    pub way: Option<Way>,
    /// Time to resolve the name, milliseconds.
    pub resolve_ms: Option<u64>,
    /// Time to connect, through the proxy if there is one, milliseconds.
    pub connect_ms: Option<u64>,
    /// The TLS connection; `None`: the host did not get so far, or its port carries no TLS.
    pub tls: Option<TlsReport>,
    /// Time of the whole check, milliseconds.
    pub total_ms: u64,
    /// Why the host cannot be used.
    pub failure: Option<ProbeFailure>,
}

/// A TLS connection to a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsReport {
    /// The version: `TLS 1.3`.
    pub version: &'static str,
    /// The issuer of the host's certificate.
    pub issuer: String,
    /// Time of the handshake, milliseconds.
    pub handshake_ms: u64,
}

/// Why a host cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ProbeFailure {
    /// The gate has no connection.
    #[error("{}", .0.detail)]
    Gate(EgressError),
    /// The host's certificate is by an authority that is not trusted here: mostly a proxy that inspects TLS.
    #[error("the certificate is by {issuer}, an authority that is not trusted here")]
    UnknownAuthority {
        /// The issuer of the certificate.
        issuer: String,
    },
    /// The certificate is not valid at the present time of this host.
    #[error("the certificate by {issuer} is not valid now: {why}")]
    Dates {
        /// The issuer of the certificate.
        issuer: String,
        /// What is wrong.
        why: String,
    },
    /// The certificate is not valid for the host.
    #[error("the certificate by {issuer} is not accepted: {why}")]
    Certificate {
        /// The issuer of the certificate.
        issuer: String,
        /// What is wrong.
        why: String,
    },
    /// No TLS connection.
    #[error("TLS failed: {0}")]
    Tls(String),
    /// No answer to the TLS handshake in time.
    #[error("the TLS handshake had no answer in {0} ms")]
    TlsTimeout(u64),
}

/// The TLS side of a probe: which authorities are trusted.
#[derive(Debug, Clone)]
pub struct ProbeTls {
    verifier: Arc<WebPkiServerVerifier>,
    provider: Arc<CryptoProvider>,
}

impl ProbeTls {
    /// Trusts these authorities.
    ///
    /// # Errors
    /// There is none.
    pub fn new(roots: RootCertStore) -> Result<Self, rustls::server::VerifierBuilderError> {
        let provider = Arc::new(ring::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build()?;
        Ok(Self { verifier, provider })
    }

    async fn handshake(
        &self,
        name: &HostName,
        stream: impl ByteStream,
        ms_max: u64,
    ) -> Result<TlsReport, ProbeFailure> {
        let started = Instant::now();
        let seen = Arc::new(RecordingVerifier { inner: Arc::clone(&self.verifier), seen: OnceLock::new() });
        let failed = |error: &(dyn std::error::Error + 'static)| ProbeFailure::Tls(chain(error));
        let config = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| failed(&error))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::clone(&seen) as Arc<dyn ServerCertVerifier>)
            .with_no_client_auth();
        let server = ServerName::try_from(name.as_str().to_owned()).map_err(|error| failed(&error))?;
        let connecting = TlsConnector::from(Arc::new(config)).connect(server, stream);
        let connected = timeout(Duration::from_millis(ms_max), connecting).await;
        let issuer = seen.seen.get().cloned().unwrap_or_default();
        match connected.map_err(|_| ProbeFailure::TlsTimeout(ms_max))? {
            Ok(stream) => Ok(TlsReport {
                version: match stream.get_ref().1.protocol_version() {
                    Some(ProtocolVersion::TLSv1_3) => "TLS 1.3",
                    Some(ProtocolVersion::TLSv1_2) => "TLS 1.2",
                    _ => "TLS",
                },
                issuer,
                handshake_ms: to_millis(started.elapsed()),
            }),
            Err(error) => Err(describe(&error, issuer)),
        }
    }
}

fn describe(error: &io::Error, issuer: String) -> ProbeFailure {
    match error.get_ref().and_then(|error| error.downcast_ref::<TlsError>()) {
        Some(TlsError::InvalidCertificate(CertificateError::UnknownIssuer)) => {
            ProbeFailure::UnknownAuthority { issuer }
        }
        Some(TlsError::InvalidCertificate(
            why @ (CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. }),
        )) => ProbeFailure::Dates { issuer, why: why.to_string() },
        Some(TlsError::InvalidCertificate(why)) => ProbeFailure::Certificate { issuer, why: why.to_string() },
        Some(error) => ProbeFailure::Tls(error.to_string()),
        None => ProbeFailure::Tls(error.to_string()),
    }
}

impl EgressGate {
    /// Reaches a host as for a machine of `provider`, then looks at its certificate. Sends no request.
    ///
    /// Ports other than 443 need no TLS: what does not speak it there is not a failure.
    pub async fn probe(&self, provider: &Provider, host: &str, port: u16, tls: &ProbeTls) -> Probe {
        let started = Instant::now();
        let mut probe = Probe {
            answers: Vec::new(),
            way: None,
            resolve_ms: None,
            connect_ms: None,
            tls: None,
            total_ms: 0,
            failure: None,
        };
        let (name, stream) = match self.probe_connection(provider, host, port, &mut probe).await {
            Ok(connected) => connected,
            Err(error) => {
                probe.answers.extend(error.refused_answer);
                probe.failure = Some(ProbeFailure::Gate(error));
                probe.total_ms = to_millis(started.elapsed());
                return probe;
            }
        };
        if port != PLAIN_HTTP_PORT {
            match tls.handshake(&name, stream, self.settings.connect_ms_max).await {
                Ok(report) => probe.tls = Some(report),
                Err(ProbeFailure::Tls(_) | ProbeFailure::TlsTimeout(_)) if port != TLS_PORT => {}
                Err(failure) => probe.failure = Some(failure),
            }
        }
        probe.total_ms = to_millis(started.elapsed());
        probe
    }

    async fn probe_connection(
        &self,
        provider: &Provider,
        host: &str,
        port: u16,
        probe: &mut Probe,
    ) -> Result<(HostName, GatedStream), EgressError> {
        let started = Instant::now();
        let name = require_granted(provider, host, port)?;
        let route = self.route(&name, port).await?;
        match &route {
            Route::Override(address) => {
                probe.answers = vec![address.ip()];
                probe.way = Some(Way::Override(*address));
            }
            Route::Direct(addresses) => {
                probe.answers = addresses.iter().map(std::net::SocketAddr::ip).collect();
                probe.way = addresses.first().copied().map(Way::Direct);
                probe.resolve_ms = Some(to_millis(started.elapsed()));
            }
            Route::Proxy(_) => probe.way = Some(Way::Proxy),
        }
        let connecting = Instant::now();
        let stream = self.open(&name, port, route, started).await?;
        probe.connect_ms = Some(to_millis(connecting.elapsed()));
        probe.way = Some(stream.way().clone());
        Ok((name, stream))
    }
}

/// Remembers who issued the certificate, also if it is not accepted.
#[derive(Debug)]
struct RecordingVerifier {
    inner: Arc<WebPkiServerVerifier>,
    seen: OnceLock<String>,
}

impl ServerCertVerifier for RecordingVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        let _ = self.seen.set(issuer_of(end_entity));
        self.inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// The name of the issuer: `C=US, O=Let's Encrypt, CN=R11`.
fn issuer_of(certificate: &CertificateDer<'_>) -> String {
    let issuer = X509Certificate::from_der(certificate).map(|(_, certificate)| certificate.issuer().to_string());
    let issuer = issuer.unwrap_or_else(|_| "an unknown issuer".to_owned());
    issuer.chars().filter(|c| !c.is_control()).take(ISSUER_CHARS_MAX).collect()
}
