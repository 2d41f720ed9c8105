//! The client and the jailer's command line against the real programs on this host's KVM, with the guest of `crates/testbed/guest`. Skipped, with the
//! reason printed, where they cannot run.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod contract;
mod guest;
mod jailer;
mod lifecycle;
mod process;
mod rejections;
#[path = "../contract/requests.rs"]
mod requests;
mod snapshots;
#[path = "../contract/table.rs"]
mod table;
