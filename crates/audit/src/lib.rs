//! The audit trail: who did what to whom, from where, with which outcome.
//!
//! ```text
//!  Entry ──▶ Trail (one thread) ──▶ audit-000001.jsonl ─ audit-000002.jsonl ─ …     one record a line: content, hash, MAC
//!                        └────────▶ head.json (and a copy, if configured)          number and hash of the newest record
//! ```
//!
//! The hash of a record covers the hash of the one before it; its MAC, keyed from the vault's key ring, covers its hash. So a record
//! with a valid MAC authenticates every record before it, also those of keys that were retired. [`verify`](verify::verify) names the
//! place at which a trail was changed.

mod action;
mod coalesce;
mod entry;
mod head;
mod mac_keys;
mod read;
mod record;
mod segments;
mod trail;
mod verify;
mod writer;

pub use action::{Action, Recording};
pub use coalesce::{Coalescer, KNOWN_MAX, STRANGERS_MAX};
pub use entry::{Actor, DETAIL_CHARS_MAX, Entry, OK, Subject, TEXT_CHARS_MAX};
pub use head::Head;
pub use mac_keys::{MAC_KEY_BYTES, MacKeys};
pub use read::{Filter, Follower, Order, for_each_record, list_records};
pub use record::{Record, csv_header};
pub use trail::{AppendError, Counters, JOBS_MAX, Trail};
pub use verify::{Finding, KnownHead, Verification, verify};
pub use writer::{OpenError, TrailSettings};
