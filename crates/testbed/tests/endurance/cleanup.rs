//! The exit of a machine is reported immediately, its cleanup later; the next machine waits for the cleanup. What a killed server has
//! not reported, the next one reports once.

use crate::{idle_provider, start_ready, wait_close};
use anteroom_testbed::{ApiClient, TestConfig, TestServer, WAIT_MAX, processes};
use anteroom_wire::{
    MachineId, SessionId, TimelineKind,
    api::{SessionStatus, TimelineEntry},
};
use rustix::{
    net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType},
    process::{Signal, kill_process},
};
use std::{
    fs::{self, File, FileTimes},
    os::{fd::OwnedFd, unix::net::UnixListener},
    path::Path,
    time::{Duration, SystemTime},
};

/// Blocks the cleanup of a keeper, which checks whether the machine's sockets still accept connections: this listener replaces the
/// agent's socket, with a full backlog, until it is dropped.
struct CleanupBlocker {
    _listener: UnixListener,
    _clients: Vec<OwnedFd>,
}

impl CleanupBlocker {
    fn new(run_dir: &Path) -> Self {
        let path = run_dir.join("agent.sock");
        fs::rename(&path, run_dir.join("agent.before")).unwrap();
        let listener = UnixListener::bind(&path).unwrap();
        rustix::net::listen(&listener, 0).unwrap();
        let address = SocketAddrUnix::new(&path).unwrap();
        let mut clients = Vec::new();
        loop {
            let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
            let client = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).unwrap();
            match rustix::net::connect(&client, &address) {
                Ok(()) => clients.push(client),
                Err(rustix::io::Errno::AGAIN) => return Self { _listener: listener, _clients: clients },
                Err(error) => panic!("{error}"),
            }
        }
    }
}

async fn entries_of_machine(
    api: &ApiClient,
    id: &SessionId,
    kind: TimelineKind,
    machine: &MachineId,
) -> Vec<TimelineEntry> {
    let timeline = api.get_timeline(id).await.unwrap();
    timeline.into_iter().filter(|entry| entry.kind == kind && entry.data["machine"] == machine.as_str()).collect()
}

#[tokio::test]
async fn viewer_is_closed_before_cleanup_ends_and_the_next_machine_starts_after_it() {
    let server = TestServer::start(TestConfig::with_provider(idle_provider())).await.unwrap();
    let api = server.operator_client().unwrap();
    let (id, machine) = (start_ready(&api).await, server.list_machines().remove(0));
    let mut viewer = api.connect_desktop(&id).await.unwrap();
    viewer.request_full_frame().await.unwrap();
    let blocker = CleanupBlocker::new(&server.run_dir(&machine));
    let process = processes::find_machine_pid(&server.state_dir(), &machine).unwrap();
    let keeper = processes::find_keeper_pid(&server.state_dir(), &machine).unwrap();
    processes::kill_process(process).unwrap();
    let (code, reason) = wait_close(&mut viewer.into_inner()).await;
    assert_eq!((code, reason.split(':').next()), (4510, Some("machine_replaced")));
    let exited = api.wait_entry(&id, TimelineKind::MachineExited).await.unwrap();
    assert_eq!(exited.data["why"], serde_json::json!({ "cause": "killed", "signal": 9 }));
    assert_eq!(exited.data.get("receipt"), None, "its keeper has not finished: {:?}", exited.data);
    let view = api.get_session(&id).await.unwrap();
    assert_eq!((view.status, view.generation), (SessionStatus::VmStopped, 1));
    let leaks = api.get("/api/leaks").await.unwrap().parse::<anteroom_wire::operator_reports::LeakReport>().unwrap();
    assert_eq!(leaks.orphans().next(), None, "a machine in cleanup is no leak");
    assert_eq!(
        processes::find_keeper_pid(&server.state_dir(), &machine),
        Some(keeper),
        "the keeper is still cleaning up"
    );
    assert_eq!(server.list_machines(), std::slice::from_ref(&machine), "no other machine before this one is removed");
    drop(blocker);
    let removed = api.wait_entry(&id, TimelineKind::MachineRemoved).await.unwrap();
    assert_eq!(removed.data["receipt"]["checks"]["leftovers"], serde_json::json!([]), "{:?}", removed.data);
    assert_eq!(api.wait_status(&id, SessionStatus::VmStarted).await.unwrap().generation, 2);
    assert_eq!(entries_of_machine(&api, &id, TimelineKind::MachineExited, &machine).await.len(), 1);
    let order: Vec<_> = api.get_timeline(&id).await.unwrap().into_iter().map(|entry| entry.kind).collect();
    let at = |kind: TimelineKind| order.iter().rposition(|recorded| *recorded == kind).unwrap();
    assert!(
        at(TimelineKind::MachineExited) < at(TimelineKind::MachineRemoved)
            && at(TimelineKind::MachineRemoved) < at(TimelineKind::MachineReplaced),
        "{order:?}"
    );
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn server_killed_during_machine_cleanup_leaves_one_machine_exited_entry() {
    let mut server = TestServer::start(TestConfig::with_provider(idle_provider())).await.unwrap();
    let api = server.operator_client().unwrap();
    let (id, machine) = (start_ready(&api).await, server.list_machines().remove(0));
    let blocker = CleanupBlocker::new(&server.run_dir(&machine));
    processes::kill_process(processes::find_machine_pid(&server.state_dir(), &machine).unwrap()).unwrap();
    api.wait_entry(&id, TimelineKind::MachineExited).await.unwrap();
    server.kill_server().await.unwrap();
    drop(blocker);
    server.start_server().await.unwrap();
    let api = server.operator_client().unwrap();
    assert_eq!(api.wait_status(&id, SessionStatus::VmStarted).await.unwrap().generation, 2);
    assert_eq!(entries_of_machine(&api, &id, TimelineKind::MachineExited, &machine).await.len(), 1);
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn machine_end_is_reported_once_from_its_receipt_after_restart() {
    let mut server = TestServer::start(
        TestConfig::with_provider(idle_provider()).with_settings("[limits.sessions]\nreconcile_every_ms = 100\n"),
    )
    .await
    .unwrap();
    let api = server.operator_client().unwrap();
    let (id, machine) = (start_ready(&api).await, server.list_machines().remove(0));
    let keeper = processes::find_keeper_pid(&server.state_dir(), &machine).unwrap();
    // The session ends, but its stopped keeper cannot end the machine before the server is killed.
    kill_process(keeper, Signal::STOP).unwrap();
    api.cancel_session(&id).await.unwrap();
    server.kill_server().await.unwrap();
    kill_process(keeper, Signal::CONT).unwrap();
    for _ in 0..2 {
        server.start_server().await.unwrap();
        let api = server.operator_client().unwrap();
        let exited = api.wait_entry(&id, TimelineKind::MachineExited).await.unwrap();
        assert_eq!(exited.data["machine"], machine.as_str());
        assert_eq!(exited.data["receipt"]["checks"]["leftovers"], serde_json::json!([]));
        // Several reconciliations have run, which must not report it again.
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert_eq!(entries_of_machine(&api, &id, TimelineKind::MachineExited, &machine).await.len(), 1);
        server.kill_server().await.unwrap();
    }
    server.start_server().await.unwrap();
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn partial_receipt_is_removed_only_after_its_keeper_exited() {
    let server = TestServer::start(
        TestConfig::with_provider(idle_provider()).with_settings("[limits.sessions]\nreconcile_every_ms = 100\n"),
    )
    .await
    .unwrap();
    let api = server.operator_client().unwrap();
    start_ready(&api).await;
    let machine = server.list_machines().remove(0);
    let keeper = processes::find_keeper_pid(&server.state_dir(), &machine).unwrap().as_raw_nonzero();
    let receipts = server.state_dir().join("receipts");
    let partial_receipt = |name: String, age_s: u64| {
        let path = receipts.join(name);
        let file = File::create(&path).unwrap();
        let written = SystemTime::now() - Duration::from_secs(age_s);
        file.set_times(FileTimes::new().set_modified(written)).unwrap();
        path
    };
    let recent = partial_receipt(format!(".{machine}.1"), 0);
    let being_written = partial_receipt(format!(".{machine}.{keeper}"), 600);
    let orphaned = partial_receipt(format!(".{machine}.4000000"), 600);
    let removed = async {
        while orphaned.exists() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(WAIT_MAX, removed).await.expect("the partial receipt is removed");
    assert!(recent.exists() && being_written.exists());
    for path in [recent, being_written] {
        fs::remove_file(path).unwrap();
    }
    server.stop_and_check_leaks().await.unwrap();
}
