//! Machines that are started before a session asks for one (`machines.warm_target`): a session begins in one, no machine is used twice,
//! and a killed server loses none.

use crate::{Flags, fixture::start_idle};
use anteroom_testbed::{ApiClient, TestServer, WAIT_MAX, eventually};
use anteroom_wire::{
    MachineId, TimelineKind,
    api::{MachineList, MachineState, SessionStatus},
};
use std::fs;

async fn start(settings: &str) -> (Flags, TestServer, ApiClient) {
    let (flags, server) = start_idle(settings).await;
    let api = server.backend_client().unwrap();
    (flags, server, api)
}

async fn list(server: &TestServer) -> MachineList {
    server.operator_client().unwrap().get("/api/machines").await.unwrap().parse().unwrap()
}

/// Waits until as many machines are warm and ready, and no other waits; returns them.
async fn wait_warm(server: &TestServer, count: usize) -> Vec<MachineId> {
    let warm = async || {
        let warm: Vec<_> = list(server).await.machines.into_iter().filter(|machine| machine.is_warm).collect();
        let all_ready = warm.iter().all(|machine| machine.state == MachineState::Ready && machine.session.is_none());
        Ok((warm.len() == count && all_ready).then(|| warm.into_iter().map(|machine| machine.id).collect()))
    };
    eventually("warm machines", WAIT_MAX, warm).await.unwrap()
}

async fn start_session(api: &ApiClient) -> (anteroom_wire::SessionId, MachineId) {
    let id = api.start_session("scripted").await.unwrap().session.id;
    api.wait_status(&id, SessionStatus::VmStarted).await.unwrap();
    let requested = api.wait_entry(&id, TimelineKind::MachineRequested).await.unwrap();
    (id, serde_json::from_value(requested.data["machine"].clone()).unwrap())
}

#[tokio::test]
async fn session_begins_in_a_warm_machine_and_no_machine_is_used_twice() {
    let (_flags, server, api) = start("[machines]\nwarm_target = 1\nmachines_max = 2\n").await;
    let mut used = Vec::new();
    for _ in 0..3 {
        let warm = wait_warm(&server, 1).await;
        let (id, machine) = start_session(&api).await;
        assert_eq!(vec![machine.clone()], warm);
        assert!(!used.contains(&machine), "{machine} is used twice");
        used.push(machine);
        api.connect_desktop(&id).await.unwrap().request_full_frame().await.unwrap();
        let requested = api.wait_entry(&id, TimelineKind::MachineRequested).await.unwrap();
        assert_eq!(requested.data["warm"], true);
        let other = wait_warm(&server, 1).await;
        assert_ne!(other, warm, "another machine is warm");
        api.cancel_session(&id).await.unwrap();
    }
    let report = server.operator_client().unwrap().get("/health").await.unwrap().text;
    assert!(report.contains("wait for a session"), "{report}");
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn sessions_take_the_room_of_warm_machines_before_new_ones() {
    let (_flags, server, api) = start("[machines]\nwarm_target = 3\nmachines_max = 3\n").await;
    let mut warm = wait_warm(&server, 3).await;
    let mut used = Vec::new();
    for _ in 0..3 {
        used.push(start_session(&api).await.1);
    }
    used.sort();
    warm.sort();
    assert_eq!(used, warm);
    let waiting = api.start_session("scripted").await.unwrap().session.id;
    let queued = api.wait_until(&waiting, "in the queue", |view| view.queue_position == Some(1)).await;
    queued.unwrap();
    api.cancel_all_sessions().await.unwrap();
    wait_warm(&server, 3).await;
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn killed_server_loses_no_warm_machine_and_does_not_reuse_that_of_a_session() {
    let (_flags, mut server, api) = start("[machines]\nwarm_target = 1\n").await;
    wait_warm(&server, 1).await;
    let (id, machine) = start_session(&api).await;
    let warm = wait_warm(&server, 1).await;
    server.kill_server().await.unwrap();
    server.start_server().await.unwrap();
    assert_eq!(wait_warm(&server, 1).await, warm);
    let api = server.backend_client().unwrap();
    let view = api.wait_status(&id, SessionStatus::VmStarted).await.unwrap();
    assert_eq!(view.generation, 1, "its machine was adopted");
    let (other, taken) = start_session(&api).await;
    assert_eq!(vec![taken], warm);
    assert!(!wait_warm(&server, 1).await.contains(&machine));
    for id in [id, other] {
        api.cancel_session(&id).await.unwrap();
    }
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn warm_machine_that_is_killed_is_replaced_and_one_of_other_settings_is_stopped() {
    let (_flags, mut server, _) = start("[machines]\nwarm_target = 1\n").await;
    let warm = wait_warm(&server, 1).await;
    server.kill_machine(&warm[0]).unwrap();
    let replaced = async || {
        let now = wait_warm(&server, 1).await;
        Ok((now != warm).then_some(now))
    };
    let warm = eventually("another warm machine", WAIT_MAX, replaced).await.unwrap();
    server.kill_server().await.unwrap();
    let path = server.config_file();
    let text = fs::read_to_string(&path).unwrap().replace("warm_target = 1", "warm_target = 1\nmemory_mib = 1024");
    fs::write(&path, text).unwrap();
    server.start_server().await.unwrap();
    assert_ne!(wait_warm(&server, 1).await, warm);
    server.stop_and_check_leaks().await.unwrap();
}
