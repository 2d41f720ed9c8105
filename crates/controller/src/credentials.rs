//! Stored credentials, from capture to deletion.
//!
//! ```text
//!  delivery ─▶ session/complete ─▶ revision 1 ─┬─ renewed by a sign-in, refreshed by a use ─▶ revision 2, 3 …
//!                                              ├─ hand_out   the owner gets the files; on the record; `deliver_once`: then deleted
//!                                              ├─ tend       what nobody fetched in time is deleted; what ends is told (the sweep)
//!                                              └─ delete     by its owner
//! ```
//!
//! How a credential is ([`standing`]) is derived on each read from what is stored and the time; what is stored is only what was
//! concluded last, so that it is told once.

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
pub use unseal::{binding, opened, unsealed};
pub use view::credential_meta;
