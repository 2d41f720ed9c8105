//! The binding of a sealed record to its row.

use anteroom_wire::{CallerId, CredentialId, ProviderId, SessionId};
use sha2::{Digest, Sha256};

/// Bytes of a [`Binding`]'s digest.
pub(crate) const DIGEST_BYTES: usize = 32;

/// Domain separation: the first part, so that these bytes have no meaning in another context.
const DOMAIN: &[u8] = b"anteroom credential 1";

/// The ids to which a sealed record is bound. A record can be unsealed only with the binding with which it was sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Binding<'a> {
    /// The record.
    pub credential: &'a CredentialId,
    /// The owner: the caller that started the session.
    pub owner: &'a CallerId,
    /// The provider.
    pub provider: &'a ProviderId,
    /// The session that delivered it.
    pub session: &'a SessionId,
}

impl Binding<'_> {
    /// The associated data: each part after its length (32 bits, big endian), so that no two bindings have the same bytes.
    pub(crate) fn to_bytes(self) -> Vec<u8> {
        let parts = [
            DOMAIN,
            self.credential.as_str().as_bytes(),
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

    /// SHA-256 of [`Binding::to_bytes`].
    pub(crate) fn to_digest(self) -> [u8; DIGEST_BYTES] {
        Sha256::digest(self.to_bytes()).into()
    }
}
