//! Concurrent writes to the database: no writer blocks the others for longer than one write.

use crate::{
    Flags, start_session_with,
    timeline::{DatabaseLock, start_ready_session},
    viewers::wait_close,
};
use anteroom_testbed::{PlainProcess, TestConfig, TestServer, plain_process::InjectedFaults};
use anteroom_wire::{SessionId, TimelineKind, api::SessionStatus};
use serde_json::json;
use std::time::Duration;
use tokio::time::sleep;

/// Writes wait as long as a test locks the database, and are not slow.
const LONG_LOCK: &str = "[limits.store]\nbusy_ms_max = 20000\nslow_write_ms = 15000\n";

#[tokio::test]
async fn recording_use_of_a_killed_machine_blocks_no_other_write() {
    let (_flags, server, id) =
        start_ready_session(&format!("{LONG_LOCK}[limits.sessions]\nreconcile_every_ms = 10\n")).await;
    let api = server.backend_client().unwrap();
    let viewer = api.connect_desktop(&id).await.unwrap();
    api.wait_entry(&id, TimelineKind::ViewerJoined).await.unwrap();
    let lock = DatabaseLock::acquire(&server).await;
    api.post(&format!("/api/auth/session/{id}/heartbeat"), json!({})).await.unwrap();
    // The use is written within 10 ms, which blocks now. On a busy host it may come later: then the test shows nothing and passes.
    sleep(Duration::from_millis(500)).await;
    server.kill_machine(&server.list_machines().remove(0)).unwrap();
    assert_eq!(wait_close(&mut viewer.into_inner()).await.0, 4510);
    lock.release().await;
    assert_no_slow_writes(&server, &id).await;
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn claiming_a_killed_machine_blocks_no_other_write() {
    let flags = Flags::new();
    let faults = InjectedFaults { agent_delay_ms: 1_500, ..InjectedFaults::default() };
    let machines = PlainProcess { providers: vec![flags.idle_provider()], faults, ..PlainProcess::default() };
    let (server, api, id) = start_session_with(TestConfig::new(machines).with_settings(LONG_LOCK)).await;
    api.wait_entry(&id, TimelineKind::MachineRequested).await.unwrap();
    let lock = DatabaseLock::acquire(&server).await;
    // The agent connects, and the write of the claim blocks now. As above.
    sleep(Duration::from_millis(2_500)).await;
    server.kill_machine(&server.list_machines().remove(0)).unwrap();
    api.wait_until(&id, "stopped", |view| view.status == SessionStatus::VmStopped).await.unwrap();
    lock.release().await;
    assert_no_slow_writes(&server, &id).await;
    server.stop_and_check_leaks().await.unwrap();
}

/// The end of the machine is on the timeline, and no write was as slow as one that waits for a blocked write.
async fn assert_no_slow_writes(server: &TestServer, id: &SessionId) {
    server.backend_client().unwrap().wait_entry(id, TimelineKind::MachineExited).await.unwrap();
    let metrics = server.operator_client().unwrap().get("/metrics").await.unwrap().text;
    let slow = metrics.lines().find(|line| line.starts_with("anteroom_store_slow_writes_total "));
    assert_eq!(slow, Some("anteroom_store_slow_writes_total 0"), "no write waited for a blocked write");
}
