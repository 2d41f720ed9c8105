//! Machines outlive their server; the next one takes them over. The figure with fifty machines is made by
//! `examples/measure_adoption.rs`.

use crate::{idle, up};
use anteroom_machine::{ExitReason, Receipt};
use anteroom_testbed::{
    ApiResponse, ApiClient, MachineProcesses, TestConfig, WAIT_MAX, Script, Step, ScriptedTool, TestServer, measure_adoption,
    machine_processes::send_signal,
    serve::crash_point::{CrashPoint, CrashTiming},
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
async fn next_server_adopts_ten_machines_and_reconnects_their_viewers() {
    let mut world = TestServer::start(TestConfig::with_tool(idle())).await.unwrap();
    let before = measure_adoption::start_sessions(&world.operator().unwrap(), "idle", MACHINES).await.unwrap();
    let machines = world.machines().len();
    world.kill_server().await.unwrap();
    assert_eq!(world.machines().len(), machines, "the machines live on");
    let began = Instant::now();
    world.start_server().await.unwrap();
    let limit = Duration::from_secs(ADOPTED_S_MAX);
    let taken = measure_adoption::measure(&world.operator().unwrap(), &before, began, limit).await.unwrap();
    println!("{taken}");
    assert_eq!(taken.frames.count(), MACHINES);
    world.finish().await.unwrap();
}

#[tokio::test]
async fn machine_frozen_before_its_adoption_is_stopped_as_hung() {
    let settings =
        "[machines]\nping_every_ms = 200\nping_ms_max = 2000\nhung_s_max = 6\n[sessions]\nrestarts_max = 0\n";
    let mut world = TestServer::start(TestConfig::with_tool(idle()).with_settings(settings)).await.unwrap();
    let api = world.backend().unwrap();
    let id = up(&api).await;
    let machine = world.machines().remove(0);
    let living = MachineProcesses::from_run_dir(&world.run_dir(&machine)).unwrap();
    world.kill_server().await.unwrap();
    signal(living.process, Signal::STOP).unwrap();
    world.start_server().await.unwrap();
    let api = world.backend().unwrap();
    let gone = api.wait_entry(&id, "machine_exited").await.unwrap();
    let why: ExitReason = serde_json::from_value(gone.data["why"].clone()).unwrap();
    assert!(matches!(why, ExitReason::Hung { unanswered_ms } if unanswered_ms >= 6_000), "{why:?}");
    api.wait_status(&id, Status::Failed).await.unwrap();
    let path = format!("/api/auth/session/{id}/diagnosis");
    let found: Diagnosis = api.get(&path).await.unwrap().read().unwrap();
    assert_eq!(found.verdict, Verdict::MachineUnresponsive);
    living.wait_exited().await.unwrap();
    let receipt = Receipt::read(&world.state_dir().join("receipts"), &machine).unwrap().unwrap();
    assert_eq!(receipt.reason(), why, "the receipt says the same");
    world.finish().await.unwrap();
}

/// A tool whose methods each leave a file of their name, and wait.
fn two_methods() -> ScriptedTool {
    let runs = |name: &str| {
        Script::new([Step::write(name, "runs"), Step::WaitFor { path: "never".into(), ms_max: 3_600_000 }])
    };
    ScriptedTool::new("scripted", runs("usual")).with("label", json!("The usual")).with("method", json!("usual")).with_method(
        "other",
        runs("other"),
        json!({ "label": "The other" }),
    )
}

/// A world in which one session's tool runs by its usual method, in this machine.
async fn by_the_usual(settings: &str) -> (TestServer, ApiClient, SessionId, MachineId) {
    let world = TestServer::start(TestConfig::with_tool(two_methods()).with_settings(settings)).await.unwrap();
    let api = world.backend().unwrap();
    let id = api.start("scripted").await.unwrap().session.id;
    api.wait_entry(&id, "cli_started").await.unwrap();
    let machine = world.machines().remove(0);
    (world, api, id, machine)
}

/// The person chooses the other method.
async fn choose_other(api: &ApiClient, id: &SessionId) -> anyhow::Result<ApiResponse> {
    api.post(&format!("/api/auth/session/{id}/method"), json!({ "method": "other" })).await
}

/// Waits until the tool of this method has run.
async fn ran(world: &TestServer, machine: &MachineId, method: &str) {
    let left = world.home(machine).join(method);
    let seen = async {
        while !left.exists() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(WAIT_MAX, seen).await.expect("the tool of the chosen method runs");
}

#[tokio::test]
async fn method_chosen_before_a_crash_is_sent_to_the_agent_by_the_next_server() {
    for (timing, expected) in [(CrashTiming::Before, "usual"), (CrashTiming::After, "other")] {
        let (mut world, api, id, machine) = by_the_usual("").await;
        world.crash_at(&CrashPoint { timing, write: "transition method_chosen".into(), nth: 1 }).unwrap();
        // The server is killed before it answers.
        choose_other(&api, &id).await.unwrap_err();
        world.kill_server().await.unwrap();
        world.start_server().await.unwrap();
        let api = world.backend().unwrap();
        api.wait_entry(&id, "machine_adopted").await.unwrap();
        let view = api.wait_status(&id, Status::VmStarted).await.unwrap();
        assert_eq!((view.method.as_str(), view.generation), (expected, 1), "{timing:?}");
        if timing == CrashTiming::After {
            api.wait_entry(&id, "method_resent").await.unwrap();
        }
        ran(&world, &machine, expected).await;
        let told = api.timeline(&id).await.unwrap().iter().any(|entry| entry.kind == "method_resent");
        assert_eq!(told, timing == CrashTiming::After, "{timing:?}");
        assert_eq!(world.home(&machine).join("other").exists(), timing == CrashTiming::After, "{timing:?}");
        world.finish().await.unwrap();
    }
}

#[tokio::test]
async fn method_chosen_while_the_agent_is_unreachable_is_sent_when_it_responds() {
    let settings = "[machines]\nping_every_ms = 200\nping_ms_max = 1000\nhung_s_max = 120\n";
    let (world, api, id, machine) = by_the_usual(settings).await;
    let living = MachineProcesses::from_run_dir(&world.run_dir(&machine)).unwrap();
    signal(living.process, Signal::STOP).unwrap();
    let refused = choose_other(&api, &id).await.unwrap();
    assert!(refused.status >= 500, "the agent does not answer: {} {}", refused.status, refused.text);
    api.wait_until(&id, "away", |view| view.status == Status::VmCreated).await.unwrap();
    signal(living.process, Signal::CONT).unwrap();
    ran(&world, &machine, "other").await;
    let view = api.wait_status(&id, Status::VmStarted).await.unwrap();
    assert_eq!((view.method.as_str(), view.generation), ("other", 1));
    world.finish().await.unwrap();
}

#[tokio::test]
async fn method_change_completes_when_the_client_disconnects() {
    let settings = "[machines]\nping_ms_max = 120000\nhung_s_max = 240\n";
    let (world, api, id, machine) = by_the_usual(settings).await;
    let living = MachineProcesses::from_run_dir(&world.run_dir(&machine)).unwrap();
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
