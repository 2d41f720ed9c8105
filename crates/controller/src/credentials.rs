//! Stored credentials, from capture to deletion.
//!
//! ```text
//!  delivery ─▶ session/accept_delivery ─▶ revision 1 ─┬─ renewed by a sign-in, refreshed by a use ─▶ revision 2, 3 …
//!                                                     ├─ lease       the owner gets the files; recorded; `deliver_once`: then deleted
//!                                                     ├─ expire_due  deletes what was not fetched in time; reports what expires
//!                                                     └─ delete      by its owner
//! ```
//!
//! The health of a credential ([`current_health`](fn@current_health)) is computed on each read from the stored health and the time. The
//! database stores only the last health that was reported, so that a change is reported once.

pub mod check_job;
mod current_health;
mod expire;
mod expires_at;
mod lease;
mod unseal;
mod view;

pub use current_health::current_health;
pub use expire::expire_due;
pub use expires_at::expires_at;
pub use lease::{delete, lease, require_owned, require_present};
pub use unseal::{UnsealError, binding, unseal_bytes, unseal_files};
pub use view::credential_meta;
