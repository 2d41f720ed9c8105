//! All SQL; accepts only [`Sealed`](anteroom_vault::Sealed).
//!
//! ```text
//!  active ──┬─▶ completed   (with a stored credential, in the same transaction; by Store::complete_with_credential only;
//!           │                or, a use, with the credential that it used; by Store::complete_use only)
//!           ├─▶ failed      (with a reason)
//!           ├─▶ cancelled
//!           └─▶ expired     nothing leaves an ended state: the database itself refuses
//! ```
//!
//! Every change of a session is one conditional write (still active, epoch as expected) together with its timeline entry.
//! What a person calls "status" is not here: it is derived from a session and its machine on each read.
//!
//! Nothing here reads a clock: times are milliseconds since 1970 ([`UnixMs`]) that the caller brings. Waiting is bounded by
//! [`Settings::busy_ms_max`]; an error says by [`StoreError::kind`] whether trying again can help.

mod aim;
mod callers;
mod carry;
mod cells;
mod complete;
mod counts;
mod credentials;
mod erase;
mod error;
mod hash;
mod health;
mod kept;
mod leases;
mod observe;
mod outbox;
mod passes;
mod replace;
mod schema;
mod sessions;
mod store;
mod tickets;
mod timeline;
mod transition;
mod untold;
mod use_over;
mod words;

pub use aim::{Aim, CredentialUse};
pub use callers::{CallerRow, NewCaller, Role};
pub use carry::{Carried, HandedOver};
pub use complete::{Completed, Completion, NewCredential};
pub use credentials::{CredentialRow, Record};
pub use erase::Deletion;
pub use error::{Kind, StoreError};
pub use hash::Sha256Hex;
pub use health::Conclusion;
pub use kept::{Health, Kept};
pub use leases::{LeaseRow, Leased};
pub use observe::{Write, WriteKind, WriteObserver, WriteOutcome};
pub use outbox::{About, MessageRow, NewMessage};
pub use passes::{Grant, NewPass};
pub use replace::{Refresh, Refreshed, Revisions};
pub use schema::SCHEMA_VERSION;
pub use sessions::{Created, End, External, IdempotencyKey, Life, NewSession, Outcome, Reason, SessionRow, Whose};
pub use store::{Purged, Settings, Store};
pub use tickets::{NewTicket, Purpose};
pub use timeline::{NewEvent, TimelineRow};
pub use transition::{Change, Expect, Transition};
pub use untold::UntoldEnd;
pub use use_over::{UseEnded, UseOver};

/// Milliseconds since 1970-01-01T00:00:00Z.
pub type UnixMs = u64;
