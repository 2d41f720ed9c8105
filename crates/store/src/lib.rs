//! The database of Anteroom: all SQL is here. Credentials are accepted only as [`SealedBytes`](anteroom_vault::SealedBytes).
//!
//! ```text
//!  active ──┬─▶ completed   (with a stored credential in the same transaction: only by Store::complete_with_credential;
//!           │                or a credential use, with the used credential: only by Store::complete_use)
//!           ├─▶ failed      (with a reason)
//!           ├─▶ cancelled
//!           └─▶ expired     ended states are final: triggers of the database enforce it
//! ```
//!
//! Every change of a session is one conditional write (still active, at the expected epoch) together with its timeline entry.
//! The status that users see is not stored: it is computed from a session and its machine for each request.
//!
//! This crate has no clock: callers pass times as milliseconds since 1970 ([`UnixMs`]). Waiting is limited by
//! [`StoreSettings::busy_ms_max`]; [`StoreError::kind`] shows whether a retry can help.

mod address;
mod api_tokens;
mod audit_head;
mod authentic_rows;
mod before_migration;
mod browsers;
mod caller_kind;
mod callers;
mod clock;
mod cluster_authority;
mod cluster_times;
mod complete;
mod complete_use;
mod conditions;
mod connection;
mod consents;
mod contents;
mod copy_tables;
mod counts;
mod credential_health;
mod credential_turns;
mod credentials;
mod database;
mod database_file;
mod deletion_policy;
mod dialect;
mod erase;
mod erasure;
mod error;
mod fence;
mod hash;
mod health_kind;
mod helpers;
mod holder;
mod hosts;
mod keys;
mod leases;
mod login_tokens;
mod look_alike;
mod new_revision;
mod outbox;
mod postgres;
mod purpose;
mod readable_from;
mod restored;
mod restored_dump;
mod revoke_caller;
mod row_fault;
mod row_macs;
mod row_reader;
mod schema;
mod sessions;
mod settings;
mod sqlite;
mod store;
mod take;
mod text_enum;
mod tickets;
mod timeline;
mod transition;
mod unreported_ends;
mod webhook_credential;
mod write_observer;
mod write_transaction;

pub use address::{Address, InvalidAddress, PostgresAddress};
pub use api_tokens::Rotation;
pub use authentic_rows::{AddRowMacsError, CheckedRows, RowsWithMacs};
pub use before_migration::{KEPT_S_MAX, remove_migration_copies};
pub use browsers::{BrowserRow, NewBrowser, Person};
pub use caller_kind::CallerKind;
pub use callers::{CallerFilter, CallerRow, NewCaller, Role};
pub use cluster_authority::StoredAuthority;
pub use complete::{CompleteOutcome, CompleteWithCredential, NewCredential};
pub use complete_use::{CompleteUse, CompleteUseOutcome};
pub use contents::TableContents;
pub use credential_health::HealthUpdate;
pub use credential_turns::{TurnOutcome, TurnOwner};
pub use credentials::{CredentialFilter, CredentialRow, HealthAt, SealedCredential};
pub use database::{Database, DatabaseKind};
pub use database_file::{DatabaseFile, DatabaseSummary};
pub use deletion_policy::DeletionPolicy;
pub use erase::DeleteOutcome;
pub use erasure::{ErasedRows, ErasedUser, UserSession};
pub use error::{StoreError, StoreErrorKind};
pub use fence::Fence;
pub use hash::Sha256Hex;
pub use health_kind::HealthKind;
pub use helpers::{HelperAccess, HelperRow, Invitation};
pub use holder::Holder;
pub use hosts::{HostRow, JoinedHost, NewHost};
pub use keys::RetireOutcome;
pub use leases::{LeaseRow, LeasedCredential};
pub use login_tokens::{LoginScope, NewLoginToken, RedeemedLoginToken};
pub use look_alike::look_alike;
pub use new_revision::{RefreshCredential, RefreshOutcome, Revisions};
pub use outbox::{AbandonedMessageRow, MessageRow, NewMessage, Regarding, Resend};
pub use postgres::limits as postgres_limits;
pub use postgres::whole::PostgresDatabase;
pub use purpose::{CredentialUse, SessionPurpose};
pub use readable_from::READABLE_FROM;
pub use restored::{Restored, RestoredFrom};
pub use revoke_caller::CallerEnd;
pub use row_fault::RowFault;
pub use row_macs::TamperedRow;
pub use schema::SCHEMA_VERSION;
pub use sessions::{
    CreateSessionOutcome, EndedSessions, ExternalMachineClaim, IdempotencyKey, NewSession, NewSessionPlace,
    OwnerFilter, Reason, RowStatus, SessionEnd, SessionFilter, SessionOutcome, SessionRow, SessionStates,
    WaitingCounts,
};
pub use settings::StoreSettings;
pub use store::{PurgeCounts, Store};
pub use take::WaitingSession;
pub use tickets::{NewTicket, TicketPurpose};
pub use timeline::{AppendOutcome, NewTimelineEntry, TimelineRow};
pub use transition::{ExpectedState, SessionChange, TransitionOutcome};
pub use unreported_ends::UnreportedMachineEnd;
pub use webhook_credential::{ClaimedRevision, WebhookDeliveryOutcome};
pub use write_observer::{ObservedWrite, WriteKind, WriteObserver, WriteOutcome};

/// Milliseconds since 1970-01-01T00:00:00Z.
pub type UnixMs = u64;
