//! Black-box tests of the agent as a plain process: the real binary and protocol over Unix sockets.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::wildcard_enum_match_arm,
    reason = "tests"
)]

mod callback;
mod capture;
mod channel;
mod delivery;
mod desktop_and_terminal;
mod fixture;
mod health;
mod key_entry;
mod method_change;
mod prompts;
mod proxy;
mod tool;
mod use_credential;
