use crate::test_host::{Plain, SOON, TestHost, hello, new_id, processes, until, until_gone};
use anteroom_machine::{ExitReason, OpenError, Settings, State, StopReason};
use anteroom_wire::agent::{Stage, StageState};

#[tokio::test]
async fn a_machine_outlives_its_server_and_is_adopted_by_the_next() {
    let ground = TestHost::new();
    let server = ground.open(Plain::new("/bin/sleep", &["1000"])).await;
    let id = new_id();
    let _agent = ground.agent(&id, hello(&[(Stage::Display, StageState::Ready)]));
    let mut state = server.machines.start(id.clone()).unwrap();
    until(&mut state, |state| matches!(state, State::Ready { .. })).await;
    let (_, process) = processes(&ground.run_dir(&id));
    drop(state);
    server.end().await;
    assert!(process.is_alive());

    // Another recipe by now: the machine is still judged by the image it was made of.
    let server = ground.open(Plain::new("/bin/true", &[])).await;
    let mut state = server.machines.watch(&id).unwrap();
    let State::Ready { channels } = until(&mut state, |state| matches!(state, State::Ready { .. })).await else {
        panic!()
    };
    channels.agent.hello().await.unwrap();
    // Its keeper may say a moment later than its agent that it lives.
    let memory = async {
        loop {
            if let Some(memory) = server.machines.memory(&id) {
                return memory;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(SOON, memory).await.unwrap().pss_bytes > 0);
    server.machines.stop(&id, StopReason::Orphaned);
    let State::Removed { why, .. } = until_gone(&mut state).await else { panic!() };
    assert_eq!(why, ExitReason::Stopped { why: StopReason::Orphaned });
    server.end().await;
}

#[tokio::test]
async fn what_is_left_of_dead_keepers_is_removed() {
    let ground = TestHost::new();
    let server = ground.open(Plain::new("/bin/sleep", &["1000"])).await;
    let id = new_id();
    let mut state = server.machines.start(id.clone()).unwrap();
    until(&mut state, |state| matches!(state, State::Waiting { .. })).await;
    let (keeper, process) = processes(&ground.run_dir(&id));
    server.end().await;
    keeper.kill();
    while keeper.is_alive() || process.is_alive() {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert!(ground.run_dir(&id).exists());
    std::fs::create_dir(ground.run_dir(&new_id())).unwrap();
    let server = ground.open(Plain::new("/bin/true", &[])).await;
    assert_eq!(server.machines.count(), 0);
    assert!(!ground.run_dir(&id).exists());
    server.end().await;
}

#[tokio::test]
async fn a_second_server_in_the_same_directory_is_refused() {
    let ground = TestHost::new();
    let first = ground.open(Plain::new("/bin/true", &[])).await;
    let second = ground.open_with(ground.settings(), Plain::new("/bin/true", &[])).await;
    assert!(matches!(second, Err(OpenError::InUse { .. })));
    first.end().await;
    ground.open(Plain::new("/bin/true", &[])).await.end().await;
}

#[tokio::test]
async fn a_machine_whose_spec_the_next_server_cannot_read_is_ended_and_that_is_why() {
    let ground = TestHost::new();
    let server = ground.open(Plain::new("/bin/sleep", &["1000"])).await;
    let id = new_id();
    let mut state = server.machines.start(id.clone()).unwrap();
    until(&mut state, |state| matches!(state, State::Waiting { .. })).await;
    let (keeper, process) = processes(&ground.run_dir(&id));
    server.end().await;
    std::fs::write(ground.run_dir(&id).join("keeper.json"), "{\"of\":\"another version\"}").unwrap();

    let server = ground.open(Plain::new("/bin/true", &[])).await;
    if let Some(mut state) = server.machines.watch(&id) {
        until_gone(&mut state).await;
    }
    let receipt = server.machines.receipt(&id).unwrap().expect("it has an end on record");
    assert!(
        matches!(receipt.reason(), ExitReason::Mismatch { ref found, .. } if found.contains("keeper.json")),
        "{receipt:?}"
    );
    assert!(!process.is_alive() && !keeper.is_alive() && !ground.run_dir(&id).exists());
    server.end().await;
}

#[tokio::test]
async fn a_keeper_that_hangs_when_the_next_server_comes_is_killed_and_the_machine_with_it() {
    let ground = TestHost::new();
    let server = ground.open(Plain::new("/bin/sleep", &["1000"])).await;
    let id = new_id();
    let mut state = server.machines.start(id.clone()).unwrap();
    until(&mut state, |state| matches!(state, State::Waiting { .. })).await;
    let (keeper, process) = processes(&ground.run_dir(&id));
    server.end().await;
    let pid = rustix::process::Pid::from_raw(i32::try_from(keeper.pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();

    let settings = Settings { keeper_exit_timeout_ms: 500, ..ground.settings() };
    let server = ground.open_with(settings, Plain::new("/bin/true", &[])).await.unwrap();
    let mut state = server.machines.watch(&id).unwrap();
    server.machines.stop(&id, StopReason::Orphaned);
    let State::Removed { why, receipt: Some(receipt) } = until_gone(&mut state).await else { panic!() };
    assert_eq!(why, ExitReason::Stopped { why: StopReason::Orphaned });
    assert_eq!(receipt.checks.leftovers, Vec::<String>::new());
    assert_eq!(receipt.checks.pids, [process.pid]);
    assert!(!process.is_alive() && !keeper.is_alive() && !ground.run_dir(&id).exists());
    server.end().await;
}
