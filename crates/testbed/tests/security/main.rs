//! Attacks over HTTP and WebSocket that must fail: one file for each subject. Machines are plain processes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod s21_host_and_origin;
