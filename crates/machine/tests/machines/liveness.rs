use crate::test_host::{
    Agent, PlainProcess, Server, TestHost, new_id, processes, until, until_removed, until_removed_with_receipt,
};
use anteroom_machine::{ExitCause, ExitReason, MachinesSettings, State, StopReason};
use anteroom_wire::{MachineId, agent::Stage};
use std::sync::Arc;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::watch,
};

fn settings(host: &TestHost, liveness_timeout_ms: u64) -> MachinesSettings {
    MachinesSettings { ping_every_ms: 50, ping_ms_max: 400, liveness_timeout_ms, ..host.settings() }
}

fn ready(state: &State) -> bool {
    matches!(state, State::Ready { .. })
}

fn is_idle(state: &State) -> bool {
    matches!(state, State::Waiting { stage: Stage::Channel, last_error: Some(error), .. } if error.contains("no answer to pings"))
}

/// Starts a machine and waits until it is ready.
async fn start_ready(
    host: &TestHost,
    liveness_timeout_ms: u64,
) -> (Server, MachineId, Arc<Agent>, watch::Receiver<State>) {
    let server = host.open_with(settings(host, liveness_timeout_ms), PlainProcess::sleeping()).await.unwrap();
    let id = new_id();
    let agent = host.ready_agent(&id);
    let mut state = server.machines.start(id.clone()).unwrap();
    until(&mut state, ready).await;
    (server, id, agent, state)
}

#[tokio::test]
async fn frozen_machine_is_not_ready_and_keeps_its_streams_when_it_resumes() {
    let host = TestHost::new();
    let (server, id, agent, mut state) = start_ready(&host, 600_000).await;
    let State::Ready { channels } = until(&mut state, ready).await else { panic!() };
    let mut stream = channels.agent.open_desktop().await.unwrap();
    agent.freeze(true);
    until(&mut state, is_idle).await;
    agent.freeze(false);
    until(&mut state, ready).await;
    assert!(!channels.agent.is_closed(), "the same connection");
    stream.write_all(b"RFB ").await.unwrap();
    let mut echoed = String::new();
    stream.read_to_string(&mut echoed).await.unwrap();
    assert_eq!(echoed, "RFB ");
    server.stop_machine_and_end(&id, &mut state).await;
}

#[tokio::test]
async fn idle_machine_that_answers_pings_stays_ready() {
    let host = TestHost::new();
    let (server, id, _agent, mut state) = start_ready(&host, 1_000).await;
    let removed =
        tokio::time::timeout(std::time::Duration::from_secs(3), state.wait_for(State::is_removed)).await.is_ok();
    assert!(!removed);
    server.stop_machine_and_end(&id, &mut state).await;
}

#[tokio::test]
async fn machine_is_stopped_as_hung_after_the_liveness_timeout() {
    let host = TestHost::new();
    let (server, id, agent, mut state) = start_ready(&host, 1_000).await;
    agent.freeze(true);
    let (_, process) = processes(&host.run_dir(&id));
    let (reason, receipt) = until_removed_with_receipt(&mut state).await;
    let ExitReason::Hung { unanswered_ms } = reason else { panic!("{reason:?}") };
    assert!(unanswered_ms >= 1_000, "{unanswered_ms}");
    assert_eq!(receipt.cause, ExitCause::Stopped { reason: "hung".into() });
    assert_eq!(receipt.exit_reason(), reason, "the receipt has the same reason");
    assert!(!process.is_alive() && !host.run_dir(&id).exists());
    server.end().await;
}

#[tokio::test]
async fn liveness_timeout_applies_after_a_broken_channel() {
    let host = TestHost::new();
    let (server, _, agent, mut state) = start_ready(&host, 1_000).await;
    // The next connection is accepted and never served.
    agent.freeze(true);
    agent.break_channel();
    let State::Removed { reason, .. } = until_removed(&mut state).await else { panic!() };
    assert!(matches!(reason, ExitReason::Hung { .. }), "{reason:?}");
    server.end().await;
}

#[tokio::test]
async fn liveness_timeout_does_not_apply_before_the_machine_was_ready() {
    let host = TestHost::new();
    let server = host.open_with(settings(&host, 300), PlainProcess::sleeping()).await.unwrap();
    let id = new_id();
    let mut state = server.machines.start(id.clone()).unwrap();
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    let _agent = host.ready_agent(&id);
    until(&mut state, ready).await;
    server.stop_machine_and_end(&id, &mut state).await;
}

#[tokio::test]
async fn hung_keeper_is_killed_with_its_machine_after_a_stop() {
    let host = TestHost::new();
    let settings = MachinesSettings { keeper_exit_timeout_ms: 500, ..host.settings() };
    let server = host.open_with(settings, PlainProcess::sleeping()).await.unwrap();
    let (id, mut state) = server.start_running().await;
    let (keeper, process) = processes(&host.run_dir(&id));
    let pid = rustix::process::Pid::from_raw(i32::try_from(keeper.pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
    server.machines.stop(&id, StopReason::Cancelled);
    let (reason, receipt) = until_removed_with_receipt(&mut state).await;
    assert_eq!(reason, ExitReason::Stopped { reason: StopReason::Cancelled });
    assert_eq!(receipt.checks.leftovers, Vec::<String>::new());
    assert!(!process.is_alive() && !keeper.is_alive() && !host.run_dir(&id).exists());
    server.end().await;
}

#[tokio::test]
async fn liveness_timeout_applies_to_an_adopted_machine_that_was_ready() {
    let host = TestHost::new();
    let settings = MachinesSettings { ready_ms_max: 600, ..settings(&host, 1_000) };
    let server = host.open_with(settings.clone(), PlainProcess::sleeping()).await.unwrap();
    let (once_ready, never_ready) = (new_id(), new_id());
    let agent = host.ready_agent(&once_ready);
    let mut state = server.machines.start(once_ready.clone()).unwrap();
    until(&mut state, ready).await;
    let mut other = server.machines.start(never_ready.clone()).unwrap();
    until(&mut other, |state| matches!(state, State::Waiting { .. })).await;
    server.end().await;
    agent.freeze(true);

    let server = host.open_with(settings, PlainProcess::new("/bin/true", &[])).await.unwrap();
    let mut state = server.machines.watch(&once_ready).unwrap();
    let mut other = server.machines.watch(&never_ready).unwrap();
    let (reason, receipt) = until_removed_with_receipt(&mut state).await;
    assert!(matches!(reason, ExitReason::Hung { unanswered_ms } if unanswered_ms >= 1_000), "{reason:?}");
    assert_eq!(receipt.exit_reason(), reason);
    let State::Removed { reason, .. } = until_removed(&mut other).await else { panic!() };
    assert!(matches!(reason, ExitReason::ReadyTimeout { .. }), "{reason:?}");
    server.end().await;
}
