//! Random variations of what viewers, agents and strangers send, over the real sockets: nothing panics, memory is given back, and others are
//! served. Parsers alone are fuzzed much longer (docs/security-tests.md); this is about the code around them.

use crate::{
    fixture::start_idle_session,
    hostile_agent::{HostileAgent, TOKEN, hostile_events},
    raw_http::{RawConnection, head, resident_kib, status},
    s26_kinds_of_callers::RATES,
};
use anteroom_rfb::client_messages::{
    encode_key_event, encode_pointer_event, encode_set_desktop_size, encode_set_encodings, encode_update_request,
};
use anteroom_testbed::{ApiClient, TestServer, WAIT_MAX, eventually};
use anteroom_wire::{
    SessionId,
    agent::EVENTS_PATH,
    api::{SessionStatus, Ticket},
};
use serde_json::{Value, json};

/// Rounds of connections of each kind; many more with `ANTEROOM_TEST_FULL`.
const ROUNDS: usize = 40;
const FRAMES: usize = 60;
/// At least so many WebSockets are opened: what one session gets at once.
const SOCKETS_MIN: usize = 20;
const MEMORY_KIB_MAX: u64 = 64 * 1024;

fn rounds() -> usize {
    if std::env::var("ANTEROOM_TEST_FULL").is_ok_and(|full| !full.is_empty()) { ROUNDS * 20 } else { ROUNDS }
}

/// A generator of variations (xorshift64*), the same in each run.
struct Mutator(u64);

impl Mutator {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32;
        usize::try_from(number).unwrap() % end.max(1)
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }

    /// The bytes with up to four changes; often unchanged.
    fn mutate(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut changed = bytes.to_vec();
        for _ in 0..self.below(5) {
            let at = self.below(changed.len());
            let end = (at + self.below(9)).min(changed.len());
            match self.below(7) {
                0 if at < changed.len() => changed[at] ^= 1 << self.below(8),
                1 if at < changed.len() => changed[at] = *self.pick(&[0, 1, b'\n', b'"', 0x7f, 0x80, 0xfe, 0xff]),
                2 => drop(changed.drain(at..end)),
                3 => drop(changed.splice(at..at, changed[at..end].to_vec())),
                4 => changed[at..end].fill(*self.pick(&[0, 0x80, 0xff])),
                5 => changed.truncate(at),
                _ => {
                    drop(changed.splice(at..at, self.pick(&["\u{202e}", "\\ud800", "%00", "..", "9999999999"]).bytes()))
                }
            }
        }
        changed
    }
}

/// First byte, length in three bytes, mask.
const FRAME_HEAD_BYTES: usize = 8;

/// A WebSocket frame of a client, masked with zeros.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).unwrap();
    let mut bytes = vec![first, 0xfe];
    bytes.extend(length.to_be_bytes());
    bytes.extend([0; 4]);
    bytes.extend_from_slice(payload);
    bytes
}

/// The frames that a viewer sends: binary ones with RFB messages or keys, text, ping, a fragment, close.
fn viewer_frames() -> Vec<Vec<u8>> {
    let messages: Vec<Vec<u8>> = vec![
        encode_key_event(true, 0xff0d).to_vec(),
        encode_pointer_event(10, 10, 1).to_vec(),
        encode_update_request(true, 100, 100),
        encode_set_encodings([7, -223, -1063, -316]),
        encode_set_desktop_size(800, 600),
        b"\x06\0\0\0\0\0\0\x05hello".to_vec(),
        b"\x06\0\0\0\xff\xff\xff\xf8\x10\0\0\x01abcd".to_vec(),
        b"\xf8\0\0\0\x80\0\0\x01\x04abcd".to_vec(),
        b"\xff\0\0\x01\0\0\0\x41\0\0\0\x1e".to_vec(),
        br#"{"type":"resize","cols":100,"rows":30}"#.to_vec(),
    ];
    let binary = messages.iter().map(|message| frame(0x82, message));
    let others = [
        frame(0x81, br#"{"type":"resize","cols":100,"rows":30}"#),
        frame(0x81, "\u{1b}[2J".as_bytes()),
        frame(0x02, b"\x04\x01\0\0"),
        frame(0x80, b"\0\0\0\x61"),
        frame(0x89, b"ping"),
        frame(0x8a, b"pong"),
        frame(0x88, b"\x03\xe8end"),
    ];
    binary.chain(others).collect()
}

/// Opens a viewer's WebSocket on a raw connection; `None`: the server rejected it.
async fn open_viewer(
    server: &TestServer,
    api: &ApiClient,
    id: &SessionId,
    (path, ticket): (&str, Value),
) -> Option<RawConnection> {
    let answer = api.post(&format!("/api/auth/session/{id}/ticket"), ticket).await.unwrap();
    // Tickets of one session have a rate.
    let ticket: Ticket = if answer.status == 429 { return None } else { answer.parse().unwrap() };
    let lines = format!(
        "Origin: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: binary, ticket.{}\r\n",
        server.base_url().unwrap(),
        ticket.ticket
    );
    let request = head(server, &format!("GET /api/auth/session/{id}/{path}"), &lines);
    let mut connection = RawConnection::send_new(server, request).await;
    let answer = connection.read_head().await?;
    (status(&answer) == 101).then_some(connection)
}

/// Requests of a stranger and of a caller.
fn requests(server: &TestServer, id: &SessionId) -> Vec<Vec<u8>> {
    let token = server.operator_token().expose();
    let with_body = |line: &str, lines: &str, body: &str| {
        let lines = format!("Content-Type: application/json\r\nContent-Length: {}\r\n{lines}", body.len());
        head(server, line, &lines) + body
    };
    let bearer = format!("Authorization: Bearer {token}\r\n");
    let start = r#"{"provider":"scripted","user_id":"u","return_url":"https://a.example/x?y#z","idempotency_key":"k"}"#;
    [
        head(server, "GET /", ""),
        head(server, "GET /api/sessions?limit=10&before=5", &bearer),
        head(server, &format!("GET /api/auth/session/{id}/events"), &format!("{bearer}Last-Event-ID: 3\r\n")),
        head(server, &format!("GET /api/auth/session/{id}/timeline?after=1"), &bearer),
        head(server, "GET /api/audit?after=1&limit=5&action=session.&order=newest", &bearer),
        head(server, "GET /metrics", "X-Forwarded-For: 1.2.3.4, 5.6.7.8\r\nForwarded: for=\"[::1]:5\";by=x\r\n"),
        head(server, "GET /api/me", "Cookie: anteroom=abc; anteroom_session=\"x\"; a\r\nX-Anteroom: 00ff\r\n"),
        with_body("POST /api/login", "", r#"{"login_token":"t","browser_key":"00"}"#),
        with_body("POST /api/auth/start", &bearer, start).replace("scripted", "unknown"),
        with_body(&format!("POST /api/auth/session/{id}/paste"), &bearer, r#"{"text":"http://localhost:1/cb?code=x"}"#),
        with_body("POST /api/tokens", &bearer, r#"{"name":"","role":"auditor","scopes":["read"],"expires_in_s":5}"#),
        head(server, "POST /api/login", "Transfer-Encoding: chunked\r\n") + "5\r\n{\"a\":\r\n0\r\n\r\n",
    ]
    .map(String::into_bytes)
    .into()
}

fn require_no_panic(server: &TestServer) {
    let log = server.read_log();
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("panicked")).collect();
    assert!(lines.is_empty(), "{lines:#?}");
}

#[tokio::test]
async fn mutated_frames_and_requests_of_viewers_and_strangers_panic_nothing_and_leave_no_memory_behind() {
    let (_flags, server, api, id) = start_idle_session(RATES).await;
    api.wait_status(&id, SessionStatus::VmStarted).await.unwrap();
    let before = resident_kib(&server);
    let (mut random, mut opened) = (Mutator(0x5eed), 0);
    let (frames, requests) = (viewer_frames(), requests(&server, &id));
    let kinds = [
        ("novnc/websock", json!({ "purpose": "desktop" })),
        ("novnc/websock", json!({ "purpose": "desktop", "view_only": true })),
        ("terminal", json!({ "purpose": "terminal" })),
    ];
    for round in 0..rounds() {
        for (path, ticket) in &kinds {
            let Some(mut viewer) = open_viewer(&server, &api, &id, (path, ticket.clone())).await else { continue };
            opened += 1;
            if round % 8 != 0 && *path == "novnc/websock" {
                viewer.send(frame(0x82, b"RFB 003.008\n\x01\x01")).await;
            }
            // In every second connection only the payloads change, so that it stays open for longer.
            for _ in 0..FRAMES {
                let whole = random.pick(&frames).clone();
                let changed = match round % 2 {
                    0 => random.mutate(&whole),
                    _ => frame(whole[0], &random.mutate(&whole[FRAME_HEAD_BYTES..])),
                };
                viewer.send(changed).await;
            }
        }
        for request in &requests {
            RawConnection::send_new(&server, random.mutate(request)).await;
        }
    }
    assert!(opened >= SOCKETS_MIN, "only {opened} WebSockets were opened");
    api.wait_status(&id, SessionStatus::VmStarted).await.unwrap();
    let after = resident_kib(&server);
    assert!(after < before + MEMORY_KIB_MAX, "the server's memory grew from {before} to {after} KiB");
    let desktop = async || Ok(api.connect_desktop(&id).await.ok());
    let mut desktop = eventually("the rate permits another ticket", WAIT_MAX, desktop).await.unwrap();
    desktop.request_full_frame().await.unwrap();
    require_no_panic(&server);
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn mutated_bodies_of_an_agent_panic_nothing_and_are_client_errors() {
    let (agent, id) = HostileAgent::start(RATES).await;
    let server = &agent.server;
    let before = resident_kib(server);
    let number = |(number, event): (usize, Value)| {
        let mut event = event;
        (event["number"], event["at_unix_ms"]) = ((number + 1).into(), 1.into());
        serde_json::to_vec(&json!({ "events": [event] })).unwrap()
    };
    let batches: Vec<Vec<u8>> = hostile_events().into_iter().enumerate().map(number).collect();
    let file = json!({ "path": ".scripted/auth.json", "mode": 384, "content": "e30=" });
    let delivery = json!({ "session": id, "generation": 1, "provider": "scripted", "files": [file] });
    let delivery = serde_json::to_vec(&delivery).unwrap();
    let mut random = Mutator(0xa9e7);
    for _ in 0..rounds() * 10 {
        let batch = random.pick(&batches).clone();
        for (path, body) in [(EVENTS_PATH, &batch), ("/api/auth/credentials/store", &delivery)] {
            let body = random.mutate(body);
            let lines = format!(
                "Authorization: Bearer {TOKEN}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n",
                body.len()
            );
            let request = [head(server, &format!("POST {path}"), &lines).as_bytes(), &body].concat();
            let (code, answer) = RawConnection::send_new(server, request).await.read_response().await.unwrap();
            assert!(code < 500, "{code} {answer} for {:?}", String::from_utf8_lossy(&body));
        }
    }
    let after = resident_kib(server);
    assert!(after < before + MEMORY_KIB_MAX, "the server's memory grew from {before} to {after} KiB");
    require_no_panic(server);
    agent.end().await;
}
