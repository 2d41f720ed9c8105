//! Invalid requests: each is rejected with an error that names the fault, and starts nothing.

use crate::{problem_of, start_idle};
use anteroom_testbed::{ApiClient, ApiResponse, WAIT_MAX};
use anteroom_wire::api::{SessionList, SessionStatus, StartResponse};
use reqwest::{Client, Method, header};
use serde_json::json;

const START: &str = "/api/auth/start";

/// Starts a session and waits until its machine is ready.
async fn start_ready(api: &ApiClient) -> StartResponse {
    let started = api.start_session("scripted").await.unwrap();
    api.wait_status(&started.session.id, SessionStatus::VmStarted).await.unwrap();
    started
}

#[tokio::test]
async fn invalid_start_request_is_rejected_naming_the_field() {
    let (_flags, server) = start_idle("").await;
    let api = server.backend_client().unwrap();
    let with = |key: &str, value: &str| json!({ "provider": "scripted", key: value });
    let long = format!("https://a.example/{}", "x".repeat(3_000));
    for (body, code, says) in [
        (json!({ "provider": "nosuch" }), "unknown_provider", "scripted"),
        (json!({}), "malformed", "provider"),
        (with("speed", "fast"), "malformed", "speed"),
        (with("user_id", ""), "malformed", "user_id"),
        (with("user_id", "ada\u{7}"), "malformed", "user_id"),
        (with("user_id", "ada\r\nSet-Cookie: a=b"), "malformed", "user_id"),
        (with("user_id", &"a".repeat(256)), "malformed", "user_id"),
        (with("idempotency_key", "one\u{0}two"), "malformed", "idempotency_key"),
        (with("return_url", "ftp://a.example/"), "malformed", "return_url"),
        (with("return_url", "javascript:alert(1)"), "malformed", "return_url"),
        (with("return_url", "/relative"), "malformed", "return_url"),
        (with("return_url", "https://"), "malformed", "return_url"),
        (with("return_url", "https://a.example/\n"), "malformed", "return_url"),
        (with("return_url", &long), "malformed", "return_url"),
        (with("return_url", "https://user:pw@a.example/"), "malformed", "without a user name"),
        (json!({ "provider": "scripted", "user_id": 17 }), "malformed", "user_id: expected a string"),
    ] {
        let (status, named, detail) = problem_of(&api.post(START, body.clone()).await.unwrap());
        assert_eq!((status, named.as_str()), (400, code), "{body}: {detail}");
        assert!(detail.contains(says), "{body}: {detail}");
    }
    let large = with("user_id", &"a".repeat(70 * 1024));
    let (status, code, _) = problem_of(&api.post(START, large).await.unwrap());
    assert_eq!((status, code.as_str()), (413, "too_large"));
    let sessions: SessionList = server.operator_client().unwrap().get("/api/sessions").await.unwrap().parse().unwrap();
    assert_eq!(sessions.sessions.len(), 0, "no session was started");
    assert!(server.list_machines().is_empty());
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn refused_token_differs_from_a_missing_and_a_malformed_one() {
    let (_flags, server) = start_idle("").await;
    let url = format!("http://{}/api/sessions", server.address().unwrap());
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let token = server.backend_tokens()[0].expose();
    for (headers, says) in [
        (vec![], "neither"),
        (vec![token.to_owned()], "form `Bearer TOKEN`"),
        (vec![format!("Basic {token}")], "form `Bearer TOKEN`"),
        (vec![format!("Bearer {token}"), "Basic x".to_owned()], "more than one"),
        (vec![format!("Bearer {token}0")], "not accepted"),
        (vec!["Bearer nonsense".to_owned()], "not accepted"),
    ] {
        let mut request = client.get(&url);
        for header in &headers {
            request = request.header("authorization", header);
        }
        let answer = request.send().await.unwrap();
        let (status, text) = (answer.status().as_u16(), answer.text().await.unwrap());
        assert_eq!(status, 401, "{headers:?}");
        assert!(text.contains(says) && !text.contains(token), "{says}: {text}");
    }
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn unknown_id_and_malformed_id_have_different_errors() {
    let (_flags, server) = start_idle("").await;
    let api = server.backend_client().unwrap();
    let id = start_ready(&api).await.session.id;
    let none = "00000000000000000000000000";
    for (method, path, expected) in [
        (Method::GET, format!("/api/auth/session/ses_{none}"), (404, "unknown_session")),
        (Method::POST, format!("/api/auth/session/ses_{none}/cancel"), (404, "unknown_session")),
        (Method::GET, "/api/auth/session/ses_1".to_owned(), (400, "malformed")),
        (Method::GET, format!("/api/auth/session/mac_{none}"), (400, "malformed")),
        (Method::GET, format!("/api/auth/session/ses_{}", "z".repeat(5_000)), (400, "malformed")),
        (Method::GET, "/api/auth/session/ses_%0A%00".to_owned(), (400, "malformed")),
        (Method::GET, "/api/auth/session/%FF%FE".to_owned(), (400, "malformed")),
        (Method::DELETE, format!("/api/credentials/crd_{none}"), (404, "unknown_credential")),
        (Method::DELETE, "/api/credentials/all".to_owned(), (400, "malformed")),
        (Method::DELETE, "/api/credentials/%FF%FE".to_owned(), (400, "malformed")),
        (Method::GET, format!("/api/auth/session/{id}/events?after=first"), (400, "malformed")),
        (Method::GET, format!("/api/auth/session/{id}/events?after=-1"), (400, "malformed")),
        (Method::GET, "/assets/%FF%FE".to_owned(), (404, "path_not_found")),
        (Method::GET, "/assets/../../../etc/passwd".to_owned(), (404, "path_not_found")),
        (Method::GET, "/assets/..%2F..%2F..%2Fetc%2Fpasswd".to_owned(), (404, "path_not_found")),
        (Method::GET, "/api/nothing".to_owned(), (404, "path_not_found")),
        (Method::DELETE, START.to_owned(), (405, "method_not_allowed")),
    ] {
        let answer = api.call(method.clone(), &path, None).await.unwrap();
        let (status, code, detail) = problem_of(&answer);
        assert_eq!((status, code.as_str()), expected, "{method} {path}: {detail}");
        assert!(answer.text.len() < 2_000, "the error is too long: {} bytes", answer.text.len());
    }
    let last = api.get(&format!("/api/auth/session/{id}/events?after={}", i64::MAX)).await.unwrap();
    assert_eq!((last.status, last.text.as_str()), (200, "{\"entries\":[]}"), "no entries after the last one");
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn requests_for_the_session_of_another_owner_are_forbidden_without_effect() {
    let (_flags, server) = start_idle("").await;
    let (api, stranger) = (server.backend_client().unwrap(), server.other_backend_client().unwrap());
    let id = start_ready(&api).await.session.id;
    for (method, end) in [(Method::GET, ""), (Method::POST, "/cancel"), (Method::POST, "/restart")] {
        let answer = stranger.call(method, &format!("/api/auth/session/{id}{end}"), None).await.unwrap();
        let (status, code, _) = problem_of(&answer);
        assert_eq!((status, code.as_str()), (403, "not_owner"), "{end}");
    }
    let view = api.get_session(&id).await.unwrap();
    assert_eq!((view.status, view.generation), (SessionStatus::VmStarted, 1));
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn viewer_login_is_limited_to_its_session() {
    let (_flags, server) = start_idle("").await;
    let started = start_ready(&server.backend_client().unwrap()).await;
    let (_, pass) = started.viewer_url.split_once("#login_token=").unwrap();
    let client = Client::builder().no_proxy().timeout(WAIT_MAX).build().unwrap();
    let url = |path: &str| format!("http://{}{path}", server.address().unwrap());
    let enter = client
        .post(url("/api/login"))
        .json(&json!({ "login_token": pass, "browser_key": "5a".repeat(32) }))
        .send()
        .await
        .unwrap();
    assert_eq!(enter.status(), 204);
    let cookie = enter.headers()[header::SET_COOKIE].to_str().unwrap().split(';').next().unwrap().to_owned();
    let as_viewer = |method: Method, path: &str| {
        client.request(method, url(path)).header(header::COOKIE, &cookie).header("x-anteroom", "5a".repeat(32))
    };
    let own = format!("/api/auth/session/{}", started.session.id);
    assert_eq!(as_viewer(Method::GET, &own).send().await.unwrap().status(), 200);
    for (method, path) in [(Method::POST, START), (Method::GET, "/api/credentials"), (Method::POST, "/api/links")] {
        let answer = as_viewer(method, path).json(&json!({ "provider": "scripted" })).send().await.unwrap();
        let answer = ApiResponse { status: answer.status().as_u16(), text: answer.text().await.unwrap() };
        let (status, code, _) = problem_of(&answer);
        assert_eq!((status, code.as_str()), (403, "not_owner"), "{path}");
    }
    assert_eq!(server.list_machines().len(), 1);
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn unsupported_content_type_is_rejected_before_the_body_is_read() {
    let (_flags, server) = start_idle("").await;
    let started = start_ready(&server.backend_client().unwrap()).await;
    let (_, pass) = started.viewer_url.split_once("#login_token=").unwrap();
    let client = Client::builder().no_proxy().timeout(WAIT_MAX).build().unwrap();
    let url = format!("http://{}/api/login", server.address().unwrap());
    let body = json!({ "login_token": pass, "browser_key": "5a".repeat(32) }).to_string();
    for kind in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"] {
        let request = client.post(&url).header(header::CONTENT_TYPE, kind).body(body.clone());
        let answer = request.send().await.unwrap();
        let answer = ApiResponse { status: answer.status().as_u16(), text: answer.text().await.unwrap() };
        assert_eq!(problem_of(&answer).0, 415, "{kind}");
    }
    // None of them has redeemed the login token.
    let request = client.post(&url).header(header::CONTENT_TYPE, "application/json; charset=utf-8").body(body);
    assert_eq!(request.send().await.unwrap().status(), 204);
    server.stop_and_check_leaks().await.unwrap();
}
