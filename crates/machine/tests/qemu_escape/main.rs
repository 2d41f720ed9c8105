//! What a program can do that has broken out of the guest into QEMU: a debugger makes the system calls in QEMU's process.
//! Requires QEMU and gdb. Run by the superuser, it also runs itself as an ordinary user; run by an ordinary user, only as that.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr, missing_docs)]

mod attacks;
mod debugger;
mod fixture;
mod hostile_calls;
mod ordinary_user;
mod properties;
