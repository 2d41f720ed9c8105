//! The fault matrix: every state of a session × every fault, on plain machines and, for the rows that need one, on real ones.
//!
//! ```text
//!  states  brings sessions into every state at once, in one world, and holds them there
//!  inject  does the harm
//!  expect  what must become of each cell: the table
//!  matrix  one test for each fault: harm, look, let go, see every session to its end, compare with docs/faults.md
//!  whole   the same for faults that hit all sessions at once
//!  crashes the server is killed before and after each write of its database
//!  clock   deadlines under a clock that jumps
//!  named   which test holds which documented scenario (T1 to T30)
//!  namespace a place where an ordinary user may mount
//!  qemu    the rows that need real machines
//! ```
//!
//! `ANTEROOM_WRITE_DOCS=1` writes what was seen into `docs/faults.md`; without it a difference fails.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod clock;
mod crashes;
mod document;
mod session_end;
mod expectations;
mod inject;
mod matrix;
mod scenarios;
mod namespace;
mod qemu;
mod states;
mod viewer;
mod global_faults;
