//! The byte layout of a sealed record.
//!
//! | bytes | what | covered by |
//! |---|---|---|
//! | 0–3 | `ATS2` (earlier versions wrote `ATS1`): kind and version of the layout | wrap's associated data |
//! | 4–7 | id of the wrapping key, 32 bits, big endian | wrap's associated data |
//! | 8–39 | SHA-256 of the binding | wrap's associated data |
//! | 40–63 | nonce of the wrap | wrap |
//! | 64–111 | data key (32), wrapped, with its tag (16) | wrap |
//! | 112–135 | nonce of the content | content |
//! | 136– | content, encrypted with the data key, with its tag (16) | content |
//!
//! Both layers are XChaCha20-Poly1305; the content's associated data is the complete binding.

use crate::binding::{DIGEST_BYTES, Layout};
use std::fmt;

const MAGIC_V1: [u8; 4] = *b"ATS1";
const MAGIC: [u8; 4] = *b"ATS2";
const ID_END: usize = 8;
/// The associated data of the wrap.
const HEADER_END: usize = ID_END + DIGEST_BYTES;
const WRAP_NONCE_END: usize = HEADER_END + NONCE_BYTES;
const WRAPPED_END: usize = WRAP_NONCE_END + KEY_BYTES + TAG_BYTES;
const CONTENT_NONCE_END: usize = WRAPPED_END + NONCE_BYTES;
const LEN_MIN: usize = CONTENT_NONCE_END + TAG_BYTES;

/// Bytes of a key.
pub(crate) const KEY_BYTES: usize = 32;
/// Bytes of an XChaCha20-Poly1305 nonce.
pub(crate) const NONCE_BYTES: usize = 24;
/// Bytes of a Poly1305 tag.
pub(crate) const TAG_BYTES: usize = 16;

/// The number of a wrapping key in the key file: 1, 2, 3 … A greater one is newer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(pub u32);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Bytes that are not a sealed record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRecord {
    /// Too few bytes for the layout.
    #[error("{bytes} bytes are too few for a sealed record (at least {LEN_MIN})")]
    TooShort {
        /// How many there were.
        bytes: usize,
    },
    /// The first four bytes are not those of a known layout.
    #[error("these bytes do not start like a sealed record, or a newer version made it")]
    UnknownFormat,
}

/// A sealed record, the only form in which a credential may be stored. Only a [`KeyRing`](crate::KeyRing) seals and unseals records.
#[derive(Clone, PartialEq, Eq)]
pub struct SealedBytes(Vec<u8>);

/// The parts of a record, in the order of the layout.
pub(crate) struct SealedParts<'a> {
    pub(crate) header: &'a [u8],
    pub(crate) binding_digest: &'a [u8],
    pub(crate) wrap_nonce: [u8; NONCE_BYTES],
    pub(crate) wrapped_data_key: &'a [u8],
    pub(crate) content_nonce: [u8; NONCE_BYTES],
    pub(crate) sealed_content: &'a [u8],
}

impl SealedBytes {
    /// The record as it is stored (layout: see the source of this module, or the README).
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// A stored record. Checks only its length and first bytes; its authenticity is checked when it is unsealed.
    ///
    /// # Errors
    /// When there are too few bytes, or they do not start like a record.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, InvalidRecord> {
        if bytes.len() < LEN_MIN {
            return Err(InvalidRecord::TooShort { bytes: bytes.len() });
        }
        if ![MAGIC, MAGIC_V1].iter().any(|magic| bytes.starts_with(magic)) {
            return Err(InvalidRecord::UnknownFormat);
        }
        Ok(Self(bytes))
    }

    /// The key that wraps this record's data key.
    pub fn key_id(&self) -> KeyId {
        KeyId(u32::from_be_bytes(array(&self.0[MAGIC.len()..ID_END])))
    }

    /// Whether an earlier version sealed it, without the user and the revision: it is to be [upgraded](crate::KeyRing::upgrade).
    pub fn is_outdated(&self) -> bool {
        self.layout() == Layout::V1
    }

    pub(crate) fn layout(&self) -> Layout {
        if self.0.starts_with(&MAGIC_V1) { Layout::V1 } else { Layout::V2 }
    }

    /// The associated data of a wrap.
    pub(crate) fn build_header(layout: Layout, key: KeyId, digest: &[u8]) -> Vec<u8> {
        let mut header = Vec::with_capacity(HEADER_END);
        header.extend_from_slice(match layout {
            Layout::V1 => &MAGIC_V1,
            Layout::V2 => &MAGIC,
        });
        header.extend_from_slice(&key.0.to_be_bytes());
        header.extend_from_slice(digest);
        header
    }

    /// Assembles a record. The lengths are those of the layout.
    pub(crate) fn assemble(parts: &SealedParts<'_>) -> Self {
        let mut bytes = Vec::with_capacity(CONTENT_NONCE_END + parts.sealed_content.len());
        bytes.extend_from_slice(parts.header);
        bytes.extend_from_slice(&parts.wrap_nonce);
        bytes.extend_from_slice(parts.wrapped_data_key);
        bytes.extend_from_slice(&parts.content_nonce);
        bytes.extend_from_slice(parts.sealed_content);
        Self(bytes)
    }

    /// Splits a record into its parts; the length was checked when it was created.
    pub(crate) fn split_parts(&self) -> SealedParts<'_> {
        SealedParts {
            header: &self.0[..HEADER_END],
            binding_digest: &self.0[ID_END..HEADER_END],
            wrap_nonce: array(&self.0[HEADER_END..WRAP_NONCE_END]),
            wrapped_data_key: &self.0[WRAP_NONCE_END..WRAPPED_END],
            content_nonce: array(&self.0[WRAPPED_END..CONTENT_NONCE_END]),
            sealed_content: &self.0[CONTENT_NONCE_END..],
        }
    }
}

/// Shows the key and the size, nothing of the content.
impl fmt::Debug for SealedBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealed(key {}, {} bytes)", self.key_id(), self.0.len())
    }
}

/// `N` bytes as an array; the callers' ranges have that length.
fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(bytes);
    out
}
