use crate::test_host::{
    PlainProcess, STATE_TIMEOUT, TestHost, new_id, processes, until, until_removed, until_removed_with_receipt,
};
use anteroom_machine::{ExitReason, MachinesOpenError, MachinesSettings, ProcessId, State, StopReason};
use anteroom_wire::MachineId;

/// Starts a machine, and ends its server; returns the machine's keeper and process.
async fn start_machine_and_end_server(host: &TestHost) -> (MachineId, ProcessId, ProcessId) {
    let server = host.open(PlainProcess::sleeping()).await;
    let (id, _state) = server.start_running().await;
    let (keeper, process) = processes(&host.run_dir(&id));
    server.end().await;
    (id, keeper, process)
}

#[tokio::test]
async fn machine_outlives_its_server_and_is_adopted_by_the_next() {
    let host = TestHost::new();
    let server = host.open(PlainProcess::sleeping()).await;
    let id = new_id();
    let _agent = host.ready_agent(&id);
    let mut state = server.machines.start(id.clone()).unwrap();
    until(&mut state, |state| matches!(state, State::Ready { .. })).await;
    let (_, process) = processes(&host.run_dir(&id));
    drop(state);
    server.end().await;
    assert!(process.is_alive());

    // With another spec source: the machine is still checked against the image that it was started from.
    let server = host.open(PlainProcess::new("/bin/true", &[])).await;
    let mut state = server.machines.watch(&id).unwrap();
    let State::Ready { channels } = until(&mut state, |state| matches!(state, State::Ready { .. })).await else {
        panic!()
    };
    channels.agent.agent_info().await.unwrap();
    // The keeper's greeting may arrive a moment later than the agent's hello.
    let memory = async {
        loop {
            if let Some(memory) = server.machines.memory_usage(&id) {
                return memory;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(STATE_TIMEOUT, memory).await.unwrap().pss_bytes > 0);
    server.machines.stop(&id, StopReason::Orphaned);
    let State::Removed { reason, .. } = until_removed(&mut state).await else { panic!() };
    assert_eq!(reason, ExitReason::Stopped { reason: StopReason::Orphaned });
    server.end().await;
}

#[tokio::test]
async fn run_directories_of_exited_keepers_are_removed() {
    let host = TestHost::new();
    let (id, keeper, process) = start_machine_and_end_server(&host).await;
    keeper.kill();
    while keeper.is_alive() || process.is_alive() {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert!(host.run_dir(&id).exists());
    std::fs::create_dir(host.run_dir(&new_id())).unwrap();
    let server = host.open(PlainProcess::new("/bin/true", &[])).await;
    assert_eq!(server.machines.count(), 0);
    assert!(!host.run_dir(&id).exists());
    server.end().await;
}

#[tokio::test]
async fn second_server_in_the_same_directory_is_an_error() {
    let host = TestHost::new();
    let first = host.open(PlainProcess::new("/bin/true", &[])).await;
    let second = host.open_with(host.settings(), PlainProcess::new("/bin/true", &[])).await;
    assert!(matches!(second, Err(MachinesOpenError::InUse { .. })));
    first.end().await;
    host.open(PlainProcess::new("/bin/true", &[])).await.end().await;
}

#[tokio::test]
async fn machine_with_an_unreadable_configuration_is_stopped_as_a_mismatch() {
    let host = TestHost::new();
    let (id, keeper, process) = start_machine_and_end_server(&host).await;
    std::fs::write(host.run_dir(&id).join("keeper.json"), "{\"of\":\"another version\"}").unwrap();

    let server = host.open(PlainProcess::new("/bin/true", &[])).await;
    if let Some(mut state) = server.machines.watch(&id) {
        until_removed(&mut state).await;
    }
    let receipt = server.machines.read_receipt(&id).unwrap().expect("there is a receipt");
    assert!(
        matches!(receipt.exit_reason(), ExitReason::Mismatch { ref found, .. } if found.contains("keeper.json")),
        "{receipt:?}"
    );
    assert!(!process.is_alive() && !keeper.is_alive() && !host.run_dir(&id).exists());
    server.end().await;
}

#[tokio::test]
async fn hung_keeper_is_killed_with_its_machine_after_a_server_restart() {
    let host = TestHost::new();
    let (id, keeper, process) = start_machine_and_end_server(&host).await;
    let pid = rustix::process::Pid::from_raw(i32::try_from(keeper.pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();

    let settings = MachinesSettings { keeper_exit_timeout_ms: 500, ..host.settings() };
    let server = host.open_with(settings, PlainProcess::new("/bin/true", &[])).await.unwrap();
    let mut state = server.machines.watch(&id).unwrap();
    server.machines.stop(&id, StopReason::Orphaned);
    let (reason, receipt) = until_removed_with_receipt(&mut state).await;
    assert_eq!(reason, ExitReason::Stopped { reason: StopReason::Orphaned });
    assert_eq!(receipt.checks.leftovers, Vec::<String>::new());
    assert_eq!(receipt.checks.pids, [process.pid]);
    assert!(!process.is_alive() && !keeper.is_alive() && !host.run_dir(&id).exists());
    server.end().await;
}
