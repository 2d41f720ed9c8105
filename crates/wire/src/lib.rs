//! The messages between agent, controller, backends and pages: data types only, no I/O.
//!
//! ```text
//!  page, backend ── api ──▶ controller ── agent ──▶ guest's agent
//!                                      ◀─ agent ── (events, delivery)
//! ```
//!
//! Every type is plain data with one JSON form. Secrets are [`Secret`]: they can be serialised for sending, but never printed.

pub mod agent;
pub mod api;
pub mod api_tokens;
pub mod backoff;
pub mod channel;
pub mod diagnosis;
pub mod end_reason;
mod error_chain;
pub mod exec;
pub mod guest_text;
pub mod hosts;
pub mod id;
pub mod json_fault;
pub mod operator_reports;
mod person_values;
pub mod plain_words;
pub mod problem;
pub mod provider;
pub mod rate;
pub mod scope;
mod secret;
pub mod situation;
pub mod time;
pub mod timeline_kind;
pub mod webhook;

pub use end_reason::EndReason;
pub use error_chain::chain;
pub use guest_text::{GuestLines, GuestScreenLine, GuestText};
pub use id::{CallerId, CredentialId, HostId, MachineId, MessageId, ProviderId, SessionId};
pub use person_values::{DEFAULT_OWNER, PersonValues};
pub use problem::{Problem, ProblemBody, ProblemDetails};
pub use scope::{Scope, Scopes};
pub use secret::{Base64, Secret};
pub use timeline_kind::TimelineKind;
