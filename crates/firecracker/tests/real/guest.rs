//! The guest's two channels: the resync of `crates/wire/src/channel.rs`, then HTTP/2.

use crate::process::{Process, Programs, Template};
use anteroom_wire::channel::{PADDING_BYTES, format_echo_line, format_go_line, format_nonce_line};
use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
};

const AGENT_SERVER_PORT: u32 = 1024;
const CONTROLLER_SERVER_PORT: u32 = 1025;
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PING: u8 = 6;

fn read(stream: &mut UnixStream, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    stream.read_exact(&mut bytes).unwrap();
    bytes
}

fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags, 0, 0, 0, stream], payload].concat()
}

/// Type and payload of the next frame.
fn read_frame(stream: &mut UnixStream) -> (u8, Vec<u8>) {
    let head = read(stream, 9);
    let length = usize::from(head[1]) << 8 | usize::from(head[2]);
    (head[3], read(stream, length))
}

fn nonce(digit: char) -> String {
    std::iter::repeat_n(digit, 32).collect()
}

/// Sends a nonce; returns when it is echoed.
fn resync(stream: &mut UnixStream, hex: &str) {
    stream.write_all(format_nonce_line(hex).as_bytes()).unwrap();
    let echo = format_echo_line(hex);
    let mut tail = read(stream, echo.len());
    while tail != echo.as_bytes() {
        tail.remove(0);
        tail.extend(read(stream, 1));
    }
    stream.write_all(format_go_line(hex).as_bytes()).unwrap();
}

/// Begins HTTP/2 as a client and asks for the agent's information.
fn agent_info(stream: &mut UnixStream) -> serde_json::Value {
    stream.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &[]), &frame(HEADERS, 5, 1, &[0x82])].concat()).unwrap();
    loop {
        if let (DATA, body) = read_frame(stream) {
            return serde_json::from_slice(&body).unwrap();
        }
    }
}

#[test]
fn guest_answers_hello_and_claim_on_the_agent_channel() {
    let Some(programs) = Programs::find() else { return };
    let process = Process::clone(&programs, &Template::make(&programs));
    let mut stream = process.connect_vsock(AGENT_SERVER_PORT);
    resync(&mut stream, &nonce('a'));
    let info = agent_info(&mut stream);
    assert_eq!(info["protocol"], anteroom_wire::agent::PROTOCOL_VERSION);
    assert_eq!((&info["image_hash"], &info["claimed_by"]), (&"sha256:ab".into(), &serde_json::Value::Null));
    let _: anteroom_wire::agent::AgentInfo = serde_json::from_value(info).unwrap();

    let body = br#"{"entropy":"","claimed_by":{"session":"s","machine":"m","generation":1},"geometry":{}}"#;
    let (first, second) = body.split_at(30);
    let claim = [frame(HEADERS, 4, 3, &[0x83]), frame(DATA, 0, 3, first), frame(DATA, 1, 3, second)].concat();
    stream.write_all(&[claim, frame(PING, 0, 0, b"12345678")].concat()).unwrap();
    let frames: Vec<_> =
        std::iter::repeat_with(|| read_frame(&mut stream)).take_while(|found| found.0 != PING).collect();
    assert!(frames.contains(&(DATA, br#"{"cli_pid":null}"#.to_vec())), "{frames:?}");
    stream.write_all(&frame(HEADERS, 5, 5, &[0x82])).unwrap();
    let (_, body) = std::iter::repeat_with(|| read_frame(&mut stream)).find(|found| found.0 == DATA).unwrap();
    assert_eq!(serde_json::from_slice::<serde_json::Value>(&body).unwrap()["claimed_by"]["machine"], "m");
}

#[test]
fn guest_is_the_client_on_the_controller_channel() {
    let Some(programs) = Programs::find() else { return };
    let process = Process::boot(&programs);
    let mut stream = process.connect_vsock(CONTROLLER_SERVER_PORT);
    resync(&mut stream, &nonce('b'));
    assert_eq!(read(&mut stream, PREFACE.len()), PREFACE);
    assert_eq!(read_frame(&mut stream), (SETTINGS, Vec::new()));
    stream.write_all(&frame(PING, 0, 0, b"12345678")).unwrap();
    assert_eq!(read_frame(&mut stream), (PING, b"12345678".to_vec()));
}

#[test]
fn guest_echoes_a_nonce_in_the_middle_of_a_frame_and_after_padding() {
    let Some(programs) = Programs::find() else { return };
    let process = Process::boot(&programs);
    let mut stream = process.connect_vsock(AGENT_SERVER_PORT);
    resync(&mut stream, &nonce('c'));
    // A frame that announces 16,000 bytes and has none.
    stream.write_all(&[PREFACE, &[0, 0x3e, 0x80, DATA, 0, 0, 0, 0, 1]].concat()).unwrap();
    stream.write_all(&vec![b'\n'; PADDING_BYTES]).unwrap();
    resync(&mut stream, &nonce('d'));
    assert_eq!(agent_info(&mut stream)["image_hash"], "sha256:ab");

    // Another connection is independent of the first.
    let mut other = process.connect_vsock(AGENT_SERVER_PORT);
    resync(&mut other, &nonce('e'));
    assert_eq!(agent_info(&mut other)["image_hash"], "sha256:ab");
}

#[test]
fn guest_echoes_on_a_connect_stream() {
    let Some(programs) = Programs::find() else { return };
    let process = Process::boot(&programs);
    let mut stream = process.connect_vsock(AGENT_SERVER_PORT);
    resync(&mut stream, &nonce('f'));
    // `:method` as a literal with the index 2.
    let connect = frame(HEADERS, 4, 1, b"\x42\x07CONNECT");
    stream.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &[]), &connect, &frame(DATA, 0, 1, b"first")].concat()).unwrap();
    let frames = |stream: &mut UnixStream| {
        std::iter::repeat_with(|| read_frame(stream)).find(|found| matches!(found.0, DATA | HEADERS)).unwrap()
    };
    assert_eq!(frames(&mut stream), (HEADERS, vec![0x88]));
    assert_eq!(frames(&mut stream), (DATA, b"first".to_vec()));
    stream.write_all(&frame(DATA, 0, 1, b"second")).unwrap();
    assert_eq!(frames(&mut stream), (DATA, b"second".to_vec()));
}
