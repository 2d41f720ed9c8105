//! Keys for other purposes than sealing, derived from the keys of the ring.

use super::KeyRing;
use crate::{KeyId, sealed::KEY_BYTES};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

impl KeyRing {
    /// One key for each key of the ring: HMAC-SHA256 of `purpose`. It reveals nothing of the key from which it is derived.
    pub fn derive_keys(&self, purpose: &str) -> Vec<(KeyId, Zeroizing<[u8; KEY_BYTES]>)> {
        let derive = |key: &[u8]| {
            let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(key).ok()?;
            mac.update(purpose.as_bytes());
            Some(Zeroizing::new(mac.finalize().into_bytes().into()))
        };
        self.keys().iter().filter_map(|(id, key)| Some((*id, derive(&key.bytes)?))).collect()
    }
}
