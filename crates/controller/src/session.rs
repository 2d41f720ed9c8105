//! Sessions: one person signing one tool in. One verb a file; the owner task ties them together.
//!
//! ```text
//!  start ─▶ owner ──▶ Queued ─▶ Preparing{stage} ─▶ Open{channels} ──▶ Closing      (Progress: what the owner knows)
//!              ▲         ▲                             │   │
//!              │         └──────── Lost ◀── machine gone   └── complete · cancel · expire · fail
//!              └── resume (a server that starts finds active rows)
//!
//!  the row (store):  active ──▶ completed | failed | cancelled | expired
//! ```
//!
//! Whoever ends a session writes the row first (one conditional write with its timeline entry) and then tells the owner,
//! which stops the machine. The status that people see is derived from both on each read ([`status`](mod@status)).

pub mod active_session;
pub mod agent_events;
pub mod change_method;
pub mod channels;
pub mod complete;
pub mod credential_format;
pub mod diagnose;
pub mod end;
pub mod lifecycle;
pub mod queue;
pub mod reach_desktop;
pub mod reconcile;
pub mod registry;
pub mod rejections;
pub mod start;
pub mod status;
pub mod supervisor;
pub mod timeline;
pub mod use_credential;
pub mod view;
