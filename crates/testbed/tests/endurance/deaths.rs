//! A machine's death is known at once to everybody whom it concerns. The tight figures are made by
//! `examples/healing_times.rs`; here the bounds also hold on a busy host.

use crate::{idle, up};
use anteroom_testbed::{Plan, Spread, World, healing};
use std::time::Duration;

const DEATHS: usize = 20;
const KNOWN_MS_MAX: u64 = 2_000;

#[tokio::test]
async fn a_machines_death_is_told_to_viewer_status_and_timeline_within_two_seconds() {
    let world = World::start(Plan::with(idle())).await.unwrap();
    let api = world.operator().unwrap();
    let limit = Duration::from_millis(KNOWN_MS_MAX);
    let [mut closed, mut told, mut noted, mut frame] = [const { Spread::NONE }; 4];
    for _ in 0..DEATHS {
        let id = up(&api).await;
        let mut viewer = api.desktop(&id).await.unwrap();
        viewer.whole_frame().await.unwrap();
        let seen = healing::kill_under(&api, &world.state_dir(), &id, viewer, limit).await.unwrap();
        assert_eq!(seen.close_code, 4510);
        closed.add(seen.closed);
        told.add(seen.told);
        noted.add(seen.noted);
        frame.extend(seen.frame);
        api.cancel(&id).await.unwrap();
    }
    println!("closed {closed}\ntold   {told}\nnoted  {noted}\nframe  {frame}");
    assert_eq!(frame.count(), DEATHS, "every viewer has a desktop again");
    world.finish().await.unwrap();
}
