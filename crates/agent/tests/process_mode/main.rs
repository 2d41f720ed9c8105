//! Black-box tests of the agent as a plain process: the real binary and protocol over Unix sockets.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::wildcard_enum_match_arm,
    reason = "tests"
)]

mod capture;
mod channel;
mod delivery;
mod health;
mod key_entry;
mod prompts;
mod method_change;
mod proxy;
mod desktop_and_terminal;
mod tool;
mod use_credential;
mod fixture;
