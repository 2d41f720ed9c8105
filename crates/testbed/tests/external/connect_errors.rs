//! Servers that are no desktops, and machines that cannot be used. Each fault is reported within its time limit.

use crate::{Fixture, closing, connect_error, request_session, start, verdict};
use anteroom_rfb::client::ViewerConnectError;
use anteroom_testbed::{ApiClient, TestServer, WAIT_MAX, eventually};
use anteroom_wire::{SessionId, api::SessionStatus};
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

/// A TCP server that sends a fixed text and keeps its connections open.
struct FakeServer {
    at: SocketAddr,
    accepted: Arc<AtomicUsize>,
}

impl FakeServer {
    /// Sends `text` on each connection, optionally after it has read a request.
    async fn start(reads_first: bool, text: &'static [u8]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let accepted = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&accepted);
        tokio::spawn(async move {
            let mut open = Vec::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                count.fetch_add(1, SeqCst);
                if reads_first {
                    let _ = stream.read(&mut [0; 4096]).await;
                }
                let _ = stream.write_all(text).await;
                open.push(stream);
            }
        });
        Self { at, accepted }
    }

    fn accepted(&self) -> usize {
        self.accepted.load(SeqCst)
    }
}

/// Starts a server whose machine `desk` has this address, and a session on it.
async fn start_session(fixture: &Fixture, desktop: &str) -> (TestServer, ApiClient, SessionId) {
    let server = fixture.start_server(desktop, "").await;
    let api = server.backend_client().unwrap();
    let id = start(&api).await.session.id;
    api.wait_status(&id, SessionStatus::VmStarted).await.unwrap();
    (server, api, id)
}

/// The problem that viewers of a desktop at this address receive, which is also its diagnosis, and the data of its timeline entry.
async fn problem_for(desktop: &str) -> (String, serde_json::Value) {
    let fixture = Fixture::new();
    let (server, api, id) = start_session(&fixture, desktop).await;
    let (problem, data) = connect_error(&api, &id).await;
    let (verdict, text) = verdict(&api, &id).await;
    assert_eq!(verdict, problem, "the diagnosis has the same cause");
    assert!(text.contains("external machine desk"), "{text}");
    let port = desktop.rsplit(':').next().unwrap().trim_end_matches('/').to_owned();
    assert!(
        !api.recorded_responses().iter().any(|body| body.contains(&format!(":{port}"))),
        "a response contains the address"
    );
    server.stop_and_check_leaks().await.unwrap();
    (problem, data)
}

#[tokio::test]
async fn silent_desktop_is_reported_within_greeting_timeout() {
    let fake = FakeServer::start(false, b"").await;
    for scheme in ["vnc", "ws"] {
        let (problem, data) = problem_for(&format!("{scheme}://{}", fake.at)).await;
        assert_eq!(problem, "external_silent");
        let after_ms = data["after_ms"].as_u64().unwrap();
        println!("a silent desktop ({scheme}) was reported after {after_ms} ms of 700");
        assert!((700..3_000).contains(&after_ms), "{data}");
    }
}

#[tokio::test]
async fn other_protocols_are_reported_as_wrong_protocol_with_http_status() {
    let web = FakeServer::start(true, b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n").await;
    let (problem, data) = problem_for(&format!("ws://{}/", web.at)).await;
    assert_eq!(problem, "external_wrong_protocol");
    assert!(data["detail"].as_str().unwrap().contains("HTTP status 404"), "{data}");
    let mail = FakeServer::start(false, b"220 mail.internal.example ESMTP\r\n").await;
    let (problem, data) = problem_for(&format!("vnc://{}", mail.at)).await;
    assert_eq!(problem, "external_wrong_protocol");
    assert!(!data.to_string().contains("mail.internal"), "the greeting may contain host names: {data}");
}

#[tokio::test]
async fn full_accept_queue_is_reported_as_connect_timeout() {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let at = listener.local_addr().unwrap();
    let mut open = Vec::new();
    while let Ok(Ok(stream)) = timeout(Duration::from_millis(300), TcpStream::connect(at)).await {
        open.push(stream);
    }
    let (problem, data) = problem_for(&format!("vnc://{at}")).await;
    assert_eq!(problem, "external_timeout");
    let after_ms = data["after_ms"].as_u64().unwrap();
    println!("a full accept queue was reported after {after_ms} ms of 900");
    assert!((900..3_000).contains(&after_ms), "{data}");
}

#[tokio::test]
async fn ended_session_opens_no_connection() {
    let fake = FakeServer::start(false, b"RFB 003.008\n").await;
    let fixture = Fixture::new();
    let (server, api, id) = start_session(&fixture, &format!("vnc://{}", fake.at)).await;
    assert_eq!(fake.accepted(), 0, "no viewer, no connection");
    let [one, two] =
        [api.create_ticket(&id, "desktop").await.unwrap(), api.create_ticket(&id, "desktop").await.unwrap()];
    api.cancel_session(&id).await.unwrap();
    let path = format!("/api/auth/session/{id}/novnc/websock");
    let offered = |ticket: &str| format!("binary, ticket.{ticket}");
    let (code, reason) = closing(&mut api.open_websocket(&path, &offered(&one.ticket), true).await.unwrap()).await;
    assert_eq!(code, 4410, "{reason}");
    match api.open_websocket(&path, &offered(&two.ticket), false).await {
        Err(ViewerConnectError::Rejected { status, body }) => assert_eq!(status, 410, "{body}"),
        other => panic!("{other:?}"),
    }
    let third = api.post(&format!("/api/auth/session/{id}/ticket"), serde_json::json!({ "purpose": "desktop" })).await;
    assert_eq!(third.unwrap().status, 410);
    assert_eq!(verdict(&api, &id).await.0, "cancelled");
    server.stop_and_check_leaks().await.unwrap();
    assert_eq!(fake.accepted(), 0, "no connection attempt");
}

#[tokio::test]
async fn session_that_ends_during_connect_closes_with_its_end_reason() {
    let fake = FakeServer::start(false, b"").await;
    let fixture = Fixture::new();
    let settings = "[sessions]\nsocket_wait_ms_max = 60000\n";
    let machine = fixture.machine("slow", &format!("vnc://{}", fake.at), "another-token-of-an-agent");
    let machine = machine.replace("greeting_ms_max = 700", "greeting_ms_max = 50000");
    let server = fixture.start_server("vnc://127.0.0.1:1", &format!("{settings}{machine}")).await;
    let api = server.backend_client().unwrap();
    let id = api.start_session_with(&crate::request("slow")).await.unwrap().session.id;
    let mut viewer = api.open_desktop_socket(&id).await.unwrap();
    let accepted = async || Ok((fake.accepted() > 0).then_some(()));
    eventually("the server connects to the desktop", WAIT_MAX, accepted).await.unwrap();
    api.cancel_session(&id).await.unwrap();
    assert_eq!(closing(&mut viewer).await.0, 4410);
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn external_machine_serves_one_session_and_unknown_names_are_rejected() {
    let fixture = Fixture::new();
    let (server, api, id) = start_session(&fixture, "vnc://127.0.0.1:1").await;
    let other = server.other_backend_client().unwrap();
    let in_use = request_session(&other, "desk").await;
    assert_eq!(in_use.status, 409);
    assert_eq!(in_use.problem().unwrap().code, "machine_in_use");
    assert!(!in_use.text.contains(id.as_str()), "the other owner's session is not named: {}", in_use.text);
    let unknown = request_session(&other, "nowhere").await;
    assert_eq!((unknown.status, unknown.problem().unwrap().code.as_str()), (404, "unknown_machine"));
    // The tool is not in this host's image. An external machine does not need it there.
    api.cancel_session(&id).await.unwrap();
    assert_eq!(request_session(&other, "desk").await.status, 202, "the machine is free again");
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn unsupported_operations_of_external_machines_are_rejected() {
    let fixture = Fixture::new();
    let (server, api, id) = start_session(&fixture, "vnc://127.0.0.1:1").await;
    let restart = api.post(&format!("/api/auth/session/{id}/restart"), serde_json::json!({})).await.unwrap();
    assert_eq!(restart.problem().unwrap().code, "external_desktop_only");
    let typed = serde_json::json!({ "text": "x", "enter": false });
    let typed = api.post(&format!("/api/auth/session/{id}/type"), typed).await.unwrap();
    assert_eq!(typed.problem().unwrap().code, "external_desktop_only");
    let (code, reason) = closing(&mut api.open_terminal_socket(&id).await.unwrap()).await;
    assert_eq!(code, 4409);
    assert!(reason.starts_with("external_desktop_only: "), "{reason}");
    assert_eq!(api.get_session(&id).await.unwrap().status, SessionStatus::VmStarted, "the session continues");
    server.stop_and_check_leaks().await.unwrap();
}
