//! The agent of an external machine: outside, over HTTP, with the token of its file.

use crate::{Fixture, TOKEN, ask, start, verdict, viewers::sees_the_desk};
use anteroom_testbed::{ApiResponse, ScriptedTool, TestServer, WAIT_MAX};
use anteroom_wire::{
    Base64, SessionId,
    agent::{
        AgentSession, DeliveredFile, Delivery, EVENTS_PATH, Event, Events, NumberedEvent, SESSION_PATH, STORE_PATH,
        SignInUrl, UrlSource,
    },
    api::Status,
};
use reqwest::{Client, Method};
use serde::Serialize;

/// Nothing listens there.
const NOWHERE: &str = "vnc://127.0.0.1:1";

struct Agent {
    client: Client,
    server: String,
    token: String,
}

impl Agent {
    fn of(server: &TestServer, token: &str) -> Self {
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

    /// Asks which session its machine serves.
    async fn bound(&self) -> ApiResponse {
        self.call::<()>(Method::GET, SESSION_PATH, None).await
    }

    async fn deliver(&self, session: &SessionId, content: &str) -> ApiResponse {
        let content = Base64::new(content.as_bytes().to_vec());
        let file = DeliveredFile { path: ScriptedTool::CREDENTIAL.to_owned(), mode: 0o600, content };
        let provider = "scripted".parse().unwrap();
        let delivery = Delivery { session: session.clone(), generation: 1, provider, files: vec![file] };
        self.call(Method::POST, STORE_PATH, Some(&delivery)).await
    }
}

#[tokio::test]
async fn external_agent_reports_sign_in_and_completes_session() {
    let fixture = Fixture::new();
    let server = fixture.start_server(NOWHERE, "").await;
    let api = server.backend().unwrap();
    let agent = Agent::of(&server, TOKEN);
    let nobody = agent.bound().await;
    assert_eq!((nobody.status, nobody.problem().unwrap().code.as_str()), (404, "unknown_session"));
    let id = start(&api).await.session.id;
    api.wait_status(&id, Status::VmStarted).await.unwrap();
    let bound: AgentSession = agent.bound().await.read().unwrap();
    assert_eq!((&bound.session, bound.generation, bound.provider.as_str()), (&id, 1, "scripted"));
    assert_eq!(bound.paths, [ScriptedTool::CREDENTIAL]);

    let url =
        SignInUrl { source: UrlSource::BrowserCommand, url: "https://id.example/authorize?state=s3cret".to_owned() };
    let event = NumberedEvent { number: 1, at_unix_ms: 0, event: Event::SignInUrl(url) };
    let told = agent.call(Method::POST, EVENTS_PATH, Some(&Events { events: vec![event] })).await;
    assert_eq!(told.status, 204, "{}", told.text);
    api.wait_status(&id, Status::Authenticating).await.unwrap();

    let stored = agent.deliver(&id, "{\"token\": \"of-the-outside\"}").await;
    assert_eq!(stored.status, 200, "{}", stored.text);
    let view = api.wait_status(&id, Status::Completed).await.unwrap();
    let lease = api.lease(&view.credential.unwrap().id).await.unwrap();
    assert_eq!(lease.files[0].content.expose(), b"{\"token\": \"of-the-outside\"}");
    assert_eq!(verdict(&api, &id).await.0, "completed");
    let again = agent.deliver(&id, "{\"token\": \"of-the-outside\"}").await;
    assert_eq!(again.status, 200, "a second delivery is ignored: {}", again.text);
    assert_eq!(ask(&api, "desk").await.status, 202, "the machine is free for another");
    for secret in ["of-the-outside", TOKEN] {
        let files = server.leaks().files_with(secret);
        assert!(files.is_empty(), "{secret} lies in {files:?}");
    }
    server.finish().await.unwrap();
}

#[tokio::test]
async fn delivery_with_another_token_is_rejected() {
    let fixture = Fixture::new();
    let other = fixture.machine("other", NOWHERE, "the-token-of-another-agent");
    let server = fixture.start_server(NOWHERE, &other).await;
    let api = server.backend().unwrap();
    let id = start(&api).await.session.id;
    for token in ["a-token-that-nobody-has", "the-token-of-another-agent"] {
        let agent = Agent::of(&server, token);
        let refused = agent.deliver(&id, "{\"token\": \"x\"}").await;
        assert_eq!((refused.status, refused.problem().unwrap().code.as_str()), (401, "wrong_agent_token"));
        let bound = agent.bound().await;
        assert_eq!(bound.status, if token.contains("another") { 404 } else { 401 }, "{}", bound.text);
    }
    assert_eq!(api.session(&id).await.unwrap().status, Status::VmStarted);
    server.finish().await.unwrap();
}

#[tokio::test]
async fn restarted_server_reconnects_session_desktop_and_agent() {
    let vnc = crate::vnc_server::Vnc::start(&[]).await;
    let fixture = Fixture::new();
    let mut server = fixture.start_server(&format!("vnc://{}", vnc.at), "").await;
    let id = start(&server.backend().unwrap()).await.session.id;
    sees_the_desk(&server.backend().unwrap(), &id).await;
    for graceful in [true, false] {
        if graceful { server.stop_server().await } else { server.kill_server().await }.unwrap();
        server.start_server().await.unwrap();
        let api = server.backend().unwrap();
        let view = api.wait_status(&id, Status::VmStarted).await.unwrap();
        assert_eq!((view.generation, view.machine.as_deref()), (1, Some("desk")));
        sees_the_desk(&api, &id).await;
        assert_eq!(ask(&api, "desk").await.problem().unwrap().code, "machine_in_use", "it is still this session's");
    }
    let agent = Agent::of(&server, TOKEN);
    let bound: AgentSession = agent.bound().await.read().unwrap();
    assert_eq!(bound.session, id);
    assert_eq!(agent.deliver(&id, "{\"token\": \"x\"}").await.status, 200);
    server.backend().unwrap().wait_status(&id, Status::Completed).await.unwrap();
    server.finish().await.unwrap();
    vnc.end().await;
}
