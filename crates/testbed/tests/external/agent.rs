//! The agent of an external machine, over HTTP with the token from its file.

use crate::{Fixture, TOKEN, request_session, start, verdict, viewers::assert_sees_desktop};
use anteroom_testbed::{ApiResponse, ScriptedProvider, TestServer, WAIT_MAX};
use anteroom_wire::{
    Base64, SessionId,
    agent::{
        AGENT_SESSION_PATH, AgentEvent, AgentSession, CredentialDelivery, DeliveredFile, EVENTS_PATH, EventBatch,
        NumberedEvent, STORE_CREDENTIAL_PATH, SignInEvent, SignInUrl, UrlSource,
    },
    api::SessionStatus,
};
use reqwest::{Client, Method};
use serde::Serialize;

/// A port on which no server listens.
const NO_DESKTOP: &str = "vnc://127.0.0.1:1";

struct Agent {
    client: Client,
    server: String,
    token: String,
}

impl Agent {
    fn new(server: &TestServer, token: &str) -> Self {
        let client = Client::builder().no_proxy().timeout(WAIT_MAX).build().unwrap();
        Self { client, server: format!("http://{}", server.address().unwrap()), token: token.to_owned() }
    }

    async fn call<T: Serialize>(&self, method: Method, path: &str, body: Option<&T>) -> ApiResponse {
        let mut request = self.client.request(method, format!("{}{path}", self.server)).bearer_auth(&self.token);
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(serde_json::to_string(body).unwrap());
        }
        let answer = request.send().await.unwrap();
        ApiResponse { status: answer.status().as_u16(), text: answer.text().await.unwrap() }
    }

    /// Requests the session that its machine serves.
    async fn session(&self) -> ApiResponse {
        self.call::<()>(Method::GET, AGENT_SESSION_PATH, None).await
    }

    async fn deliver(&self, session: &SessionId, content: &str) -> ApiResponse {
        let content = Base64::new(content.as_bytes().to_vec());
        let file = DeliveredFile { path: ScriptedProvider::CREDENTIAL_PATH.to_owned(), mode: 0o600, content };
        let provider = "scripted".parse().unwrap();
        let delivery = CredentialDelivery { session: session.clone(), generation: 1, provider, files: vec![file] };
        self.call(Method::POST, STORE_CREDENTIAL_PATH, Some(&delivery)).await
    }
}

#[tokio::test]
async fn external_agent_reports_sign_in_and_completes_session() {
    let fixture = Fixture::new();
    let server = fixture.start_server(NO_DESKTOP, "").await;
    let api = server.backend_client().unwrap();
    let agent = Agent::new(&server, TOKEN);
    let none = agent.session().await;
    assert_eq!((none.status, none.problem().unwrap().code.as_str()), (404, "unknown_session"));
    let id = start(&api).await.session.id;
    api.wait_status(&id, SessionStatus::VmStarted).await.unwrap();
    let bound: AgentSession = agent.session().await.parse().unwrap();
    assert_eq!((&bound.session, bound.generation, bound.provider.as_str()), (&id, 1, "scripted"));
    assert_eq!(bound.credential_paths, [ScriptedProvider::CREDENTIAL_PATH]);

    let url =
        SignInUrl { source: UrlSource::BrowserCommand, url: "https://id.example/authorize?state=s3cret".to_owned() };
    let event = NumberedEvent { number: 1, at_unix_ms: 0, event: AgentEvent::SignIn(SignInEvent::Url(url)) };
    let sent = agent.call(Method::POST, EVENTS_PATH, Some(&EventBatch { events: vec![event] })).await;
    assert_eq!(sent.status, 204, "{}", sent.text);
    api.wait_status(&id, SessionStatus::Authenticating).await.unwrap();

    let stored = agent.deliver(&id, "{\"token\": \"external-secret\"}").await;
    assert_eq!(stored.status, 200, "{}", stored.text);
    let view = api.wait_status(&id, SessionStatus::Completed).await.unwrap();
    let lease = api.lease_credential(&view.credential.unwrap().id).await.unwrap();
    assert_eq!(lease.files[0].content.expose(), b"{\"token\": \"external-secret\"}");
    assert_eq!(verdict(&api, &id).await.0, "completed");
    let again = agent.deliver(&id, "{\"token\": \"external-secret\"}").await;
    assert_eq!(again.status, 200, "a second delivery is ignored: {}", again.text);
    assert_eq!(request_session(&api, "desk").await.status, 202, "the machine is free for another session");
    for secret in ["external-secret", TOKEN] {
        let files = server.leak_scan().find_files_containing(secret);
        assert!(files.is_empty(), "{secret} is in {files:?}");
    }
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn delivery_with_another_token_is_rejected() {
    let fixture = Fixture::new();
    let other = fixture.machine("other", NO_DESKTOP, "the-token-of-another-agent");
    let server = fixture.start_server(NO_DESKTOP, &other).await;
    let api = server.backend_client().unwrap();
    let id = start(&api).await.session.id;
    for token in ["an-unknown-token", "the-token-of-another-agent"] {
        let agent = Agent::new(&server, token);
        let rejected = agent.deliver(&id, "{\"token\": \"x\"}").await;
        assert_eq!((rejected.status, rejected.problem().unwrap().code.as_str()), (401, "wrong_agent_token"));
        let bound = agent.session().await;
        assert_eq!(bound.status, if token.contains("another") { 404 } else { 401 }, "{}", bound.text);
    }
    assert_eq!(api.get_session(&id).await.unwrap().status, SessionStatus::VmStarted);
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn restarted_server_reconnects_session_desktop_and_agent() {
    let vnc = crate::vnc_server::Vnc::start(&[]).await;
    let fixture = Fixture::new();
    let mut server = fixture.start_server(&format!("vnc://{}", vnc.at), "").await;
    let id = start(&server.backend_client().unwrap()).await.session.id;
    assert_sees_desktop(&server.backend_client().unwrap(), &id).await;
    for graceful in [true, false] {
        if graceful { server.stop_server().await } else { server.kill_server().await }.unwrap();
        server.start_server().await.unwrap();
        let api = server.backend_client().unwrap();
        let view = api.wait_status(&id, SessionStatus::VmStarted).await.unwrap();
        assert_eq!((view.generation, view.machine.as_deref()), (1, Some("desk")));
        assert_sees_desktop(&api, &id).await;
        assert_eq!(
            request_session(&api, "desk").await.problem().unwrap().code,
            "machine_in_use",
            "the session still has it"
        );
    }
    let agent = Agent::new(&server, TOKEN);
    let bound: AgentSession = agent.session().await.parse().unwrap();
    assert_eq!(bound.session, id);
    assert_eq!(agent.deliver(&id, "{\"token\": \"x\"}").await.status, 200);
    server.backend_client().unwrap().wait_status(&id, SessionStatus::Completed).await.unwrap();
    server.stop_and_check_leaks().await.unwrap();
    vnc.end().await;
}
