//! Many write to one database, one at a time: nobody holds up the others longer than a write takes.

use crate::{
    Scene,
    timeline::{Locked, idle_world},
    viewers::closing,
};
use anteroom_testbed::{TestConfig, TestServer, plain_process::Faults};
use anteroom_wire::{SessionId, api::Status};
use serde_json::json;
use std::time::Duration;
use tokio::time::sleep;

#[tokio::test]
async fn recording_use_of_a_killed_machine_blocks_no_other_write() {
    let (_scene, world, id) =
        idle_world("[store]\nbusy_ms_max = 20000\nslow_write_ms = 15000\n[sessions]\nsweep_every_ms = 10\n").await;
    let api = world.backend().unwrap();
    let viewer = api.desktop(&id).await.unwrap();
    api.wait_entry(&id, "viewer_joined").await.unwrap();
    let locked = Locked::take(&world).await;
    api.post(&format!("/api/auth/session/{id}/heartbeat"), json!({})).await.unwrap();
    // The use is remembered within 10 ms, and cannot be yet. A busy machine may need longer: then nothing is shown, and nothing fails.
    sleep(Duration::from_millis(500)).await;
    world.kill_machine(&world.machines().remove(0)).unwrap();
    assert_eq!(closing(&mut viewer.into_inner()).await.0, 4510);
    locked.release().await;
    nobody_waited(&world, &id).await;
    world.finish().await.unwrap();
}

#[tokio::test]
async fn claiming_a_killed_machine_blocks_no_other_write() {
    let scene = Scene::new();
    let faults = Faults { agent_after_ms: 1_500, ..Faults::default() };
    let plan =
        TestConfig { faults, ..TestConfig::with_tool(scene.idle_tool()).with_settings("[store]\nbusy_ms_max = 20000\nslow_write_ms = 15000\n") };
    let world = TestServer::start(plan).await.unwrap();
    let api = world.backend().unwrap();
    let id = api.start("scripted").await.unwrap().session.id;
    api.wait_entry(&id, "machine_requested").await.unwrap();
    let locked = Locked::take(&world).await;
    // Its agent comes, and that it is this session's is to be written, and cannot be yet. As above.
    sleep(Duration::from_millis(2_500)).await;
    world.kill_machine(&world.machines().remove(0)).unwrap();
    api.wait_until(&id, "stopped", |view| view.status == Status::VmStopped).await.unwrap();
    locked.release().await;
    nobody_waited(&world, &id).await;
    world.finish().await.unwrap();
}

/// The machine's end is on the timeline, and no write took as long as one takes that waits for another that rests.
async fn nobody_waited(world: &TestServer, id: &SessionId) {
    world.backend().unwrap().wait_entry(id, "machine_exited").await.unwrap();
    let metrics = world.operator().unwrap().get("/metrics").await.unwrap().text;
    let slow = metrics.lines().find(|line| line.starts_with("anteroom_store_slow_writes_total "));
    assert_eq!(slow, Some("anteroom_store_slow_writes_total 0"), "no write waited for another that rested");
}
