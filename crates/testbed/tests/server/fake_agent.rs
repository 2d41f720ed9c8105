//! A client that delivers credentials like a machine's agent, with a token that the test has set.

use anteroom_controller::keys::KeyRing;
use anteroom_store::{
    ExpectedState, NewTimelineEntry, SessionChange, Sha256Hex, Store, StoreSettings, TransitionOutcome,
};
use anteroom_testbed::{ApiResponse, TestServer};
use anteroom_wire::{
    Base64, CredentialId, Secret, SessionId, TimelineKind,
    agent::{CredentialDelivery, DeliveredFile, STORE_CREDENTIAL_PATH},
    api::{SessionStatus, StartRequest, StartResponse},
};
use reqwest::{Client, header};
use serde_json::json;

/// Acts as the agent of one session.
pub(crate) struct FakeAgent {
    /// The session for which this delivers.
    pub session: SessionId,
    pub(crate) token: Secret,
    client: Client,
    url: String,
}

impl FakeAgent {
    /// Starts a session, waits for its machine and replaces its agent token by one that the test knows.
    pub(crate) async fn start(server: &TestServer) -> Self {
        Self::start_for(server, None).await
    }

    /// The same for a session of a user.
    pub(crate) async fn start_for(server: &TestServer, user_id: Option<&str>) -> Self {
        let request = StartRequest { user_id: user_id.map(str::to_owned), ..StartRequest::new("scripted") };
        let started = server.backend_client().unwrap().start_session_with(&request).await.unwrap();
        Self::of(server, started.session.id).await
    }

    /// The same for a session that renews the credential.
    pub(crate) async fn start_renewing(server: &TestServer, credential: &CredentialId) -> Self {
        let request = json!({ "provider": "scripted", "renews": credential });
        let answer = server.backend_client().unwrap().post("/api/auth/start", request).await.unwrap();
        Self::of(server, answer.parse::<StartResponse>().unwrap().session.id).await
    }

    /// The same for a session that uses the credential, with a command that does not end.
    pub(crate) async fn start_using(server: &TestServer, credential: &CredentialId) -> Self {
        let request = json!({ "purpose": "exec", "argv": ["/bin/sleep", "600"] });
        let path = format!("/api/credentials/{credential}/use");
        let answer = server.backend_client().unwrap().post(&path, request).await.unwrap();
        Self::of(server, answer.parse::<StartResponse>().unwrap().session.id).await
    }

    /// The same agent with the address of the restarted server.
    pub(crate) fn with_server(self, server: &TestServer) -> Self {
        Self { url: format!("http://{}{STORE_CREDENTIAL_PATH}", server.address().unwrap()), ..self }
    }

    async fn of(server: &TestServer, session: SessionId) -> Self {
        server.backend_client().unwrap().wait_status(&session, SessionStatus::VmStarted).await.unwrap();
        let token = Secret::new("agt_a-token-that-the-test-knows".to_owned());
        let store = store(server).await;
        let change = SessionChange::new().with_agent_token(Some(Sha256Hex::of_secret(&token)));
        let entry = NewTimelineEntry::new(0, TimelineKind::MachineAdopted, "The test acts as the agent.");
        let done = store.transition(&session, ExpectedState::Active, change, entry).await.unwrap();
        assert!(matches!(done, TransitionOutcome::Done { .. }), "{done:?}");
        store.close().await;
        let client = Client::builder().no_proxy().timeout(anteroom_testbed::WAIT_MAX).build().unwrap();
        Self { session, token, client, url: format!("http://{}{STORE_CREDENTIAL_PATH}", server.address().unwrap()) }
    }

    /// A delivery of one file with this content.
    pub(crate) fn delivery(&self, content: &str) -> CredentialDelivery {
        let file = DeliveredFile {
            path: anteroom_testbed::ScriptedProvider::CREDENTIAL_PATH.to_owned(),
            mode: 0o600,
            content: Base64::new(content.as_bytes().to_vec()),
        };
        CredentialDelivery {
            session: self.session.clone(),
            generation: 1,
            provider: "scripted".parse().unwrap(),
            files: vec![file],
        }
    }

    /// Delivers with the agent token.
    pub(crate) async fn deliver(&self, delivery: &CredentialDelivery) -> ApiResponse {
        self.post(serde_json::to_string(delivery).unwrap()).await
    }

    /// Posts any body as JSON with the agent token.
    pub(crate) async fn post(&self, body: impl Into<String>) -> ApiResponse {
        self.send(Some(self.token.expose()), "application/json", body.into()).await
    }

    /// Posts any body with any content type and token.
    pub(crate) async fn send(&self, token: Option<&str>, kind: &str, body: String) -> ApiResponse {
        let mut request = self.client.post(&self.url).header(header::CONTENT_TYPE, kind).body(body);
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        let answer = request.send().await.unwrap();
        ApiResponse { status: answer.status().as_u16(), text: answer.text().await.unwrap() }
    }
}

/// The server's database, opened by the test.
pub(crate) async fn store(server: &TestServer) -> Store {
    let settings = StoreSettings { busy_ms_max: 30_000, ..StoreSettings::default() };
    let store = Store::open(&server.state_dir().join("anteroom.db"), settings).await.unwrap();
    // With keys from another place the rows that the test writes have no MACs, and are refused.
    if let Ok(ring) = KeyRing::open(&server.state_dir().join("vault.key")) {
        store.use_row_macs(ring);
    }
    store
}
