//! The certificate authority of a cluster.

use anteroom_wire::HostId;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType, string::Ia5String,
};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use sha2::{Digest, Sha256};
use std::fmt;
use time::{Duration, OffsetDateTime};
use x509_parser::{extensions::GeneralName, parse_x509_certificate};
use zeroize::Zeroizing;

/// How long a host's certificate is valid, seconds: 30 days.
pub const CERTIFICATE_LIFETIME_S: u64 = 30 * DAY_S;
/// How long the authority's certificate is valid, seconds: about ten years.
const AUTHORITY_LIFETIME_S: u64 = 3_652 * DAY_S;
const DAY_S: u64 = 24 * 3_600;
/// A certificate is valid from so long before it is issued, seconds, or a tenth of its life: clocks of hosts differ.
const CLOCK_SKEW_S: u64 = 300;
/// The scheme of the name in a host's certificate.
const SCHEME: &str = "host:";
/// The most bytes of a request for a certificate.
pub(crate) const REQUEST_BYTES_MAX: usize = 4 * 1_024;

/// The authority that issues the certificates of hosts.
pub struct Authority {
    certificate: CertificateDer<'static>,
    certificate_pem: String,
    key: KeyPair,
}

/// Why a certificate cannot be issued.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// Of the library.
    #[error("certificate: {0}")]
    Library(#[from] rcgen::Error),
    /// Text that is no certificate.
    #[error("the authority's certificate is not well formed")]
    MalformedCertificate,
    /// A time outside of what certificates have.
    #[error("the time {0} ms cannot be written into a certificate")]
    Time(u64),
    /// A request that is longer than any that a host makes.
    #[error("the request for a certificate is longer than {REQUEST_BYTES_MAX} bytes")]
    LongRequest,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Authority({})", self.fingerprint())
    }
}

impl Authority {
    /// A new authority.
    ///
    /// # Errors
    /// No random bytes.
    pub fn create(now_ms: u64) -> Result<Self, AuthorityError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "Anteroom cluster");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        set_validity(&mut params, now_ms, AUTHORITY_LIFETIME_S)?;
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?;
        Ok(Self { certificate: certificate.der().clone(), certificate_pem: certificate.pem(), key })
    }

    /// An authority that was created before.
    ///
    /// # Errors
    /// The texts are not well formed.
    pub fn open(certificate_pem: &str, key_pem: &str) -> Result<Self, AuthorityError> {
        let certificate = CertificateDer::from_pem_slice(certificate_pem.as_bytes())
            .map_err(|_| AuthorityError::MalformedCertificate)?;
        Ok(Self { certificate, certificate_pem: certificate_pem.to_owned(), key: KeyPair::from_pem(key_pem)? })
    }

    /// Its certificate as PEM.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// Its key as PEM, to be sealed.
    pub fn key_pem(&self) -> Zeroizing<String> {
        Zeroizing::new(self.key.serialize_pem())
    }

    /// The secret with which invitations are authenticated.
    pub(crate) fn invitation_key(&self) -> ring::hmac::Key {
        let mut bytes = Zeroizing::new(b"anteroom invitation of a host 1\0".to_vec());
        bytes.extend_from_slice(self.key.serialized_der());
        let secret: Zeroizing<[u8; 32]> = Zeroizing::new(Sha256::digest(&*bytes).into());
        ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret.as_slice())
    }

    /// SHA-256 of its certificate.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.certificate)
    }

    /// Issues a certificate for this host, valid for so long: the chain as PEM, the host's certificate first. Of the request, only the key
    /// is used.
    ///
    /// # Errors
    /// The request is not well formed or does not prove the possession of its key.
    pub fn issue(
        &self,
        request_pem: &str,
        host: &HostId,
        now_ms: u64,
        lifetime_s: u64,
    ) -> Result<String, AuthorityError> {
        if request_pem.len() > REQUEST_BYTES_MAX {
            return Err(AuthorityError::LongRequest);
        }
        let request = CertificateSigningRequestParams::from_pem(request_pem)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names = vec![SanType::URI(Ia5String::try_from(format!("{SCHEME}{host}"))?)];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        set_validity(&mut params, now_ms, lifetime_s)?;
        let issuer = Issuer::from_ca_cert_der(&self.certificate, &self.key)?;
        let certificate = params.signed_by(&request.public_key, &issuer)?;
        Ok(format!("{}{}", certificate.pem(), self.certificate_pem))
    }
}

fn set_validity(params: &mut CertificateParams, now_ms: u64, lifetime_s: u64) -> Result<(), AuthorityError> {
    let seconds = i64::try_from(now_ms / 1_000).map_err(|_| AuthorityError::Time(now_ms))?;
    let now = OffsetDateTime::from_unix_timestamp(seconds).map_err(|_| AuthorityError::Time(now_ms))?;
    let duration =
        |seconds: u64| i64::try_from(seconds).map(Duration::seconds).map_err(|_| AuthorityError::Time(now_ms));
    params.not_before = now - duration(CLOCK_SKEW_S.min(lifetime_s / 10))?;
    params.not_after = now + duration(lifetime_s)?;
    Ok(())
}

/// SHA-256 of a certificate.
#[derive(Clone, PartialEq, Eq)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// That of this certificate.
    pub fn of(certificate: &CertificateDer<'_>) -> Self {
        Self(Sha256::digest(certificate).into())
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl From<[u8; 32]> for Fingerprint {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The host that a certificate names: it has exactly one name, `host:<id>`. `None`: it is not a host's.
pub fn host_of(certificate: &CertificateDer<'_>) -> Option<HostId> {
    let (_, parsed) = parse_x509_certificate(certificate).ok()?;
    let names = parsed.subject_alternative_name().ok()??;
    match names.value.general_names.as_slice() {
        [GeneralName::URI(uri)] => uri.strip_prefix(SCHEME)?.parse().ok(),
        _ => None,
    }
}

/// Begin and end of a certificate's validity, milliseconds since 1970. `None`: it is not well formed.
pub fn certificate_validity(certificate: &CertificateDer<'_>) -> Option<(u64, u64)> {
    let (_, parsed) = parse_x509_certificate(certificate).ok()?;
    let ms = |seconds: i64| u64::try_from(seconds).unwrap_or(0).saturating_mul(1_000);
    Some((ms(parsed.validity().not_before.timestamp()), ms(parsed.validity().not_after.timestamp())))
}
