//! Reads a certificate and its key, and checks them as a browser would, except for the authority.

use super::TlsError;
use crate::unix_time;
use rustls::{
    Error, InconsistentKeys,
    client::verify_server_name,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    server::ParsedCertificate,
    sign::CertifiedKey,
};
use std::{fs, os::unix::fs::MetadataExt, path::Path, sync::Arc};
use x509_parser::{parse_x509_certificate, time::ASN1Time};
use zeroize::Zeroizing;

/// A certificate with its key.
#[derive(Clone)]
pub(super) struct Loaded {
    pub(super) key: Arc<CertifiedKey>,
    /// The begin of its validity, milliseconds since 1970.
    pub(super) begins_at_ms: u64,
    /// The end of its validity, milliseconds since 1970.
    pub(super) ends_at_ms: u64,
}

impl Loaded {
    /// Whether the certificate is for this name too.
    pub(super) fn is_for(&self, name: &str) -> bool {
        self.key.cert.first().is_some_and(|own| check_host(Path::new(""), own, name).is_ok())
    }
}

/// Permissions that a key must not have: of others, and writing for its group.
const FORBIDDEN_MODE: u32 = 0o027;

pub(super) fn load(certificate: &Path, key: &Path, host: &str, now_ms: u64) -> Result<Loaded, TlsError> {
    let chain = read_chain(certificate)?;
    let own = chain.first().ok_or_else(|| TlsError::NoCertificate { path: certificate.to_owned() })?;
    let (begins_at_ms, ends_at_ms) = check_dates(certificate, own, now_ms)?;
    check_host(certificate, own, host)?;
    let malformed = |path: &Path, error: &Error| TlsError::Malformed { path: path.to_owned(), why: error.to_string() };
    let secret = read_key(key)?;
    let signing =
        ring::default_provider().key_provider.load_private_key(secret).map_err(|error| malformed(key, &error))?;
    let certified = CertifiedKey::new(chain, signing);
    match certified.keys_match() {
        Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => {}
        Err(Error::InconsistentKeys(_)) => {
            return Err(TlsError::OtherKey { key: key.to_owned(), certificate: certificate.to_owned() });
        }
        Err(error) => return Err(malformed(certificate, &error)),
    }
    Ok(Loaded { key: Arc::new(certified), begins_at_ms, ends_at_ms })
}

fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let text = fs::read(path).map_err(|source| TlsError::Unreadable { path: path.to_owned(), source })?;
    let parsed: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    parsed.map_err(|error| TlsError::Malformed { path: path.to_owned(), why: error.to_string() })
}

fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let unreadable = |source| TlsError::Unreadable { path: path.to_owned(), source };
    let mode = fs::metadata(path).map_err(unreadable)?.mode() & 0o777;
    if mode & FORBIDDEN_MODE != 0 {
        return Err(TlsError::KeyReadableByOthers { path: path.to_owned(), mode });
    }
    let text = Zeroizing::new(fs::read(path).map_err(unreadable)?);
    PrivateKeyDer::from_pem_slice(&text).map_err(|_| TlsError::NoKey { path: path.to_owned() })
}

/// Returns begin and end of the validity.
fn check_dates(path: &Path, certificate: &CertificateDer<'_>, now_ms: u64) -> Result<(u64, u64), TlsError> {
    let malformed = |why: String| TlsError::Malformed { path: path.to_owned(), why };
    let (_, parsed) = parse_x509_certificate(certificate).map_err(|error| malformed(error.to_string()))?;
    let to_ms = |time: ASN1Time| u64::try_from(time.timestamp()).unwrap_or(0).saturating_mul(1_000);
    let (begins_at_ms, ends_at_ms) = (to_ms(parsed.validity().not_before), to_ms(parsed.validity().not_after));
    let (path, shown) = (path.to_owned(), unix_time::format_rfc3339);
    if now_ms < begins_at_ms {
        return Err(TlsError::NotYetValid { path, at: shown(begins_at_ms) });
    }
    if now_ms >= ends_at_ms {
        return Err(TlsError::Expired { path, at: shown(ends_at_ms) });
    }
    Ok((begins_at_ms, ends_at_ms))
}

fn check_host(path: &Path, certificate: &CertificateDer<'_>, host: &str) -> Result<(), TlsError> {
    let malformed = |why: String| TlsError::Malformed { path: path.to_owned(), why };
    let parsed = ParsedCertificate::try_from(certificate).map_err(|error| malformed(error.to_string()))?;
    let name = ServerName::try_from(host.trim_matches(['[', ']'])).map_err(|error| malformed(error.to_string()))?;
    verify_server_name(&parsed, &name).map_err(|_| TlsError::OtherHost { path: path.to_owned(), host: host.to_owned() })
}
