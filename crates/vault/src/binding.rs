//! The binding of a sealed record to its row.

use anteroom_wire::{CallerId, CredentialId, ProviderId, SessionId};
use sha2::{Digest, Sha256};

/// Bytes of a [`Binding`]'s digest.
pub(crate) const DIGEST_BYTES: usize = 32;

/// The layouts of a record, which differ in what they are bound to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    /// Bound to record, owner, provider and session. Only read: [`KeyRing::upgrade`](crate::KeyRing::upgrade) replaces it.
    V1,
    /// Bound to all parts of a [`Binding`].
    V2,
}

/// Everything that decides who may read a record. A record can be unsealed only with the binding with which it was sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Binding<'a> {
    /// The record.
    pub credential: &'a CredentialId,
    /// The owner: the caller that started the session.
    pub owner: &'a CallerId,
    /// The owner's id for the user.
    pub user_id: Option<&'a str>,
    /// The provider.
    pub provider: &'a ProviderId,
    /// The session that delivered it.
    pub session: &'a SessionId,
    /// The revision of the credential.
    pub revision: u64,
}

impl Binding<'_> {
    /// The associated data: each part after its length (32 bits, big endian), so that no two bindings have the same bytes. The first
    /// part separates the layouts from each other and from other uses of the keys.
    pub(crate) fn to_bytes(self, layout: Layout) -> Vec<u8> {
        let ids = [self.credential.as_str(), self.owner.as_str(), self.provider.as_str(), self.session.as_str()];
        let mut bytes = Vec::with_capacity(256);
        match layout {
            Layout::V1 => append_part(&mut bytes, b"anteroom credential 1"),
            Layout::V2 => append_part(&mut bytes, b"anteroom credential 2"),
        }
        for id in ids {
            append_part(&mut bytes, id.as_bytes());
        }
        match layout {
            Layout::V1 => {}
            Layout::V2 => {
                append_part(&mut bytes, &self.revision.to_be_bytes());
                // No user differs from an empty name: it has no part.
                if let Some(user_id) = self.user_id {
                    append_part(&mut bytes, user_id.as_bytes());
                }
            }
        }
        bytes
    }

    /// SHA-256 of [`Binding::to_bytes`].
    pub(crate) fn to_digest(self, layout: Layout) -> [u8; DIGEST_BYTES] {
        Sha256::digest(self.to_bytes(layout)).into()
    }
}

pub(crate) fn append_part(bytes: &mut Vec<u8>, part: &[u8]) {
    // Ids are at most 44 bytes long, user ids at most 800, certificates a few KiB.
    bytes.extend_from_slice(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
    bytes.extend_from_slice(part);
}
