//! Machines outlive their server; the next one takes them over. The figure with fifty machines is made by
//! `examples/adoption_times.rs`.

use crate::{idle, up};
use anteroom_machine::{GoneReason, Receipt};
use anteroom_testbed::{
    Answer, Api, LivingMachine, Plan, SOON, Script, Step, Tool, World, adoption,
    living::signal,
    served::crash::{Crash, Moment},
};
use anteroom_wire::{
    MachineId, SessionId,
    api::Status,
    diagnosis::{Diagnosis, Verdict},
};
use rustix::process::Signal;
use serde_json::json;
use std::time::{Duration, Instant};
use tokio::time::{sleep, timeout};

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
    let id = up(&api).await;
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

/// A tool whose methods each leave a file of their name, and wait.
fn two_methods() -> Tool {
    let runs = |name: &str| {
        Script::new([Step::write(name, "runs"), Step::WaitFor { path: "never".into(), ms_max: 3_600_000 }])
    };
    Tool::new("scripted", runs("usual")).with("label", json!("The usual")).with("method", json!("usual")).with_method(
        "other",
        runs("other"),
        json!({ "label": "The other" }),
    )
}

/// A world in which one session's tool runs by its usual method, in this machine.
async fn by_the_usual(settings: &str) -> (World, Api, SessionId, MachineId) {
    let world = World::start(Plan::with(two_methods()).set(settings)).await.unwrap();
    let api = world.backend().unwrap();
    let id = api.start("scripted").await.unwrap().session.id;
    api.wait_entry(&id, "cli_started").await.unwrap();
    let machine = world.machines().remove(0);
    (world, api, id, machine)
}

/// The person chooses the other method.
async fn choose_other(api: &Api, id: &SessionId) -> anyhow::Result<Answer> {
    api.post(&format!("/api/auth/session/{id}/method"), json!({ "method": "other" })).await
}

/// Waits until the tool of this method has run.
async fn ran(world: &World, machine: &MachineId, method: &str) {
    let left = world.home(machine).join(method);
    let seen = async {
        while !left.exists() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(SOON, seen).await.expect("the tool of the chosen method runs");
}

#[tokio::test]
async fn a_server_that_dies_between_the_chosen_method_and_its_agent_leaves_it_to_the_next_to_tell_it() {
    for (moment, expected) in [(Moment::Before, "usual"), (Moment::After, "other")] {
        let (mut world, api, id, machine) = by_the_usual("").await;
        world.arm(&Crash { moment, write: "transition method_chosen".into(), nth: 1 }).unwrap();
        // The server is killed before it answers.
        choose_other(&api, &id).await.unwrap_err();
        world.kill_server().await.unwrap();
        world.start_server().await.unwrap();
        let api = world.backend().unwrap();
        api.wait_entry(&id, "machine_adopted").await.unwrap();
        let view = api.wait_status(&id, Status::VmStarted).await.unwrap();
        assert_eq!((view.method.as_str(), view.generation), (expected, 1), "{moment:?}");
        if moment == Moment::After {
            api.wait_entry(&id, "method_told_again").await.unwrap();
        }
        ran(&world, &machine, expected).await;
        let told = api.timeline(&id).await.unwrap().iter().any(|entry| entry.kind == "method_told_again");
        assert_eq!(told, moment == Moment::After, "{moment:?}");
        assert_eq!(world.home(&machine).join("other").exists(), moment == Moment::After, "{moment:?}");
        world.finish().await.unwrap();
    }
}

#[tokio::test]
async fn a_method_that_was_chosen_while_the_machine_was_away_is_told_to_it_when_it_is_heard_again() {
    let settings = "[machines]\nping_every_ms = 200\nping_ms_max = 1000\nhung_s_max = 120\n";
    let (world, api, id, machine) = by_the_usual(settings).await;
    let living = LivingMachine::of(&world.run_dir(&machine)).unwrap();
    signal(living.process, Signal::STOP).unwrap();
    let refused = choose_other(&api, &id).await.unwrap();
    assert!(refused.status >= 500, "the agent does not answer: {} {}", refused.status, refused.text);
    api.wait(&id, "away", |view| view.status == Status::VmCreated).await.unwrap();
    signal(living.process, Signal::CONT).unwrap();
    ran(&world, &machine, "other").await;
    let view = api.wait_status(&id, Status::VmStarted).await.unwrap();
    assert_eq!((view.method.as_str(), view.generation), ("other", 1));
    world.finish().await.unwrap();
}

#[tokio::test]
async fn a_person_who_leaves_while_the_method_is_changed_does_not_part_the_tool_from_it() {
    let settings = "[machines]\nping_ms_max = 120000\nhung_s_max = 240\n";
    let (world, api, id, machine) = by_the_usual(settings).await;
    let living = LivingMachine::of(&world.run_dir(&machine)).unwrap();
    signal(living.process, Signal::STOP).unwrap();
    tokio::select! {
        answer = choose_other(&api, &id) => panic!("a stopped machine's agent answered: {answer:?}"),
        chosen = api.wait_entry(&id, "method_chosen") => drop(chosen.unwrap()),
    }
    // The server has seen the caller go by the time that it has answered another.
    api.session(&id).await.unwrap();
    signal(living.process, Signal::CONT).unwrap();
    ran(&world, &machine, "other").await;
    world.finish().await.unwrap();
}
