//! Who is alive, and who may act: several hosts that share one database.
//!
//! ```text
//!  heartbeat ──▶ register (etcd, or the database) ──▶ Observer of every other host: silent for fence_after?
//!      │                                                   │
//!      ▼ acknowledged                                      ▼
//!  RenewDeadline: this host may act until              Fencing: the database is silent ─▶ the register is silent ─▶ fence
//!  renew_deadline after it *sent* the heartbeat
//! ```
//!
//! A host that cannot renew its deadline stops by itself before others take its sessions away. This needs no synchronised clocks, only
//! clocks of about the same rate: all times are milliseconds of `CLOCK_BOOTTIME` of the host that measures ([`boottime_ms`]).
//!
//! The rules are pure: they get the time and random numbers from their caller, and do no I/O. Only the registers ([`Register`]) do.

mod boottime;
mod fencing;
mod heartbeat;
mod heartbeats;
#[cfg(test)]
mod model;
mod observer;
pub mod peer;
mod placement;
mod random;
mod rank;
mod renew_deadline;
mod times;

pub use boottime::boottime_ms;
pub use fencing::{DatabaseLook, FenceOutcome, FenceStep, Fencing, Liveness};
pub use heartbeat::{Capacity, Heartbeat, HostLabels, Mark, Observed, Room};
pub use heartbeats::{
    DatabaseRegister, ETCD_ANSWER_MS_MAX, EtcdRegister, EtcdSettings, Register, RegisterError, Written,
};
pub use observer::{Member, Observer, Suspect, Verdict};
pub use placement::{HostRequest, KnownHost, LeftOut, Placement, keeps_session, place};
pub use random::SplitMix64;
pub use rank::{FairClass, PULL_AFTER_MS, fair_rank};
pub use renew_deadline::{Deadline, RenewDeadline};
pub use times::{ClusterTimes, InvalidTimes};
