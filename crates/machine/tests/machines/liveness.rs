use crate::test_host::{
    Agent, PlainProcess, Server, TestHost, new_id, until, until_removed, until_removed_with_receipt,
};
use anteroom_machine::{ExitReason, MachinesSettings, State};
use anteroom_wire::MachineId;
use std::sync::Arc;
use tokio::sync::watch;

fn settings(host: &TestHost, liveness_timeout_ms: u64) -> MachinesSettings {
    MachinesSettings { ping_every_ms: 50, ping_ms_max: 400, liveness_timeout_ms, ..host.settings() }
}

fn ready(state: &State) -> bool {
    matches!(state, State::Ready { .. })
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
async fn idle_machine_that_answers_pings_stays_ready() {
    let host = TestHost::new();
    let (server, id, _agent, mut state) = start_ready(&host, 1_000).await;
    let removed =
        tokio::time::timeout(std::time::Duration::from_secs(3), state.wait_for(State::is_removed)).await.is_ok();
    assert!(!removed);
    server.stop_machine_and_end(&id, &mut state).await;
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
