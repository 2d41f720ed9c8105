//! What only a real guest reports: a panic of its kernel, lack of memory, programs that crash repeatedly. For all causes of an exit see
//! the suite `conformance`.

use crate::{open_shell, run_in_shell, start_server};
use anteroom_machine::ExitCause;
use anteroom_rfb::client::ViewerSocket;
use anteroom_testbed::{
    QEMU_WAIT_TIMEOUT,
    qemu_monitor::{self, inject_machine_check},
};
use anteroom_wire::{TimelineKind, api::SessionStatus, diagnosis::Verdict};
use tokio::{io::AsyncReadExt, time::timeout};

const NO_RESTART: &str = "[sessions]\nrestarts_max = 0\nsocket_wait_ms_max = 120000\n";

/// Reads until the server closes; returns the close code and the reason.
async fn wait_close(socket: &mut ViewerSocket) -> (u16, String) {
    let mut rest = Vec::new();
    timeout(QEMU_WAIT_TIMEOUT, socket.read_to_end(&mut rest)).await.expect("closed within the limit").ok();
    let closing = socket.close_reason().expect("closed with a code").clone();
    (closing.code, closing.reason)
}

#[tokio::test]
async fn qemu_guest_kernel_panic_is_reported_to_viewers_with_its_console_output() {
    if let Some(reason) = qemu_monitor::missing_permission() {
        return eprintln!("skipped: {reason}");
    }
    let server = start_server(NO_RESTART).await;
    let id = open_shell(&server).await;
    let api = server.operator_client().unwrap();
    let mut viewer = api.connect_desktop(&id).await.unwrap();
    viewer.request_full_frame().await.unwrap();
    let (machine, processes) = server.only_machine().unwrap();
    inject_machine_check(&processes).unwrap();
    let (code, reason) = wait_close(&mut viewer.into_inner()).await;
    assert_eq!((code, reason.split(':').next()), (4410, Some("machine_failed")), "{reason}");
    let view = api.wait_status(&id, SessionStatus::Failed).await.unwrap();
    assert_eq!(view.reason.unwrap().code, "machine_failed");
    let found = api.wait_verdict(&id, Verdict::GuestPanic).await.unwrap();
    for part in ["kernel panicked", "a connected viewer was disconnected", "no credential was delivered"] {
        assert!(found.sentence.contains(part), "{part}: {}", found.sentence);
    }
    assert!(found.evidence.iter().any(|entry| entry.kind == TimelineKind::MachineExited), "{:#?}", found.evidence);
    processes.wait_exited().await.unwrap();
    let receipt = server.read_receipt(&machine).unwrap();
    assert_eq!((receipt.cause, receipt.checks.leftovers), (ExitCause::GuestPanic, Vec::new()));
    assert!(receipt.console_tail.contains("Kernel panic"), "the console: {}", receipt.console_tail);
    assert!(!server.run_dir(&machine).exists());
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
