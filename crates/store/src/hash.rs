//! SHA-256 hashes, the form in which tokens are stored.

use anteroom_wire::Secret;
use sha2::{Digest, Sha256};
use std::{fmt, str::FromStr};

/// A SHA-256 hash as 64 characters of `0-9 a-f`: the stored form of a token, ticket or request.
///
/// A plain hash is sufficient because these tokens have at least 128 random bits; it would not be for passwords.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Sha256Hex(String);

/// A text that is not 64 characters of `0-9 a-f`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not 64 characters of 0-9 and a-f")]
pub struct NotHex;

impl Sha256Hex {
    /// The hash of `bytes`.
    pub fn of_bytes(bytes: &[u8]) -> Self {
        Self(hex::encode(Sha256::digest(bytes)))
    }

    /// The hash of a token.
    pub fn of_secret(secret: &Secret) -> Self {
        Self::of_bytes(secret.expose().as_bytes())
    }

    /// Its first 80 bits.
    pub(crate) fn first_bytes(&self) -> [u8; 10] {
        let mut bytes = [0; 10];
        // Cannot fail: the text has 64 hex digits.
        let _ = hex::decode_to_slice(&self.0[..20], &mut bytes);
        bytes
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Sha256Hex {
    type Err = NotHex;
    fn from_str(text: &str) -> Result<Self, NotHex> {
        let good = text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if good { Ok(Self(text.to_owned())) } else { Err(NotHex) }
    }
}

/// Shows the first characters: enough to compare two hashes in a log, not enough to look one up.
impl fmt::Debug for Sha256Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sha256Hex({}…)", &self.0[..8])
    }
}
