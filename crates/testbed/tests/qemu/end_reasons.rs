//! Every way in which a real machine can end or fail to begin: what its viewer is told, what the diagnosis says, what the
//! machine's receipt has, and that nothing is left.

use crate::{
    SHELL,
    fault_injection::{OwnCache, break_hardware, never_ready, programs, switch_off, the_machine},
    open_shell, run,
};
use anteroom_controller::rfb::ViewerSocket;
use anteroom_machine::{ExitCause, Receipt};
use anteroom_testbed::{
    ApiClient, QemuServer, MachineProcesses,
    qemu_server::{Overrides, QEMU_WAIT_MAX},
    machine_processes::send_signal,
};
use anteroom_wire::{
    MachineId, SessionId,
    api::Status,
    diagnosis::{Diagnosis, Verdict},
};
use rustix::process::Signal;
use std::{collections::BTreeMap, fs, time::Duration};
use tokio::{
    io::AsyncReadExt,
    time::{Instant, sleep, timeout},
};

const NO_RESTART: &str = "[sessions]\nrestarts_max = 0\nsocket_wait_ms_max = 120000\n";

/// Reads until the server closes; the code and the reason.
async fn closing(socket: &mut ViewerSocket) -> (u16, String) {
    let mut rest = Vec::new();
    timeout(QEMU_WAIT_MAX, socket.read_to_end(&mut rest)).await.expect("closed in time").ok();
    let closing = socket.closing().expect("closed with a code").clone();
    (closing.code, closing.reason)
}

/// Waits until the verdict is this one.
async fn verdict(api: &ApiClient, id: &SessionId, wanted: Verdict) -> Diagnosis {
    let until = Instant::now() + QEMU_WAIT_MAX;
    loop {
        let found: Diagnosis = api.get(&format!("/api/auth/session/{id}/diagnosis")).await.unwrap().read().unwrap();
        assert_ne!(found.verdict, Verdict::Unknown, "{found:#?}");
        if found.verdict == wanted {
            return found;
        }
        assert!(Instant::now() < until, "not {wanted:?}: {found:#?}");
        sleep(Duration::from_millis(100)).await;
    }
}

fn clean(house: &QemuServer, machine: &MachineId) -> Receipt {
    let receipt = house.receipt(machine).unwrap();
    assert_eq!(receipt.checks.leftovers, Vec::<String>::new(), "nothing is left of it");
    assert!(!house.run_dir(machine).exists());
    receipt
}

/// A session with a viewer whose machine is ended by `end`, without a restart left: what is told of it.
async fn ended_by(end: impl FnOnce(&QemuServer, &MachineProcesses), expected: Verdict) -> (Diagnosis, Receipt) {
    let house = QemuServer::start(&format!("{NO_RESTART}{SHELL}"), &BTreeMap::new(), false).await.unwrap();
    let id = open_shell(&house).await;
    let api = house.operator().unwrap();
    let mut viewer = api.desktop(&id).await.unwrap();
    viewer.whole_frame().await.unwrap();
    let (machine, living) = the_machine(&house);
    end(&house, &living);
    let (code, reason) = closing(&mut viewer.into_inner()).await;
    assert_eq!((code, reason.split(':').next()), (4410, Some("machine_failed")), "{reason}");
    let view = api.wait_status(&id, Status::Failed).await.unwrap();
    assert_eq!(view.reason.unwrap().code, "machine_failed");
    let found = verdict(&api, &id, expected).await;
    assert!(found.sentence.contains("a connected viewer was disconnected"), "{}", found.sentence);
    assert!(found.sentence.contains("no credential was delivered"), "{}", found.sentence);
    assert!(found.evidence.iter().any(|entry| entry.kind == "machine_exited"), "{:#?}", found.evidence);
    living.wait_exited().await.unwrap();
    let receipt = clean(&house, &machine);
    house.finish().await.unwrap();
    (found, receipt)
}

#[tokio::test]
async fn qemu_killed_vmm_is_reported_with_its_signal() {
    let kill = |_: &QemuServer, living: &MachineProcesses| signal(living.process, Signal::KILL).unwrap();
    let (found, receipt) = ended_by(kill, Verdict::MachineKilled).await;
    assert!(found.sentence.contains("killed by signal 9"), "{}", found.sentence);
    assert_eq!(receipt.cause, ExitCause::Killed { signal: 9 });
}

#[tokio::test]
async fn qemu_exited_vmm_is_reported_with_its_exit_code() {
    let end = |_: &QemuServer, living: &MachineProcesses| signal(living.process, Signal::TERM).unwrap();
    let (found, receipt) = ended_by(end, Verdict::MachineExited).await;
    assert!(found.sentence.contains("exit code 0"), "{}", found.sentence);
    assert_eq!(receipt.cause, ExitCause::Exited { code: 0 });
}

#[tokio::test]
async fn qemu_killed_keeper_ends_its_machine() {
    let kill = |_: &QemuServer, living: &MachineProcesses| signal(living.keeper, Signal::KILL).unwrap();
    let (_, receipt) = ended_by(kill, Verdict::KeeperLost).await;
    assert_eq!(receipt.cause, ExitCause::KeeperLost);
}

#[tokio::test]
async fn qemu_guest_kernel_panic_is_reported_with_its_console_output() {
    let (found, receipt) = ended_by(|_, living| break_hardware(living), Verdict::GuestPanic).await;
    assert!(found.sentence.contains("kernel panicked"), "{}", found.sentence);
    assert_eq!(receipt.cause, ExitCause::GuestPanic);
    assert!(receipt.console_tail.contains("Kernel panic"), "the console: {}", receipt.console_tail);
}

#[tokio::test]
async fn qemu_guest_power_off_is_reported() {
    let off = |house: &QemuServer, living: &MachineProcesses| switch_off(living, house.path());
    let (_, receipt) = ended_by(off, Verdict::GuestPowerOff).await;
    assert_eq!(receipt.cause, ExitCause::GuestPowerOff);
}

#[tokio::test]
async fn qemu_frozen_machine_is_stopped_as_hung_and_replaced() {
    let quick = "[machines]\nping_every_ms = 500\nping_ms_max = 4000\nhung_s_max = 10\n";
    let house = QemuServer::start(&format!("{quick}{SHELL}"), &BTreeMap::new(), false).await.unwrap();
    let id = open_shell(&house).await;
    let api = house.operator().unwrap();
    let mut viewer = api.desktop(&id).await.unwrap();
    viewer.whole_frame().await.unwrap();
    let (machine, living) = the_machine(&house);
    signal(living.process, Signal::STOP).unwrap();
    verdict(&api, &id, Verdict::AgentUnreachable).await;
    let (code, reason) = closing(&mut viewer.into_inner()).await;
    assert_eq!((code, reason.split(':').next()), (4510, Some("machine_replaced")), "{reason}");
    let gone = api.wait_entry(&id, "machine_exited").await.unwrap();
    assert_eq!(gone.data["why"]["cause"], "hung", "{:?}", gone.data);
    living.wait_exited().await.unwrap();
    assert_eq!(clean(&house, &machine).how, ExitCause::Stopped { why: "hung".into() });
    let view = api.wait_status(&id, Status::VmStarted).await.unwrap();
    assert_eq!(view.generation, 2);
    let screen = run(&house, &id, "echo [AF\"\"TER]", "[AFTER]").await;
    assert!(screen.contains("[AFTER]"));
    house.finish().await.unwrap();
}

#[tokio::test]
async fn qemu_machine_resumed_before_the_timeout_continues() {
    let patient = "[machines]\nping_every_ms = 500\nping_ms_max = 2000\nhung_s_max = 200\n";
    let house = QemuServer::start(&format!("{patient}{SHELL}"), &BTreeMap::new(), false).await.unwrap();
    let id = open_shell(&house).await;
    let api = house.operator().unwrap();
    run(&house, &id, "MARK=still-here; echo DO\"\"NE", "DONE").await;
    let mut viewer = api.desktop(&id).await.unwrap();
    viewer.whole_frame().await.unwrap();
    let (machine, living) = the_machine(&house);
    signal(living.process, Signal::STOP).unwrap();
    api.wait_until(&id, "away", |view| view.status == Status::VmCreated).await.unwrap();
    // Longer than any connection's own patience: it would have been given up.
    sleep(Duration::from_secs(15)).await;
    signal(living.process, Signal::CONT).unwrap();
    api.wait_status(&id, Status::VmStarted).await.unwrap();
    viewer.whole_frame().await.expect("the same stream");
    let screen = run(&house, &id, "echo [$MARK]", "[still-here]").await;
    assert!(screen.contains("[still-here]"));
    assert_eq!(house.machines(), [machine]);
    house.finish().await.unwrap();
}

#[tokio::test]
async fn qemu_guest_low_memory_and_oom_kill_are_diagnosed() {
    let house = QemuServer::start(SHELL, &BTreeMap::new(), false).await.unwrap();
    let id = open_shell(&house).await;
    let api = house.operator().unwrap();
    let eat = async |what: &str| {
        let typed = serde_json::json!({ "text": what, "enter": true });
        assert_eq!(api.post(&format!("/api/auth/session/{id}/type"), typed).await.unwrap().status, 204);
    };
    // Each keeps its block, since nobody reads what it writes. The first leaves a little less than the bound, and is the one that
    // the kernel will choose; only when that was told comes a second, for which there is no room.
    let little = "while read name kib unit; do case $name in MemTotal:) T=$kib;; MemAvailable:) A=$kib;; esac; done </proc/meminfo";
    let hold = "mkfifo f; sleep 900 <f & hold() { dd if=/dev/zero bs=$1K count=1 of=f status=none; }";
    let marked = "( echo 1000 >/proc/self/oom_score_adj; hold $((A - T * 6 / 100)) ) &";
    eat(&format!("{little}; {hold}; {marked}")).await;
    let low = api.wait_entry(&id, "memory_low").await.unwrap();
    eat("hold $((A / 2)) &").await;
    let killed = api.wait_entry(&id, "out_of_memory").await.unwrap();
    assert_eq!(killed.data["victim"], "dd", "{:?}", killed.data);
    let found = verdict(&api, &id, Verdict::GuestOutOfMemory).await;
    assert!(found.sentence.contains("killed “dd”"), "{}", found.sentence);
    assert!(low.number < killed.number, "it was seen coming");
    assert!(low.data["some_avg10"].is_number(), "the kernel tells its pressure: {:?}", low.data);
    api.wait_entry(&id, "memory_recovered").await.unwrap();
    // The machine itself has survived it.
    let screen = run(&house, &id, "echo [AL\"\"IVE]", "[ALIVE]").await;
    assert!(screen.contains("[ALIVE]"));
    assert_eq!(api.session(&id).await.unwrap().generation, 1);
    house.finish().await.unwrap();
}

#[tokio::test]
async fn qemu_guest_crash_loop_is_diagnosed() {
    let house = QemuServer::start(SHELL, &BTreeMap::new(), false).await.unwrap();
    let id = open_shell(&house).await;
    let api = house.operator().unwrap();
    let kill = "for n in 1 2 3 4 5; do until pkill -9 -x openbox; do sleep 0.2; done; done; echo DO\"\"NE";
    run(&house, &id, kill, "DONE").await;
    let found = verdict(&api, &id, Verdict::GuestCrashLoop).await;
    for words in ["openbox", "5 times", "exit code 137"] {
        assert!(found.sentence.contains(words), "{words}: {}", found.sentence);
    }
    house.finish().await.unwrap();
}

#[tokio::test]
async fn qemu_ready_timeout_is_reported_with_stage_and_attempts() {
    let settings = format!("[machines]\nready_emulation_ms_max = 100\nready_kvm_ms_max = 100\n{NO_RESTART}{SHELL}");
    // So that there is a template to clone.
    QemuServer::start("", &BTreeMap::new(), false).await.unwrap().finish().await.unwrap();
    let bin = tempfile::tempdir().unwrap();
    let own = Overrides { path: Some(never_ready(bin.path()).into()), ..Overrides::default() };
    let house = QemuServer::start_with(own, &settings, &BTreeMap::new(), false).await.unwrap();
    let api = house.operator().unwrap();
    let id = api.start("shell").await.unwrap().session.id;
    let (code, reason) = closing(&mut api.desktop_socket(&id).await.unwrap()).await;
    assert_eq!((code, reason.split(':').next()), (4410, Some("ready_timeout")), "{reason}");
    let found = verdict(&api, &id, Verdict::ReadyTimeout).await;
    assert!(found.sentence.contains("it waited for") && found.sentence.contains("attempts"), "{}", found.sentence);
    let cleared = api.wait_entry(&id, "machine_removed").await.unwrap();
    assert_eq!(cleared.data["receipt"]["cause"], serde_json::json!({ "kind": "stopped", "why": "not_ready" }));
    house.finish().await.unwrap();
}

/// What is told of a session whose machine never came to be.
async fn never_started(house: &QemuServer) -> Diagnosis {
    let api = house.operator().unwrap();
    let id = api.start("shell").await.unwrap().session.id;
    let (code, reason) = closing(&mut api.desktop_socket(&id).await.unwrap()).await;
    assert_eq!((code, reason.split(':').next()), (4410, Some("machine_failed")), "{reason}");
    let found = verdict(&api, &id, Verdict::MachineStartFailed).await;
    let cleared = api.wait_entry(&id, "machine_removed").await.unwrap();
    assert_eq!(cleared.data["receipt"]["cause"]["kind"], "never_started", "{:?}", cleared.data);
    assert_eq!(cleared.data["receipt"]["checks"]["leftovers"], serde_json::json!([]));
    found
}

#[tokio::test]
async fn qemu_missing_vmm_program_is_named_in_the_diagnosis() {
    let bin = tempfile::tempdir().unwrap();
    let path = programs(bin.path());
    let own = Overrides { path: Some(path.clone().into()), ..Overrides::default() };
    let house = QemuServer::start_with(own, &format!("{NO_RESTART}{SHELL}"), &BTreeMap::new(), false).await.unwrap();
    fs::remove_file(path.join("qemu-system-x86_64")).unwrap();
    let found = never_started(&house).await;
    for words in ["qemu-system-x86_64", "No such file"] {
        assert!(found.sentence.contains(words), "{words}: {}", found.sentence);
    }
    house.finish().await.unwrap();
}

#[tokio::test]
async fn qemu_damaged_template_and_image_mismatch_are_diagnosed() {
    // So that there is a template to copy.
    QemuServer::start("", &BTreeMap::new(), false).await.unwrap().finish().await.unwrap();
    let cache = OwnCache::new().await;
    let own = || Overrides { cache_dir: Some(cache.path().to_owned()), ..Overrides::default() };
    let settings = format!("{NO_RESTART}{SHELL}");
    let other = "0123456789abcdef".repeat(4);
    cache.pretend(&other).await;
    let house = QemuServer::start_with(own(), &settings, &BTreeMap::new(), false).await.unwrap();
    let api = house.operator().unwrap();
    let id = api.start("shell").await.unwrap().session.id;
    let (code, reason) = closing(&mut api.desktop_socket(&id).await.unwrap()).await;
    assert_eq!((code, reason.split(':').next()), (4410, Some("agent_mismatch")), "{reason}");
    let found = verdict(&api, &id, Verdict::ImageMismatch).await;
    for hash in [other.as_str(), cache.image_hash()] {
        assert!(found.sentence.contains(hash), "{hash}: {}", found.sentence);
    }
    cache.cut_state();
    let found = never_started(&house).await;
    assert!(found.sentence.contains("could not be loaded"), "{}", found.sentence);
    house.finish().await.unwrap();
}
