//! Machines that freeze, never come up or do badly inside: each is recognised, named, and replaced or ended.

use crate::{Scene, viewers::closing, diagnosis::verdict};
use anteroom_machine::{ExitReason, Receipt};
use anteroom_testbed::{
    ApiClient, Leaks, MachineProcesses, TestConfig, WAIT_MAX, TestServer,
    machine_processes::send_signal,
    plain_process::{Faults, SimulatedMemory},
};
use anteroom_wire::{
    MachineId, SessionId,
    api::Status,
    diagnosis::{Diagnosis, Verdict},
};
use rustix::process::{Pid, Signal, kill_process};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// A machine is soon said to be away, and a while later to have hung.
const QUICK: &str = "[machines]\nping_every_ms = 200\nping_ms_max = 2000\nhung_s_max = 6\n";
const NO_RESTART: &str = "[sessions]\nrestarts_max = 0\nsocket_wait_ms_max = 60000\n";

/// One session of a world whose machines have these faults.
async fn one(scene: &Scene, settings: &str, faults: Faults, ready_ms_max: Option<u64>) -> (TestServer, ApiClient, SessionId) {
    let plan = TestConfig { faults, ready_ms_max, ..TestConfig::with_tool(scene.idle_tool()).with_settings(settings) };
    let world = TestServer::start(plan).await.unwrap();
    let api = world.backend().unwrap();
    let id = api.start("scripted").await.unwrap().session.id;
    (world, api, id)
}

async fn open(settings: &str) -> (Scene, TestServer, ApiClient, SessionId) {
    let scene = Scene::new();
    let (world, api, id) = one(&scene, settings, Faults::default(), None).await;
    api.wait_entry(&id, "cli_started").await.unwrap();
    (scene, world, api, id)
}

fn the_machine(world: &TestServer) -> (MachineId, MachineProcesses) {
    let machine = world.machines().remove(0);
    let living = MachineProcesses::from_run_dir(&world.run_dir(&machine)).unwrap();
    (machine, living)
}

fn receipt(world: &TestServer, machine: &MachineId) -> Receipt {
    let receipt = Receipt::read(&world.state_dir().join("receipts"), machine).unwrap().expect("a receipt");
    assert_eq!(receipt.checks.leftovers, Vec::<String>::new(), "nothing is left of it");
    receipt
}

/// The session failed: what its diagnosis says.
async fn failed(api: &ApiClient, id: &SessionId, code: &str, expected: Verdict) -> Diagnosis {
    let view = api.wait_status(id, Status::Failed).await.unwrap();
    assert_eq!(view.reason.unwrap().code, code);
    verdict(api, id, expected).await
}

#[tokio::test]
async fn frozen_machine_is_stopped_as_hung_and_replaced() {
    let (_scene, world, api, id) = open(QUICK).await;
    let mut viewer = api.desktop(&id).await.unwrap();
    viewer.whole_frame().await.unwrap();
    let (machine, living) = the_machine(&world);
    signal(living.process, Signal::STOP).unwrap();
    let (code, reason) = closing(&mut viewer.into_inner()).await;
    assert_eq!((code, reason.split(':').next()), (4510, Some("machine_replaced")), "{reason}");
    let gone = api.wait_entry(&id, "machine_exited").await.unwrap();
    let why: ExitReason = serde_json::from_value(gone.data["why"].clone()).unwrap();
    assert!(matches!(why, ExitReason::Hung { unanswered_ms } if unanswered_ms >= 6_000), "{why:?}");
    assert!(gone.sentence.contains("no sign of life"), "{}", gone.sentence);
    living.wait_exited().await.unwrap();
    receipt(&world, &machine);
    let view = api.wait_status(&id, Status::VmStarted).await.unwrap();
    assert_eq!(view.generation, 2);
    api.desktop(&id).await.unwrap().whole_frame().await.unwrap();
    world.finish().await.unwrap();
}

#[tokio::test]
async fn frozen_machine_without_restarts_left_fails_the_session_with_machine_hung() {
    let (_scene, world, api, id) = open(&format!("{QUICK}{NO_RESTART}")).await;
    let viewer = api.desktop(&id).await.unwrap();
    let (machine, living) = the_machine(&world);
    signal(living.process, Signal::STOP).unwrap();
    verdict(&api, &id, Verdict::AgentUnreachable).await;
    let (code, reason) = closing(&mut viewer.into_inner()).await;
    assert_eq!((code, reason.split(':').next()), (4410, Some("machine_failed")), "{reason}");
    api.wait_entry(&id, "viewer_left").await.unwrap();
    let found = failed(&api, &id, "machine_failed", Verdict::MachineUnresponsive).await;
    assert!(found.sentence.contains("no sign of life"), "{}", found.sentence);
    assert!(found.sentence.contains("a connected viewer was disconnected"), "{}", found.sentence);
    living.wait_exited().await.unwrap();
    receipt(&world, &machine);
    world.finish().await.unwrap();
}

#[tokio::test]
async fn machine_resumed_before_the_timeout_keeps_its_session_and_viewer() {
    let (_scene, world, api, id) =
        open("[machines]\nping_every_ms = 200\nping_ms_max = 1000\nhung_s_max = 120\n").await;
    let mut viewer = api.desktop(&id).await.unwrap();
    viewer.whole_frame().await.unwrap();
    let (machine, living) = the_machine(&world);
    signal(living.process, Signal::STOP).unwrap();
    api.wait_until(&id, "away", |view| view.status == Status::VmCreated).await.unwrap();
    verdict(&api, &id, Verdict::AgentUnreachable).await;
    signal(living.process, Signal::CONT).unwrap();
    verdict(&api, &id, Verdict::WaitingForUser).await;
    viewer.whole_frame().await.expect("the same stream");
    assert_eq!(world.machines(), [machine]);
    assert_eq!(api.session(&id).await.unwrap().generation, 1);
    world.finish().await.unwrap();
}

#[tokio::test]
async fn stopped_server_does_not_count_its_own_pause_as_machine_silence() {
    let (_scene, world, api, id) = open(QUICK).await;
    let server = world.server_pid().unwrap();
    kill_process(server, Signal::STOP).unwrap();
    // Longer than a machine may be silent; the machine answers all the time, and nobody hears it.
    sleep(Duration::from_secs(9)).await;
    kill_process(server, Signal::CONT).unwrap();
    // Long enough for a wrong end to be seen.
    sleep(Duration::from_secs(3)).await;
    verdict(&api, &id, Verdict::WaitingForUser).await;
    assert_eq!(api.session(&id).await.unwrap().generation, 1);
    world.finish().await.unwrap();
}

#[tokio::test]
async fn machine_ends_with_its_killed_keeper_and_the_diagnosis_is_keeper_lost() {
    let (_scene, world, api, id) = open(NO_RESTART).await;
    let viewer = api.desktop(&id).await.unwrap();
    let (machine, living) = the_machine(&world);
    signal(living.keeper, Signal::KILL).unwrap();
    assert_eq!(closing(&mut viewer.into_inner()).await.0, 4410);
    let found = failed(&api, &id, "machine_failed", Verdict::KeeperLost).await;
    assert!(found.sentence.contains("keeper process was killed"), "{}", found.sentence);
    assert!(!living.process.is_alive());
    living.wait_exited().await.unwrap();
    receipt(&world, &machine);
    world.finish().await.unwrap();
}

#[tokio::test]
async fn frozen_keeper_does_not_keep_the_machine_of_a_cancelled_session_alive() {
    let (_scene, world, api, id) = open("").await;
    let (_, living) = the_machine(&world);
    signal(living.keeper, Signal::STOP).unwrap();
    api.cancel(&id).await.unwrap();
    api.wait_entry(&id, "machine_exited").await.unwrap();
    living.wait_exited().await.unwrap();
    world.finish().await.unwrap();
}

#[tokio::test]
async fn machine_start_failure_names_the_missing_program() {
    let scene = Scene::new();
    let faults = Faults { no_program: true, ..Faults::default() };
    let (world, api, id) = one(&scene, NO_RESTART, faults, None).await;
    let found = failed(&api, &id, "machine_failed", Verdict::MachineStartFailed).await;
    assert!(found.sentence.contains("/no/such/program"), "{}", found.sentence);
    let refused =
        api.post(&format!("/api/auth/session/{id}/ticket"), serde_json::json!({"purpose": "desktop"})).await.unwrap();
    assert_eq!((refused.status, refused.problem().unwrap().code.as_str()), (410, "machine_failed"));
    world.finish().await.unwrap();
}

#[tokio::test]
async fn image_mismatch_is_reported_with_both_hashes() {
    let scene = Scene::new();
    let faults = Faults { other_image: Some("sha256:another".into()), ..Faults::default() };
    let (world, api, id) = one(&scene, NO_RESTART, faults, None).await;
    let found = failed(&api, &id, "agent_mismatch", Verdict::ImageMismatch).await;
    for hash in ["sha256:another", "sha256:plain-process"] {
        assert!(found.sentence.contains(hash), "{hash}: {}", found.sentence);
    }
    world.finish().await.unwrap();
}

#[tokio::test]
async fn slow_agent_is_awaited_until_the_ready_timeout() {
    let scene = Scene::new();
    let slow = Faults { agent_after_ms: 5_000, ..Faults::default() };
    let (world, api, id) = one(&scene, NO_RESTART, slow, None).await;
    let began = Instant::now();
    api.desktop(&id).await.unwrap().whole_frame().await.unwrap();
    assert!(began.elapsed() >= Duration::from_secs(3), "it was slow");
    world.finish().await.unwrap();

    let never = Faults { agent_after_ms: 600_000, ..Faults::default() };
    let (world, api, id) = one(&scene, NO_RESTART, never, Some(2_500)).await;
    let (code, reason) = closing(&mut api.desktop_socket(&id).await.unwrap()).await;
    assert_eq!((code, reason.split(':').next()), (4410, Some("ready_timeout")), "{reason}");
    let found = failed(&api, &id, "ready_timeout", Verdict::ReadyTimeout).await;
    for words in ["waited for Channel", "attempts", "No such file", "not ready after 2"] {
        assert!(found.sentence.contains(words), "{words}: {}", found.sentence);
    }
    world.finish().await.unwrap();
}

#[tokio::test]
async fn machine_without_a_desktop_fails_at_the_display_stage() {
    let scene = Scene::new();
    let faults = Faults { no_desktop: true, ..Faults::default() };
    let (world, api, id) = one(&scene, NO_RESTART, faults, Some(4_000)).await;
    let found = failed(&api, &id, "ready_timeout", Verdict::ReadyTimeout).await;
    for words in ["waited for Display", "attempts", "no RFB greeting"] {
        assert!(found.sentence.contains(words), "{words}: {}", found.sentence);
    }
    world.finish().await.unwrap();
}

/// A process of the world whose command line has this.
fn process_with(world: &TestServer, words: &[&str]) -> Option<Pid> {
    let all = Leaks::for_dir(world.path()).processes();
    let found = all.iter().find(|found| words.iter().all(|word| found.command.contains(word)))?;
    Pid::from_raw(found.pid)
}

#[tokio::test]
async fn guest_low_memory_and_oom_kill_are_diagnosed() {
    let scene = Scene::new();
    let faults = Faults { simulated_memory: true, ..Faults::default() };
    let (world, api, id) = one(&scene, "", faults, None).await;
    api.wait_entry(&id, "cli_started").await.unwrap();
    let run_dir = world.run_dir(&the_machine(&world).0);
    SimulatedMemory { available_mib: 20, oom_kills: 0 }.write(&run_dir).unwrap();
    let found = verdict(&api, &id, Verdict::GuestMemoryLow).await;
    assert!(found.sentence.contains("20 MiB"), "{}", found.sentence);
    SimulatedMemory { available_mib: 700, oom_kills: 0 }.write(&run_dir).unwrap();
    verdict(&api, &id, Verdict::WaitingForUser).await;

    kill_process(process_with(&world, &["anteroom-testbed tool"]).expect("the tool"), Signal::KILL).unwrap();
    let named = "3,9,9,-;Out of memory: Killed process 5 (anteroom-testbe) total-vm:1kB, anon-rss:1kB";
    SimulatedMemory::log(&run_dir, named).unwrap();
    SimulatedMemory { available_mib: 700, oom_kills: 1 }.write(&run_dir).unwrap();
    let found = verdict(&api, &id, Verdict::GuestOutOfMemory).await;
    for words in ["anteroom-testbe", "exit code 137"] {
        assert!(found.sentence.contains(words), "{words}: {}", found.sentence);
    }
    world.finish().await.unwrap();
}

#[tokio::test]
async fn guest_crash_loop_is_diagnosed() {
    let (_scene, world, api, id) = open("").await;
    let killed = |entries: &[anteroom_wire::api::TimelineEntry]| {
        entries.iter().filter(|entry| entry.kind == "child_exited" && entry.data["name"] == "tmux").count()
    };
    let until = Instant::now() + WAIT_MAX;
    for round in 1..=5 {
        while killed(&api.timeline(&id).await.unwrap()) < round {
            assert!(Instant::now() < until, "the server of the terminal is not started again");
            if let Some(server) = process_with(&world, &["tmux -u -D"]) {
                // It may have ended since it was found.
                let _ = kill_process(server, Signal::KILL);
            }
            sleep(Duration::from_millis(50)).await;
        }
    }
    let found = verdict(&api, &id, Verdict::GuestCrashLoop).await;
    for words in ["tmux", "5 times", "exit code 137"] {
        assert!(found.sentence.contains(words), "{words}: {}", found.sentence);
    }
    world.finish().await.unwrap();
}
