//! The exit of a machine is published before cleanup; its slot is free only after cleanup.

use crate::test_host::{PlainProcess, TestHost, new_id, processes, until, until_removed, until_removed_with_receipt};
use anteroom_machine::{ExitCause, ExitReason, MachinesSettings, ProcessId, State, StopReason, StopRequestOutcome};
use anteroom_wire::MachineId;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use serde_json::json;
use std::{
    io::Write,
    os::{
        fd::OwnedFd,
        unix::net::{UnixListener, UnixStream},
    },
    path::Path,
};

/// Blocks the keeper's cleanup: the keeper tests whether the machine's sockets still accept, and this socket has a full backlog,
/// so that the test blocks until the blocker is dropped.
struct CleanupBlocker {
    _listener: UnixListener,
    _connections: Vec<OwnedFd>,
}

impl CleanupBlocker {
    fn new(run_dir: &Path) -> Self {
        let path = run_dir.join("agent.sock");
        let listener = UnixListener::bind(&path).unwrap();
        rustix::net::listen(&listener, 0).unwrap();
        let address = SocketAddrUnix::new(&path).unwrap();
        let mut connections = Vec::new();
        loop {
            let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
            let connection = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).unwrap();
            match rustix::net::connect(&connection, &address) {
                Ok(()) => connections.push(connection),
                Err(rustix::io::Errno::AGAIN) => return Self { _listener: listener, _connections: connections },
                Err(error) => panic!("{error}"),
            }
        }
    }
}

fn is_running(state: &State) -> bool {
    matches!(state, State::Waiting { .. })
}

fn has_exited(state: &State) -> bool {
    matches!(state, State::Exited { .. } | State::Removed { .. })
}

#[tokio::test]
async fn exit_is_published_before_cleanup_and_the_slot_is_freed_after_it() {
    let host = TestHost::new();
    let settings = MachinesSettings { machines_max: 1, ..host.settings() };
    let server = host.open_with(settings, PlainProcess::sleeping()).await.unwrap();
    let (id, mut state) = server.start_running().await;
    let (keeper, process) = processes(&host.run_dir(&id));
    let blocker = CleanupBlocker::new(&host.run_dir(&id));
    process.kill();
    let State::Exited { reason } = until(&mut state, has_exited).await else {
        panic!("published only when it was removed")
    };
    assert_eq!(reason, ExitReason::Killed { signal: 9 });
    assert!(!process.is_alive() && keeper.is_alive(), "the process has exited, its keeper has not");
    assert!(
        host.run_dir(&id).exists() && server.machines.read_receipt(&id).unwrap().is_none(),
        "cleanup has not started"
    );
    // A stop request has no effect now, and the slot is still occupied.
    assert_eq!(server.machines.stop(&id, StopReason::Cancelled), StopRequestOutcome::Ignored);
    assert_eq!(server.machines.count(), 1);
    assert!(server.machines.start(new_id()).is_err(), "the limit is one, and the exited machine still has the slot");
    drop(blocker);
    let (reason, receipt) = until_removed_with_receipt(&mut state).await;
    assert_eq!((reason, &receipt.cause), (ExitReason::Killed { signal: 9 }, &ExitCause::Killed { signal: 9 }));
    assert_eq!(receipt.checks.leftovers, Vec::<String>::new());
    assert!(!keeper.is_alive() && !host.run_dir(&id).exists());
    assert_eq!(server.machines.count(), 0);
    server.end().await;
}

#[tokio::test]
async fn stop_is_published_before_cleanup_with_the_requested_reason() {
    let host = TestHost::new();
    let server = host.open(PlainProcess::sleeping()).await;
    let (id, mut state) = server.start_running().await;
    let blocker = CleanupBlocker::new(&host.run_dir(&id));
    server.machines.stop(&id, StopReason::Restarted);
    let State::Exited { reason } = until(&mut state, has_exited).await else {
        panic!("published only when it was removed")
    };
    assert_eq!(reason, ExitReason::Stopped { reason: StopReason::Restarted });
    drop(blocker);
    let State::Removed { reason, .. } = until_removed(&mut state).await else { panic!() };
    assert_eq!(reason, ExitReason::Stopped { reason: StopReason::Restarted });
    server.end().await;
}

#[tokio::test]
async fn keeper_that_never_finishes_cleanup_is_killed_and_its_reported_cause_is_kept() {
    let host = TestHost::new();
    let settings = MachinesSettings { keeper_exit_timeout_ms: 300, ..host.settings() };
    let server = host.open_with(settings, PlainProcess::shell("sleep 1000; exit 7")).await.unwrap();
    let (id, mut state) = server.start_running().await;
    let (keeper, process) = processes(&host.run_dir(&id));
    let _blocker = CleanupBlocker::new(&host.run_dir(&id));
    process.kill();
    let (reason, receipt) = until_removed_with_receipt(&mut state).await;
    assert_eq!((reason, &receipt.cause), (ExitReason::Killed { signal: 9 }, &ExitCause::Killed { signal: 9 }));
    assert!(!keeper.is_alive() && !host.run_dir(&id).exists(), "the server cleaned up in its place");
    assert_eq!(server.machines.read_receipt(&id).unwrap().unwrap(), receipt);
    server.end().await;
}

#[tokio::test]
async fn stopping_server_waits_for_the_cleanup_of_an_exited_machine() {
    let host = TestHost::new();
    let server = host.open(PlainProcess::sleeping()).await;
    let (id, mut state) = server.start_running().await;
    let (_, process) = processes(&host.run_dir(&id));
    let blocker = CleanupBlocker::new(&host.run_dir(&id));
    process.kill();
    until(&mut state, |state| matches!(state, State::Exited { .. })).await;
    let ending = tokio::spawn(server.end());
    tokio::task::yield_now().await;
    drop(blocker);
    until_removed(&mut state).await;
    ending.await.unwrap();
}

/// A fake keeper that does not report `cleaning_up` before its socket closes.
fn silent_keeper(host: &TestHost, id: &MachineId) -> UnixListener {
    let dir = host.run_dir(id);
    std::fs::create_dir_all(&dir).unwrap();
    let spec = json!({ "program": "/bin/true", "args": [], "env": {}, "fds": [], "monitor": { "kind": "none" }, "transport": "unix_sockets", "confinement": { "kind": "unconfined" } });
    let config = json!({
        "machine": id, "image_hash": "none", "spec": spec, "deadline_ms": 1_000_000,
        "receipts_dir": host.settings().receipts_dir, "tied_to_parent": false, "console_bytes_max": 1_000,
    });
    std::fs::write(dir.join("keeper.json"), config.to_string()).unwrap();
    UnixListener::bind(dir.join("control.sock")).unwrap()
}

fn send(client: &mut UnixStream, line: &serde_json::Value) {
    client.write_all(format!("{line}\n").as_bytes()).unwrap();
}

#[tokio::test]
async fn exit_is_recognized_when_the_socket_of_a_silent_keeper_closes() {
    let host = TestHost::new();
    let id = new_id();
    let keeper = silent_keeper(&host, &id);
    let server = host.open(PlainProcess::new("/bin/true", &[])).await;
    let mut state = server.machines.watch(&id).unwrap();
    let (mut client, _) = keeper.accept().unwrap();
    // A process id that does not exist.
    let exited = json!({ "pid": 4_000_000, "start_ticks": 1 });
    let phase = json!({ "phase": "running", "process": exited });
    send(&mut client, &json!({ "report": "greeting", "protocol": 2, "machine": id, "keeper": exited, "phase": phase }));
    until(&mut state, is_running).await;
    let ended = json!({ "phase": "ended", "cause": { "kind": "out_of_memory" } });
    send(&mut client, &json!({ "report": "phase", "phase": ended }));
    send(&mut client, &json!({ "report": "report_of_a_later_version" }));
    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    assert!(is_running(&state.borrow()), "the socket is open: it has not exited");
    drop(client);
    // The first report of its exit is the close of the socket.
    let State::Removed { reason, receipt: Some(receipt) } = until(&mut state, has_exited).await else {
        panic!("published before")
    };
    assert_eq!((reason, receipt.cause), (ExitReason::OutOfMemory, ExitCause::OutOfMemory));
    drop(keeper);
    server.end().await;
}

/// Its commands are unknown to this server, so it would keep its machine running.
#[tokio::test]
async fn keeper_of_another_protocol_is_killed_with_its_machine() {
    let host = TestHost::new();
    let id = new_id();
    let socket = silent_keeper(&host, &id);
    let mut keeper = tokio::process::Command::new("/bin/sh")
        .args(["-c", "sleep 1000 & echo $!; wait"])
        .stdout(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let keeper_process = ProcessId::from_pid(keeper.id().unwrap()).unwrap();
    let mut line = String::new();
    tokio::io::AsyncBufReadExt::read_line(&mut tokio::io::BufReader::new(keeper.stdout.take().unwrap()), &mut line)
        .await
        .unwrap();
    let machine_process = ProcessId::from_pid(line.trim().parse().unwrap()).unwrap();

    let server = host.open(PlainProcess::new("/bin/true", &[])).await;
    let mut state = server.machines.watch(&id).unwrap();
    let (mut client, _) = socket.accept().unwrap();
    let phase = json!({ "phase": "running", "process": machine_process });
    let keeper_json = json!(keeper_process);
    send(
        &mut client,
        &json!({ "report": "greeting", "protocol": 1, "machine": id, "keeper": keeper_json, "phase": phase }),
    );
    keeper.wait().await.unwrap();
    drop(client);
    until_removed(&mut state).await;
    assert!(!machine_process.is_alive(), "its machine's process has exited");
    drop(socket);
    server.end().await;
}

/// Sends a stop command to the keeper, as another server would.
fn send_stop(run_dir: &Path, reason: &str, stop_detail: &serde_json::Value) -> UnixStream {
    let mut stream = UnixStream::connect(run_dir.join("control.sock")).unwrap();
    send(&mut stream, &json!({ "command": "stop", "reason": reason, "stop_detail": stop_detail }));
    stream
}

#[tokio::test]
async fn full_reason_of_a_stop_by_another_client_is_published() {
    let host = TestHost::new();
    let server = host.open(PlainProcess::sleeping()).await;
    let (id, mut state) = server.start_running().await;
    let _client = send_stop(&host.run_dir(&id), "hung", &json!({ "kind": "hung", "unanswered_ms": 4_321 }));
    let hung = ExitReason::Hung { unanswered_ms: 4_321 };
    let (State::Exited { reason } | State::Removed { reason, .. }) = until(&mut state, has_exited).await else {
        panic!()
    };
    assert_eq!(reason, hung, "as reported by its keeper");
    until_removed(&mut state).await;
    let receipt = server.machines.read_receipt(&id).unwrap().unwrap();
    assert_eq!((&receipt.cause, receipt.exit_reason()), (&ExitCause::Stopped { reason: "hung".into() }, hung));
    server.end().await;
}

#[tokio::test]
async fn keeper_stops_its_machine_for_an_unknown_reason_and_keeps_the_detail() {
    let host = TestHost::new();
    let server = host.open(PlainProcess::sleeping()).await;
    let (id, mut state) = server.start_running().await;
    let detail = json!({ "kind": "of_a_later_version", "degrees": 451 });
    let _client = send_stop(&host.run_dir(&id), "of_a_later_version", &detail);
    let (reason, receipt) = until_removed_with_receipt(&mut state).await;
    assert_eq!(reason, ExitReason::Stopped { reason: StopReason::Operator });
    assert_eq!(serde_json::to_value(&receipt.stop_detail).unwrap(), detail);
    server.end().await;
}
