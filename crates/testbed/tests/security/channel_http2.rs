//! A machine that abuses HTTP/2 on its channels: it is stopped and named, and no other session is affected.

use crate::{
    hostile_machine::{Behaviour, HostileMachine, HostileMachines, SETTINGS, accept, agent_request, post},
    http2_frames::{
        CONTINUATION, DATA, HEADERS, PING, PRIORITY, PUSH_PROMISE, RST_STREAM, WINDOW_UPDATE, frame, head, long_header,
        post_events, preface, repeated, streams,
    },
    raw_http::resident_kib,
};
use anteroom_testbed::{WAIT_MAX, eventually};
use anteroom_wire::{SessionId, agent::EVENTS_PATH, api::SessionStatus, diagnosis::Verdict};
use std::{path::Path, sync::Arc};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream},
    task::JoinHandle,
    time::timeout,
};

/// The most that one session adds to the log and to the database, bytes.
const SESSION_BYTES_MAX: u64 = 1024 * 1024;
/// Memory that the server may keep after all attacks, KiB.
const KEPT_KIB_MAX: u64 = 32 * 1024;

const BROKE: &str = "it broke HTTP/2";
const FRAMES: &str = "HTTP/2 frames without data";
/// Both are true of what the machine sends, and which one ends the connection depends on when the controller requests something.
const EITHER: &str = "violated the protocol of its channel";

/// Whether the peer reads what the server sends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reading {
    All,
    Nothing,
}

/// Bytes that a machine sends on each of its connections.
struct Attack {
    name: &'static str,
    bytes: Vec<u8>,
    reading: Reading,
    /// Part of the violation that the diagnosis names.
    violation: &'static str,
}

fn attack(name: &'static str, bytes: Vec<u8>, violation: &'static str) -> Attack {
    Attack { name, bytes, reading: Reading::All, violation }
}

/// After a client's preface.
fn on_connection(name: &'static str, frames: Vec<u8>, violation: &'static str) -> Attack {
    attack(name, [preface(), frames].concat(), violation)
}

/// Sends the bytes and reads until the controller closes the connection.
async fn send(stream: UnixStream, bytes: &[u8], reading: Reading) {
    let (mut reader, mut writer) = stream.into_split();
    let read = async {
        match reading {
            Reading::All => drop(tokio::io::copy(&mut reader, &mut tokio::io::sink()).await),
            Reading::Nothing => std::future::pending().await,
        }
    };
    let write = async {
        if writer.write_all(bytes).await.is_ok() && reading == Reading::All {
            std::future::pending::<()>().await;
        }
        // The controller reads nothing either until this side does: it is closed by the controller, and then a write fails.
        while writer.write_all(&[0; 1024]).await.is_ok() {}
    };
    tokio::select! {
        () = read => {}
        () = write => {}
    }
}

/// Attacks on every connection.
fn attack_every(listener: UnixListener, bytes: Arc<Vec<u8>>, reading: Reading) -> JoinHandle<()> {
    tokio::spawn(async move {
        loop {
            send(accept(&listener).await, &bytes, reading).await;
        }
    })
}

fn bytes_of(path: &Path) -> u64 {
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    let bytes = |entry: std::fs::DirEntry| entry.metadata().map_or(0, |metadata| metadata.len());
    entries.filter(|entry| !entry.path().is_dir()).map(bytes).sum()
}

/// Bytes of the log and of the database.
fn stored_bytes(machines: &HostileMachines) -> u64 {
    let state = machines.server.state_dir();
    bytes_of(&state.join("log")) + bytes_of(&state) + u64::try_from(machines.server.read_log().len()).unwrap()
}

/// Waits until the session under attack has failed, while others are served.
async fn wait_failed(machines: &HostileMachines, id: &SessionId, attack: &Attack) {
    let failed = async || {
        machines.require_unaffected(attack.name).await;
        Ok((machines.api.get_session(id).await?.status == SessionStatus::Failed).then_some(()))
    };
    let ended = eventually("the session has failed", WAIT_MAX, failed).await;
    ended.unwrap_or_else(|error| panic!("{}: {error:#}", attack.name));
    let found = machines.api.wait_verdict(id, Verdict::ChannelViolation).await.unwrap();
    assert!(found.sentence.contains(attack.violation), "{}: {}", attack.name, found.sentence);
}

/// Runs each attack in a session of its own on the controller channel.
async fn run_attacks(attacks: Vec<Attack>) {
    let machines = HostileMachines::start(SETTINGS).await;
    for attack in &attacks {
        let before = stored_bytes(&machines);
        let (id, machine) = machines.start_claimed(Behaviour::default()).await;
        let attacker = attack_every(machine.controller, Arc::new(attack.bytes.clone()), attack.reading);
        wait_failed(&machines, &id, attack).await;
        attacker.abort();
        machine.agent.abort();
        let stored = stored_bytes(&machines).saturating_sub(before);
        assert!(stored < SESSION_BYTES_MAX, "{}: {stored} bytes of log and database", attack.name);
    }
    require_memory_returned(&machines).await;
    machines.end().await;
}

async fn require_memory_returned(machines: &HostileMachines) {
    let kept = || resident_kib(&machines.server).saturating_sub(machines.rest_kib);
    let returned = async || Ok((kept() < KEPT_KIB_MAX).then_some(()));
    let returned = eventually("the server's memory is as before", WAIT_MAX, returned).await;
    returned.unwrap_or_else(|error| panic!("{} KiB are kept: {error:#}", kept()));
}

#[tokio::test]
async fn channel_floods_of_streams_and_headers_stop_the_machine() {
    let pairs = streams(50_000)
        .flat_map(|stream| [post_events(stream, true), frame(RST_STREAM, 0, stream, &[0, 0, 0, 8])].concat());
    let block = long_header(b"x", 16_000);
    let continued = [frame(HEADERS, 0, 1, b"\x83\x86\x84"), repeated(CONTINUATION, 0, 1, &block, 1_000)].concat();
    let empty = [frame(HEADERS, 0, 1, b"\x83\x86\x84"), repeated(CONTINUATION, 0, 1, b"", 100_000)].concat();
    let start = &b"\x83\x86\x84\x01\x01x"[..];
    // A header of 3 KiB that is indexed, then 12,000 references to it of one byte each.
    let bomb = [start, &[0x40, 1, b'x', 0x7f, 0x81, 0x17], &[b'a'; 3_072], &[0xbe; 12_000]].concat();
    let no_method = streams(2_000).flat_map(|stream| frame(HEADERS, 5, stream, b""));
    run_attacks(vec![
        on_connection("50,000 streams opened and reset", pairs.collect(), BROKE),
        on_connection("CONTINUATION without end", continued, BROKE),
        on_connection("empty CONTINUATION without end", empty, BROKE),
        on_connection("12,000 references to a long header", frame(HEADERS, 5, 1, &bomb), BROKE),
        on_connection("2,000 empty header lists", no_method.collect(), BROKE),
    ])
    .await;
}

#[tokio::test]
async fn channel_floods_of_frames_without_data_stop_the_machine() {
    let held = |frames: Vec<u8>| [post_events(1, false), frames].concat();
    let many = 200_000;
    let pings = [preface(), repeated(PING, 0, 0, b"12345678", many)].concat();
    let unread = Attack { reading: Reading::Nothing, ..attack("200,000 PINGs, answers not read", pings, "") };
    run_attacks(vec![
        on_connection("200,000 SETTINGS", repeated(4, 0, 0, b"", many), FRAMES),
        on_connection("200,000 PINGs", repeated(PING, 0, 0, b"12345678", many), FRAMES),
        on_connection("200,000 PING answers", repeated(PING, 1, 0, b"12345678", many), FRAMES),
        on_connection("200,000 PRIORITY", repeated(PRIORITY, 0, 1, b"\0\0\0\0\x10", many), FRAMES),
        on_connection("200,000 frames of unknown types", repeated(0xfa, 0xff, 0, b"x", many), FRAMES),
        on_connection("200,000 WINDOW_UPDATEs", repeated(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1], many), FRAMES),
        on_connection("200,000 empty DATA", held(repeated(DATA, 0, 1, b"", many)), BROKE),
        unread,
    ])
    .await;
}

#[tokio::test]
async fn channel_that_is_not_http2_stops_the_machine() {
    let large = [head(0x00ff_ffff, DATA, 0, 1), vec![b'x'; 100_000]].concat();
    let random = |seed: u64| -> Vec<u8> {
        let mut state = seed;
        let mut next = move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            state.to_be_bytes()[0]
        };
        (0..1 << 20).map(|_| next()).collect()
    };
    let overflow = repeated(WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff], 3);
    run_attacks(vec![
        attack("random bytes", random(1), BROKE),
        on_connection("random bytes after the preface", random(2), ""),
        attack("HTTP/1.1", b"POST /api/agent/events HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(), BROKE),
        attack("half a preface", b"PRI * HTTP/2.0\r\n".to_vec(), "no HTTP/2 preface"),
        on_connection("WINDOW_UPDATE overflow", overflow, BROKE),
        on_connection("a frame of 16 MiB", large, BROKE),
        on_connection("PUSH_PROMISE", frame(PUSH_PROMISE, 4, 1, &[0, 0, 0, 2]), BROKE),
        on_connection("RST_STREAM of an idle stream", frame(RST_STREAM, 0, 9, &[0, 0, 0, 8]), BROKE),
        on_connection("an answer to no SETTINGS", repeated(4, 1, 0, b"", 3), BROKE),
        on_connection("SETTINGS out of range", frame(4, 0, 0, &[0, 5, 0, 0, 0, 1]), BROKE),
    ])
    .await;
}

/// A machine that floods before HTTP/2 begins.
#[tokio::test]
async fn channel_with_bytes_instead_of_an_echo_stops_the_machine() {
    let machines = HostileMachines::start(SETTINGS).await;
    let (id, machine) = machines.start_claimed(Behaviour::default()).await;
    let attacker = tokio::spawn(async move {
        loop {
            let (mut stream, _) = machine.controller.accept().await.unwrap();
            let (mut reader, mut writer) = stream.split();
            let flood = async { while writer.write_all(&[b'\n'; 64 * 1024]).await.is_ok() {} };
            let mut sink = tokio::io::sink();
            tokio::select! {
                () = flood => {}
                _ = tokio::io::copy(&mut reader, &mut sink) => {}
            }
        }
    });
    let flood = attack("bytes without an echo", Vec::new(), "without the echo of a nonce");
    wait_failed(&machines, &id, &flood).await;
    attacker.abort();
    machine.agent.abort();
    require_memory_returned(&machines).await;
    machines.end().await;
}

/// The agent channel, where the server is the client: the same kinds of attacks before its first request is answered.
#[tokio::test]
async fn channel_of_the_agents_answers_is_guarded_as_well() {
    let settings = || frame(4, 0, 0, b"");
    // `:status: 103`, not indexed.
    let early = |count| repeated(HEADERS, 4, 1, b"\x08\x03103", count);
    let block = long_header(b"x", 16_000);
    let continued = [frame(HEADERS, 0, 1, b"\x88"), repeated(CONTINUATION, 0, 1, &block, 1_000)].concat();
    let machines = HostileMachines::start(SETTINGS).await;
    for (name, frames, violation) in [
        ("interim answers without end", early(200_000), EITHER),
        ("CONTINUATION without end", continued, BROKE),
        ("200,000 PINGs", repeated(PING, 0, 0, b"12345678", 200_000), FRAMES),
        ("PUSH_PROMISE", frame(PUSH_PROMISE, 4, 1, &[0, 0, 0, 2]), BROKE),
        ("DATA beyond every window", repeated(DATA, 0, 1, &[0; 16_384], 1_000), BROKE),
        ("an answer to no request", frame(HEADERS, 5, 9, b"\x88"), BROKE),
    ] {
        let (id, HostileMachine { agent, controller, .. }) = machines.start_session().await;
        let attacker = attack_every(agent, Arc::new([settings(), frames].concat()), Reading::All);
        wait_failed(&machines, &id, &attack(name, Vec::new(), violation)).await;
        attacker.abort();
        drop(controller);
    }
    require_memory_returned(&machines).await;
    machines.end().await;
}

/// Sends the bytes, then waits for the answer to a PING, which comes after they were processed.
async fn send_and_wait(name: &str, stream: &mut UnixStream, bytes: &[u8]) {
    let ping = *b"the end.";
    let (mut reader, mut writer) = stream.split();
    let answered = async {
        let mut received = Vec::new();
        while !received.windows(ping.len()).any(|window| window == ping) {
            let count = reader.read_buf(&mut received).await.unwrap();
            assert!(count > 0, "{name}: the controller closed the connection");
        }
    };
    let sent = async {
        writer.write_all(bytes).await.unwrap();
        writer.write_all(&frame(PING, 0, 0, &ping)).await.unwrap();
    };
    timeout(WAIT_MAX, async { tokio::join!(answered, sent) }).await.expect("the controller answers");
}

#[tokio::test]
async fn channel_attacks_within_http2_cost_bounded_memory_and_the_session_goes_on() {
    let start = &b"\x83\x86\x84\x01\x01x"[..];
    let half = |stream| [post_events(stream, false), repeated(DATA, 0, stream, &[b'x'; 16_000], 4)].concat();
    let values =
        [[0, 1, 0xff, 0xff, 0xff, 0xff], [0, 4, 0x7f, 0xff, 0xff, 0xff], [0, 3, 0, 0, 0, 0], [0, 6, 0, 0, 0, 0]];
    let connects = |stream| frame(HEADERS, 4, stream, b"\x02\x07CONNECT\x01\x09x.test:80");
    let machines = HostileMachines::start(SETTINGS).await;
    let (id, machine) = machines.start_claimed(Behaviour::default()).await;
    for (name, bytes) in [
        ("a header of 60 KiB", frame(HEADERS, 5, 1, &[start, &long_header(b"x", 60_000)].concat())),
        ("15 bodies that were begun", streams(15).flat_map(half).collect()),
        ("settings with the largest values", frame(4, 0, 0, &values.concat())),
        ("15 connections to a host that is not granted", streams(15).flat_map(connects).collect()),
        ("more streams than there may be", streams(100).flat_map(|stream| post_events(stream, false)).collect()),
        ("500 frames of unknown types", repeated(0xfa, 0xff, 0, &[b'x'; 1_000], 500)),
    ] {
        let mut stream = accept(&machine.controller).await;
        // The windows of the controller are open when it has answered.
        send_and_wait("the preface", &mut stream, &preface()).await;
        send_and_wait(name, &mut stream, &bytes).await;
        machines.require_unaffected(name).await;
        drop(stream);
        let stream = accept(&machine.controller).await;
        let event = r#"{"events":[{"number":1,"at_unix_ms":1,"kind":"cli_started"}]}"#;
        let request = agent_request(EVENTS_PATH, machine.claim.agent_token.expose(), event);
        assert_eq!(post(stream, vec![request]).await, [204], "{name}");
    }
    // A byte of a frame from time to time.
    let mut stream = accept(&machine.controller).await;
    send_and_wait("the preface", &mut stream, &preface()).await;
    for byte in head(100, DATA, 0, 1) {
        stream.write_all(&[byte]).await.unwrap();
        machines.require_unaffected("a byte from time to time").await;
    }
    assert_eq!(machines.api.get_session(&id).await.unwrap().generation, 1);
    machine.agent.abort();
    require_memory_returned(&machines).await;
    machines.end().await;
}
