//! This host in its cluster: until when it may act, and who else is there.
//!
//! ```text
//!  join ─▶ heartbeats acknowledged ─▶ acts ──(none for renew_deadline_s)──▶ stopped: keepers end machines, gate shut, sockets closed
//!               ▲                                                             │ asks the database
//!               ├───────────────────────── not fenced: acts again, empty ◀────┤
//!               └── joins with the next incarnation, empty ◀── fenced ────────┘
//! ```
//!
//! Whatever a machine or a stored credential does to the outside asks [`Cluster::require_may_act`] first. A server without a cluster may
//! always act, and asking costs it one load from memory.

pub mod clock;
pub mod deadline_thread;
mod error;
mod fence_hosts;
mod host_file;
mod join;
pub mod membership;
mod offered_sessions;
mod other_hosts;
mod registers;
pub mod report;
mod run;
mod same_times;

pub use error::JoinError;
pub use host_file::read_or_create_host_id;
pub use join::{HostProfile, join};
pub use membership::{Cluster, ObservedHost, PEER_PROTOCOL};
pub(crate) use offered_sessions::OpenOffer;
pub use other_hosts::{HostChannel, TakeResponse};
pub use run::run_cluster;
