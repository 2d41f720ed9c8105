//! The fault matrix: every session state × every fault, on plain-process machines and, for some rows, on QEMU machines.
//!
//! ```text
//!  states        brings one session into each state, on one server, and holds it there
//!  inject        injects the faults
//!  expectations  the table: the expected result of each cell
//!  matrix        one test per fault that hits one session: inject, observe, release, finish every session, compare with docs/faults.md
//!  global_faults the same for faults that hit all sessions at once
//!  session_end   releases and finishes the sessions
//!  viewer        a viewer that records the end of its socket
//!  crashes       kills the server before and after each database write
//!  clock         deadlines during clock jumps
//!  hosts         faults of a host, its network and its databases in a cluster of three
//!  scenarios     the tests of each documented scenario (T1 to T30)
//!  namespace     runs a test in namespaces of an unprivileged user
//!  qemu          the rows for QEMU machines
//!  document      compares or writes the sections of docs/faults.md
//! ```
//!
//! With `ANTEROOM_WRITE_DOCS=1` the tests write `docs/faults.md`; otherwise they fail when it differs.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod clock;
mod crashes;
mod document;
mod expectations;
mod global_faults;
mod hosts;
mod inject;
mod matrix;
mod namespace;
mod qemu;
mod scenarios;
mod session_end;
mod states;
mod viewer;
