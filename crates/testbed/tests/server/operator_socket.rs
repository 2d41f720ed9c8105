//! Who may use the operator's socket.

use crate::{Flags, command_line::run_cli};
use anteroom_testbed::{Step, TestConfig, TestServer};
use anteroom_wire::{TimelineKind, api::SessionStatus};

#[tokio::test]
async fn program_in_a_machine_is_refused_at_the_operators_socket_and_the_command_line_is_not() {
    let flags = Flags::new();
    let socket = flags.path("operator.sock");
    let request = |path: &str| Step::HttpGetOverSocket { socket: socket.clone(), path: path.to_owned() };
    // The second route needs no caller over TCP.
    let steps = [flags.wait_step("go"), request("/api/me"), request("/health"), Step::Exit { code: 1 }];
    let server = TestServer::start(TestConfig::with_provider(flags.provider_with_steps(steps))).await.unwrap();
    // The path of a Unix socket is limited to 107 bytes.
    std::os::unix::fs::symlink(server.state_dir().join("anteroom.sock"), &socket).unwrap();
    let api = server.backend_client().unwrap();
    let id = api.start_session("scripted").await.unwrap().session.id;
    api.wait_status(&id, SessionStatus::VmStarted).await.unwrap();
    flags.set("go");
    let exited = api.wait_entry(&id, TimelineKind::CliExited).await.unwrap();
    for path in ["/api/me", "/health"] {
        let expected = format!("GET {path}: 403 peer_not_permitted");
        assert!(exited.data.to_string().contains(&expected), "{exited:?}");
    }
    let log = server.read_log();
    let refused = log.lines().find(|line| line.contains("peer_refused")).expect("the refusal is logged");
    assert!(refused.contains("belongs to a machine"), "{refused}");
    let output = run_cli(&server, &["sessions"]).await;
    assert!(output.status.success(), "{output:?}");
    server.stop_and_check_leaks().await.unwrap();
}
