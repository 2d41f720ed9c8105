//! What the tests of stored credentials in use share.

use crate::Scene;
use anteroom_testbed::{ApiClient, TestServer, plain_process::built_program};
use anteroom_wire::api::{SessionView, Started, Status};
use serde_json::Value;
use std::{
    process::{Output, Stdio},
    time::Duration,
};
use tokio::process::Command;

/// How long a command line may take, milliseconds: it waits for a machine.
pub(crate) const CLI_MS_MAX: u64 = 120_000;

/// Signs the scene's tool in for the first backend; the credential's id.
pub(crate) async fn signed_in(scene: &Scene, world: &TestServer) -> String {
    let api = world.backend().unwrap();
    let id = api.start("scripted").await.unwrap().session.id;
    api.wait_until(&id, "showing the address", |view| view.sign_in.url.is_some()).await.unwrap();
    scene.raise("go");
    api.wait_status(&id, Status::Completed).await.unwrap().credential.unwrap().id.to_string()
}

/// Starts a use; its session.
pub(crate) async fn used(api: &ApiClient, credential: &str, request: Value) -> SessionView {
    let started: Started =
        api.post(&format!("/api/credentials/{credential}/use"), request).await.unwrap().read().unwrap();
    started.session
}

/// The command line with the world's own configuration.
pub(crate) fn cli(world: &TestServer, arguments: &[&str]) -> Command {
    let mut command = Command::new(built_program("anteroom").unwrap());
    command.arg("--config").arg(world.path().join("config.toml")).args(arguments).kill_on_drop(true);
    command
}

/// What the command line says, and how it ends. It has no terminal and nothing to read.
pub(crate) async fn anteroom(world: &TestServer, arguments: &[&str]) -> Output {
    let mut command = cli(world, arguments);
    command.stdin(Stdio::null());
    tokio::time::timeout(Duration::from_millis(CLI_MS_MAX), command.output()).await.unwrap().unwrap()
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
