//! Authentication and authorization of every operation, and validation of input.

use crate::{Flags, start_idle, start_idle_session};
use anteroom_rfb::client::ViewerConnectError;
use anteroom_testbed::{TestConfig, TestServer};
use reqwest::Method;
use serde_json::{Value, json};

/// Every operation of the OpenAPI document, with its placeholders replaced by a session or credential id.
fn operations(document: &Value, session: &str) -> Vec<(Method, String)> {
    let paths = document["paths"].as_object().unwrap();
    let operations = paths.iter().flat_map(|(path, methods)| {
        let id = if path.starts_with("/api/credentials/") { "crd_00000000000000000000000000" } else { session };
        let path = path.replace("{id}", id);
        methods
            .as_object()
            .unwrap()
            .keys()
            .map(move |method| (method.to_uppercase().parse::<Method>().unwrap(), path.clone()))
    });
    operations.collect()
}

#[tokio::test]
async fn anonymous_requests_are_rejected_on_every_route_and_socket() {
    let (_flags, server) = start_idle("").await;
    let (api, anonymous) = (server.backend_client().unwrap(), server.anonymous_client().unwrap());
    let id = api.start_session("scripted").await.unwrap().session.id;
    let document: Value = anonymous.get("/openapi.json").await.unwrap().parse().unwrap();
    let operations = operations(&document, id.as_str());
    assert!(operations.len() > 15, "{operations:?}");
    for (method, path) in operations {
        let answer = anonymous.call(method.clone(), &path, Some(json!({}))).await.unwrap();
        if path == "/health" {
            assert!(!answer.text.contains("store"), "anonymous health must contain only the status: {}", answer.text);
            continue;
        }
        if path == "/api/oidc" {
            assert_eq!(
                answer.text, "{\"issuer\":null,\"end_session_url\":null}",
                "only public addresses of the provider"
            );
            continue;
        }
        // These take a secret in the request, or begin what a provider authenticates; an empty one is malformed or wrong.
        let secrets = [
            "/api/login",
            "/api/auth/credentials/store",
            "/api/agent/events",
            "/api/oidc/sign-in",
            "/api/oidc/callback",
        ];
        let takes_secret = secrets.contains(&path.as_str());
        let rejected = answer.status == 401 || (takes_secret && (400..500).contains(&answer.status));
        assert!(rejected, "{method} {path}: {} {}", answer.status, answer.text);
    }
    for socket in ["novnc/websock", "terminal"] {
        for protocols in ["binary", "binary, ticket.0000"] {
            let dialled = anonymous.open_websocket(&format!("/api/auth/session/{id}/{socket}"), protocols, false).await;
            assert!(
                matches!(dialled, Err(ViewerConnectError::Rejected { status: 401, .. })),
                "{socket} {protocols}: {dialled:?}"
            );
        }
    }
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn backend_cannot_access_the_session_of_another_backend() {
    let flags = Flags::new();
    let server = TestServer::start(TestConfig::with_provider(flags.provider("{\"token\": \"x\"}"))).await.unwrap();
    let (api, stranger) = (server.backend_client().unwrap(), server.other_backend_client().unwrap());
    let id = api.start_session("scripted").await.unwrap().session.id;
    let document: Value = api.get("/openapi.json").await.unwrap().parse().unwrap();
    for (method, path) in operations(&document, id.as_str()).into_iter().filter(|(_, path)| path.contains(id.as_str()))
    {
        let body = if path.ends_with("/ticket") { json!({ "purpose": "desktop" }) } else { json!({}) };
        let answer = stranger.call(method.clone(), &path, Some(body)).await.unwrap();
        // A socket asks for its ticket first.
        let is_socket = path.ends_with("/websock") || path.ends_with("/terminal");
        let is_refused = if is_socket { answer.status == 401 } else { [400, 403, 404].contains(&answer.status) };
        assert!(is_refused, "{method} {path}: {} {}", answer.status, answer.text);
    }
    flags.set("go");
    let credential =
        api.wait_status(&id, anteroom_wire::api::SessionStatus::Completed).await.unwrap().credential.unwrap();
    assert!(stranger.lease_credential(&credential.id).await.is_err());
    assert_eq!(stranger.list_credentials().await.unwrap().credentials, []);
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn malformed_input_is_rejected_and_never_executed() {
    let (flags, server, api, id) = start_idle_session("").await;
    api.wait_status(&id, anteroom_wire::api::SessionStatus::VmStarted).await.unwrap();
    let marker = flags.path("executed");
    let touch = format!("$(touch {})", marker.display());
    for url in [
        format!("file:///{touch}"),
        touch.clone(),
        format!("https://a.example/ {touch}"),
        "javascript:alert(1)".to_owned(),
    ] {
        let answer = api.post(&format!("/api/auth/session/{id}/open-url"), json!({ "url": url })).await.unwrap();
        assert_eq!((answer.status, answer.problem().unwrap().code.as_str()), (400, "malformed"), "{url}");
    }
    for path in ["/api/auth/session/..%2F..%2Fetc", "/api/auth/session/ses_1;id", "/api/auth/session/%00"] {
        let answer = api.get(path).await.unwrap();
        assert!([400, 404].contains(&answer.status), "{path}: {} {}", answer.status, answer.text);
    }
    for body in [
        json!({ "provider": "scripted", "speed": 1 }),
        json!({ "provider": "../scripted" }),
        json!({ "provider": 1 }),
        json!({ "provider": "scripted", "return_url": "javascript:alert(1)" }),
        json!([]),
    ] {
        let answer = api.post("/api/auth/start", body.clone()).await.unwrap();
        assert_eq!(answer.status, 400, "{body}: {}", answer.text);
    }
    let typed = json!({ "text": format!("{touch}\r"), "enter": true });
    assert_eq!(api.post(&format!("/api/auth/session/{id}/type"), typed).await.unwrap().status, 400);
    assert!(!marker.exists(), "no input was executed");
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn backend_makes_another_link_for_the_person_of_its_live_session() {
    let (_flags, server) = start_idle("").await;
    let (api, stranger) = (server.backend_client().unwrap(), server.other_backend_client().unwrap());
    let started = api.start_session("scripted").await.unwrap();
    let id = started.session.id;
    let path = format!("/api/auth/session/{id}/links");
    assert_eq!(stranger.post(&path, json!({})).await.unwrap().status, 403);
    let mut links = vec![started.viewer_url];
    for _ in 0..2 {
        let link: Value = api.post(&path, json!({})).await.unwrap().parse().unwrap();
        links.push(link["url"].as_str().unwrap().to_owned());
    }
    let anonymous = server.anonymous_client().unwrap();
    for link in &links {
        let (page, login_token) = link.split_once("#login_token=").unwrap();
        assert!(page.contains(&format!("/dashboard/remote-cli/auth?session={id}&")), "{page}");
        let login = json!({ "login_token": login_token, "browser_key": "5a".repeat(32) });
        let statuses = [
            anonymous.post("/api/login", login.clone()).await.unwrap().status,
            anonymous.post("/api/login", login).await.unwrap().status,
        ];
        assert_eq!(statuses, [204, 401], "each link signs in one browser");
    }
    api.cancel_session(&id).await.unwrap();
    let ended = api.post(&path, json!({})).await.unwrap();
    assert_eq!((ended.status, ended.problem().unwrap().code.as_str()), (410, "cancelled"));
    server.stop_and_check_leaks().await.unwrap();
}
