//! Machines under a real Firecracker with a tiny guest that speaks the agent's protocol, on this host's KVM. Skipped, with the reason
//! printed, where `ANTEROOM_TEST_FIRECRACKER` (see `scripts/test_firecracker.sh`) names no Firecracker or `/dev/kvm` cannot be
//! opened.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod adoption;
mod clones;
#[path = "../qemu_escape/debugger.rs"]
mod debugger;
mod escape;
mod exits;
mod fixture;
mod host;
mod rejections;
