//! Hello, claim, resync, events, and the cleanup after the agent ends.

use crate::fixture::*;
use anteroom_wire::{
    SessionId,
    agent::{AgentEvent, AgentInfo, ClaimResult, DESKTOP_AUTHORITY, PROTOCOL_VERSION, Stage, StageState, ToolEvent},
};
use http::StatusCode;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
};

#[tokio::test]
async fn hello_returns_protocol_image_tools_and_stages() {
    let fixture = AgentFixture::start().await;
    let mut sender = fixture.connect().await;
    let ready = eventually("display and terminal are ready", async || {
        let hello: AgentInfo = get(&mut sender, "/hello").await;
        let up = |stage| hello.stages.iter().any(|report| report.stage == stage && report.state == StageState::Ready);
        (up(Stage::Display) && up(Stage::Terminal)).then_some(hello.clone())
    });
    let hello = ready.await;
    assert_eq!(
        (hello.protocol, hello.image_hash.as_str(), hello.claimed_by.clone()),
        (PROTOCOL_VERSION, "sha256:test", None)
    );
    assert_eq!(hello.clis["demo"], "1.0");
    let stages: Vec<_> = hello.stages.iter().map(|report| report.stage).collect();
    assert_eq!(stages, [Stage::Display, Stage::Terminal, Stage::Cli]);
}

#[tokio::test]
async fn repeated_claim_is_idempotent_and_another_session_is_rejected() {
    let fixture = AgentFixture::start().await;
    let mut sender = fixture.connect().await;
    let claim = fixture.claim(&mut sender, provider("echo once >> started; cat >/dev/null")).await;
    fixture
        .wait_event("the tool started", |event| matches!(event, AgentEvent::Tool(ToolEvent::Started)).then_some(()))
        .await;
    let (status, body) = post(&mut sender, "/claim", &claim).await;
    assert_eq!(status, StatusCode::OK);
    assert!(serde_json::from_slice::<ClaimResult>(&body).unwrap().cli_pid.is_some());
    let mut other = claim.clone();
    other.claimed_by.session = SessionId::from_parts(2, [2; 10]);
    let (status, body) = post(&mut sender, "/claim", &other).await;
    assert_eq!((status, problem(&body).code.as_str()), (StatusCode::CONFLICT, "not_owner"));
    let hello: AgentInfo = get(&mut sender, "/hello").await;
    assert_eq!(hello.claimed_by, Some(claim.claimed_by));
    let started =
        eventually("file written by the tool", async || std::fs::read_to_string(fixture.home("started")).ok()).await;
    assert_eq!(started, "once\n");
}

#[tokio::test]
async fn invalid_claim_is_rejected_with_all_its_errors() {
    let fixture = AgentFixture::start().await;
    let mut sender = fixture.connect().await;
    let mut invalid = claim(provider(IDLE));
    invalid.guest_machine_id = "../../etc".into();
    invalid.geometry.width = 1;
    invalid.provider.credential.required.clear();
    let (status, body) = post(&mut sender, "/claim", &invalid).await;
    let detail = problem(&body).detail.unwrap();
    assert_eq!(status, StatusCode::BAD_REQUEST);
    for field in ["guest_machine_id", "geometry", "credential.required"] {
        assert!(detail.contains(field), "{detail}");
    }
    let (status, _) = post(&mut sender, "/claim", &serde_json::json!({ "agent_token": "s3cret" })).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    let hello: AgentInfo = get(&mut sender, "/hello").await;
    assert_eq!(hello.claimed_by, None);
}

#[tokio::test]
async fn unknown_paths_and_methods_are_rejected() {
    let fixture = AgentFixture::start().await;
    let mut sender = fixture.connect().await;
    for (path, code, status) in [("/nothing", "path_not_found", 404), ("/hello", "method_not_allowed", 405)] {
        let (got, body) = post(&mut sender, path, &()).await;
        assert_eq!((got.as_u16(), problem(&body).code.as_str()), (status, code));
    }
    let (status, body) = collect(http_connect(&mut sender, "169.254.169.254:80", &[]).await).await;
    assert_eq!((status.as_u16(), problem(&body).code.as_str()), (404, "path_not_found"));
}

/// A virtio port is one stream for all controllers: the next one finds a partial frame of the previous one.
#[tokio::test]
async fn new_controller_on_the_same_stream_resyncs_during_a_transfer() {
    let fixture = AgentFixture::start().await;
    let path = fixture.path("agent.sock");
    let shared = open_channel(&path).await.into_std().unwrap();
    for round in 1..=5u8 {
        // A pump between HTTP/2 and the stream can be aborted without a close.
        let (near, far) = tokio::io::duplex(64 * 1024);
        let mut stream = UnixStream::from_std(shared.try_clone().unwrap()).unwrap();
        let pump = tokio::spawn(async move {
            let mut far = far;
            let _ = tokio::io::copy_bidirectional(&mut far, &mut stream).await;
        });
        let mut sender = http_client(near).await;
        let desktop = hyper::upgrade::on(http_connect(&mut sender, DESKTOP_AUTHORITY, &[]).await).await.unwrap();
        let (mut read, mut write) = tokio::io::split(TokioIo::new(desktop));
        let writer = tokio::spawn(async move { while write.write_all(&[round; 60_000]).await.is_ok() {} });
        let mut received = vec![0; 500_000];
        read.read_exact(&mut received).await.unwrap();
        // The controller ends within a frame; the stream stays open.
        pump.abort();
        assert!(pump.await.unwrap_err().is_cancelled());
        writer.abort();
        let mut stream = UnixStream::from_std(shared.try_clone().unwrap()).unwrap();
        if round % 2 == 0 {
            stream.write_all(&[b'\n'; anteroom_wire::channel::PADDING_BYTES]).await.unwrap();
        }
        resync(&mut stream, &format!("{:032x}", round)).await;
    }
    let mut sender = http_client(UnixStream::from_std(shared).unwrap()).await;
    let hello: AgentInfo = get(&mut sender, "/hello").await;
    assert_eq!(hello.protocol, PROTOCOL_VERSION);
}

#[tokio::test]
async fn new_controller_connection_replaces_the_previous_one() {
    let fixture = AgentFixture::start().await;
    for _ in 0..5 {
        let mut sender = fixture.connect().await;
        let desktop = hyper::upgrade::on(http_connect(&mut sender, DESKTOP_AUTHORITY, &[]).await).await.unwrap();
        let mut desktop = TokioIo::new(desktop);
        desktop.write_all(&[1; 100_000]).await.unwrap();
        // A second controller connects while the first still holds its connection.
        let mut next = fixture.connect().await;
        let hello: AgentInfo = get(&mut next, "/hello").await;
        assert_eq!(hello.protocol, PROTOCOL_VERSION);
    }
}

#[tokio::test]
async fn events_are_buffered_while_the_controller_is_disconnected() {
    let mut fixture = AgentFixture::start_unconnected();
    let mut sender = fixture.connect().await;
    fixture.claim(&mut sender, provider("exit 3")).await;
    eventually("tool exited", async || {
        let state = serde_json::to_value(fixture.sign_in(&mut sender).await.cli).unwrap();
        (state == serde_json::json!({ "state": "exited", "code": 3 })).then_some(())
    })
    .await;
    fixture.connect_controller().await;
    fixture
        .wait_event("tool exit", |event| {
            matches!(event, AgentEvent::Tool(ToolEvent::Exited { code: 3, .. })).then_some(())
        })
        .await;
    fixture.disconnect_controller();
    fixture.connect_controller().await;
    let numbers: Vec<_> = fixture.controller.lock().unwrap().events.iter().map(|event| event.number).collect();
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>(), "no event is missing or repeated");
}

#[tokio::test]
async fn killed_agent_leaves_no_process() {
    let mut fixture = AgentFixture::start().await;
    let mut sender = fixture.connect().await;
    fixture.claim(&mut sender, provider("trap '' HUP TERM INT; sleep 1000 & sleep 1001")).await;
    fixture
        .wait_event("the tool started", |event| matches!(event, AgentEvent::Tool(ToolEvent::Started)).then_some(()))
        .await;
    let tree = fixture.descendants();
    assert!(tree.len() >= 4, "tmux, its client, the pane and the tool: {tree:?}");
    fixture.agent.kill().unwrap();
    fixture.agent.wait().unwrap();
    let direct = tree.clone();
    eventually("all processes ended", async || direct.iter().all(|&pid| !is_alive(pid) || is_sleep(pid)).then_some(()))
        .await;
    // The agent does not kill detached descendants of the tool; in a machine they end with the machine.
    for pid in tree.into_iter().filter(|&pid| is_sleep(pid)) {
        let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
}

fn is_sleep(pid: u32) -> bool {
    std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.starts_with(b"sleep\x00100"))
}

#[tokio::test]
async fn terminated_agent_removes_its_files_and_processes() {
    let mut fixture = AgentFixture::start().await;
    let mut sender = fixture.connect().await;
    eventually("terminal ready", async || {
        let hello: AgentInfo = get(&mut sender, "/hello").await;
        hello
            .stages
            .iter()
            .any(|report| report.stage == Stage::Terminal && report.state == StageState::Ready)
            .then_some(())
    })
    .await;
    let tree = fixture.descendants();
    let pid = rustix::process::Pid::from_raw(i32::try_from(fixture.agent.id()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert!(fixture.agent.wait().unwrap().success());
    eventually("its children ended", async || tree.iter().all(|&pid| !is_alive(pid)).then_some(())).await;
    let left: Vec<_> =
        std::fs::read_dir(fixture.path("work")).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert!(left.is_empty(), "{left:?}");
    assert!(!fixture.path("agent.sock").exists() && !fixture.path("controller.sock").exists());
}
