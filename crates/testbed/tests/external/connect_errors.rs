//! What stands where a desktop should be, each named within its bound.

use crate::{Fixture, ask, closing, connect_error, start, verdict};
use anteroom_controller::rfb::DialError;
use anteroom_testbed::{ApiClient, TestServer};
use anteroom_wire::{SessionId, api::Status};
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
    time::timeout,
};

/// A server that reads once where it shall, says this and keeps the connection.
struct Stand {
    at: SocketAddr,
    accepted: Arc<AtomicUsize>,
}

impl Stand {
    async fn says(reads_first: bool, words: &'static [u8]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let accepted = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&accepted);
        tokio::spawn(async move {
            let mut kept = Vec::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                count.fetch_add(1, SeqCst);
                if reads_first {
                    let _ = stream.read(&mut [0; 4096]).await;
                }
                let _ = stream.write_all(words).await;
                kept.push(stream);
            }
        });
        Self { at, accepted }
    }

    fn accepted(&self) -> usize {
        self.accepted.load(SeqCst)
    }
}

/// A server whose `desk` is at this address, with a session.
async fn world_at(fixture: &Fixture, desktop: &str) -> (TestServer, ApiClient, SessionId) {
    let server = fixture.start_server(desktop, "").await;
    let api = server.backend().unwrap();
    let id = start(&api).await.session.id;
    api.wait_status(&id, Status::VmStarted).await.unwrap();
    (server, api, id)
}

/// The problem that viewers of `desk` at this address are told, how it is diagnosed, and after how long it was known.
async fn told(desktop: &str) -> (String, serde_json::Value) {
    let fixture = Fixture::new();
    let (server, api, id) = world_at(&fixture, desktop).await;
    let (problem, data) = connect_error(&api, &id).await;
    let (verdict, text) = verdict(&api, &id).await;
    assert_eq!(verdict, problem, "the diagnosis gives the same cause");
    assert!(text.contains("external machine desk"), "{text}");
    let port = desktop.rsplit(':').next().unwrap().trim_end_matches('/').to_owned();
    assert!(!api.responses().iter().any(|body| body.contains(&format!(":{port}"))), "an address was told");
    server.finish().await.unwrap();
    (problem, data)
}

#[tokio::test]
async fn silent_desktop_is_reported_within_greeting_timeout() {
    let stand = Stand::says(false, b"").await;
    for scheme in ["vnc", "ws"] {
        let (problem, data) = told(&format!("{scheme}://{}", stand.at)).await;
        assert_eq!(problem, "external_silent");
        let after_ms = data["after_ms"].as_u64().unwrap();
        println!("silence ({scheme}) was named after {after_ms} ms of 700");
        assert!((700..3_000).contains(&after_ms), "{data}");
    }
}

#[tokio::test]
async fn other_protocols_are_reported_as_wrong_protocol_with_http_status() {
    let web = Stand::says(true, b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n").await;
    let (problem, data) = told(&format!("ws://{}/", web.at)).await;
    assert_eq!(problem, "external_wrong_protocol");
    assert!(data["detail"].as_str().unwrap().contains("HTTP status 404"), "{data}");
    let mail = Stand::says(false, b"220 mail.internal.example ESMTP\r\n").await;
    let (problem, data) = told(&format!("vnc://{}", mail.at)).await;
    assert_eq!(problem, "external_wrong_protocol");
    assert!(!data.to_string().contains("mail.internal"), "what it says may name hosts: {data}");
}

#[tokio::test]
async fn full_accept_queue_is_reported_as_connect_timeout() {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let at = listener.local_addr().unwrap();
    let mut kept = Vec::new();
    while let Ok(Ok(stream)) = timeout(Duration::from_millis(300), TcpStream::connect(at)).await {
        kept.push(stream);
    }
    let (problem, data) = told(&format!("vnc://{at}")).await;
    assert_eq!(problem, "external_timeout");
    let after_ms = data["after_ms"].as_u64().unwrap();
    println!("a full backlog was named after {after_ms} ms of 900");
    assert!((900..3_000).contains(&after_ms), "{data}");
}

#[tokio::test]
async fn ended_session_opens_no_connection() {
    let stand = Stand::says(false, b"RFB 003.008\n").await;
    let fixture = Fixture::new();
    let (server, api, id) = world_at(&fixture, &format!("vnc://{}", stand.at)).await;
    assert_eq!(stand.accepted(), 0, "nobody looks, nothing is dialled");
    let [one, two] = [api.ticket(&id, "desktop").await.unwrap(), api.ticket(&id, "desktop").await.unwrap()];
    api.cancel(&id).await.unwrap();
    let path = format!("/api/auth/session/{id}/novnc/websock");
    let offered = |ticket: &str| format!("binary, ticket.{ticket}");
    let (code, reason) = closing(&mut api.open_websocket(&path, &offered(&one.ticket), true).await.unwrap()).await;
    assert_eq!(code, 4410, "{reason}");
    match api.open_websocket(&path, &offered(&two.ticket), false).await {
        Err(DialError::Rejected { status, body }) => assert_eq!(status, 410, "{body}"),
        other => panic!("{other:?}"),
    }
    let third = api.post(&format!("/api/auth/session/{id}/ticket"), serde_json::json!({ "purpose": "desktop" })).await;
    assert_eq!(third.unwrap().status, 410);
    assert_eq!(verdict(&api, &id).await.0, "cancelled");
    server.finish().await.unwrap();
    assert_eq!(stand.accepted(), 0, "no connection attempt");
}

#[tokio::test]
async fn session_that_ends_during_connect_closes_with_its_end_reason() {
    let stand = Stand::says(false, b"").await;
    let fixture = Fixture::new();
    let settings = "[sessions]\nsocket_wait_ms_max = 60000\n";
    let machine = fixture.machine("slow", &format!("vnc://{}", stand.at), "another-token-of-an-agent");
    let machine = machine.replace("greeting_ms_max = 700", "greeting_ms_max = 50000");
    let server = fixture.start_server("vnc://127.0.0.1:1", &format!("{settings}{machine}")).await;
    let api = server.backend().unwrap();
    let id = api.start_with(&crate::request("slow")).await.unwrap().session.id;
    let mut viewer = api.desktop_socket(&id).await.unwrap();
    let until = tokio::time::Instant::now() + anteroom_testbed::WAIT_MAX;
    while stand.accepted() == 0 {
        assert!(tokio::time::Instant::now() < until, "nothing was dialled");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    api.cancel(&id).await.unwrap();
    assert_eq!(closing(&mut viewer).await.0, 4410);
    server.finish().await.unwrap();
}

#[tokio::test]
async fn external_machine_serves_one_session_and_unknown_names_are_rejected() {
    let fixture = Fixture::new();
    let (server, api, id) = world_at(&fixture, "vnc://127.0.0.1:1").await;
    let other = server.other_backend().unwrap();
    let taken = ask(&other, "desk").await;
    assert_eq!(taken.status, 409);
    assert_eq!(taken.problem().unwrap().code, "machine_in_use");
    assert!(!taken.text.contains(id.as_str()), "whose it is remains unsaid: {}", taken.text);
    let unknown = ask(&other, "nowhere").await;
    assert_eq!((unknown.status, unknown.problem().unwrap().code.as_str()), (404, "unknown_machine"));
    // A start of a machine of this host needs the tool here; an external one has its own.
    api.cancel(&id).await.unwrap();
    assert_eq!(ask(&other, "desk").await.status, 202, "it is free again");
    server.finish().await.unwrap();
}

#[tokio::test]
async fn unsupported_operations_of_external_machines_are_rejected() {
    let fixture = Fixture::new();
    let (server, api, id) = world_at(&fixture, "vnc://127.0.0.1:1").await;
    let restart = api.post(&format!("/api/auth/session/{id}/restart"), serde_json::json!({})).await.unwrap();
    assert_eq!(restart.problem().unwrap().code, "external_desktop_only");
    let typed = serde_json::json!({ "text": "x", "enter": false });
    let typed = api.post(&format!("/api/auth/session/{id}/type"), typed).await.unwrap();
    assert_eq!(typed.problem().unwrap().code, "external_desktop_only");
    let (code, reason) = closing(&mut api.terminal(&id).await.unwrap()).await;
    assert_eq!(code, 4409);
    assert!(reason.starts_with("external_desktop_only: "), "{reason}");
    assert_eq!(api.session(&id).await.unwrap().status, Status::VmStarted, "and the session goes on");
    server.finish().await.unwrap();
}
