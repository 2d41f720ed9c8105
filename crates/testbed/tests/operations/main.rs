//! What operators use when something is wrong: logs, support bundles, the leak report, reconciliation, admission and metrics. The tests
//! use the API and the command line of a server with plain-process machines.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod admission;
mod bundle;
mod configuration;
#[path = "../server/fixture.rs"]
mod fixture;
mod logs;
mod metric_names;
mod metrics;
mod overview;
mod packaging;
mod reconcile_and_leaks;
mod service_manager;
mod tls;

use anteroom_testbed::{ApiClient, TestServer, WAIT_MAX};
use anteroom_wire::{SessionId, TimelineKind};
use fixture::{Flags, start_idle, start_idle_session};
use std::process::Output;
use tokio::process::Command;

/// Starts a server and a session, and waits until its tool runs.
async fn start_session(settings: &str) -> (Flags, TestServer, ApiClient, SessionId) {
    let (flags, server, api, id) = start_idle_session(settings).await;
    api.wait_entry(&id, TimelineKind::CliStarted).await.unwrap();
    (flags, server, api, id)
}

/// A command that runs `anteroom` with the server's configuration.
fn command(server: &TestServer, arguments: &[&str]) -> Command {
    let mut command = server.anteroom_command().unwrap();
    command.args(arguments);
    command
}

/// Runs `anteroom`; returns its output and exit status.
async fn anteroom(server: &TestServer, arguments: &[&str]) -> Output {
    tokio::time::timeout(WAIT_MAX, command(server, arguments).output()).await.unwrap().unwrap()
}

/// Runs `anteroom`, which must succeed; returns its standard output.
async fn stdout_of(server: &TestServer, arguments: &[&str]) -> String {
    let output = anteroom(server, arguments).await;
    assert!(output.status.success(), "{arguments:?}: {}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn canary(kind: &str) -> String {
    let mut random = [0; 16];
    getrandom::fill(&mut random).unwrap();
    format!("{kind}{}", hex::encode(random))
}
