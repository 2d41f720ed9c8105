//! A machine's death and its clearing are two things: the first is told at once, the second is waited for. What a killed
//! server did not come to say, the next one says, once.

use crate::{closing, idle, up};
use anteroom_testbed::{ApiClient, TestConfig, WAIT_MAX, TestServer, processes};
use anteroom_wire::{
    MachineId, SessionId,
    api::{Status, TimelineEntry},
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

/// Holds up a keeper's clearing: it looks whether the machine's sockets still answer, and this one, in the agent's place,
/// takes callers and never comes to them. Dropped, it answers no more.
struct Holdup {
    _listener: UnixListener,
    _callers: Vec<OwnedFd>,
}

impl Holdup {
    fn new(run_dir: &Path) -> Self {
        let path = run_dir.join("agent.sock");
        fs::rename(&path, run_dir.join("agent.before")).unwrap();
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

async fn about(api: &ApiClient, id: &SessionId, kind: &str, machine: &MachineId) -> Vec<TimelineEntry> {
    let timeline = api.timeline(id).await.unwrap();
    timeline.into_iter().filter(|entry| entry.kind == kind && entry.data["machine"] == machine.as_str()).collect()
}

#[tokio::test]
async fn viewer_is_closed_before_cleanup_ends_and_the_next_machine_starts_after_it() {
    let world = TestServer::start(TestConfig::with_tool(idle())).await.unwrap();
    let api = world.operator().unwrap();
    let (id, machine) = (up(&api).await, world.machines().remove(0));
    let mut viewer = api.desktop(&id).await.unwrap();
    viewer.whole_frame().await.unwrap();
    let holdup = Holdup::new(&world.run_dir(&machine));
    let process = processes::machine_pid(&world.state_dir(), &machine).unwrap();
    let keeper = processes::keeper_pid(&world.state_dir(), &machine).unwrap();
    processes::kill(process).unwrap();
    let (code, reason) = closing(&mut viewer.into_inner()).await;
    assert_eq!((code, reason.split(':').next()), (4510, Some("machine_replaced")));
    let gone = api.wait_entry(&id, "machine_exited").await.unwrap();
    assert_eq!(gone.data["why"], serde_json::json!({ "cause": "killed", "signal": 9 }));
    assert_eq!(gone.data.get("receipt"), None, "its keeper has not finished: {:?}", gone.data);
    let view = api.session(&id).await.unwrap();
    assert_eq!((view.status, view.generation), (Status::VmStopped, 1));
    let leaks = api.get("/api/leaks").await.unwrap().read::<anteroom_wire::operations::LeakReport>().unwrap();
    assert_eq!(leaks.orphans().next(), None, "what is being cleared away is no leak");
    assert_eq!(processes::keeper_pid(&world.state_dir(), &machine), Some(keeper), "it still clears");
    assert_eq!(world.machines(), std::slice::from_ref(&machine), "no other machine before this one is gone");
    drop(holdup);
    let cleared = api.wait_entry(&id, "machine_removed").await.unwrap();
    assert_eq!(cleared.data["receipt"]["checks"]["leftovers"], serde_json::json!([]), "{:?}", cleared.data);
    assert_eq!(api.wait_status(&id, Status::VmStarted).await.unwrap().generation, 2);
    assert_eq!(about(&api, &id, "machine_exited", &machine).await.len(), 1);
    let order: Vec<_> = api.timeline(&id).await.unwrap().into_iter().map(|entry| entry.kind).collect();
    let at = |kind: &str| order.iter().rposition(|seen| seen == kind).unwrap();
    assert!(at("machine_exited") < at("machine_removed") && at("machine_removed") < at("machine_replaced"), "{order:?}");
    world.finish().await.unwrap();
}

#[tokio::test]
async fn server_killed_during_machine_cleanup_leaves_one_machine_exited_entry() {
    let mut world = TestServer::start(TestConfig::with_tool(idle())).await.unwrap();
    let api = world.operator().unwrap();
    let (id, machine) = (up(&api).await, world.machines().remove(0));
    let holdup = Holdup::new(&world.run_dir(&machine));
    processes::kill(processes::machine_pid(&world.state_dir(), &machine).unwrap()).unwrap();
    api.wait_entry(&id, "machine_exited").await.unwrap();
    world.kill_server().await.unwrap();
    drop(holdup);
    world.start_server().await.unwrap();
    let api = world.operator().unwrap();
    assert_eq!(api.wait_status(&id, Status::VmStarted).await.unwrap().generation, 2);
    assert_eq!(about(&api, &id, "machine_exited", &machine).await.len(), 1);
    world.finish().await.unwrap();
}

#[tokio::test]
async fn machine_end_is_reported_once_from_its_receipt_after_restart() {
    let mut world = TestServer::start(TestConfig::with_tool(idle()).with_settings("[sessions]\nsweep_every_ms = 100\n")).await.unwrap();
    let api = world.operator().unwrap();
    let (id, machine) = (up(&api).await, world.machines().remove(0));
    let keeper = processes::keeper_pid(&world.state_dir(), &machine).unwrap();
    // The session ends, and its machine cannot end before its server does.
    kill_process(keeper, Signal::STOP).unwrap();
    api.cancel(&id).await.unwrap();
    world.kill_server().await.unwrap();
    kill_process(keeper, Signal::CONT).unwrap();
    for _ in 0..2 {
        world.start_server().await.unwrap();
        let api = world.operator().unwrap();
        let gone = api.wait_entry(&id, "machine_exited").await.unwrap();
        assert_eq!(gone.data["machine"], machine.as_str());
        assert_eq!(gone.data["receipt"]["checks"]["leftovers"], serde_json::json!([]));
        // The sweeps of this server had their chance to say it again.
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert_eq!(about(&api, &id, "machine_exited", &machine).await.len(), 1);
        world.kill_server().await.unwrap();
    }
    world.start_server().await.unwrap();
    world.finish().await.unwrap();
}

#[tokio::test]
async fn partial_receipt_is_removed_only_after_its_keeper_exited() {
    let world = TestServer::start(TestConfig::with_tool(idle()).with_settings("[sessions]\nsweep_every_ms = 100\n")).await.unwrap();
    let api = world.operator().unwrap();
    up(&api).await;
    let machine = world.machines().remove(0);
    let keeper = processes::keeper_pid(&world.state_dir(), &machine).unwrap().as_raw_nonzero();
    let receipts = world.state_dir().join("receipts");
    let half = |name: String, age_s: u64| {
        let path = receipts.join(name);
        let file = File::create(&path).unwrap();
        let written = SystemTime::now() - Duration::from_secs(age_s);
        file.set_times(FileTimes::new().set_modified(written)).unwrap();
        path
    };
    let recent = half(format!(".{machine}.1"), 0);
    let being_written = half(format!(".{machine}.{keeper}"), 600);
    let left = half(format!(".{machine}.4000000"), 600);
    let swept = async {
        while left.exists() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(WAIT_MAX, swept).await.expect("it is removed");
    assert!(recent.exists() && being_written.exists());
    for path in [recent, being_written] {
        fs::remove_file(path).unwrap();
    }
    world.finish().await.unwrap();
}
