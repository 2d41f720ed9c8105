//! The rows that need real machines: QEMU, the image's own agent, the real server. The expectations are those of the plain
//! machines; only the bounds are those of an emulated host.

use crate::{
    document,
    expectations::{Cell, Fault, Now, Told, cell},
    states::State,
    viewer::{End, Viewer},
};
use anteroom_testbed::{ApiClient, QemuServer, measure_recovery::current_machine, qemu_server::QEMU_WAIT_MAX, processes};
use anteroom_wire::{
    SessionId,
    api::{SessionView, Status},
};
use rustix::process::Signal;
use std::{collections::BTreeMap, fmt::Write as _, time::Duration};
use tokio::time::{Instant, sleep};

/// Two tools: one waits, one shows an address and waits.
const SETTINGS: &str = r#"
[machines]
ping_every_ms = 1000
ping_ms_max = 5000
liveness_timeout_s = 10
[sessions]
restarts_max = 20
socket_wait_ms_max = 240000
[providers.waits]
name = "A tool that waits"
cli = "codex"
argv = ["sh", "-c", "echo Nothing to do; exec sleep 1000000"]
lanes = ["terminal"]
next_action = "Wait."
policy = "store"
egress = []
credential = { paths = [".waits/credential.json"], required = ["/token"] }
[providers.asks]
name = "A tool that asks"
cli = "codex"
argv = ["sh", "-c", "echo Open https://id.example.test/authorize; exec sleep 1000000"]
lanes = ["link", "terminal"]
next_action = "Open the address."
policy = "store"
egress = []
sign_in = { url = 'https://[^\s]+' }
credential = { paths = [".asks/credential.json"], required = ["/token"] }
"#;

const FAULTS: [Fault; 5] =
    [Fault::MachineKilled, Fault::KeeperKilled, Fault::MachineFrozen, Fault::ServerKilled, Fault::ServerRestarted];
const STATES: [(State, &str); 2] = [(State::Started, "waits"), (State::Authenticating, "asks")];

/// `liveness_timeout_s`, a ping, and a busy host.
const HUNG_S: u64 = 30;
/// The server checks its image and template before it answers.
const RESTART_S: u64 = 60;
const MACHINE_S: u64 = 5;

/// The bound on an emulated host, seconds.
fn within_s(fault: Fault) -> u64 {
    match fault {
        Fault::MachineFrozen => HUNG_S,
        Fault::ServerKilled | Fault::ServerRestarted => RESTART_S,
        Fault::MachineKilled
        | Fault::KeeperKilled
        | Fault::PartKilled
        | Fault::DatabaseLocked
        | Fault::DatabaseReadOnly
        | Fault::DiskFull
        | Fault::ViewerGone
        | Fault::ViewerStuck
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

/// Waits until the session is where it belongs and connects a viewer that has a picture.
async fn settle(house: &QemuServer, session: &mut Session) {
    let api = house.operator().unwrap();
    let there = |view: &SessionView| view.status == session.state.status() && view.generation >= session.generation;
    session.generation = api.wait_until(&session.id, "where it belongs", there).await.unwrap().generation;
    let mut viewer = api.desktop(&session.id).await.unwrap();
    viewer.whole_frame().await.unwrap();
    session.viewer = Some(Viewer::reading(viewer.into_inner()));
}

async fn process(house: &QemuServer, fault: Fault, id: &SessionId) -> rustix::process::Pid {
    let machine = current_machine(&house.operator().unwrap(), id).await.unwrap();
    let state = house.state_dir();
    let found = if fault == Fault::KeeperKilled {
        processes::keeper_pid(&state, &machine)
    } else {
        processes::machine_pid(&state, &machine)
    };
    found.expect("the machine has its processes")
}

fn told(end: Option<End>) -> Told {
    match end {
        None => Told::Stays,
        Some(End { code: None, .. }) => Told::BrokeOff,
        Some(End { code: Some(code), reason, .. }) => {
            Told::Closed(code, reason.split(':').next().unwrap_or_default().to_owned())
        }
    }
}

/// The harm to these sessions, and since when it counts.
async fn harm(house: &mut QemuServer, fault: Fault, sessions: &[Session]) -> Instant {
    if fault == Fault::ServerKilled || fault == Fault::ServerRestarted {
        if fault == Fault::ServerKilled {
            house.kill_server().await.unwrap();
        } else {
            house.stop_server().await.unwrap();
        }
        let at = Instant::now();
        house.start_server(false).await.unwrap();
        return at;
    }
    let signal = if fault == Fault::MachineFrozen { Signal::STOP } else { Signal::KILL };
    let at = Instant::now();
    for session in sessions {
        rustix::process::kill_process(process(house, fault, &session.id).await, signal).unwrap();
    }
    at
}

/// What is so with the session when it is where it belongs again, and stays there; and since when.
async fn look(api: &ApiClient, session: &Session) -> (Now, Instant) {
    let changed = |view: &SessionView| view.generation > session.generation || view.status == session.state.status();
    let mut since = None;
    loop {
        let view = api.wait_until(&session.id, "known", changed).await.unwrap();
        let since = *since.get_or_insert_with(Instant::now);
        if view.generation > session.generation {
            return (Now::NewMachine, Instant::now());
        }
        if since.elapsed() >= Duration::from_secs(1) {
            return (Now::Unchanged, since);
        }
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn qemu_machines_meet_the_expectations_of_the_fault_table() {
    let mut house = QemuServer::start(SETTINGS, &BTreeMap::new(), false).await.unwrap();
    let mut sessions = Vec::new();
    for (state, provider) in STATES {
        let id = house.operator().unwrap().start(provider).await.unwrap().session.id;
        sessions.push(Session { state, id, generation: 1, viewer: None });
    }
    let mut wrong = Vec::new();
    let mut rows =
        String::from("| fault | state | what is so | the viewer is told | known within |\n|---|---|---|---|---|\n");
    for fault in FAULTS {
        for session in &mut sessions {
            settle(&house, session).await;
        }
        let at = harm(&mut house, fault, &sessions).await;
        for session in &mut sessions {
            let end = session.viewer.take().unwrap().end(QEMU_WAIT_MAX).await;
            let heard = end.as_ref().map_or(Duration::ZERO, |end| end.at.saturating_duration_since(at));
            let told = told(end);
            let shall = cell(fault, session.state);
            let api = house.operator().unwrap();
            if shall.now == Now::NewMachine {
                let next = |view: &SessionView| view.generation > session.generation;
                api.wait_until(&session.id, "replaced", next).await.unwrap();
            }
            let (now, since) = look(&api, session).await;
            let took = heard.max(since - at);
            let is = Cell { now, told, ..shall.clone() };
            if is != shall || took > Duration::from_secs(within_s(fault)) {
                wrong.push(format!("{fault:?} {}: {is:?} after {took:?}, expected {shall:?}", session.state));
            }
            eprintln!("{fault:?} {}: {took:?}", session.state);
            let (state, within) = (session.state, within_s(fault));
            writeln!(rows, "| {} | {state} | {} | {} | {within} s |", fault.title(), is.now, is.told).unwrap();
        }
    }
    for session in &mut sessions {
        settle(&house, session).await;
        let over = house.operator().unwrap().cancel(&session.id).await.unwrap();
        assert_eq!(over.status, Status::Cancelled);
    }
    house.finish().await.unwrap();
    assert!(wrong.is_empty(), "{}\n{rows}", wrong.join("\n"));
    document::section("qemu", &rows);
}
