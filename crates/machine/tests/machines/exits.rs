//! A machine's death is told before it is cleared away, and another one may come only after.

use crate::test_host::{Plain, TestHost, new_id, processes, until, until_gone};
use anteroom_machine::{ExitCause, ExitReason, RequestOutcome, State, StopReason};
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

/// Holds up the keeper's clearing: it looks whether the machine's sockets still answer, and this one takes callers and
/// never comes to them. Dropped, it answers no more.
struct Holdup {
    _listener: UnixListener,
    _callers: Vec<OwnedFd>,
}

impl Holdup {
    fn new(run_dir: &Path) -> Self {
        let path = run_dir.join("agent.sock");
        let listener = UnixListener::bind(&path).unwrap();
        rustix::net::listen(&listener, 0).unwrap();
        let address = SocketAddrUnix::new(&path).unwrap();
        let mut callers = Vec::new();
        loop {
            let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
            let caller = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).unwrap();
            match rustix::net::connect(&caller, &address) {
                Ok(()) => callers.push(caller),
                Err(rustix::io::Errno::AGAIN) => return Self { _listener: listener, _callers: callers },
                Err(error) => panic!("{error}"),
            }
        }
    }
}

fn runs(state: &State) -> bool {
    matches!(state, State::Waiting { .. })
}

fn is_dead(state: &State) -> bool {
    matches!(state, State::Exited { .. } | State::Removed { .. })
}

#[tokio::test]
async fn a_death_is_told_while_the_clearing_is_held_up_and_room_is_made_after_it() {
    let ground = TestHost::new();
    let mut settings = ground.settings();
    settings.machines_max = 1;
    let server = ground.open_with(settings, Plain::new("/bin/sleep", &["1000"])).await.unwrap();
    let id = new_id();
    let mut state = server.machines.start(id.clone()).unwrap();
    until(&mut state, runs).await;
    let (keeper, process) = processes(&ground.run_dir(&id));
    let holdup = Holdup::new(&ground.run_dir(&id));
    process.kill();
    let State::Exited { why } = until(&mut state, is_dead).await else { panic!("told only when it was gone") };
    assert_eq!(why, ExitReason::Killed { signal: 9 });
    assert!(!process.is_alive() && keeper.is_alive(), "the process has ended, its keeper has not");
    assert!(ground.run_dir(&id).exists() && server.machines.receipt(&id).unwrap().is_none(), "nothing is cleared yet");
    // What is said now changes nothing, and no other machine takes its place yet.
    assert_eq!(server.machines.stop(&id, StopReason::Cancelled), RequestOutcome::Ignored);
    assert_eq!(server.machines.count(), 1);
    assert!(server.machines.start(new_id()).is_err(), "there is room for one, and the dead one still has it");
    drop(holdup);
    let State::Removed { why, receipt: Some(receipt) } = until_gone(&mut state).await else { panic!("no receipt") };
    assert_eq!((why, &receipt.cause), (ExitReason::Killed { signal: 9 }, &ExitCause::Killed { signal: 9 }));
    assert_eq!(receipt.checks.leftovers, Vec::<String>::new());
    assert!(!keeper.is_alive() && !ground.run_dir(&id).exists());
    assert_eq!(server.machines.count(), 0);
    server.end().await;
}

#[tokio::test]
async fn a_stop_is_told_while_the_clearing_is_held_up_with_the_reason_it_was_asked_for() {
    let ground = TestHost::new();
    let server = ground.open(Plain::new("/bin/sleep", &["1000"])).await;
    let id = new_id();
    let mut state = server.machines.start(id.clone()).unwrap();
    until(&mut state, runs).await;
    let holdup = Holdup::new(&ground.run_dir(&id));
    server.machines.stop(&id, StopReason::Restarted);
    let State::Exited { why } = until(&mut state, is_dead).await else { panic!("told only when it was gone") };
    assert_eq!(why, ExitReason::Stopped { why: StopReason::Restarted });
    drop(holdup);
    let State::Removed { why, .. } = until_gone(&mut state).await else { panic!() };
    assert_eq!(why, ExitReason::Stopped { why: StopReason::Restarted });
    server.end().await;
}

#[tokio::test]
async fn a_keeper_that_never_finishes_is_killed_and_what_it_said_before_stays_true() {
    let ground = TestHost::new();
    let mut settings = ground.settings();
    settings.keeper_exit_timeout_ms = 300;
    let server = ground.open_with(settings, Plain::line("sleep 1000; exit 7")).await.unwrap();
    let id = new_id();
    let mut state = server.machines.start(id.clone()).unwrap();
    until(&mut state, runs).await;
    let (keeper, process) = processes(&ground.run_dir(&id));
    let _holdup = Holdup::new(&ground.run_dir(&id));
    process.kill();
    let State::Removed { why, receipt: Some(receipt) } = until_gone(&mut state).await else { panic!("no receipt") };
    assert_eq!((why, &receipt.cause), (ExitReason::Killed { signal: 9 }, &ExitCause::Killed { signal: 9 }));
    assert!(!keeper.is_alive() && !ground.run_dir(&id).exists(), "the server cleared away in its place");
    assert_eq!(server.machines.receipt(&id).unwrap().unwrap(), *receipt);
    server.end().await;
}

#[tokio::test]
async fn a_server_that_stops_sees_a_dead_machine_to_its_end() {
    let ground = TestHost::new();
    let server = ground.open(Plain::new("/bin/sleep", &["1000"])).await;
    let id = new_id();
    let mut state = server.machines.start(id.clone()).unwrap();
    until(&mut state, runs).await;
    let (_, process) = processes(&ground.run_dir(&id));
    let holdup = Holdup::new(&ground.run_dir(&id));
    process.kill();
    until(&mut state, |state| matches!(state, State::Exited { .. })).await;
    let ending = tokio::spawn(server.end());
    tokio::task::yield_now().await;
    drop(holdup);
    until_gone(&mut state).await;
    ending.await.unwrap();
}

/// A keeper of the version before: it says nothing of an end before its socket closes.
fn older_keeper(ground: &TestHost, id: &MachineId) -> UnixListener {
    let dir = ground.run_dir(id);
    std::fs::create_dir_all(&dir).unwrap();
    let spec = json!({ "program": "/bin/true", "args": [], "env": {}, "fds": [], "qmp": { "kind": "unused" } });
    let config = json!({
        "machine": id, "image_hash": "none", "spec": spec, "deadline_ms": 1_000_000,
        "receipts_dir": ground.settings().receipts_dir, "tied_to_parent": false, "console_bytes_max": 1_000,
    });
    std::fs::write(dir.join("keeper.json"), config.to_string()).unwrap();
    UnixListener::bind(dir.join("control.sock")).unwrap()
}

fn say(caller: &mut UnixStream, line: &serde_json::Value) {
    caller.write_all(format!("{line}\n").as_bytes()).unwrap();
}

#[tokio::test]
async fn a_keeper_that_does_not_tell_of_a_death_is_believed_when_its_socket_closes() {
    let ground = TestHost::new();
    let id = new_id();
    let keeper = older_keeper(&ground, &id);
    let server = ground.open(Plain::new("/bin/true", &[])).await;
    let mut state = server.machines.watch(&id).unwrap();
    let (mut caller, _) = keeper.accept().unwrap();
    // Numbers that no process has: it ended long ago.
    let gone = json!({ "pid": 4_000_000, "start_ticks": 1 });
    let phase = json!({ "phase": "running", "process": gone });
    say(&mut caller, &json!({ "report": "greeting", "protocol": 1, "machine": id, "keeper": gone, "phase": phase }));
    until(&mut state, runs).await;
    let ended = json!({ "phase": "ended", "how": { "how": "out_of_memory" } });
    say(&mut caller, &json!({ "report": "phase", "phase": ended }));
    say(&mut caller, &json!({ "report": "a word of a version to come" }));
    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    assert!(runs(&state.borrow()), "the socket is open: it is not gone");
    drop(caller);
    // The first that is heard of its end is that it is gone.
    let State::Removed { why, receipt: Some(receipt) } = until(&mut state, is_dead).await else {
        panic!("told before")
    };
    assert_eq!((why, receipt.cause), (ExitReason::OutOfMemory, ExitCause::OutOfMemory));
    drop(keeper);
    server.end().await;
}

/// Orders the machine's end as another server would, in this version's words.
fn order(run_dir: &Path, why: &str, because: &serde_json::Value) -> UnixStream {
    let mut stream = UnixStream::connect(run_dir.join("control.sock")).unwrap();
    say(&mut stream, &json!({ "order": "stop", "why": why, "because": because }));
    stream
}

#[tokio::test]
async fn who_did_not_order_an_end_is_told_its_whole_reason() {
    let ground = TestHost::new();
    let server = ground.open(Plain::new("/bin/sleep", &["1000"])).await;
    let id = new_id();
    let mut state = server.machines.start(id.clone()).unwrap();
    until(&mut state, runs).await;
    let _caller = order(&ground.run_dir(&id), "hung", &json!({ "reason": "hung", "unanswered_ms": 4_321 }));
    let hung = ExitReason::Hung { unanswered_ms: 4_321 };
    let (State::Exited { why } | State::Removed { why, .. }) = until(&mut state, is_dead).await else { panic!() };
    assert_eq!(why, hung, "what its keeper says at its death");
    until_gone(&mut state).await;
    let receipt = server.machines.receipt(&id).unwrap().unwrap();
    assert_eq!((&receipt.cause, receipt.reason()), (&ExitCause::Stopped { why: "hung".into() }, hung));
    server.end().await;
}

#[tokio::test]
async fn a_keeper_ends_its_machine_for_a_reason_that_it_does_not_know_and_hands_it_on() {
    let ground = TestHost::new();
    let server = ground.open(Plain::new("/bin/sleep", &["1000"])).await;
    let id = new_id();
    let mut state = server.machines.start(id.clone()).unwrap();
    until(&mut state, runs).await;
    let because = json!({ "reason": "of_a_version_to_come", "degrees": 451 });
    let _caller = order(&ground.run_dir(&id), "of_a_version_to_come", &because);
    let State::Removed { why, receipt: Some(receipt) } = until_gone(&mut state).await else { panic!() };
    assert_eq!(why, ExitReason::Stopped { why: StopReason::Operator });
    assert_eq!(serde_json::to_value(&receipt.stop_detail).unwrap(), because);
    server.end().await;
}
