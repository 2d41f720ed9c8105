//! Seals the key of a cluster's certificate authority.

use super::{KeyRing, SealError};
use crate::{LockedBytes, SealedBytes, binding::append_part};

impl KeyRing {
    /// Seals the key of the authority with this certificate.
    ///
    /// # Errors
    /// As [`KeyRing::seal`].
    pub fn seal_authority_key(&self, certificate: &str, key: &[u8]) -> Result<SealedBytes, SealError> {
        self.seal_bound(&bound(certificate), key)
    }

    /// Unseals it; it belongs to no other certificate.
    ///
    /// # Errors
    /// As [`KeyRing::unseal`].
    pub fn unseal_authority_key(&self, certificate: &str, sealed: &SealedBytes) -> Result<LockedBytes, SealError> {
        self.unseal_bound(&bound(certificate), sealed)
    }
}

fn bound(certificate: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(1_024);
    append_part(&mut bytes, b"anteroom cluster authority 1");
    append_part(&mut bytes, certificate.as_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_unsealed_only_for_its_certificate() {
        let dir = tempfile::tempdir().unwrap();
        let ring = KeyRing::open_or_create(dir.path().join("key").as_path()).unwrap();
        let sealed = ring.seal_authority_key("one", b"secret").unwrap();
        assert_eq!(&*ring.unseal_authority_key("one", &sealed).unwrap(), b"secret");
        assert!(matches!(ring.unseal_authority_key("two", &sealed), Err(SealError::WrongBinding)));
        let rewrapped = ring.rewrap(&sealed).unwrap();
        assert_eq!(&*ring.unseal_authority_key("one", &rewrapped).unwrap(), b"secret");
    }
}
