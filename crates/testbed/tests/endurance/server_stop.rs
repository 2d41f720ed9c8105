//! A graceful stop of the server: viewers are closed with a code, machines keep running, and the next server adopts them.

use crate::{idle_provider, start_ready, wait_close};
use anteroom_testbed::{TestConfig, TestServer};
use anteroom_wire::{Problem, TimelineKind, api::SessionStatus};
use std::time::{Duration, Instant};

/// `http.drain_ms_max` of this test, and the additional time of a server stop on a busy host.
const DRAIN_MS_MAX: u64 = 2_000;
const STOP_MS_MAX: u64 = 8_000;

#[tokio::test]
async fn stopping_server_closes_its_viewers_and_leaves_its_machines_to_the_next_server() {
    let settings = format!("[http]\ndrain_ms_max = {DRAIN_MS_MAX}\n");
    let mut server =
        TestServer::start(TestConfig::with_provider(idle_provider()).with_settings(&settings)).await.unwrap();
    let api = server.backend_client().unwrap();
    let id = start_ready(&api).await;
    let mut viewer = api.connect_desktop(&id).await.unwrap();
    viewer.request_full_frame().await.unwrap();
    let name = viewer.desktop_name().to_owned();
    let terminal = api.open_terminal_socket(&id).await.unwrap();
    let machines = server.list_machines();
    let mut sockets = [viewer.into_inner(), terminal];
    let began = Instant::now();
    let ([desktop, terminal], stopped) = {
        let [desktop, terminal] = &mut sockets;
        let closed = async { tokio::join!(wait_close(desktop), wait_close(terminal)) };
        let ((desktop, terminal), stopped) = tokio::join!(closed, server.stop_server());
        ([desktop, terminal], stopped)
    };
    stopped.unwrap();
    let took = began.elapsed();
    println!("stopped after {} ms", took.as_millis());
    for (code, reason) in [desktop, terminal] {
        assert_eq!(code, Problem::ShuttingDown.close_code(), "{reason}");
        assert!(reason.starts_with("shutting_down: "), "{reason}");
    }
    assert!(took < Duration::from_millis(DRAIN_MS_MAX + STOP_MS_MAX), "{took:?}");
    assert_eq!(server.list_machines(), machines, "the machine is still running");
    server.start_server().await.unwrap();
    let api = server.backend_client().unwrap();
    let mut viewer = api.connect_desktop(&id).await.unwrap();
    viewer.request_full_frame().await.unwrap();
    assert_eq!(viewer.desktop_name(), name, "the same machine");
    let view = api.wait_status(&id, SessionStatus::VmStarted).await.unwrap();
    assert_eq!(view.generation, 1);
    let kinds: Vec<_> = api.get_timeline(&id).await.unwrap().into_iter().map(|entry| entry.kind).collect();
    for never in [TimelineKind::MachineExited, TimelineKind::MachineReplaced, TimelineKind::Failed] {
        assert!(!kinds.contains(&never), "{never} in {kinds:?}");
    }
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn stalled_viewer_does_not_delay_the_server_stop() {
    let settings = format!("[http]\ndrain_ms_max = {DRAIN_MS_MAX}\n[limits.tunnel]\nclose_handshake_ms_max = 60000\n");
    let mut server =
        TestServer::start(TestConfig::with_provider(idle_provider()).with_settings(&settings)).await.unwrap();
    let api = server.backend_client().unwrap();
    let id = start_ready(&api).await;
    // This viewer never reads again.
    let stuck = api.connect_desktop(&id).await.unwrap();
    server
        .set_desktop_behaviour(&server.list_machines()[0], anteroom_testbed::fake_rfb_server::ServerBehaviour::Flood)
        .await
        .unwrap();
    let began = Instant::now();
    server.stop_server().await.unwrap();
    let took = began.elapsed();
    println!("stopped after {} ms", took.as_millis());
    assert!(took < Duration::from_millis(DRAIN_MS_MAX + STOP_MS_MAX), "{took:?}");
    drop(stuck);
    server.stop_and_check_leaks().await.unwrap();
}
