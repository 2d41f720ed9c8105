//! Shared by the tests of stored credentials: sign-in, credential use, and the command line.

use crate::Flags;
use anteroom_testbed::{ApiClient, TestServer};
use anteroom_wire::api::{SessionStatus, SessionView, StartResponse};
use serde_json::Value;
use std::{
    process::{Output, Stdio},
    time::Duration,
};
use tokio::process::Command;

/// Limit of a command, milliseconds: it waits for a machine.
pub(crate) const CLI_MS_MAX: u64 = 120_000;

/// Signs in to the provider `scripted` for the first backend; returns the id of the credential.
pub(crate) async fn sign_in(flags: &Flags, server: &TestServer) -> String {
    let api = server.backend_client().unwrap();
    let id = api.start_session("scripted").await.unwrap().session.id;
    api.wait_until(&id, "showing the address", |view| view.sign_in.url.is_some()).await.unwrap();
    flags.set("go");
    api.wait_status(&id, SessionStatus::Completed).await.unwrap().credential.unwrap().id.to_string()
}

/// Starts a credential use; returns its session.
pub(crate) async fn start_use(api: &ApiClient, credential: &str, request: Value) -> SessionView {
    let started: StartResponse =
        api.post(&format!("/api/credentials/{credential}/use"), request).await.unwrap().parse().unwrap();
    started.session
}

/// The `anteroom` command with the configuration of this server.
pub(crate) fn cli_command(server: &TestServer, arguments: &[&str]) -> Command {
    let mut command = server.anteroom_command().unwrap();
    command.args(arguments);
    command
}

/// Runs `anteroom` without a terminal and with empty input.
pub(crate) async fn run_cli(server: &TestServer, arguments: &[&str]) -> Output {
    let mut command = cli_command(server, arguments);
    command.stdin(Stdio::null());
    tokio::time::timeout(Duration::from_millis(CLI_MS_MAX), command.output()).await.unwrap().unwrap()
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
