//! Machines outlive their server; the next one takes them over. The figure with fifty machines is made by
//! `examples/adoption_times.rs`.

use crate::idle;
use anteroom_testbed::{Plan, World, adoption};
use std::time::{Duration, Instant};

const MACHINES: usize = 10;
const ADOPTED_S_MAX: u64 = 20;

#[tokio::test]
async fn ten_machines_are_taken_over_by_the_next_server_and_every_viewer_sees_its_own_again() {
    let mut world = World::start(Plan::with(idle())).await.unwrap();
    let before = adoption::open(&world.operator().unwrap(), "idle", MACHINES).await.unwrap();
    let machines = world.machines().len();
    world.kill_server().await.unwrap();
    assert_eq!(world.machines().len(), machines, "the machines live on");
    let began = Instant::now();
    world.start_server().await.unwrap();
    let limit = Duration::from_secs(ADOPTED_S_MAX);
    let taken = adoption::watch(&world.operator().unwrap(), &before, began, limit).await.unwrap();
    println!("{taken}");
    assert_eq!(taken.frames.count(), MACHINES);
    world.finish().await.unwrap();
}
