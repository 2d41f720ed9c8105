//! What must hold over a long time and many deaths: nothing is left over, everybody is told the truth soon, and what can
//! be healed heals. `ANTEROOM_TEST_FULL=1` (set by `./test --full`) makes the runs as long as they are meant to be.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod adoption;
mod cleanup;
mod cycles;
mod machine_exit;
mod viewers_after_exit;
mod run;
mod server_stop;

use anteroom_controller::rfb::ViewerSocket;
use anteroom_testbed::{ApiClient, WAIT_MAX, Script, Step, ScriptedTool};
use anteroom_wire::{SessionId, api::Status};
use tokio::{io::AsyncReadExt, time::timeout};

/// The provider `idle`: its tool waits until the machine ends.
fn idle() -> ScriptedTool {
    ScriptedTool::new(
        "idle",
        Script::new([Step::print_line("Nothing to do"), Step::WaitFor { path: "never".into(), ms_max: 3_600_000 }]),
    )
}

/// A session of the provider `idle` whose machine is up.
async fn up(api: &ApiClient) -> SessionId {
    let id = api.start("idle").await.unwrap().session.id;
    api.wait_status(&id, Status::VmStarted).await.unwrap();
    id
}

/// Reads until the server closes; the code and the reason.
async fn closing(socket: &mut ViewerSocket) -> (u16, String) {
    let mut rest = Vec::new();
    timeout(WAIT_MAX, socket.read_to_end(&mut rest)).await.expect("closed in time").ok();
    let closing = socket.closing().expect("closed with a code").clone();
    (closing.code, closing.reason)
}
