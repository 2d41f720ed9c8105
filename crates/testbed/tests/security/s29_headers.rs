//! Headers of responses.

use crate::{
    idle_session::Idle,
    raw_http::{RawConnection, head},
};
use std::collections::HashMap;

async fn headers(idle: &Idle, request_line: &str, lines: &str) -> HashMap<String, String> {
    let request = head(&idle.server, request_line, &format!("{}{lines}", idle.operator_line()));
    let head = RawConnection::send_new(&idle.server, request).await.read_head().await.expect("an answer");
    let pairs = head.lines().skip(1).filter_map(|line| line.split_once(": "));
    pairs.map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect()
}

#[tokio::test]
async fn s29_every_response_of_the_api_forbids_caches_and_other_sites() {
    let idle = Idle::start("").await;
    let session = idle.path();
    for (request_line, lines) in [
        (format!("GET {session}"), ""),
        (format!("GET {session}/events"), ""),
        (format!("GET {session}/events"), "Accept: text/event-stream\r\n"),
        (format!("GET {session}/diagnosis"), ""),
        (format!("POST {session}/heartbeat"), "Content-Length: 0\r\n"),
        ("GET /api/sessions".to_owned(), ""),
        ("GET /api/me".to_owned(), ""),
        ("GET /api/credentials".to_owned(), ""),
        ("GET /api/nothing".to_owned(), ""),
        ("GET /metrics".to_owned(), ""),
        ("GET /health".to_owned(), ""),
        ("POST /api/links".to_owned(), "Content-Length: 0\r\n"),
    ] {
        let found = headers(&idle, &request_line, lines).await;
        let value = |name: &str| found.get(name).map_or("", String::as_str);
        assert_eq!(value("cache-control"), "no-store", "{request_line}");
        assert_eq!(value("cross-origin-resource-policy"), "same-origin", "{request_line}");
        assert_eq!(value("cross-origin-opener-policy"), "same-origin", "{request_line}");
        assert!(value("permissions-policy").contains("camera=()"), "{request_line}");
        assert_eq!(value("strict-transport-security"), "", "{request_line}: the server has no https address");
    }
    idle.finish().await;
}

#[tokio::test]
async fn s29_browsers_must_not_use_http_later_where_the_address_is_https() {
    let idle = Idle::start("public_url = 'https://anteroom.example'\n").await;
    let found = headers(&idle, "GET /", "").await;
    assert_eq!(found.get("strict-transport-security").map(String::as_str), Some("max-age=31536000"));
    idle.finish().await;
}
