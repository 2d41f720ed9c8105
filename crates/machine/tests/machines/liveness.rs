use crate::test_host::{Plain, TestHost, hello, new_id, processes, until, until_gone};
use anteroom_machine::{ExitCause, ExitReason, Settings, State, StopReason};
use anteroom_wire::agent::{Stage, StageState};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn settings(ground: &TestHost, liveness_timeout_ms: u64) -> Settings {
    Settings { ping_every_ms: 50, ping_ms_max: 400, liveness_timeout_ms, ..ground.settings() }
}

fn ready(state: &State) -> bool {
    matches!(state, State::Ready { .. })
}

fn silent(state: &State) -> bool {
    matches!(state, State::Waiting { stage: Stage::Channel, last_error: Some(error), .. } if error.contains("no answer to pings"))
}

#[tokio::test]
async fn a_machine_that_is_frozen_for_a_while_is_not_ready_and_comes_back_with_its_streams() {
    let ground = TestHost::new();
    let server = ground.open_with(settings(&ground, 600_000), Plain::new("/bin/sleep", &["1000"])).await.unwrap();
    let id = new_id();
    let agent = ground.agent(&id, hello(&[(Stage::Display, StageState::Ready)]));
    let mut state = server.machines.start(id.clone()).unwrap();
    let State::Ready { channels } = until(&mut state, ready).await else { panic!() };
    let mut stream = channels.agent.desktop().await.unwrap();
    agent.freeze(true);
    until(&mut state, silent).await;
    agent.freeze(false);
    until(&mut state, ready).await;
    assert!(!channels.agent.is_closed(), "the same connection");
    stream.write_all(b"RFB ").await.unwrap();
    let mut word = String::new();
    stream.read_to_string(&mut word).await.unwrap();
    assert_eq!(word, "RFB ");
    server.machines.stop(&id, StopReason::Completed);
    until_gone(&mut state).await;
    server.end().await;
}

#[tokio::test]
async fn an_idle_machine_that_answers_pings_stays_ready() {
    let ground = TestHost::new();
    let server = ground.open_with(settings(&ground, 1_000), Plain::new("/bin/sleep", &["1000"])).await.unwrap();
    let id = new_id();
    let _agent = ground.agent(&id, hello(&[(Stage::Display, StageState::Ready)]));
    let mut state = server.machines.start(id.clone()).unwrap();
    until(&mut state, ready).await;
    let gone = tokio::time::timeout(std::time::Duration::from_secs(3), state.wait_for(State::is_removed)).await.is_ok();
    assert!(!gone);
    server.machines.stop(&id, StopReason::Completed);
    until_gone(&mut state).await;
    server.end().await;
}

#[tokio::test]
async fn a_machine_that_stays_silent_has_hung_and_is_ended() {
    let ground = TestHost::new();
    let server = ground.open_with(settings(&ground, 1_000), Plain::new("/bin/sleep", &["1000"])).await.unwrap();
    let id = new_id();
    let agent = ground.agent(&id, hello(&[(Stage::Display, StageState::Ready)]));
    let mut state = server.machines.start(id.clone()).unwrap();
    until(&mut state, ready).await;
    agent.freeze(true);
    let (_, process) = processes(&ground.run_dir(&id));
    let State::Removed { why, receipt: Some(receipt) } = until_gone(&mut state).await else { panic!() };
    let ExitReason::Hung { unanswered_ms } = why else { panic!("{why:?}") };
    assert!(unanswered_ms >= 1_000, "{unanswered_ms}");
    assert_eq!(receipt.cause, ExitCause::Stopped { why: "hung".into() });
    assert_eq!(receipt.reason(), why, "the receipt says the same");
    assert!(!process.is_alive() && !ground.run_dir(&id).exists());
    server.end().await;
}

#[tokio::test]
async fn a_ready_machine_whose_channel_breaks_and_does_not_come_back_has_hung() {
    let ground = TestHost::new();
    let server = ground.open_with(settings(&ground, 1_000), Plain::new("/bin/sleep", &["1000"])).await.unwrap();
    let id = new_id();
    let agent = ground.agent(&id, hello(&[(Stage::Display, StageState::Ready)]));
    let mut state = server.machines.start(id.clone()).unwrap();
    until(&mut state, ready).await;
    // The next connection is taken and never served.
    agent.freeze(true);
    agent.break_channel();
    let State::Removed { why, .. } = until_gone(&mut state).await else { panic!() };
    assert!(matches!(why, ExitReason::Hung { .. }), "{why:?}");
    server.end().await;
}

#[tokio::test]
async fn a_machine_that_was_never_ready_has_as_long_as_its_start_may_take() {
    let ground = TestHost::new();
    let server = ground.open_with(settings(&ground, 300), Plain::new("/bin/sleep", &["1000"])).await.unwrap();
    let id = new_id();
    let mut state = server.machines.start(id.clone()).unwrap();
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    let _agent = ground.agent(&id, hello(&[(Stage::Display, StageState::Ready)]));
    until(&mut state, ready).await;
    server.machines.stop(&id, StopReason::Completed);
    until_gone(&mut state).await;
    server.end().await;
}

#[tokio::test]
async fn a_keeper_that_does_not_do_what_it_is_told_is_killed_and_the_machine_with_it() {
    let ground = TestHost::new();
    let settings = Settings { keeper_exit_timeout_ms: 500, ..ground.settings() };
    let server = ground.open_with(settings, Plain::new("/bin/sleep", &["1000"])).await.unwrap();
    let id = new_id();
    let mut state = server.machines.start(id.clone()).unwrap();
    until(&mut state, |state| matches!(state, State::Waiting { .. })).await;
    let (keeper, process) = processes(&ground.run_dir(&id));
    let pid = rustix::process::Pid::from_raw(i32::try_from(keeper.pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
    server.machines.stop(&id, StopReason::Cancelled);
    let State::Removed { why, receipt: Some(receipt) } = until_gone(&mut state).await else { panic!() };
    assert_eq!(why, ExitReason::Stopped { why: StopReason::Cancelled });
    assert_eq!(receipt.checks.leftovers, Vec::<String>::new());
    assert!(!process.is_alive() && !keeper.is_alive() && !ground.run_dir(&id).exists());
    server.end().await;
}

#[tokio::test]
async fn a_machine_that_was_ready_under_the_server_before_and_is_silent_now_has_hung() {
    let ground = TestHost::new();
    let settings = Settings { ready_ms_max: 600, ..settings(&ground, 1_000) };
    let server = ground.open_with(settings.clone(), Plain::new("/bin/sleep", &["1000"])).await.unwrap();
    let (once_ready, never_ready) = (new_id(), new_id());
    let agent = ground.agent(&once_ready, hello(&[(Stage::Display, StageState::Ready)]));
    let mut state = server.machines.start(once_ready.clone()).unwrap();
    until(&mut state, ready).await;
    let mut other = server.machines.start(never_ready.clone()).unwrap();
    until(&mut other, |state| matches!(state, State::Waiting { .. })).await;
    server.end().await;
    agent.freeze(true);

    let server = ground.open_with(settings, Plain::new("/bin/true", &[])).await.unwrap();
    let mut state = server.machines.watch(&once_ready).unwrap();
    let mut other = server.machines.watch(&never_ready).unwrap();
    let State::Removed { why, receipt: Some(receipt) } = until_gone(&mut state).await else { panic!() };
    assert!(matches!(why, ExitReason::Hung { unanswered_ms } if unanswered_ms >= 1_000), "{why:?}");
    assert_eq!(receipt.reason(), why);
    let State::Removed { why, .. } = until_gone(&mut other).await else { panic!() };
    assert!(matches!(why, ExitReason::ReadyTimeout { .. }), "{why:?}");
    server.end().await;
}
