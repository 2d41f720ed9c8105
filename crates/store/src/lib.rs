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

mod purpose;
mod callers;
mod webhook_credential;
mod row;
mod complete;
mod counts;
mod credentials;
mod erase;
mod error;
mod hash;
mod health;
mod retention;
mod leases;
mod write_observer;
mod outbox;
mod login_tokens;
mod replace;
mod schema;
mod sessions;
mod store;
mod tickets;
mod timeline;
mod transition;
mod unreported_ends;
mod complete_use;
mod text_enum;

pub use purpose::{SessionPurpose, CredentialUse};
pub use callers::{CallerRow, NewCaller, Role};
pub use webhook_credential::{ClaimedRevision, CredentialDelivery};
pub use complete::{Completed, Completion, NewCredential};
pub use credentials::{CredentialRow, SealedCredential};
pub use erase::Deletion;
pub use error::{StoreError, StoreErrorKind};
pub use hash::Sha256Hex;
pub use health::HealthUpdate;
pub use retention::{Health, Retention};
pub use leases::{LeaseRow, Leased};
pub use write_observer::{Write, WriteKind, WriteObserver, WriteOutcome};
pub use outbox::{MessageSubject, MessageRow, NewMessage};
pub use login_tokens::{LoginScope, NewLoginToken};
pub use replace::{Refresh, Refreshed, Revisions};
pub use schema::SCHEMA_VERSION;
pub use sessions::{Created, End, ExternalMachineClaim, IdempotencyKey, RowStatus, NewSession, SessionOutcome, Reason, SessionRow, OwnerFilter};
pub use store::{Purged, Settings, Store};
pub use tickets::{NewTicket, TicketPurpose};
pub use timeline::{NewEvent, TimelineRow};
pub use transition::{Change, Expect, Transition};
pub use unreported_ends::UnreportedEnd;
pub use complete_use::{UseOutcome, CompleteUse};

/// Milliseconds since 1970-01-01T00:00:00Z.
pub type UnixMs = u64;
