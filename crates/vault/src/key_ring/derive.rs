//! Keys for other purposes than sealing, derived from the keys of the ring.

use super::KeyRing;
use crate::{KeyId, sealed::KEY_BYTES};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

impl KeyRing {
    /// One key for each key of the ring: HMAC-SHA256 of `purpose`. It reveals nothing of the key from which it is derived.
    pub fn derive_keys(&self, purpose: &str) -> Vec<(KeyId, Zeroizing<[u8; KEY_BYTES]>)> {
        self.keys().iter().map(|(id, key)| (*id, derive_key(&key.bytes, purpose))).collect()
    }
}

/// HMAC-SHA256 of `purpose` with a key of [`KEY_BYTES`] bytes.
pub(super) fn derive_key(key: &[u8], purpose: &str) -> Zeroizing<[u8; KEY_BYTES]> {
    let mut mac = hmac_with(key);
    mac.update(purpose.as_bytes());
    Zeroizing::new(mac.finalize().into_bytes().into())
}

/// A MAC by a key that is not longer than a block. Such a key is filled with zeros, as `new_from_slice` would.
pub(super) fn hmac_with(key: &[u8]) -> Hmac<Sha256> {
    let mut block = Zeroizing::new([0; BLOCK_BYTES]);
    let bytes = key.len().min(BLOCK_BYTES);
    block[..bytes].copy_from_slice(&key[..bytes]);
    <Hmac<Sha256> as KeyInit>::new((&*block).into())
}

/// Bytes of a block of SHA-256.
const BLOCK_BYTES: usize = 64;
