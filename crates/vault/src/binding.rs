//! What a sealed record belongs to.

use anteroom_wire::{CallerId, CredentialId, ProviderId, SessionId};
use sha2::{Digest, Sha256};

/// Bytes of a [`Binding`]'s digest.
pub(crate) const DIGEST_BYTES: usize = 32;

/// Said first, so that these bytes mean nothing elsewhere.
const DOMAIN: &[u8] = b"anteroom credential 1";

/// What a sealed record belongs to. A record opens only under the binding it was sealed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Binding<'a> {
    /// The record.
    pub record: &'a CredentialId,
    /// Whose it is: the caller that started the session.
    pub owner: &'a CallerId,
    /// The tool it is for.
    pub provider: &'a ProviderId,
    /// The session it came from.
    pub session: &'a SessionId,
}

impl Binding<'_> {
    /// The associated data: each part behind its length (32 bits, big endian), so that no two bindings give the same bytes.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let parts = [
            DOMAIN,
            self.record.as_str().as_bytes(),
            self.owner.as_str().as_bytes(),
            self.provider.as_str().as_bytes(),
        ];
        let mut bytes = Vec::with_capacity(192);
        for part in parts.into_iter().chain([self.session.as_str().as_bytes()]) {
            // Ids are at most 44 bytes long.
            bytes.extend_from_slice(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
            bytes.extend_from_slice(part);
        }
        bytes
    }

    /// SHA-256 of [`Binding::bytes`].
    pub(crate) fn digest(&self) -> [u8; DIGEST_BYTES] {
        Sha256::digest(self.bytes()).into()
    }
}
