//! Envelope encryption of credentials: the only crate that can create a [`SealedBytes`].
//!
//! ```text
//!  key file (0600) ──▶ KeyRing ── wraps ──▶ data key (one per record, random) ── encrypts ──▶ the credential
//!                                              │                                                 │
//!                         associated data: key id, digest of the binding      associated data: the complete binding
//! ```
//!
//! A record can be unsealed only with the [`Binding`] for which it was sealed (record, owner, provider, session), so a row that is
//! copied to another owner cannot be unsealed. A rotation rewraps the data key ([`KeyRing::rewrap`]) and does not change the content.
//! The README lists the threats against which this does not protect.

mod binding;
mod key_file;
mod key_ring;
mod locked_bytes;
mod sealed;

pub use binding::Binding;
pub use key_file::KeyError;
pub use key_ring::{KeyRing, SealError};
pub use locked_bytes::LockedBytes;
pub use sealed::{InvalidRecord, KeyId, SealedBytes};
