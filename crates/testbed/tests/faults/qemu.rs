//! The rows for QEMU machines with the agent of the image and the real server. The expectations are those of the plain-process
//! machines, with limits for an emulated host.

use crate::{
    document,
    expectations::{Cell, Effect, Fault, ViewerOutcome, cell},
    states::State,
    viewer::{SocketEnd, Viewer},
};
use anteroom_testbed::{
    ApiClient, QEMU_WAIT_TIMEOUT, Qemu, TestConfig, TestServer, measure_recovery::current_machine, processes,
    test_server::qemu::command_provider,
};
use anteroom_wire::{
    SessionId,
    api::{SessionStatus, SessionView},
};
use rustix::process::Signal;
use std::{fmt::Write as _, time::Duration};
use tokio::time::{Instant, sleep};

const SETTINGS: &str = "
[machines]
liveness_timeout_s = 10
[sessions]
restarts_max = 20
socket_wait_ms_max = 240000
";

/// Two tools: one waits, one prints a URL and waits.
fn providers() -> String {
    let waits = command_provider("waits", &["sh", "-c", "echo Nothing to do; exec sleep 1000000"]);
    let url = "echo Open https://id.example.test/authorize; exec sleep 1000000";
    let asks = command_provider("asks", &["sh", "-c", url]).replace("[\"terminal\"]", "[\"link\", \"terminal\"]");
    format!("{waits}{asks}sign_in = {{ url = 'https://[^\\s]+' }}\nsign_in_hosts = [\"id.example.test\"]\n")
}

const FAULTS: [Fault; 5] =
    [Fault::MachineKilled, Fault::KeeperKilled, Fault::MachineFrozen, Fault::ServerKilled, Fault::ServerRestarted];
const STATES: [(State, &str); 2] = [(State::Started, "waits"), (State::Authenticating, "asks")];

/// `liveness_timeout_s`, a ping, and a margin for a busy host.
const LIVENESS_S: u64 = 30;
/// The server checks its image and template before it answers.
const RESTART_S: u64 = 60;
const MACHINE_S: u64 = 5;

/// The limit on an emulated host, seconds.
fn within_s(fault: Fault) -> u64 {
    match fault {
        Fault::MachineFrozen => LIVENESS_S,
        Fault::ServerKilled | Fault::ServerRestarted => RESTART_S,
        Fault::MachineKilled
        | Fault::KeeperKilled
        | Fault::DesktopKilled
        | Fault::DatabaseLocked
        | Fault::DatabaseReadOnly
        | Fault::DiskFull
        | Fault::ViewerDisconnected
        | Fault::ViewerStalled
        | Fault::ToolCrashed
        | Fault::ClockForward
        | Fault::ClockBack => MACHINE_S,
    }
}

struct Session {
    state: State,
    id: SessionId,
    generation: u32,
    viewer: Option<Viewer>,
}

/// Waits until the session is in its state again and connects a viewer with a picture.
async fn connect_viewer(server: &TestServer<Qemu>, session: &mut Session) {
    let api = server.operator_client().unwrap();
    let in_state = |view: &SessionView| view.status == session.state.status() && view.generation >= session.generation;
    session.generation = api.wait_until(&session.id, "in its state", in_state).await.unwrap().generation;
    let mut viewer = api.connect_desktop(&session.id).await.unwrap();
    viewer.request_full_frame().await.unwrap();
    session.viewer = Some(Viewer::reading(viewer.into_inner()));
}

async fn find_process(server: &TestServer<Qemu>, fault: Fault, id: &SessionId) -> rustix::process::Pid {
    let machine = current_machine(&server.operator_client().unwrap(), id).await.unwrap();
    let state = server.state_dir();
    let found = if fault == Fault::KeeperKilled {
        processes::find_keeper_pid(&state, &machine)
    } else {
        processes::find_machine_pid(&state, &machine)
    };
    found.expect("the machine is running")
}

fn viewer_outcome(end: Option<SocketEnd>) -> ViewerOutcome {
    match end {
        None => ViewerOutcome::StaysConnected,
        Some(SocketEnd { code: None, .. }) => ViewerOutcome::ConnectionLost,
        Some(SocketEnd { code: Some(code), reason, .. }) => {
            ViewerOutcome::Closed(code, reason.split(':').next().unwrap_or_default().to_owned())
        }
    }
}

/// Injects the fault into these sessions; returns the time of the fault.
async fn inject_fault(server: &mut TestServer<Qemu>, fault: Fault, sessions: &[Session]) -> Instant {
    if fault == Fault::ServerKilled || fault == Fault::ServerRestarted {
        if fault == Fault::ServerKilled {
            server.kill_server().await.unwrap();
        } else {
            server.stop_server().await.unwrap();
        }
        let at = Instant::now();
        server.start_server().await.unwrap();
        return at;
    }
    let signal = if fault == Fault::MachineFrozen { Signal::STOP } else { Signal::KILL };
    let at = Instant::now();
    for session in sessions {
        rustix::process::kill_process(find_process(server, fault, &session.id).await, signal).unwrap();
    }
    at
}

/// Waits until the session is in its state again and stays there; returns the effect and the time.
async fn observe_effect(api: &ApiClient, session: &Session) -> (Effect, Instant) {
    let changed = |view: &SessionView| view.generation > session.generation || view.status == session.state.status();
    let mut since = None;
    loop {
        let view = api.wait_until(&session.id, "reported", changed).await.unwrap();
        let since = *since.get_or_insert_with(Instant::now);
        if view.generation > session.generation {
            return (Effect::MachineReplaced, Instant::now());
        }
        if since.elapsed() >= Duration::from_secs(1) {
            return (Effect::Unchanged, since);
        }
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn qemu_machines_meet_the_expectations_of_the_fault_table() {
    let mut server = TestServer::start(TestConfig::qemu(SETTINGS).with_settings(&providers())).await.unwrap();
    let mut sessions = Vec::new();
    for (state, provider) in STATES {
        let id = server.operator_client().unwrap().start_session(provider).await.unwrap().session.id;
        sessions.push(Session { state, id, generation: 1, viewer: None });
    }
    let mut wrong = Vec::new();
    let mut rows = String::from("| fault | state | effect | viewer | reported within |\n|---|---|---|---|---|\n");
    for fault in FAULTS {
        for session in &mut sessions {
            connect_viewer(&server, session).await;
        }
        let at = inject_fault(&mut server, fault, &sessions).await;
        for session in &mut sessions {
            let end = session.viewer.take().unwrap().wait_end(QEMU_WAIT_TIMEOUT).await;
            let viewer_took = end.as_ref().map_or(Duration::ZERO, |end| end.at.saturating_duration_since(at));
            let outcome = viewer_outcome(end);
            let expected = cell(fault, session.state);
            let api = server.operator_client().unwrap();
            if expected.effect == Effect::MachineReplaced {
                let next = |view: &SessionView| view.generation > session.generation;
                api.wait_until(&session.id, "replaced", next).await.unwrap();
            }
            let (effect, since) = observe_effect(&api, session).await;
            let took = viewer_took.max(since - at);
            let actual = Cell { effect, viewer: outcome, ..expected.clone() };
            if actual != expected || took > Duration::from_secs(within_s(fault)) {
                wrong.push(format!("{fault:?} {}: {actual:?} after {took:?}, expected {expected:?}", session.state));
            }
            eprintln!("{fault:?} {}: {took:?}", session.state);
            let (state, within) = (session.state, within_s(fault));
            writeln!(rows, "| {} | {state} | {} | {} | {within} s |", fault.title(), actual.effect, actual.viewer)
                .unwrap();
        }
    }
    for session in &mut sessions {
        connect_viewer(&server, session).await;
        let cancelled = server.operator_client().unwrap().cancel_session(&session.id).await.unwrap();
        assert_eq!(cancelled.status, SessionStatus::Cancelled);
    }
    server.stop_and_check_leaks().await.unwrap();
    assert!(wrong.is_empty(), "{}\n{rows}", wrong.join("\n"));
    document::compare_section("qemu", &rows);
}
