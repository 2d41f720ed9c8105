//! Every cause for which a QEMU machine ends or fails to start: the close code of its viewer, the diagnosis, the receipt, and the
//! check for leftovers.

use crate::{
    fault_injection::{TemplateCacheCopy, inject_machine_check, link_never_ready_qemu, link_programs, power_off_guest},
    open_shell, run_in_shell, start_server,
};
use anteroom_machine::{ExitCause, Receipt};
use anteroom_rfb::client::ViewerSocket;
use anteroom_testbed::{
    MachineProcesses, QEMU_WAIT_TIMEOUT, Qemu, TestConfig, TestServer, machine_processes::send_signal,
    test_server::qemu::shell_provider,
};
use anteroom_wire::{
    MachineId, TimelineKind,
    api::SessionStatus,
    diagnosis::{Diagnosis, Verdict},
};
use rustix::process::Signal;
use std::{fs, time::Duration};
use tokio::{
    io::AsyncReadExt,
    time::{sleep, timeout},
};

const NO_RESTART: &str = "[sessions]\nrestarts_max = 0\nsocket_wait_ms_max = 120000\n";

/// Reads until the server closes; returns the close code and the reason.
async fn wait_close(socket: &mut ViewerSocket) -> (u16, String) {
    let mut rest = Vec::new();
    timeout(QEMU_WAIT_TIMEOUT, socket.read_to_end(&mut rest)).await.expect("closed within the limit").ok();
    let closing = socket.close_reason().expect("closed with a code").clone();
    (closing.code, closing.reason)
}

fn receipt_without_leftovers(server: &TestServer<Qemu>, machine: &MachineId) -> Receipt {
    let receipt = server.read_receipt(machine).unwrap();
    assert_eq!(receipt.checks.leftovers, Vec::<String>::new(), "nothing is left over");
    assert!(!server.run_dir(machine).exists());
    receipt
}

/// Ends the machine of a session with a viewer and without restarts left by `end`; returns diagnosis and receipt.
async fn end_machine_by(
    end: impl FnOnce(&TestServer<Qemu>, &MachineProcesses),
    expected: Verdict,
) -> (Diagnosis, Receipt) {
    let server = start_server(NO_RESTART).await;
    let id = open_shell(&server).await;
    let api = server.operator_client().unwrap();
    let mut viewer = api.connect_desktop(&id).await.unwrap();
    viewer.request_full_frame().await.unwrap();
    let (machine, machine_processes) = server.only_machine().unwrap();
    end(&server, &machine_processes);
    let (code, reason) = wait_close(&mut viewer.into_inner()).await;
    assert_eq!((code, reason.split(':').next()), (4410, Some("machine_failed")), "{reason}");
    let view = api.wait_status(&id, SessionStatus::Failed).await.unwrap();
    assert_eq!(view.reason.unwrap().code, "machine_failed");
    let found = api.wait_verdict(&id, expected).await.unwrap();
    assert!(found.sentence.contains("a connected viewer was disconnected"), "{}", found.sentence);
    assert!(found.sentence.contains("no credential was delivered"), "{}", found.sentence);
    assert!(found.evidence.iter().any(|entry| entry.kind == TimelineKind::MachineExited), "{:#?}", found.evidence);
    machine_processes.wait_exited().await.unwrap();
    let receipt = receipt_without_leftovers(&server, &machine);
    server.stop_and_check_leaks().await.unwrap();
    (found, receipt)
}

#[tokio::test]
async fn qemu_killed_vmm_is_reported_with_its_signal() {
    let (found, receipt) =
        end_machine_by(|_, machine| send_signal(machine.process, Signal::KILL).unwrap(), Verdict::MachineKilled).await;
    assert!(found.sentence.contains("killed by signal 9"), "{}", found.sentence);
    assert_eq!(receipt.cause, ExitCause::Killed { signal: 9 });
}

#[tokio::test]
async fn qemu_exited_vmm_is_reported_with_its_exit_code() {
    let (found, receipt) =
        end_machine_by(|_, machine| send_signal(machine.process, Signal::TERM).unwrap(), Verdict::MachineExited).await;
    assert!(found.sentence.contains("exit code 0"), "{}", found.sentence);
    assert_eq!(receipt.cause, ExitCause::Exited { code: 0 });
}

#[tokio::test]
async fn qemu_killed_keeper_ends_its_machine() {
    let (_, receipt) =
        end_machine_by(|_, machine| send_signal(machine.keeper, Signal::KILL).unwrap(), Verdict::KeeperLost).await;
    assert_eq!(receipt.cause, ExitCause::KeeperLost);
}

#[tokio::test]
async fn qemu_guest_kernel_panic_is_reported_with_its_console_output() {
    let (found, receipt) = end_machine_by(|_, machine| inject_machine_check(machine), Verdict::GuestPanic).await;
    assert!(found.sentence.contains("kernel panicked"), "{}", found.sentence);
    assert_eq!(receipt.cause, ExitCause::GuestPanic);
    assert!(receipt.console_tail.contains("Kernel panic"), "the console: {}", receipt.console_tail);
}

#[tokio::test]
async fn qemu_guest_power_off_is_reported() {
    let (_, receipt) =
        end_machine_by(|server, machine| power_off_guest(machine, server.path()), Verdict::GuestPowerOff).await;
    assert_eq!(receipt.cause, ExitCause::GuestPowerOff);
}

#[tokio::test]
async fn qemu_frozen_machine_is_stopped_as_hung_and_replaced() {
    let short_timeout = "[machines]\nliveness_timeout_s = 12\n";
    let server = start_server(short_timeout).await;
    let id = open_shell(&server).await;
    let api = server.operator_client().unwrap();
    let mut viewer = api.connect_desktop(&id).await.unwrap();
    viewer.request_full_frame().await.unwrap();
    let (machine, machine_processes) = server.only_machine().unwrap();
    send_signal(machine_processes.process, Signal::STOP).unwrap();
    api.wait_verdict(&id, Verdict::AgentUnreachable).await.unwrap();
    let (code, reason) = wait_close(&mut viewer.into_inner()).await;
    assert_eq!((code, reason.split(':').next()), (4510, Some("machine_replaced")), "{reason}");
    let exited = api.wait_entry(&id, TimelineKind::MachineExited).await.unwrap();
    assert_eq!(exited.data["why"]["cause"], "hung", "{:?}", exited.data);
    machine_processes.wait_exited().await.unwrap();
    assert_eq!(receipt_without_leftovers(&server, &machine).cause, ExitCause::Stopped { reason: "hung".into() });
    let view = api.wait_status(&id, SessionStatus::VmStarted).await.unwrap();
    assert_eq!(view.generation, 2);
    let screen = run_in_shell(&server, &id, "echo [AF\"\"TER]", "[AFTER]").await;
    assert!(screen.contains("[AFTER]"));
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn qemu_machine_resumed_before_the_timeout_continues() {
    let long_timeout = "[machines]\nliveness_timeout_s = 200\n";
    let server = start_server(long_timeout).await;
    let id = open_shell(&server).await;
    let api = server.operator_client().unwrap();
    run_in_shell(&server, &id, "MARK=still-here; echo DO\"\"NE", "DONE").await;
    let mut viewer = api.connect_desktop(&id).await.unwrap();
    viewer.request_full_frame().await.unwrap();
    let (machine, machine_processes) = server.only_machine().unwrap();
    send_signal(machine_processes.process, Signal::STOP).unwrap();
    api.wait_until(&id, "away", |view| view.status == SessionStatus::VmCreated).await.unwrap();
    // Longer than the timeout of any connection.
    sleep(Duration::from_secs(15)).await;
    send_signal(machine_processes.process, Signal::CONT).unwrap();
    api.wait_status(&id, SessionStatus::VmStarted).await.unwrap();
    viewer.request_full_frame().await.expect("the same stream continues");
    let screen = run_in_shell(&server, &id, "echo [$MARK]", "[still-here]").await;
    assert!(screen.contains("[still-here]"));
    assert_eq!(server.list_machines(), [machine]);
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn qemu_guest_low_memory_and_oom_kill_are_diagnosed() {
    let server = start_server("").await;
    let id = open_shell(&server).await;
    let api = server.operator_client().unwrap();
    let type_command = async |what: &str| {
        let typed = serde_json::json!({ "text": what, "enter": true });
        assert_eq!(api.post(&format!("/api/auth/session/{id}/type"), typed).await.unwrap().status, 204);
    };
    // Each process keeps its memory, since its output is not read. The first leaves a little less than the threshold, and its OOM score
    // makes it the victim; after the report a second process exceeds the memory.
    let little = "while read name kib unit; do case $name in MemTotal:) T=$kib;; MemAvailable:) A=$kib;; esac; done </proc/meminfo";
    let hold = "mkfifo f; sleep 900 <f & hold() { dd if=/dev/zero bs=$1K count=1 of=f status=none; }";
    let marked = "( echo 1000 >/proc/self/oom_score_adj; hold $((A - T * 6 / 100)) ) &";
    type_command(&format!("{little}; {hold}; {marked}")).await;
    let low = api.wait_entry(&id, TimelineKind::MemoryLow).await.unwrap();
    type_command("hold $((A / 2)) &").await;
    let killed = api.wait_entry(&id, TimelineKind::OutOfMemory).await.unwrap();
    assert_eq!(killed.data["victim"], "dd", "{:?}", killed.data);
    let found = api.wait_verdict(&id, Verdict::GuestOutOfMemory).await.unwrap();
    assert!(found.sentence.contains("killed “dd”"), "{}", found.sentence);
    assert!(low.number < killed.number, "low memory was reported first");
    assert!(low.data["some_avg10"].is_number(), "the memory pressure is reported: {:?}", low.data);
    api.wait_entry(&id, TimelineKind::MemoryRecovered).await.unwrap();
    // The machine itself is still running.
    let screen = run_in_shell(&server, &id, "echo [AL\"\"IVE]", "[ALIVE]").await;
    assert!(screen.contains("[ALIVE]"));
    assert_eq!(api.get_session(&id).await.unwrap().generation, 1);
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn qemu_guest_crash_loop_is_diagnosed() {
    let server = start_server("").await;
    let id = open_shell(&server).await;
    let api = server.operator_client().unwrap();
    let kill = "for n in 1 2 3 4 5; do until pkill -9 -x openbox; do sleep 0.2; done; done; echo DO\"\"NE";
    run_in_shell(&server, &id, kill, "DONE").await;
    let found = api.wait_verdict(&id, Verdict::GuestCrashLoop).await.unwrap();
    for part in ["openbox", "5 times", "exit code 137"] {
        assert!(found.sentence.contains(part), "{part}: {}", found.sentence);
    }
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn qemu_ready_timeout_is_reported_with_stage_and_attempts() {
    let quick_timeout = "[machines]\nready_ms_max = 100\n";
    // Makes sure that a template to clone exists.
    TestServer::start(TestConfig::qemu("")).await.unwrap().stop_and_check_leaks().await.unwrap();
    let bin = tempfile::tempdir().unwrap();
    let machines = Qemu { path: Some(link_never_ready_qemu(bin.path()).into()), ..Qemu::default() };
    let config = TestConfig::new(machines).with_settings(quick_timeout).with_settings(NO_RESTART);
    let server = TestServer::start(config.with_settings(&shell_provider())).await.unwrap();
    let api = server.operator_client().unwrap();
    let id = api.start_session("shell").await.unwrap().session.id;
    let (code, reason) = wait_close(&mut api.open_desktop_socket(&id).await.unwrap()).await;
    assert_eq!((code, reason.split(':').next()), (4410, Some("ready_timeout")), "{reason}");
    let found = api.wait_verdict(&id, Verdict::ReadyTimeout).await.unwrap();
    assert!(found.sentence.contains("it waited for") && found.sentence.contains("attempts"), "{}", found.sentence);
    let cleared = api.wait_entry(&id, TimelineKind::MachineRemoved).await.unwrap();
    assert_eq!(cleared.data["receipt"]["cause"], serde_json::json!({ "kind": "stopped", "reason": "not_ready" }));
    server.stop_and_check_leaks().await.unwrap();
}

/// Starts a session whose machine cannot start; returns its diagnosis.
async fn never_started(server: &TestServer<Qemu>) -> Diagnosis {
    let api = server.operator_client().unwrap();
    let id = api.start_session("shell").await.unwrap().session.id;
    let (code, reason) = wait_close(&mut api.open_desktop_socket(&id).await.unwrap()).await;
    assert_eq!((code, reason.split(':').next()), (4410, Some("machine_failed")), "{reason}");
    let found = api.wait_verdict(&id, Verdict::MachineStartFailed).await.unwrap();
    let cleared = api.wait_entry(&id, TimelineKind::MachineRemoved).await.unwrap();
    assert_eq!(cleared.data["receipt"]["cause"]["kind"], "never_started", "{:?}", cleared.data);
    assert_eq!(cleared.data["receipt"]["checks"]["leftovers"], serde_json::json!([]));
    found
}

#[tokio::test]
async fn qemu_missing_vmm_program_is_named_in_the_diagnosis() {
    let bin = tempfile::tempdir().unwrap();
    let path = link_programs(bin.path());
    let machines = Qemu { path: Some(path.clone().into()), ..Qemu::default() };
    let config = TestConfig::new(machines).with_settings(NO_RESTART).with_settings(&shell_provider());
    let server = TestServer::start(config).await.unwrap();
    fs::remove_file(path.join("qemu-system-x86_64")).unwrap();
    let found = never_started(&server).await;
    for part in ["qemu-system-x86_64", "No such file"] {
        assert!(found.sentence.contains(part), "{part}: {}", found.sentence);
    }
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn qemu_damaged_template_and_image_mismatch_are_diagnosed() {
    // Makes sure that a template to copy exists.
    TestServer::start(TestConfig::qemu("")).await.unwrap().stop_and_check_leaks().await.unwrap();
    let cache = TemplateCacheCopy::new().await;
    let machines = Qemu { cache_dir: Some(cache.path().to_owned()), ..Qemu::default() };
    let config = TestConfig::new(machines).with_settings(NO_RESTART).with_settings(&shell_provider());
    let other = "0123456789abcdef".repeat(4);
    cache.replace_image_hash(&other).await;
    let server = TestServer::start(config).await.unwrap();
    let api = server.operator_client().unwrap();
    let id = api.start_session("shell").await.unwrap().session.id;
    let (code, reason) = wait_close(&mut api.open_desktop_socket(&id).await.unwrap()).await;
    assert_eq!((code, reason.split(':').next()), (4410, Some("agent_mismatch")), "{reason}");
    let found = api.wait_verdict(&id, Verdict::ImageMismatch).await.unwrap();
    for hash in [other.as_str(), cache.image_hash()] {
        assert!(found.sentence.contains(hash), "{hash}: {}", found.sentence);
    }
    cache.truncate_state();
    let found = never_started(&server).await;
    assert!(found.sentence.contains("could not be loaded"), "{}", found.sentence);
    server.stop_and_check_leaks().await.unwrap();
}
