//! Sessions: one user signs one tool in, or a stored credential is used. Each operation has a module named by its verb; the
//! supervisor's task ties them together.
//!
//! ```text
//!  start ─▶ supervisor ─▶ Queued ─▶ Preparing{stage} ─▶ Open{channels} ──▶ Closing   (Progress: the supervisor's state)
//!              ▲             ▲                            │   │
//!              │             └────── Lost ◀── machine exited  └── complete · cancel · expire · fail
//!              └── resume (a server that starts finds active rows)
//!
//!  the row (store):  active ──▶ completed | failed | cancelled | expired
//! ```
//!
//! Code that ends a session writes the row first (one conditional write with its timeline entry) and then signals the supervisor,
//! which stops the machine. The status that callers see is computed from both on each read ([`derive_status`](mod@status)).

pub mod accept_delivery;
pub mod active_session;
pub mod agent_events;
pub mod browser_hosts;
pub mod change_method;
pub mod changes;
pub mod channels;
pub mod consent;
pub mod context;
pub mod diagnose;
pub mod egress_faults;
pub mod end;
mod failure_cause;
pub mod for_person;
pub mod grant_host;
pub mod helpers;
pub mod host_facts;
pub mod keep_open;
pub mod lifecycle;
#[cfg(test)]
mod person_texts;
pub mod placement;
pub mod queue;
pub mod reach_desktop;
pub mod reconcile;
pub mod registry;
pub mod rejections;
pub mod request_rates;
pub mod server_context;
pub mod settings;
pub mod settled_verdicts;
pub mod sign_in_address;
pub mod start;
pub mod start_times;
pub mod status;
pub mod supervisor;
pub mod tampered_rows;
pub mod timeline;
pub mod use_credential;
pub mod view;
pub mod views_of_hosts;
pub mod waiting_sessions;
