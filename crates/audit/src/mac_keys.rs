//! The keys that authenticate records.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::{collections::BTreeMap, fmt};
use zeroize::Zeroizing;

/// Bytes of a key.
pub const MAC_KEY_BYTES: usize = 32;

/// The keys of the records' MACs, by the number of the key of the key ring from which each is derived. The newest one signs.
#[derive(Clone, Default)]
pub struct MacKeys(BTreeMap<u32, Zeroizing<[u8; MAC_KEY_BYTES]>>);

/// Shows the numbers of the keys and nothing else.
impl fmt::Debug for MacKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MacKeys({:?})", self.0.keys())
    }
}

impl FromIterator<(u32, Zeroizing<[u8; MAC_KEY_BYTES]>)> for MacKeys {
    fn from_iter<I: IntoIterator<Item = (u32, Zeroizing<[u8; MAC_KEY_BYTES]>)>>(keys: I) -> Self {
        Self(keys.into_iter().collect())
    }
}

impl MacKeys {
    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The number of the newest key; 0 if there is none.
    pub(crate) fn newest(&self) -> u32 {
        self.0.keys().next_back().copied().unwrap_or(0)
    }

    /// The MAC of `parts` with key `key`, in hexadecimal. `None`: there is no such key.
    pub(crate) fn sign(&self, key: u32, parts: &[&[u8]]) -> Option<String> {
        Some(hex::encode(self.mac(key, parts)?.finalize().into_bytes()))
    }

    /// Whether `mac` is the MAC of `parts` with key `key`, compared in constant time. `None`: there is no such key.
    pub(crate) fn check(&self, key: u32, parts: &[&[u8]], mac: &str) -> Option<bool> {
        let expected = self.mac(key, parts)?;
        Some(hex::decode(mac).is_ok_and(|mac| expected.verify_slice(&mac).is_ok()))
    }

    fn mac(&self, key: u32, parts: &[&[u8]]) -> Option<Hmac<Sha256>> {
        let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(self.0.get(&key)?.as_slice()).ok()?;
        parts.iter().for_each(|part| mac.update(part));
        Some(mac)
    }
}
