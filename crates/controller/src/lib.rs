//! The server and the `anteroom` command: sessions, the API, pages, the egress gate.
//!
//! ```text
//!  page, backend ──▶ http ──▶ session ──▶ store, vault, machine
//!                     │          ▲
//!                     └─ tunnel  └── events and delivery of the agent (http/agent)
//!  machine ──▶ egress (requests by host name only)
//! ```

pub mod admission;
pub mod api_error;
pub mod bundle;
pub mod caller;
pub mod clock;
pub mod config;
pub mod credentials;
pub mod db_metrics;
pub mod external;
pub mod health;
pub mod image;
pub mod leaks;
pub mod log;
pub mod outbox;
pub mod providers;
pub mod random;
pub mod retention;
pub mod session;
pub mod webhook;
