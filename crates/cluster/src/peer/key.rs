//! The key of a host, and the request for its certificate.

use super::AuthorityError;
use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use zeroize::Zeroizing;

/// A new key. It never leaves its host.
pub struct PeerKey {
    /// The key, PKCS #8 as PEM.
    pub key_pem: Zeroizing<String>,
    /// The request that proves its possession, PKCS #10 as PEM.
    pub request_pem: String,
}

/// Makes a key (ECDSA P-256) and its request. The request names nothing: what the certificate says is the authority's.
///
/// # Errors
/// No random bytes.
pub fn new_peer_key() -> Result<PeerKey, AuthorityError> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    let request_pem = params.serialize_request(&key)?.pem()?;
    Ok(PeerKey { key_pem: Zeroizing::new(key.serialize_pem()), request_pem })
}
