//! TLS 1.3 between hosts. Both sides show certificates of the cluster's authority; a client expects the host that it wants to reach.

use super::{Fingerprint, PeerIdentity, host_of};
use anteroom_wire::HostId;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, ServerConfig,
    SignatureScheme,
    client::{
        ResolvesClientCert, Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor,
    },
    crypto::{CryptoProvider, ring, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::{
        ClientHello, ParsedCertificate, ResolvesServerCert, WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
    sign::CertifiedKey,
    version::TLS13,
};
use std::sync::Arc;

/// Requests and answers, several at once.
pub const ALPN_HTTP2: &[u8] = b"h2";
/// One WebSocket.
pub const ALPN_HTTP1: &[u8] = b"http/1.1";
/// The request of a machine that joins: the only one without a certificate.
pub const ALPN_JOIN: &[u8] = b"anteroom-join/1";

/// TLS with a host's certificate. Cheap to make again when the certificate was renewed.
#[derive(Clone)]
pub struct PeerTls {
    identity: PeerIdentity,
    provider: Arc<CryptoProvider>,
}

impl PeerTls {
    /// With this certificate.
    pub fn new(identity: PeerIdentity) -> Self {
        Self { identity, provider: Arc::new(ring::default_provider()) }
    }

    /// The host that the certificate names.
    pub fn host(&self) -> &HostId {
        &self.identity.host
    }

    /// The certificate and its validity.
    pub fn identity(&self) -> &PeerIdentity {
        &self.identity
    }

    /// How connections of hosts are accepted: with a certificate of the authority. The certificate's name is yet to be checked.
    ///
    /// # Errors
    /// There is no authority's certificate.
    pub fn accept_hosts(&self) -> Result<Arc<ServerConfig>, Error> {
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::clone(&self.identity.roots), Arc::clone(&self.provider))
                .build()
                .map_err(|error| Error::General(error.to_string()))?;
        let builder =
            ServerConfig::builder_with_provider(Arc::clone(&self.provider)).with_protocol_versions(&[&TLS13])?;
        let mut config = builder
            .with_client_cert_verifier(Arc::new(ClientVerifier(verifier)))
            .with_cert_resolver(Arc::new(OwnCertificate(Arc::clone(&self.identity.certified))));
        config.alpn_protocols = vec![ALPN_HTTP2.to_vec(), ALPN_HTTP1.to_vec()];
        // Each connection shows its certificate: a session that is resumed would not.
        config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Arc::new(config))
    }

    /// How the connection of a machine that joins is accepted: without its certificate.
    ///
    /// # Errors
    /// The library cannot be set up.
    pub fn accept_joining(&self) -> Result<Arc<ServerConfig>, Error> {
        let builder =
            ServerConfig::builder_with_provider(Arc::clone(&self.provider)).with_protocol_versions(&[&TLS13])?;
        let resolver = Arc::new(OwnCertificate(Arc::clone(&self.identity.certified)));
        let mut config = builder.with_no_client_auth().with_cert_resolver(resolver);
        config.alpn_protocols = vec![ALPN_JOIN.to_vec()];
        config.send_tls13_tickets = 0;
        Ok(Arc::new(config))
    }

    /// How a connection to this host is made; `alpn` is [`ALPN_HTTP2`] or [`ALPN_HTTP1`].
    ///
    /// # Errors
    /// The library cannot be set up.
    pub fn connect_to(&self, host: &HostId, alpn: &[u8]) -> Result<Arc<ClientConfig>, Error> {
        let verifier = HostVerifier {
            expected: host.clone(),
            roots: Arc::clone(&self.identity.roots),
            provider: Arc::clone(&self.provider),
        };
        let builder =
            ClientConfig::builder_with_provider(Arc::clone(&self.provider)).with_protocol_versions(&[&TLS13])?;
        let mut config = builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_cert_resolver(Arc::new(OwnCertificate(Arc::clone(&self.identity.certified))));
        config.alpn_protocols = vec![alpn.to_vec()];
        config.enable_sni = false;
        // No host gives tickets out; the memory for them would be kept for each connection.
        config.resumption = Resumption::disabled();
        Ok(Arc::new(config))
    }
}

/// TLS of a machine that joins.
pub struct JoinTls;

impl JoinTls {
    /// How a connection to a host of the cluster with this authority is made.
    ///
    /// # Errors
    /// The library cannot be set up.
    pub fn connect(authority: &Fingerprint) -> Result<Arc<ClientConfig>, Error> {
        let provider = Arc::new(ring::default_provider());
        let verifier = FingerprintVerifier { authority: authority.clone(), provider: Arc::clone(&provider) };
        let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[&TLS13])?;
        let mut config = builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth();
        config.alpn_protocols = vec![ALPN_JOIN.to_vec()];
        config.enable_sni = false;
        Ok(Arc::new(config))
    }
}

/// This host's certificate, whatever the other side asks for.
#[derive(Debug)]
struct OwnCertificate(Arc<CertifiedKey>);

impl ResolvesServerCert for OwnCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

impl ResolvesClientCert for OwnCertificate {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Requires a certificate of the authority that names a host; does not name the authority.
#[derive(Debug)]
struct ClientVerifier(Arc<dyn ClientCertVerifier>);

impl ClientCertVerifier for ClientVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.0.verify_client_cert(end_entity, intermediates, now)?;
        host_of(end_entity).map(|_| verified).ok_or(CertificateError::NotValidForName.into())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(only_tls13())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

fn only_tls13() -> Error {
    Error::General("hosts speak TLS 1.3".to_owned())
}

fn check_chain(
    end_entity: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    roots: &RootCertStore,
    now: UnixTime,
    provider: &CryptoProvider,
) -> Result<(), Error> {
    let parsed = ParsedCertificate::try_from(end_entity)?;
    let algorithms = provider.signature_verification_algorithms.all;
    verify_server_cert_signed_by_trust_anchor(&parsed, roots, intermediates, now, algorithms)
}

macro_rules! tls13_only {
    () => {
        fn verify_tls12_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Err(only_tls13())
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signature: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.provider.signature_verification_algorithms.supported_schemes()
        }
    };
}

/// Requires a certificate of the authority with the name of the expected host.
#[derive(Debug)]
struct HostVerifier {
    expected: HostId,
    roots: Arc<RootCertStore>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for HostVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        check_chain(end_entity, intermediates, &self.roots, now, &self.provider)?;
        if host_of(end_entity).as_ref() != Some(&self.expected) {
            return Err(CertificateError::NotValidForName.into());
        }
        Ok(ServerCertVerified::assertion())
    }

    tls13_only!();
}

/// Requires a host's certificate of the authority with this fingerprint, which the host sends as the last of its chain.
#[derive(Debug)]
struct FingerprintVerifier {
    authority: Fingerprint,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for FingerprintVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let authority = intermediates.iter().find(|certificate| Fingerprint::of(certificate) == self.authority);
        let authority = authority.ok_or(CertificateError::UnknownIssuer)?;
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone().into_owned())?;
        check_chain(end_entity, intermediates, &roots, now, &self.provider)?;
        if host_of(end_entity).is_none() {
            return Err(CertificateError::NotValidForName.into());
        }
        Ok(ServerCertVerified::assertion())
    }

    tls13_only!();
}
