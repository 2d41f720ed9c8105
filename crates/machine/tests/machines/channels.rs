use crate::test_host::{
    PlainProcess, TestHost, hello, new_id, resync, until, until_removed, until_removed_with_receipt,
};
use anteroom_machine::{AgentError, CONTROLLER_SERVER_SOCKET, ExitReason, State, StopReason};
use anteroom_wire::agent::{OpenUrl, Stage, StageState, TerminalSize};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixListener,
};

fn ready(state: &State) -> bool {
    matches!(state, State::Ready { .. })
}

#[tokio::test]
async fn machine_is_ready_when_all_stages_are_and_then_accepts_calls_and_streams() {
    let host = TestHost::new();
    let server = host.open(PlainProcess::sleeping()).await;
    let id = new_id();
    let up =
        [(Stage::Display, StageState::Ready), (Stage::Browser, StageState::Failed), (Stage::Cli, StageState::Waiting)];
    let agent = host.agent(&id, hello(&up));
    *agent.garbage.lock().unwrap() = vec![0xff; 1_000_000];
    let mut state = server.machines.start(id.clone()).unwrap();
    let waiting = until(&mut state, |state| matches!(state, State::Waiting { stage: Stage::Browser, .. })).await;
    let State::Waiting { last_error, attempts, .. } = waiting else { panic!() };
    assert_eq!(last_error.as_deref(), Some("no display: exit 1"));
    assert!(attempts >= 1);
    agent.hello.lock().unwrap().stages[1].state = StageState::Ready;
    let State::Ready { channels } = until(&mut state, ready).await else { panic!() };
    let timings = channels.timings;
    assert!(timings.spawned_ms <= timings.channel_ms && timings.channel_ms <= timings.ready_ms, "{timings:?}");

    let mut stream = channels.agent.open_desktop().await.unwrap();
    stream.write_all(b"RFB ").await.unwrap();
    let mut echoed = String::new();
    stream.read_to_string(&mut echoed).await.unwrap();
    assert_eq!(echoed, "RFB ");
    let size = TerminalSize { cols: 80, rows: 24 };
    channels.agent.open_terminal("a1", size).await.unwrap();
    assert!(matches!(channels.agent.open_terminal("../x", size).await, Err(AgentError::InvalidRequest { .. })));
    let rejected = channels.agent.open_url(&OpenUrl { url: "https://example.test/".into() }).await;
    let Err(AgentError::Rejected { problem, .. }) = rejected else { panic!("{rejected:?}") };
    assert_eq!(problem.code, "not_ready");

    let mut response = agent.response.clone();
    response.wait_for(|response| *response == format!("{id} /events")).await.unwrap();
    server.machines.stop(&id, StopReason::Completed);
    until_removed(&mut state).await;
    channels.agent.wait_closed().await;
    assert!(matches!(channels.agent.agent_info().await, Err(AgentError::Closed { .. })));
    server.end().await;
}

#[tokio::test]
async fn broken_channel_is_redialled_and_the_machine_continues() {
    let host = TestHost::new();
    let server = host.open(PlainProcess::sleeping()).await;
    let id = new_id();
    let agent = host.ready_agent(&id);
    let mut state = server.machines.start(id.clone()).unwrap();
    for _ in 0..10 {
        let State::Ready { channels } = until(&mut state, ready).await else { panic!() };
        channels.agent.agent_info().await.unwrap();
        agent.break_channel();
        channels.agent.wait_closed().await;
        until(&mut state, |state| !state.channels().is_some_and(|channels| channels.agent.is_closed())).await;
    }
    until(&mut state, ready).await;
    server.stop_machine_and_end(&id, &mut state).await;
}

#[tokio::test]
async fn machine_that_breaks_http2_again_and_again_is_stopped_and_the_violation_is_named() {
    let host = TestHost::new();
    let server = host.open(PlainProcess::sleeping()).await;
    let id = new_id();
    let dir = host.run_dir(&id);
    let mut state = server.machines.start(id).unwrap();
    until(&mut state, |state| matches!(state, State::Waiting { .. })).await;
    let listener = UnixListener::bind(dir.join(CONTROLLER_SERVER_SOCKET)).unwrap();
    let hostile = tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            if resync(&mut stream).await {
                stream.write_all(&[b'x'; 64]).await.unwrap();
                let _ = stream.read_to_end(&mut Vec::new()).await;
            }
        }
    });
    let (reason, receipt) = until_removed_with_receipt(&mut state).await;
    hostile.abort();
    let text = reason.to_string();
    assert!(text.contains("anteroom.controller") && text.contains("it broke HTTP/2"), "{text}");
    assert_eq!(receipt.exit_reason(), reason, "the receipt has the violation");
    server.end().await;
}

#[tokio::test]
async fn other_protocol_is_a_mismatch() {
    let host = TestHost::new();
    let server = host.open(PlainProcess::sleeping()).await;
    let id = new_id();
    let mut other = hello(&[]);
    other.protocol += 1;
    let _agent = host.agent(&id, other);
    let mut state = server.machines.start(id).unwrap();
    let State::Removed { reason, .. } = until_removed(&mut state).await else { panic!() };
    assert!(matches!(reason, ExitReason::Mismatch { .. }), "{reason:?}");
    server.end().await;
}
