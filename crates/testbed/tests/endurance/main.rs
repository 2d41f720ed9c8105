//! Endurance: after many sessions and many crashes nothing is left over, every failure is reported in time, and sessions recover.
//! `ANTEROOM_TEST_FULL=1` (set by `./test --full`) enables the full length of the runs.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod adoption;
mod cleanup;
mod cycles;
mod machine_exit;
mod run;
mod server_stop;
mod viewers_after_exit;

use anteroom_rfb::client::ViewerSocket;
use anteroom_testbed::{ApiClient, ScriptedProvider, WAIT_MAX};
use anteroom_wire::{SessionId, api::SessionStatus};
use tokio::{io::AsyncReadExt, time::timeout};

/// The provider `idle`: its tool waits until the machine ends.
fn idle_provider() -> ScriptedProvider {
    ScriptedProvider::idle("idle")
}

/// Starts a session of the provider `idle` and waits until its machine is ready.
async fn start_ready(api: &ApiClient) -> SessionId {
    let id = api.start_session("idle").await.unwrap().session.id;
    api.wait_status(&id, SessionStatus::VmStarted).await.unwrap();
    id
}

/// Reads until the server closes; returns the close code and the reason.
async fn wait_close(socket: &mut ViewerSocket) -> (u16, String) {
    let mut rest = Vec::new();
    timeout(WAIT_MAX, socket.read_to_end(&mut rest)).await.expect("closed within the limit").ok();
    let closing = socket.close_reason().expect("closed with a code").clone();
    (closing.code, closing.reason)
}
