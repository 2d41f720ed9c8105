//! Machines outlive their server, and the next one adopts them. `examples/measure_adoption.rs` measures this with fifty machines.

use crate::{idle_provider, start_ready};
use anteroom_machine::ExitReason;
use anteroom_testbed::{
    ApiClient, ApiResponse, MachineProcesses, Script, ScriptedProvider, Step, TestConfig, TestServer, WAIT_MAX,
    machine_processes::send_signal,
    measure_adoption,
    serve::crash_point::{CrashPoint, CrashTiming},
};
use anteroom_wire::{MachineId, SessionId, TimelineKind, api::SessionStatus, diagnosis::Verdict};
use rustix::process::Signal;
use serde_json::json;
use std::time::{Duration, Instant};
use tokio::time::{sleep, timeout};

const MACHINES: usize = 10;
const ADOPTED_S_MAX: u64 = 20;

#[tokio::test]
async fn next_server_adopts_ten_machines_and_new_viewers_see_the_same_desktops() {
    let mut server = TestServer::start(TestConfig::with_provider(idle_provider())).await.unwrap();
    let before = measure_adoption::start_sessions(&server.operator_client().unwrap(), "idle", MACHINES).await.unwrap();
    let machines = server.list_machines().len();
    server.kill_server().await.unwrap();
    assert_eq!(server.list_machines().len(), machines, "the machines are still running");
    let began = Instant::now();
    server.start_server().await.unwrap();
    let limit = Duration::from_secs(ADOPTED_S_MAX);
    let adoption =
        measure_adoption::measure_adoption(&server.operator_client().unwrap(), &before, began, limit).await.unwrap();
    println!("{adoption}");
    assert_eq!(adoption.frames.count(), MACHINES);
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn machine_frozen_before_its_adoption_is_stopped_as_hung() {
    let settings = "[limits.machines]\nping_every_ms = 200\nping_ms_max = 2000\n[machines]\nliveness_timeout_s = 6\n\
                    [sessions]\nrestarts_max = 0\n";
    let mut server =
        TestServer::start(TestConfig::with_provider(idle_provider()).with_settings(settings)).await.unwrap();
    let api = server.backend_client().unwrap();
    let id = start_ready(&api).await;
    let machine = server.list_machines().remove(0);
    let machine_processes = MachineProcesses::from_run_dir(&server.run_dir(&machine)).unwrap();
    server.kill_server().await.unwrap();
    send_signal(machine_processes.process, Signal::STOP).unwrap();
    server.start_server().await.unwrap();
    let api = server.backend_client().unwrap();
    let exited = api.wait_entry(&id, TimelineKind::MachineExited).await.unwrap();
    let why: ExitReason = serde_json::from_value(exited.data["why"].clone()).unwrap();
    assert!(matches!(why, ExitReason::Hung { unanswered_ms } if unanswered_ms >= 6_000), "{why:?}");
    api.wait_status(&id, SessionStatus::Failed).await.unwrap();
    let found = api.get_diagnosis(&id).await.unwrap();
    assert_eq!(found.verdict, Verdict::MachineUnresponsive);
    machine_processes.wait_exited().await.unwrap();
    let receipt = server.read_receipt(&machine).unwrap();
    assert_eq!(receipt.exit_reason(), why, "the receipt contains the same reason");
    server.stop_and_check_leaks().await.unwrap();
}

/// A provider whose methods each write a file of their name and wait.
fn two_methods() -> ScriptedProvider {
    let runs = |name: &str| {
        Script::new([Step::write(name, "runs"), Step::WaitForFile { path: "never".into(), ms_max: 3_600_000 }])
    };
    ScriptedProvider::new("scripted", runs("usual"))
        .with_descriptor_key("label", json!("The usual"))
        .with_descriptor_key("method", json!("usual"))
        .with_method("other", runs("other"), json!({ "label": "The other" }))
}

/// Starts a session by the method `usual`; returns its machine, too.
async fn start_usual_method(settings: &str) -> (TestServer, ApiClient, SessionId, MachineId) {
    let server = TestServer::start(TestConfig::with_provider(two_methods()).with_settings(settings)).await.unwrap();
    let api = server.backend_client().unwrap();
    let id = api.start_session("scripted").await.unwrap().session.id;
    api.wait_entry(&id, TimelineKind::CliStarted).await.unwrap();
    let machine = server.list_machines().remove(0);
    (server, api, id, machine)
}

/// Changes the session to the method `other`.
async fn choose_other(api: &ApiClient, id: &SessionId) -> anyhow::Result<ApiResponse> {
    api.post(&format!("/api/auth/session/{id}/method"), json!({ "method": "other" })).await
}

/// Waits until the tool of this method has started.
async fn wait_tool_started(server: &TestServer, machine: &MachineId, method: &str) {
    let file = server.tool_home(machine).join(method);
    let wait = async {
        while !file.exists() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(WAIT_MAX, wait).await.expect("the tool of the chosen method runs");
}

#[tokio::test]
async fn method_chosen_before_a_crash_is_sent_to_the_agent_by_the_next_server() {
    for (timing, expected) in [(CrashTiming::Before, "usual"), (CrashTiming::After, "other")] {
        let (mut server, api, id, machine) = start_usual_method("").await;
        server.crash_at(&CrashPoint { timing, write_kind: "transition method_chosen".into(), nth: 1 }).unwrap();
        // The server is killed before it responds.
        choose_other(&api, &id).await.unwrap_err();
        server.kill_server().await.unwrap();
        server.start_server().await.unwrap();
        let api = server.backend_client().unwrap();
        api.wait_entry(&id, TimelineKind::MachineAdopted).await.unwrap();
        let view = api.wait_status(&id, SessionStatus::VmStarted).await.unwrap();
        assert_eq!((view.method.as_str(), view.generation), (expected, 1), "{timing:?}");
        if timing == CrashTiming::After {
            api.wait_entry(&id, TimelineKind::MethodResent).await.unwrap();
        }
        wait_tool_started(&server, &machine, expected).await;
        let resent = api.get_timeline(&id).await.unwrap().iter().any(|entry| entry.kind == TimelineKind::MethodResent);
        assert_eq!(resent, timing == CrashTiming::After, "{timing:?}");
        assert_eq!(server.tool_home(&machine).join("other").exists(), timing == CrashTiming::After, "{timing:?}");
        server.stop_and_check_leaks().await.unwrap();
    }
}

#[tokio::test]
async fn method_chosen_while_the_agent_is_unreachable_is_sent_when_it_responds() {
    let settings = "[limits.machines]\nping_every_ms = 200\nping_ms_max = 1000\ntool_ms_max = 5000\n[machines]\nliveness_timeout_s = 120\n";
    let (server, api, id, machine) = start_usual_method(settings).await;
    let machine_processes = MachineProcesses::from_run_dir(&server.run_dir(&machine)).unwrap();
    send_signal(machine_processes.process, Signal::STOP).unwrap();
    let response = choose_other(&api, &id).await.unwrap();
    assert!(response.status >= 500, "the agent does not answer: {} {}", response.status, response.text);
    api.wait_until(&id, "away", |view| view.status == SessionStatus::VmCreated).await.unwrap();
    send_signal(machine_processes.process, Signal::CONT).unwrap();
    wait_tool_started(&server, &machine, "other").await;
    let view = api.wait_status(&id, SessionStatus::VmStarted).await.unwrap();
    assert_eq!((view.method.as_str(), view.generation), ("other", 1));
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn method_change_completes_when_the_client_disconnects() {
    let settings = "[limits.machines]\nping_ms_max = 120000\n[machines]\nliveness_timeout_s = 240\n";
    let (server, api, id, machine) = start_usual_method(settings).await;
    let machine_processes = MachineProcesses::from_run_dir(&server.run_dir(&machine)).unwrap();
    send_signal(machine_processes.process, Signal::STOP).unwrap();
    tokio::select! {
        answer = choose_other(&api, &id) => panic!("a stopped machine's agent answered: {answer:?}"),
        chosen = api.wait_entry(&id, TimelineKind::MethodChosen) => drop(chosen.unwrap()),
    }
    // After another response the server has noticed the disconnection of the first client.
    api.get_session(&id).await.unwrap();
    send_signal(machine_processes.process, Signal::CONT).unwrap();
    wait_tool_started(&server, &machine, "other").await;
    server.stop_and_check_leaks().await.unwrap();
}
