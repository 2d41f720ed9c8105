//! Requests for other hosts and from other origins.

use anteroom_rfb::client::{ViewerConnectError, ViewerSocket};
use anteroom_testbed::{Script, ScriptedProvider, Step, TestConfig, TestServer, WAIT_MAX, eventually};
use anteroom_wire::{Secret, SessionId, api::SessionStatus};
use std::{io::Read, io::Write, net::TcpStream};

const ANSWER_MS_MAX: u64 = 60_000;

/// Starts a server and a session whose machine runs.
async fn start(settings: &str) -> (tempfile::TempDir, TestServer, SessionId) {
    let dir = tempfile::tempdir().unwrap();
    let wait = Step::WaitForFile { path: dir.path().join("never"), ms_max: 300_000 };
    let provider = ScriptedProvider::new("scripted", Script::new([Step::print_line("Nothing to do"), wait]));
    let server = TestServer::start(TestConfig::with_provider(provider).with_settings(settings)).await.unwrap();
    let api = server.backend_client().unwrap();
    let id = api.start_session("scripted").await.unwrap().session.id;
    api.wait_status(&id, SessionStatus::VmStarted).await.unwrap();
    (dir, server, id)
}

/// Sends these bytes and returns the status line and the body.
async fn send_raw(server: &TestServer, request: String) -> String {
    let address = server.address().unwrap();
    tokio::task::spawn_blocking(move || {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(WAIT_MAX)).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    })
    .await
    .unwrap()
}

/// `GET target` with these lines of the head and the operator's token.
fn get(server: &TestServer, target: &str, head: &str) -> String {
    let token = server.operator_token().expose();
    format!("GET {target} HTTP/1.1\r\n{head}Authorization: Bearer {token}\r\nConnection: close\r\n\r\n")
}

fn assert_status(answer: &str, status: u16, case: &str) {
    assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{case}: {answer}");
}

#[tokio::test]
async fn s21_requests_for_another_host_are_refused_on_every_kind_of_route() {
    let (_dir, server, id) = start("").await;
    let port = server.address().unwrap().port();
    for path in ["/", "/login", "/health", "/api/me", "/openapi.json", &format!("/api/auth/session/{id}")] {
        let own = send_raw(&server, get(&server, path, &format!("Host: 127.0.0.1:{port}\r\n"))).await;
        assert_status(&own, 200, path);
        let rebound = send_raw(&server, get(&server, path, &format!("Host: evil.example:{port}\r\n"))).await;
        assert_status(&rebound, 421, path);
        assert!(rebound.contains("\"wrong_host\"") && rebound.contains("evil.example"), "{rebound}");
    }
    let own = format!("Host: 127.0.0.1:{port}\r\n");
    for (case, target, head) in [
        ("no port", "/api/me", "Host: 127.0.0.1\r\n".to_owned()),
        ("another port", "/api/me", "Host: 127.0.0.1:1\r\n".to_owned()),
        ("a dot at the end", "/api/me", format!("Host: localhost.:{port}\r\n")),
        ("another name below localhost", "/api/me", format!("Host: a.localhost:{port}\r\n")),
        ("another spelling of the address", "/api/me", format!("Host: 2130706433:{port}\r\n")),
        ("IPv6", "/api/me", format!("Host: [::1]:{port}\r\n")),
        ("a mapped address", "/api/me", format!("Host: [::ffff:7f00:1]:{port}\r\n")),
        ("user information", "/api/me", format!("Host: 127.0.0.1:{port}@evil.example\r\n")),
        ("an empty name", "/api/me", "Host:\r\n".to_owned()),
        ("two headers", "/api/me", format!("{own}Host: evil.example\r\n")),
        ("the same header twice", "/api/me", format!("{own}{own}")),
        ("no header", "/api/me", String::new()),
        ("another host in the target", "http://evil.example/api/me", own.clone()),
        (
            "another host in the header only",
            &format!("http://127.0.0.1:{port}/api/me"),
            "Host: evil.example\r\n".into(),
        ),
        ("another scheme", &format!("ftp://127.0.0.1:{port}/api/me"), own.clone()),
    ] {
        let answer = send_raw(&server, get(&server, target, &head)).await;
        // The HTTP parser rejects some of them before.
        assert!(answer.starts_with("HTTP/1.1 421 ") || answer.starts_with("HTTP/1.1 400 "), "{case}: {answer}");
    }
    let forwarded = format!("{own}X-Forwarded-Host: evil.example\r\nForwarded: host=evil.example\r\n");
    let answer = send_raw(&server, get(&server, "/api/links", &forwarded).replace("GET", "POST")).await;
    assert!(!answer.contains("evil.example"), "{answer}");
    for (case, head) in [
        ("upper case", format!("Host: LOCALHOST:{port}\r\n")),
        ("the name of the links", format!("Host: {}\r\n", server.base_url().unwrap().trim_start_matches("http://"))),
    ] {
        assert_status(&send_raw(&server, get(&server, "/api/me", &head)).await, 200, case);
    }
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn s21_public_url_may_be_named_with_and_without_its_default_port() {
    let (_dir, server, _) = start("public_url = 'https://desk.example'\n").await;
    for (host, status) in [
        ("desk.example", 200),
        ("desk.example:443", 200),
        ("Desk.Example", 200),
        ("desk.example:80", 421),
        ("desk.example.", 421),
        ("desk.example.evil.example", 421),
    ] {
        assert_status(&send_raw(&server, get(&server, "/api/me", &format!("Host: {host}\r\n"))).await, status, host);
    }
    server.stop_and_check_leaks().await.unwrap();
}

/// Opens the desktop with a fresh ticket and these headers. Returns whether it was opened and sent its first bytes.
async fn is_opened(server: &TestServer, id: &SessionId, origin: Option<&str>, token: Option<&Secret>) -> bool {
    let api = server.backend_client().unwrap();
    // A session gives out a few tickets a second.
    let ticket = eventually("a ticket", WAIT_MAX, async || match api.create_ticket(id, "desktop").await {
        Err(error) if error.to_string().contains("too_many_requests") => Ok(None),
        ticket => ticket.map(|ticket| Some(ticket.ticket)),
    });
    let ticket = ticket.await.unwrap();
    let protocols = format!("binary, ticket.{ticket}");
    let bearer = token.map(|token| format!("Bearer {}", token.expose()));
    let mut headers = vec![("Sec-WebSocket-Protocol", &*protocols)];
    headers.extend(origin.map(|origin| ("Origin", origin)));
    headers.extend(bearer.as_deref().map(|bearer| ("Authorization", bearer)));
    let url = format!("ws://{}/api/auth/session/{id}/novnc/websock", server.address().unwrap());
    match ViewerSocket::connect(&url, &headers, ANSWER_MS_MAX).await {
        Ok(mut socket) => {
            let mut greeting = Vec::new();
            let mut head = tokio::io::AsyncReadExt::take(&mut socket, 4);
            let _ = tokio::io::AsyncReadExt::read_to_end(&mut head, &mut greeting).await;
            greeting == b"RFB "
        }
        Err(ViewerConnectError::Rejected { .. }) => false,
        Err(error) => panic!("{origin:?}: {error}"),
    }
}

#[tokio::test]
async fn s21_sockets_open_for_exactly_the_own_origin_or_for_a_program_with_a_token() {
    let (_dir, server, id) = start("").await;
    let base = server.base_url().unwrap();
    let authority = base.trim_start_matches("http://");
    let address = server.address().unwrap();
    assert!(is_opened(&server, &id, Some(&base), None).await);
    for origin in [
        "null".to_owned(),
        String::new(),
        "http://evil.example".to_owned(),
        format!("http://{address}"),
        format!("http://localhost:{}", address.port()),
        format!("https://{authority}"),
        format!("ftp://{authority}"),
        format!("chrome-extension://{authority}"),
        format!("{base}.evil.example"),
        format!("http://{authority}@evil.example"),
        format!("{base}/"),
        base.to_uppercase(),
    ] {
        assert!(!is_opened(&server, &id, Some(&origin), None).await, "{origin:?}");
        let wrong = Secret::new("ant_0000".to_owned());
        assert!(!is_opened(&server, &id, Some(&origin), Some(&wrong)).await, "{origin:?} with a wrong token");
        // No page can send a token with a WebSocket's handshake, and clients of programs choose what they send as their origin.
        assert!(is_opened(&server, &id, Some(&origin), Some(server.operator_token())).await, "{origin:?} with a token");
    }
    assert!(!is_opened(&server, &id, None, None).await, "a ticket alone, without an origin");
    assert!(is_opened(&server, &id, None, Some(server.operator_token())).await, "a program with a token");
    let wrong = Secret::new("ant_0000".to_owned());
    assert!(!is_opened(&server, &id, None, Some(&wrong)).await, "a program with a wrong token");
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn s21_login_from_another_origin_does_not_spend_the_link() {
    let (_dir, server, _) = start("").await;
    let link = server.operator_client().unwrap().post("/api/links", serde_json::json!({})).await.unwrap();
    let link: serde_json::Value = link.parse().unwrap();
    let (base, login_token) = link["url"].as_str().unwrap().split_once("/login#login_token=").unwrap();
    assert_eq!(base, server.base_url().unwrap());
    let log_in = |origin: String| {
        let body = serde_json::json!({ "login_token": login_token, "browser_key": "5a".repeat(32) }).to_string();
        let address = server.address().unwrap();
        format!(
            "POST /api/login HTTP/1.1\r\nHost: {address}\r\nOrigin: {origin}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        )
    };
    for origin in ["null".to_owned(), "http://evil.example".to_owned(), format!("http://{}", server.address().unwrap())]
    {
        assert_status(&send_raw(&server, log_in(origin.clone())).await, 403, &origin);
    }
    let own = send_raw(&server, log_in(server.base_url().unwrap())).await;
    assert!(own.starts_with("HTTP/1.1 20"), "{own}");
    server.stop_and_check_leaks().await.unwrap();
}
