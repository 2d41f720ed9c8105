use crate::test_host::{PlainProcess, TestHost, processes, until_removed, until_removed_with_receipt};
use anteroom_machine::{ExitReason, MachinesOpenError, MachinesSettings, ProcessId, StopReason};
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
