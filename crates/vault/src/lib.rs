//! Envelope encryption of credentials: the only crate that can create a [`SealedBytes`].
//!
//! ```text
//!  key file (0600, a systemd credential, or wrapped by a PKCS#11 token)
//!     └─▶ KeyRing ── wraps ──▶ data key (one per record, random) ── encrypts ──▶ the credential
//!                                              │                                                 │
//!                         associated data: key id, digest of the binding      associated data: the complete binding
//! ```
//!
//! A record can be unsealed only with the [`Binding`] for which it was sealed (record, owner, user, provider, session, revision), so a
//! row that is moved or changed cannot be unsealed. A rotation rewraps the data key ([`KeyRing::rewrap`]) and does not change the content.
//! The README lists the threats against which this does not protect.

mod binding;
mod key_error;
mod key_file;
mod key_ring;
mod key_source;
mod locked_bytes;
mod sealed;
mod token;

pub use binding::Binding;
pub use key_error::KeyError;
pub use key_ring::{KeyMetadata, KeyRing, PendingKeys, RowContent, RowMacError, SealError};
pub use key_source::KeySource;
pub use locked_bytes::LockedBytes;
pub use sealed::{InvalidRecord, KeyId, SealedBytes};
pub(crate) use token::Token;
pub use token::{TokenError, TokenSettings};
