//! Invitations of helpers, who look at one session and cannot act in it.

use crate::browser_client::Browser;
use anteroom_testbed::{Script, ScriptedProvider, Step, TestConfig, TestServer};
use anteroom_wire::{Secret, api::SessionStatus, api::StartResponse};
use reqwest::Method;
use serde_json::{Value, json};

/// Starts a server and a session whose machine runs, and opens the session's link in a browser.
pub(crate) async fn start() -> (tempfile::TempDir, TestServer, StartResponse, Browser) {
    let dir = tempfile::tempdir().unwrap();
    let wait = Step::WaitForFile { path: dir.path().join("never"), ms_max: 300_000 };
    let provider = ScriptedProvider::new("scripted", Script::new([Step::print_line("Nothing to do"), wait]));
    let server = TestServer::start(TestConfig::with_provider(provider)).await.unwrap();
    let api = server.backend_client().unwrap();
    let started = api.start_session("scripted").await.unwrap();
    api.wait_status(&started.session.id, SessionStatus::VmStarted).await.unwrap();
    let mut person = Browser::new(&server, "a");
    assert_eq!(person.log_in(login_token(&started.viewer_url)).await.status(), 204);
    (dir, server, started, person)
}

pub(crate) fn login_token(url: &str) -> &str {
    url.split_once("#login_token=").unwrap().1
}

pub(crate) async fn post(browser: &Browser, path: &str, body: Value) -> (u16, Value) {
    let response = browser.request(Method::POST, path).json(&body).send().await.unwrap();
    let status = response.status().as_u16();
    (status, serde_json::from_str(&response.text().await.unwrap()).unwrap_or_default())
}

#[tokio::test]
async fn helper_sees_the_session_and_cannot_act_in_it() {
    let (_dir, server, started, person) = start().await;
    let session = format!("/api/auth/session/{}", started.session.id);
    let (status, invitation) = post(&person, &format!("{session}/invitations"), json!({ "name": "Grace" })).await;
    assert_eq!(status, 200, "{invitation}");
    let url = invitation["url"].as_str().unwrap();
    assert!(url.starts_with(&person.base) && url.contains("&view=1#"), "{url}");
    let mut helper = Browser::new(&server, "b");
    assert_eq!(helper.log_in(login_token(url)).await.status(), 204);
    assert_eq!(helper.status(Method::GET, &session).await.0, 200);
    assert_eq!(helper.status(Method::GET, &format!("{session}/events")).await.0, 200);
    let (status, ticket) = post(&helper, &format!("{session}/ticket"), json!({ "purpose": "desktop" })).await;
    assert!(status == 200 && ticket["ticket"].as_str().unwrap().starts_with("view_"), "{ticket}");
    for (path, body) in [
        ("ticket", json!({ "purpose": "terminal" })),
        ("invitations", json!({ "name": "Eve" })),
        ("cancel", json!({})),
        ("restart", json!({})),
        ("heartbeat", json!({})),
        ("paste", json!({ "text": "x" })),
        ("type", json!({ "text": "x", "enter": false })),
        ("open-url", json!({ "url": "https://a.example/" })),
    ] {
        let (status, answer) = post(&helper, &format!("{session}/{path}"), body).await;
        assert_eq!((status, answer["code"].as_str()), (403, Some("not_owner")), "{path}: {answer}");
    }
    let other = server.backend_client().unwrap().start_session("scripted").await.unwrap().session.id;
    let foreign = helper.status(Method::GET, &format!("/api/auth/session/{other}")).await.0;
    assert!([401, 403].contains(&foreign), "{foreign}");
    let mut second = Browser::new(&server, "c");
    assert_eq!(second.log_in(login_token(url)).await.status(), 401, "an invitation works once");
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn support_bundle_of_a_session_is_for_operators_only() {
    let (_dir, server, started, person) = start().await;
    let session = format!("/api/auth/session/{}", started.session.id);
    let bundle = format!("{session}/bundle");
    let (_, invitation) = post(&person, &format!("{session}/invitations"), json!({ "name": "Grace" })).await;
    let mut helper = Browser::new(&server, "b");
    assert_eq!(helper.log_in(login_token(invitation["url"].as_str().unwrap())).await.status(), 204);
    for (who, browser) in [("the person of the session", &person), ("its helper", &helper)] {
        let (status, answer) = post(browser, &bundle, json!({})).await;
        assert_eq!((status, answer["code"].as_str()), (403, Some("not_owner")), "{who}: {answer}");
    }
    let operator = server.operator_client().unwrap();
    let created = operator.post("/api/tokens", json!({ "name": "reads", "role": "auditor" })).await.unwrap();
    let secret = created.parse::<Value>().unwrap()["secret"].as_str().unwrap().to_owned();
    let auditor = server.client_with_token(&Secret::new(secret)).unwrap();
    for (who, client, status) in [
        ("the backend of the session", &server.backend_client().unwrap(), 403),
        ("an auditor", &auditor, 403),
        ("without a caller", &server.anonymous_client().unwrap(), 401),
        ("an operator", &operator, 200),
    ] {
        assert_eq!(client.post(&bundle, json!({})).await.unwrap().status, status, "{who}");
    }
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn invitation_needs_a_name_and_an_active_session() {
    let (_dir, server, started, person) = start().await;
    let path = format!("/api/auth/session/{}/invitations", started.session.id);
    for name in ["", "   ", "a\nb", &"x".repeat(61)] {
        let (status, answer) = post(&person, &path, json!({ "name": name })).await;
        assert_eq!((status, answer["code"].as_str()), (400, Some("malformed")), "{name:?}");
    }
    let stranger = server.other_backend_client().unwrap();
    assert_eq!(stranger.post(&path, json!({ "name": "Eve" })).await.unwrap().status, 403);
    server.operator_client().unwrap().cancel_all_sessions().await.unwrap();
    let (status, _) = post(&person, &path, json!({ "name": "Grace" })).await;
    assert_eq!(status, 410);
    server.stop_and_check_leaks().await.unwrap();
}
