//! Machines outlive their server; the next one takes them over. The figure with fifty machines is made by
//! `examples/adoption_times.rs`.

use crate::idle;
use anteroom_machine::{GoneReason, Receipt};
use anteroom_testbed::{LivingMachine, Plan, World, adoption, living::signal};
use anteroom_wire::{
    api::Status,
    diagnosis::{Diagnosis, Verdict},
};
use rustix::process::Signal;
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

#[tokio::test]
async fn a_machine_that_was_ready_and_is_frozen_when_the_next_server_comes_is_ended_as_hung() {
    let settings =
        "[machines]\nping_every_ms = 200\nping_ms_max = 2000\nhung_s_max = 6\n[sessions]\nrestarts_max = 0\n";
    let mut world = World::start(Plan::with(idle()).set(settings)).await.unwrap();
    let api = world.backend().unwrap();
    let id = api.start("idle").await.unwrap().session.id;
    api.wait_status(&id, Status::VmStarted).await.unwrap();
    let machine = world.machines().remove(0);
    let living = LivingMachine::of(&world.run_dir(&machine)).unwrap();
    world.kill_server().await.unwrap();
    signal(living.process, Signal::STOP).unwrap();
    world.start_server().await.unwrap();
    let api = world.backend().unwrap();
    let gone = api.wait_entry(&id, "machine_gone").await.unwrap();
    let why: GoneReason = serde_json::from_value(gone.data["why"].clone()).unwrap();
    assert!(matches!(why, GoneReason::Hung { unanswered_ms } if unanswered_ms >= 6_000), "{why:?}");
    api.wait_status(&id, Status::Failed).await.unwrap();
    let path = format!("/api/auth/session/{id}/diagnosis");
    let found: Diagnosis = api.get(&path).await.unwrap().read().unwrap();
    assert_eq!(found.verdict, Verdict::MachineHung);
    living.ended().await.unwrap();
    let receipt = Receipt::read(&world.state_dir().join("receipts"), &machine).unwrap().unwrap();
    assert_eq!(receipt.reason(), why, "the receipt says the same");
    world.finish().await.unwrap();
}
