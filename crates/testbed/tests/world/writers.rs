//! Many write to one database, one at a time: nobody holds up the others longer than a write takes.

use crate::{
    timeline::{Locked, idle_world},
    viewers::closing,
};
use serde_json::json;
use std::time::Duration;
use tokio::time::sleep;

#[tokio::test]
async fn a_use_that_is_being_remembered_when_its_machine_dies_holds_up_no_other_write() {
    let (_scene, world, id) = idle_world("[store]\nslow_write_ms = 4000\n[sessions]\nsweep_every_ms = 10\n").await;
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
    api.wait_entry(&id, "machine_gone").await.unwrap();
    let metrics = world.operator().unwrap().get("/metrics").await.unwrap().text;
    let slow = metrics.lines().find(|line| line.starts_with("anteroom_store_slow_writes_total "));
    assert_eq!(slow, Some("anteroom_store_slow_writes_total 0"), "no write waited for another that rested");
    world.finish().await.unwrap();
}
