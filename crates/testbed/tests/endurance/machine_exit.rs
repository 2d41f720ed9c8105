//! A machine's death is known at once to everybody whom it concerns. The tight figures are made by
//! `examples/measure_recovery.rs`; here the bounds also hold on a busy host.

use crate::{idle, up};
use anteroom_testbed::{TestConfig, DurationStats, TestServer, measure_recovery};
use std::time::Duration;

const DEATHS: usize = 20;
const KNOWN_MS_MAX: u64 = 2_000;

#[tokio::test]
async fn machine_exit_is_reported_to_viewer_status_and_timeline_within_two_seconds() {
    let world = TestServer::start(TestConfig::with_tool(idle())).await.unwrap();
    let api = world.operator().unwrap();
    let limit = Duration::from_millis(KNOWN_MS_MAX);
    let [mut closed, mut told, mut noted, mut frame] = [const { DurationStats::EMPTY }; 4];
    for _ in 0..DEATHS {
        let id = up(&api).await;
        let mut viewer = api.desktop(&id).await.unwrap();
        viewer.whole_frame().await.unwrap();
        let seen = measure_recovery::kill_and_measure(&api, &world.state_dir(), &id, viewer, limit).await.unwrap();
        assert_eq!(seen.close_code, 4510);
        closed.add(seen.closed);
        told.add(seen.status_changed);
        noted.add(seen.timeline_entry);
        frame.extend(seen.frame);
        api.cancel(&id).await.unwrap();
    }
    println!("closed {closed}\ntold   {told}\nnoted  {noted}\nframe  {frame}");
    assert_eq!(frame.count(), DEATHS, "every viewer has a desktop again");
    world.finish().await.unwrap();
}
