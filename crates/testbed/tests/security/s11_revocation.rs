//! Revocation and expiry of a caller close everything that hangs on it.

use crate::{
    fixture::{Flags, start_idle},
    s26_kinds_of_callers::{open_store, store_caller},
};
use anteroom_controller::unix_time;
use anteroom_rfb::client::{ViewerConnectError, ViewerSocket};
use anteroom_store::{Rotation, Sha256Hex};
use anteroom_testbed::{ApiClient, Script, ScriptedProvider, Step, TestConfig, TestServer, WAIT_MAX};
use anteroom_wire::{
    CallerId, Secret, SessionId, TimelineKind,
    api::{SessionStatus, StartResponse},
    api_tokens::CreatedToken,
};
use futures_util::StreamExt;
use reqwest::Client;
use serde_json::json;
use std::time::{Duration, Instant};
use tokio::{io::AsyncReadExt, time::timeout};

/// Redeems a login link and returns its cookie as `name=value`.
pub(crate) async fn redeem(server: &TestServer, link: &str) -> String {
    let login_token = link.split("login_token=").nth(1).unwrap();
    let url = format!("http://{}/api/login", server.address().unwrap());
    let body = json!({ "login_token": login_token, "browser_key": "5a".repeat(32) }).to_string();
    let client = Client::builder().no_proxy().build().unwrap();
    let response = client.post(url).header("content-type", "application/json").body(body).send().await.unwrap();
    assert_eq!(response.status(), 204);
    let cookie = response.headers()["set-cookie"].to_str().unwrap();
    cookie.split(';').next().unwrap().to_owned()
}

/// The status of a request with this cookie.
pub(crate) async fn get_with_cookie(server: &TestServer, path: &str, cookie: &str) -> u16 {
    let url = format!("http://{}{path}", server.address().unwrap());
    let client = Client::builder().no_proxy().build().unwrap();
    client
        .get(url)
        .header("cookie", cookie)
        .header("x-anteroom", "5a".repeat(32))
        .send()
        .await
        .unwrap()
        .status()
        .as_u16()
}

/// Open connections of a caller.
struct Connections {
    sockets: Vec<ViewerSocket>,
    event_streams: Vec<tokio::task::JoinHandle<String>>,
}

impl Connections {
    /// A desktop, a terminal and an event stream of this session.
    async fn open(server: &TestServer, api: &ApiClient, secret: &str, id: &SessionId) -> Self {
        api.wait_status(id, SessionStatus::VmStarted).await.unwrap();
        let mut desktop = api.connect_desktop(id).await.unwrap();
        desktop.request_full_frame().await.unwrap();
        let mut connections = Self { sockets: vec![desktop.into_inner()], event_streams: Vec::new() };
        connections.attach(server, api, secret, id).await;
        connections
    }

    /// A terminal and an event stream of this session, as `anteroom exec` opens them.
    async fn attach(&mut self, server: &TestServer, api: &ApiClient, secret: &str, id: &SessionId) {
        let mut terminal = api.open_terminal_socket(id).await.unwrap();
        terminal.read_u8().await.expect("the terminal is connected");
        self.sockets.push(terminal);
        let url = format!("http://{}/api/auth/session/{id}/events", server.address().unwrap());
        let client = Client::builder().no_proxy().build().unwrap();
        let request = client.get(url).bearer_auth(secret).header("accept", "text/event-stream");
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        self.event_streams.push(tokio::spawn(async move {
            let mut text = String::new();
            let mut chunks = response.bytes_stream();
            while let Some(Ok(chunk)) = chunks.next().await {
                text.push_str(&String::from_utf8_lossy(&chunk));
            }
            text
        }));
    }

    /// Waits until the server has closed all of them with this code and problem, and returns how long that took.
    async fn wait_closed(self, code: u16, problem: &str) -> Duration {
        let began = Instant::now();
        for events in self.event_streams {
            let text = timeout(WAIT_MAX, events).await.expect("the event stream ends").unwrap();
            let last = text.trim_end().rsplit("\n\n").next().unwrap();
            assert!(last.contains("event: closed") && last.contains(&format!("\"code\":\"{problem}\"")), "{last}");
        }
        for mut socket in self.sockets {
            let mut rest = Vec::new();
            timeout(WAIT_MAX, socket.read_to_end(&mut rest)).await.expect("the socket is closed").ok();
            let closing = socket.close_reason().expect("closed with a code");
            assert_eq!((closing.code, closing.reason.split(':').next().unwrap()), (code, problem));
        }
        began.elapsed()
    }
}

async fn create_token(server: &TestServer, request: serde_json::Value) -> (CreatedToken, ApiClient) {
    let operator = server.operator_client().unwrap();
    let created: CreatedToken = operator.post("/api/tokens", request).await.unwrap().parse().unwrap();
    let api = server.client_with_token(&Secret::new(created.secret.clone())).unwrap();
    (created, api)
}

#[tokio::test]
async fn s11_revocation_closes_sockets_streams_cookies_links_and_tickets() {
    let (_flags, server) = start_idle("").await;
    let (token, api) = create_token(&server, json!({ "name": "backend" })).await;
    let started = api.start_session("scripted").await.unwrap();
    let id = started.session.id;
    let unused = api.start_session("scripted").await.unwrap();
    let connections = Connections::open(&server, &api, &token.secret, &id).await;
    let cookie = redeem(&server, &started.viewer_url).await;
    let path = format!("/api/auth/session/{id}");
    assert_eq!(get_with_cookie(&server, &path, &cookie).await, 200);
    let ticket = api.create_ticket(&id, "terminal").await.unwrap().ticket;

    server.run_anteroom(&["token", "revoke", token.token.id.as_str()]).await.unwrap();
    let took = connections.wait_closed(4411, "caller_revoked").await;
    println!("closed {} ms after the command had ended", took.as_millis());

    assert_eq!(api.get("/api/me").await.unwrap().status, 401);
    assert_eq!(get_with_cookie(&server, &path, &cookie).await, 401);
    let offered = format!("binary, ticket.{ticket}");
    let operator = server.operator_client().unwrap();
    let rejected = operator.open_websocket(&format!("{path}/terminal"), &offered, false).await;
    assert!(matches!(rejected, Err(ViewerConnectError::Rejected { status: 401, .. })), "{rejected:?}");
    let login_token = unused.viewer_url.split("login_token=").nth(1).unwrap();
    let late = operator
        .post("/api/login", json!({ "login_token": login_token, "browser_key": "5a".repeat(32) }))
        .await
        .unwrap();
    assert_eq!(late.status, 401, "its link admits no viewer");
    assert!(!operator.get_session(&id).await.unwrap().status.is_ended(), "sessions end only if asked");
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn s11_revocation_closes_the_terminal_and_the_event_stream_of_an_exec() {
    let flags = Flags::new();
    let write = Step::write(ScriptedProvider::CREDENTIAL_PATH, "{\"token\": \"first\"}");
    let providers = [flags.idle_provider(), ScriptedProvider::new("signed_in", Script::new([write]))];
    let server = TestServer::start(TestConfig::with_providers(providers)).await.unwrap();
    let (token, api) = create_token(&server, json!({ "name": "backend" })).await;
    let signed_in = api.start_session("signed_in").await.unwrap().session.id;
    let view = api.wait_status(&signed_in, SessionStatus::Completed).await.unwrap();
    let path = format!("/api/credentials/{}/use", view.credential.unwrap().id);
    let command = json!({ "purpose": "exec", "argv": ["sh", "-c", "echo running; sleep 3600"] });
    let started: StartResponse = api.post(&path, command.clone()).await.unwrap().parse().unwrap();
    let queued: StartResponse = api.post(&path, command.clone()).await.unwrap().parse().unwrap();
    let exec = started.session.id;
    api.wait_entry(&exec, TimelineKind::CliStarted).await.unwrap();
    let mut connections = Connections { sockets: Vec::new(), event_streams: Vec::new() };
    connections.attach(&server, &api, &token.secret, &exec).await;

    server.run_anteroom(&["token", "revoke", token.token.id.as_str(), "--end-sessions"]).await.unwrap();
    let took = connections.wait_closed(4411, "caller_revoked").await;
    println!("closed {} ms after the command had ended", took.as_millis());

    let operator = server.operator_client().unwrap();
    for id in [&exec, &queued.session.id] {
        assert_eq!(operator.get_session(id).await.unwrap().status, SessionStatus::Cancelled);
    }
    assert_eq!(api.post(&path, command).await.unwrap().status, 401);
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn s11_revocation_ends_the_sessions_if_asked() {
    let (_flags, server) = start_idle("").await;
    let (token, api) = create_token(&server, json!({ "name": "backend" })).await;
    let id = api.start_session("scripted").await.unwrap().session.id;
    let kept = server.backend_client().unwrap().start_session("scripted").await.unwrap().session.id;
    let printed = server.run_anteroom(&["token", "revoke", token.token.id.as_str(), "--end-sessions"]).await.unwrap();
    assert!(printed.contains("Sessions cancelled: 1."), "{printed}");
    let operator = server.operator_client().unwrap();
    assert_eq!(operator.get_session(&id).await.unwrap().status, SessionStatus::Cancelled);
    assert!(!operator.get_session(&kept).await.unwrap().status.is_ended());
    let again = server.run_anteroom(&["token", "revoke", token.token.id.as_str()]).await.unwrap_err();
    assert!(again.to_string().contains("no such valid API token"), "{again}");
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn s11_expiry_and_a_revocation_by_another_process_close_connections_too() {
    let (_flags, server) = start_idle("").await;
    let store = open_store(&server).await;
    let now = unix_time::now_unix_ms();
    let short = store_caller(&store, 1, |_| {}).await;
    let other = store_caller(&store, 2, |_| {}).await;
    let mut open = Vec::new();
    for known in [&short, &other] {
        let api = server.client_with_token(&known.secret).unwrap();
        let id = api.start_session("scripted").await.unwrap().session.id;
        open.push(Connections::open(&server, &api, known.secret.expose(), &id).await);
    }
    // Written to the database without the server, as an older command line does.
    store.revoke_caller(&other.caller.id, now).await.unwrap();
    open.pop().unwrap().wait_closed(4411, "caller_revoked").await;
    // Rotated: it expires while its connections are open.
    let (successor, secret) = (CallerId::from_parts(now, [3; 10]), Sha256Hex::of_bytes(b"successor"));
    let rotation = Rotation { id: successor, secret, now_ms: unix_time::now_unix_ms(), overlap_ms: 1_000 };
    store.rotate_api_token(&short.caller.id, &rotation).await.unwrap();
    open.pop().unwrap().wait_closed(4412, "caller_expired").await;
    store.close().await;
    server.stop_and_check_leaks().await.unwrap();
}
