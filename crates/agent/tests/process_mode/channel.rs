//! Hello, claim, resync, events, and what is left when the agent is killed.

use crate::fixture::*;
use anteroom_wire::{
    SessionId,
    agent::{Claimed, DESKTOP_AUTHORITY, Event, Hello, PROTOCOL, Stage, StageState},
};
use http::StatusCode;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
};

#[tokio::test]
async fn hello_returns_protocol_image_tools_and_stages() {
    let world = World::start().await;
    let mut sender = world.connect().await;
    let ready = until("display and terminal", async || {
        let hello: Hello = get(&mut sender, "/hello").await;
        let up = |stage| hello.stages.iter().any(|report| report.stage == stage && report.state == StageState::Ready);
        (up(Stage::Display) && up(Stage::Terminal)).then_some(hello.clone())
    });
    let hello = ready.await;
    assert_eq!((hello.protocol, hello.image_hash.as_str(), hello.claimed.clone()), (PROTOCOL, "sha256:test", None));
    assert_eq!(hello.clis["demo"], "1.0");
    let stages: Vec<_> = hello.stages.iter().map(|report| report.stage).collect();
    assert_eq!(stages, [Stage::Display, Stage::Terminal, Stage::Cli]);
}

#[tokio::test]
async fn repeated_claim_is_idempotent_and_another_session_is_rejected() {
    let world = World::start().await;
    let mut sender = world.connect().await;
    let claim = world.claim(&mut sender, provider("echo once >> started; cat >/dev/null")).await;
    world.event("the tool started", |event| matches!(event, Event::CliStarted).then_some(())).await;
    let (status, body) = post(&mut sender, "/claim", &claim).await;
    assert_eq!(status, StatusCode::OK);
    assert!(serde_json::from_slice::<Claimed>(&body).unwrap().cli_pid.is_some());
    let mut other = claim.clone();
    other.by.session = SessionId::from_parts(2, [2; 10]);
    let (status, body) = post(&mut sender, "/claim", &other).await;
    assert_eq!((status, problem(&body).code.as_str()), (StatusCode::CONFLICT, "not_owner"));
    let hello: Hello = get(&mut sender, "/hello").await;
    assert_eq!(hello.claimed, Some(claim.by));
    let started = until("the tool's mark", async || std::fs::read_to_string(world.home("started")).ok()).await;
    assert_eq!(started, "once\n");
}

#[tokio::test]
async fn invalid_claim_is_rejected_with_all_its_errors() {
    let world = World::start().await;
    let mut sender = world.connect().await;
    let mut bad = claim(provider(IDLE));
    bad.guest_machine_id = "../../etc".into();
    bad.geometry.width = 1;
    bad.provider.credential.required.clear();
    let (status, body) = post(&mut sender, "/claim", &bad).await;
    let detail = problem(&body).detail.unwrap();
    assert_eq!(status, StatusCode::BAD_REQUEST);
    for fault in ["guest_machine_id", "geometry", "credential.required"] {
        assert!(detail.contains(fault), "{detail}");
    }
    let (status, _) = post(&mut sender, "/claim", &serde_json::json!({ "agent_token": "s3cret" })).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    let hello: Hello = get(&mut sender, "/hello").await;
    assert_eq!(hello.claimed, None);
}

#[tokio::test]
async fn unknown_paths_and_methods_are_rejected() {
    let world = World::start().await;
    let mut sender = world.connect().await;
    for (path, code, status) in [("/nothing", "path_not_found", 404), ("/hello", "method_not_allowed", 405)] {
        let (got, body) = post(&mut sender, path, &()).await;
        assert_eq!((got.as_u16(), problem(&body).code.as_str()), (status, code));
    }
    let (status, body) = whole(connect(&mut sender, "169.254.169.254:80", &[]).await).await;
    assert_eq!((status.as_u16(), problem(&body).code.as_str()), (404, "path_not_found"));
}

/// A virtio port is one stream for all hosts: the next finds half a frame of the one before.
#[tokio::test]
async fn new_controller_on_the_same_stream_resyncs_during_a_transfer() {
    let world = World::start().await;
    let path = world.path("agent.sock");
    let shared = dial(&path).await.into_std().unwrap();
    for round in 1..=5u8 {
        // Between HTTP/2 and the stream stands something that can vanish without a word.
        let (near, far) = tokio::io::duplex(64 * 1024);
        let mut stream = UnixStream::from_std(shared.try_clone().unwrap()).unwrap();
        let pump = tokio::spawn(async move {
            let mut far = far;
            let _ = tokio::io::copy_bidirectional(&mut far, &mut stream).await;
        });
        let mut sender = over(near).await;
        let desktop = hyper::upgrade::on(connect(&mut sender, DESKTOP_AUTHORITY, &[]).await).await.unwrap();
        let (mut read, mut write) = tokio::io::split(TokioIo::new(desktop));
        let pour = tokio::spawn(async move { while write.write_all(&[round; 60_000]).await.is_ok() {} });
        let mut some = vec![0; 500_000];
        read.read_exact(&mut some).await.unwrap();
        // The host dies in mid-frame; the stream stays.
        pump.abort();
        assert!(pump.await.unwrap_err().is_cancelled());
        pour.abort();
        let mut stream = UnixStream::from_std(shared.try_clone().unwrap()).unwrap();
        if round % 2 == 0 {
            stream.write_all(&[b'\n'; anteroom_wire::channel::PAD_BYTES]).await.unwrap();
        }
        resync(&mut stream, &format!("{:032x}", round)).await;
    }
    let mut sender = over(UnixStream::from_std(shared).unwrap()).await;
    let hello: Hello = get(&mut sender, "/hello").await;
    assert_eq!(hello.protocol, PROTOCOL);
}

#[tokio::test]
async fn new_controller_connection_replaces_the_previous_one() {
    let world = World::start().await;
    for _ in 0..5 {
        let mut sender = world.connect().await;
        let desktop = hyper::upgrade::on(connect(&mut sender, DESKTOP_AUTHORITY, &[]).await).await.unwrap();
        let mut desktop = TokioIo::new(desktop);
        desktop.write_all(&[1; 100_000]).await.unwrap();
        // A second host comes while the first still holds its connection.
        let mut next = world.connect().await;
        let hello: Hello = get(&mut next, "/hello").await;
        assert_eq!(hello.protocol, PROTOCOL);
    }
}

#[tokio::test]
async fn events_are_buffered_while_the_controller_is_disconnected() {
    let mut world = World::start_alone();
    let mut sender = world.connect().await;
    world.claim(&mut sender, provider("exit 3")).await;
    until("the tool has ended", async || {
        let state = serde_json::to_value(world.sign_in(&mut sender).await.cli).unwrap();
        (state == serde_json::json!({ "state": "exited", "code": 3 })).then_some(())
    })
    .await;
    world.connect_host().await;
    world.event("the exit", |event| matches!(event, Event::CliExited { code: 3, .. }).then_some(())).await;
    world.disconnect_host();
    world.connect_host().await;
    let numbers: Vec<_> = world.heard.lock().unwrap().events.iter().map(|event| event.number).collect();
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>(), "none missing, none twice");
}

#[tokio::test]
async fn killed_agent_leaves_no_process() {
    let mut world = World::start().await;
    let mut sender = world.connect().await;
    world.claim(&mut sender, provider("trap '' HUP TERM INT; sleep 1000 & sleep 1001")).await;
    world.event("the tool started", |event| matches!(event, Event::CliStarted).then_some(())).await;
    let tree = world.descendants();
    assert!(tree.len() >= 4, "tmux, its client, the pane and the tool: {tree:?}");
    world.agent.kill().unwrap();
    world.agent.wait().unwrap();
    let direct = tree.clone();
    until("all gone", async || direct.iter().all(|&pid| !alive(pid) || is_sleep(pid)).then_some(())).await;
    // What a tool detaches from itself is the tool's own; in a machine it ends with the machine.
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
    let mut world = World::start().await;
    let mut sender = world.connect().await;
    until("the terminal", async || {
        let hello: Hello = get(&mut sender, "/hello").await;
        hello
            .stages
            .iter()
            .any(|report| report.stage == Stage::Terminal && report.state == StageState::Ready)
            .then_some(())
    })
    .await;
    let tree = world.descendants();
    let pid = rustix::process::Pid::from_raw(i32::try_from(world.agent.id()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert!(world.agent.wait().unwrap().success());
    until("its children are gone", async || tree.iter().all(|&pid| !alive(pid)).then_some(())).await;
    let left: Vec<_> =
        std::fs::read_dir(world.path("work")).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert!(left.is_empty(), "{left:?}");
    assert!(!world.path("agent.sock").exists() && !world.path("host.sock").exists());
}
