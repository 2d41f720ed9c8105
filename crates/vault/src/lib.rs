//! Envelope encryption: the only maker of [`Sealed`].
//!
//! ```text
//!  key file (0600) ──▶ KeyRing ── wraps ──▶ data key (one per record, random) ── encrypts ──▶ the credential
//!                                              │                                                 │
//!                         associated data: key id, digest of the binding      associated data: the whole binding
//! ```
//!
//! A record opens only under the [`Binding`] it was sealed for (record, owner, provider, session), so a row that is copied to
//! another owner does not open. Rotation wraps the data key again ([`KeyRing::rewrap`]) and leaves the content as it is.
//! What this does not protect against is written in the crate's README.

mod binding;
mod key_file;
mod ring;
mod sealed;

pub use binding::Binding;
pub use key_file::KeyError;
pub use ring::{KeyRing, SealError};
pub use sealed::{KeyId, NotSealed, Sealed};
