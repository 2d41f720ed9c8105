//! Stored credentials, from capture to deletion.
//!
//! ```text
//!  delivery ─▶ session/accept_delivery ─▶ revision 1 ─┬─ renewed by a sign-in, refreshed by a use ─▶ revision 2, 3 …
//!                                                     ├─ lease       the owner gets the files; recorded; `deliver_once`: then deleted
//!                                                     ├─ expire      deletes what was not fetched in time; reports what expires
//!                                                     └─ delete      by its owner
//! ```
//!
//! The health of a credential ([`derive_current_health`]) is computed on each read from the stored health and the time. The
//! database stores only the last health that was reported, so that a change is reported once.

pub mod check_job;
mod current_health;
mod expire;
mod expires_at;
mod lease;
pub mod turns;
mod unseal;
mod view;

pub use current_health::derive_current_health;
pub use expire::delete_expired_credentials;
pub use expires_at::read_expires_at;
pub use lease::{delete_credential, lease_credential, require_owned_credential, require_undeleted_credential};
pub use unseal::{UnsealError, unseal_bytes, unseal_files, warn_unless_locked};
pub use view::{health_now, lease_notice, to_credential_meta};
