//! Plain-process machines with the machine crate alone, without a server.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use anteroom_machine::{BoxBody, Channels, ControllerService, Machines, MachinesSettings, State, StopReason};
use anteroom_rfb::client::RfbClient;
use anteroom_testbed::{LeakScan, fake_rfb_server::initial_background_colour, plain_process::PlainProcessSpecs};
use anteroom_wire::MachineId;
use http::Response;
use std::{sync::Arc, time::Duration};
use tokio::{sync::watch, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

const WAIT_MAX: Duration = Duration::from_secs(60);

struct Fixture {
    dir: tempfile::TempDir,
    machines: Machines,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// Answers every request of a machine with 404. These machines are never claimed, so they send none.
fn not_found() -> ControllerService {
    Arc::new(|_, _| {
        let mut response = Response::new(BoxBody::default());
        *response.status_mut() = http::StatusCode::NOT_FOUND;
        Box::pin(std::future::ready(response))
    })
}

async fn start_fixture() -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let spec_source = PlainProcessSpecs::with_built_programs().unwrap();
    let settings = MachinesSettings::in_state_dir(dir.path(), spec_source.testbed.clone());
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    let machines =
        Machines::open(settings, Arc::new(spec_source), not_found(), tasks.clone(), stop.clone()).await.unwrap();
    Fixture { dir, machines, tasks, stop }
}

fn id(number: u8) -> MachineId {
    MachineId::from_parts(1, [number; 10])
}

async fn ready(state: &mut watch::Receiver<State>) -> Channels {
    let ready = state.wait_for(|state| matches!(state, State::Ready { .. } | State::Removed { .. }));
    match &*timeout(WAIT_MAX, ready).await.expect("ready in time").unwrap() {
        State::Ready { channels } => channels.clone(),
        other @ (State::Requested
        | State::Cloning
        | State::Waiting { .. }
        | State::Stopping { .. }
        | State::Exited { .. }
        | State::Removed { .. }) => {
            panic!("{other:?}")
        }
    }
}

impl Fixture {
    /// Stops the machine and all tasks, and checks that nothing is left.
    async fn finish(self, machine: &MachineId, state: &mut watch::Receiver<State>) {
        self.machines.stop(machine, StopReason::Cancelled);
        let removed = state.wait_for(|state| matches!(state, State::Removed { .. }));
        timeout(WAIT_MAX, removed).await.expect("removed in time").unwrap();
        self.stop.cancel();
        self.tasks.close();
        timeout(WAIT_MAX, self.tasks.wait()).await.expect("every task ends");
        let leaks = LeakScan::for_dir(self.dir.path());
        leaks.wait_none_left(WAIT_MAX).await.expect("no process is left");
        assert_eq!(leaks.list_files("run"), Vec::<std::path::PathBuf>::new());
    }
}

#[tokio::test]
async fn plain_process_machine_becomes_ready_shows_its_desktop_and_leaves_nothing() {
    let fixture = start_fixture().await;
    let mut state = fixture.machines.start(id(1)).unwrap();
    let channels = ready(&mut state).await;
    assert_eq!(channels.agent_info.image_hash, "sha256:plain-process");
    let stream = channels.agent.open_desktop().await.unwrap();
    let mut viewer = RfbClient::connect(stream, 20_000).await.unwrap();
    let name = format!("desktop of {}", id(1));
    assert_eq!(viewer.desktop_name(), name);
    let frame = viewer.request_full_frame().await.unwrap();
    assert_eq!(frame.pixel(639, 479), Some(initial_background_colour(&name)));
    assert!(
        !LeakScan::for_dir(fixture.dir.path()).find_processes().is_empty(),
        "the leak check finds the running machine"
    );
    fixture.finish(&id(1), &mut state).await;
}
