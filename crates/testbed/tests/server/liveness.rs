//! Machines that freeze, never become ready or are unhealthy inside: each is detected, diagnosed, and replaced or ended.

use crate::{Flags, start_session_with, viewers::wait_close};
use anteroom_machine::{ExitReason, Receipt};
use anteroom_testbed::{
    ApiClient, LeakScan, PlainProcess, TestConfig, TestServer, WAIT_MAX,
    machine_processes::send_signal,
    plain_process::{InjectedFaults, SimulatedMemory},
};
use anteroom_wire::{
    MachineId, SessionId, TimelineKind,
    api::SessionStatus,
    diagnosis::{Diagnosis, Verdict},
};
use rustix::process::{Pid, Signal, kill_process};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Short ping and liveness timeouts.
const QUICK: &str = "[limits.machines]\nping_every_ms = 200\nping_ms_max = 2000\n[machines]\nliveness_timeout_s = 6\n";
const NO_RESTART: &str = "[sessions]\nrestarts_max = 0\nsocket_wait_ms_max = 60000\n";

/// Starts a session on a server whose machines have these faults.
async fn start_session(
    flags: &Flags,
    settings: &str,
    faults: InjectedFaults,
    ready_ms_max: Option<u64>,
) -> (TestServer, ApiClient, SessionId) {
    let machines =
        PlainProcess { providers: vec![flags.idle_provider()], faults, ready_ms_max, ..PlainProcess::default() };
    let (server, api, id) = start_session_with(TestConfig::new(machines).with_settings(settings)).await;
    (server, api, id)
}

async fn start_ready(settings: &str) -> (Flags, TestServer, ApiClient, SessionId) {
    let flags = Flags::new();
    let (server, api, id) = start_session(&flags, settings, InjectedFaults::default(), None).await;
    api.wait_entry(&id, TimelineKind::CliStarted).await.unwrap();
    (flags, server, api, id)
}

fn receipt(server: &TestServer, machine: &MachineId) -> Receipt {
    let receipt = server.read_receipt(machine).unwrap();
    assert_eq!(receipt.checks.leftovers, Vec::<String>::new(), "nothing is left over");
    receipt
}

/// Waits until the session has failed; returns its diagnosis.
async fn wait_failed(api: &ApiClient, id: &SessionId, code: &str, expected: Verdict) -> Diagnosis {
    let view = api.wait_status(id, SessionStatus::Failed).await.unwrap();
    assert_eq!(view.reason.unwrap().code, code);
    api.wait_verdict(id, expected).await.unwrap()
}

#[tokio::test]
async fn frozen_machine_is_stopped_as_hung_and_replaced() {
    let (_flags, server, api, id) = start_ready(QUICK).await;
    let mut viewer = api.connect_desktop(&id).await.unwrap();
    viewer.request_full_frame().await.unwrap();
    let (machine, living) = server.only_machine().unwrap();
    send_signal(living.process, Signal::STOP).unwrap();
    let (code, reason) = wait_close(&mut viewer.into_inner()).await;
    assert_eq!((code, reason.split(':').next()), (4510, Some("machine_replaced")), "{reason}");
    let exited = api.wait_entry(&id, TimelineKind::MachineExited).await.unwrap();
    let why: ExitReason = serde_json::from_value(exited.data["why"].clone()).unwrap();
    assert!(matches!(why, ExitReason::Hung { unanswered_ms } if unanswered_ms >= 6_000), "{why:?}");
    assert!(exited.sentence.contains("sent nothing for"), "{}", exited.sentence);
    living.wait_exited().await.unwrap();
    receipt(&server, &machine);
    let view = api.wait_status(&id, SessionStatus::VmStarted).await.unwrap();
    assert_eq!(view.generation, 2);
    api.connect_desktop(&id).await.unwrap().request_full_frame().await.unwrap();
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn frozen_machine_without_restarts_left_fails_the_session_with_machine_hung() {
    let (_flags, server, api, id) = start_ready(&format!("{QUICK}{NO_RESTART}")).await;
    let viewer = api.connect_desktop(&id).await.unwrap();
    let (machine, living) = server.only_machine().unwrap();
    send_signal(living.process, Signal::STOP).unwrap();
    api.wait_verdict(&id, Verdict::AgentUnreachable).await.unwrap();
    let (code, reason) = wait_close(&mut viewer.into_inner()).await;
    assert_eq!((code, reason.split(':').next()), (4410, Some("machine_failed")), "{reason}");
    api.wait_entry(&id, TimelineKind::ViewerDisconnected).await.unwrap();
    let found = wait_failed(&api, &id, "machine_failed", Verdict::MachineUnresponsive).await;
    assert!(found.sentence.contains("sent nothing for"), "{}", found.sentence);
    assert!(found.sentence.contains("a connected viewer was disconnected"), "{}", found.sentence);
    living.wait_exited().await.unwrap();
    receipt(&server, &machine);
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn machine_resumed_before_the_timeout_keeps_its_session_and_viewer() {
    let settings = "[limits.machines]\nping_every_ms = 200\nping_ms_max = 1000\n[machines]\nliveness_timeout_s = 120\n";
    let (_flags, server, api, id) = start_ready(settings).await;
    let mut viewer = api.connect_desktop(&id).await.unwrap();
    viewer.request_full_frame().await.unwrap();
    let (machine, living) = server.only_machine().unwrap();
    send_signal(living.process, Signal::STOP).unwrap();
    api.wait_until(&id, "away", |view| view.status == SessionStatus::VmCreated).await.unwrap();
    api.wait_verdict(&id, Verdict::AgentUnreachable).await.unwrap();
    send_signal(living.process, Signal::CONT).unwrap();
    api.wait_verdict(&id, Verdict::WaitingForUser).await.unwrap();
    viewer.request_full_frame().await.expect("the same stream continues");
    assert_eq!(server.list_machines(), [machine]);
    assert_eq!(api.get_session(&id).await.unwrap().generation, 1);
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn stopped_server_does_not_count_its_own_pause_as_machine_silence() {
    let (_flags, server, api, id) = start_ready(QUICK).await;
    let server_pid = server.server_pid().unwrap();
    kill_process(server_pid, Signal::STOP).unwrap();
    // Longer than the liveness timeout; the machine answers, but the stopped server does not read it.
    sleep(Duration::from_secs(9)).await;
    kill_process(server_pid, Signal::CONT).unwrap();
    // Long enough to observe a wrong machine stop.
    sleep(Duration::from_secs(3)).await;
    api.wait_verdict(&id, Verdict::WaitingForUser).await.unwrap();
    assert_eq!(api.get_session(&id).await.unwrap().generation, 1);
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn machine_ends_with_its_killed_keeper_and_the_diagnosis_is_keeper_lost() {
    let (_flags, server, api, id) = start_ready(NO_RESTART).await;
    let viewer = api.connect_desktop(&id).await.unwrap();
    let (machine, living) = server.only_machine().unwrap();
    send_signal(living.keeper, Signal::KILL).unwrap();
    assert_eq!(wait_close(&mut viewer.into_inner()).await.0, 4410);
    let found = wait_failed(&api, &id, "machine_failed", Verdict::KeeperLost).await;
    assert!(found.sentence.contains("keeper process was killed"), "{}", found.sentence);
    assert!(!living.process.is_alive());
    living.wait_exited().await.unwrap();
    receipt(&server, &machine);
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn frozen_keeper_does_not_keep_the_machine_of_a_cancelled_session_alive() {
    let (_flags, server, api, id) = start_ready("").await;
    let (_, living) = server.only_machine().unwrap();
    send_signal(living.keeper, Signal::STOP).unwrap();
    api.cancel_session(&id).await.unwrap();
    api.wait_entry(&id, TimelineKind::MachineExited).await.unwrap();
    living.wait_exited().await.unwrap();
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn machine_start_failure_names_the_missing_program() {
    let flags = Flags::new();
    let faults = InjectedFaults { no_program: true, ..InjectedFaults::default() };
    let (server, api, id) = start_session(&flags, NO_RESTART, faults, None).await;
    let found = wait_failed(&api, &id, "machine_failed", Verdict::MachineStartFailed).await;
    assert!(found.sentence.contains("/no/such/program"), "{}", found.sentence);
    let rejected =
        api.post(&format!("/api/auth/session/{id}/ticket"), serde_json::json!({"purpose": "desktop"})).await.unwrap();
    assert_eq!((rejected.status, rejected.problem().unwrap().code.as_str()), (410, "machine_failed"));
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn image_mismatch_is_reported_with_both_hashes() {
    let flags = Flags::new();
    let faults = InjectedFaults { other_image: Some("sha256:another".into()), ..InjectedFaults::default() };
    let (server, api, id) = start_session(&flags, NO_RESTART, faults, None).await;
    let found = wait_failed(&api, &id, "agent_mismatch", Verdict::ImageMismatch).await;
    for hash in ["sha256:another", "sha256:plain-process"] {
        assert!(found.sentence.contains(hash), "{hash}: {}", found.sentence);
    }
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn slow_agent_is_awaited_until_the_ready_timeout() {
    let flags = Flags::new();
    let slow = InjectedFaults { agent_delay_ms: 5_000, ..InjectedFaults::default() };
    let (server, api, id) = start_session(&flags, NO_RESTART, slow, None).await;
    let began = Instant::now();
    api.connect_desktop(&id).await.unwrap().request_full_frame().await.unwrap();
    assert!(began.elapsed() >= Duration::from_secs(3), "the agent was slow");
    server.stop_and_check_leaks().await.unwrap();

    let never = InjectedFaults { agent_delay_ms: 600_000, ..InjectedFaults::default() };
    let (server, api, id) = start_session(&flags, NO_RESTART, never, Some(2_500)).await;
    let (code, reason) = wait_close(&mut api.open_desktop_socket(&id).await.unwrap()).await;
    assert_eq!((code, reason.split(':').next()), (4410, Some("ready_timeout")), "{reason}");
    let found = wait_failed(&api, &id, "ready_timeout", Verdict::ReadyTimeout).await;
    for part in ["waited for Channel", "attempts", "No such file", "not ready after 2"] {
        assert!(found.sentence.contains(part), "{part}: {}", found.sentence);
    }
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn machine_without_a_desktop_fails_at_the_display_stage() {
    let flags = Flags::new();
    let faults = InjectedFaults { no_desktop: true, ..InjectedFaults::default() };
    let (server, api, id) = start_session(&flags, NO_RESTART, faults, Some(4_000)).await;
    let found = wait_failed(&api, &id, "ready_timeout", Verdict::ReadyTimeout).await;
    for part in ["waited for Display", "attempts", "no RFB greeting"] {
        assert!(found.sentence.contains(part), "{part}: {}", found.sentence);
    }
    server.stop_and_check_leaks().await.unwrap();
}

/// A process of the test server whose command line contains all these words.
fn process_with(server: &TestServer, words: &[&str]) -> Option<Pid> {
    let all = LeakScan::for_dir(server.path()).find_processes();
    let found = all.iter().find(|found| words.iter().all(|word| found.command.contains(word)))?;
    Pid::from_raw(found.pid)
}

#[tokio::test]
async fn guest_low_memory_and_oom_kill_are_diagnosed() {
    let flags = Flags::new();
    let faults = InjectedFaults { simulated_memory: true, ..InjectedFaults::default() };
    let (server, api, id) = start_session(&flags, "", faults, None).await;
    api.wait_entry(&id, TimelineKind::CliStarted).await.unwrap();
    let run_dir = server.run_dir(&server.only_machine().unwrap().0);
    SimulatedMemory { available_mib: 20, oom_kills: 0 }.write(&run_dir).unwrap();
    let found = api.wait_verdict(&id, Verdict::GuestMemoryLow).await.unwrap();
    assert!(found.sentence.contains("20 MiB"), "{}", found.sentence);
    SimulatedMemory { available_mib: 700, oom_kills: 0 }.write(&run_dir).unwrap();
    api.wait_verdict(&id, Verdict::WaitingForUser).await.unwrap();

    kill_process(process_with(&server, &["anteroom-testbed tool"]).expect("the tool"), Signal::KILL).unwrap();
    let named = "3,9,9,-;Out of memory: Killed process 5 (anteroom-testbe) total-vm:1kB, anon-rss:1kB";
    SimulatedMemory::append_kernel_log_line(&run_dir, named).unwrap();
    SimulatedMemory { available_mib: 700, oom_kills: 1 }.write(&run_dir).unwrap();
    let found = api.wait_verdict(&id, Verdict::GuestOutOfMemory).await.unwrap();
    for part in ["anteroom-testbe", "exit code 137"] {
        assert!(found.sentence.contains(part), "{part}: {}", found.sentence);
    }
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn guest_crash_loop_is_diagnosed() {
    let (_flags, server, api, id) = start_ready("").await;
    let killed = |entries: &[anteroom_wire::api::TimelineEntry]| {
        entries.iter().filter(|entry| entry.kind == TimelineKind::ChildExited && entry.data["name"] == "tmux").count()
    };
    let until = Instant::now() + WAIT_MAX;
    for round in 1..=5 {
        while killed(&api.get_timeline(&id).await.unwrap()) < round {
            assert!(Instant::now() < until, "tmux was not restarted");
            if let Some(tmux_pid) = process_with(&server, &["tmux -u -D"]) {
                // It may have ended since it was found.
                let _ = kill_process(tmux_pid, Signal::KILL);
            }
            sleep(Duration::from_millis(50)).await;
        }
    }
    let found = api.wait_verdict(&id, Verdict::GuestCrashLoop).await.unwrap();
    for part in ["tmux", "5 times", "exit code 137"] {
        assert!(found.sentence.contains(part), "{part}: {}", found.sentence);
    }
    server.stop_and_check_leaks().await.unwrap();
}
