//! A program that speaks as a machine's agent through the public door: with a token of the test's own.

use anteroom_store::{Change, Expect, NewEvent, Settings, Sha256Hex, Store, Transition};
use anteroom_testbed::{ApiResponse, TestServer};
use anteroom_wire::{
    Base64, CredentialId, Secret, SessionId,
    agent::{DeliveredFile, Delivery, STORE_PATH},
    api::{Started, Status},
};
use reqwest::{Client, header};
use serde_json::json;

/// Speaks for the machine of one session.
pub(crate) struct Posing {
    /// The session whose machine this says to be.
    pub session: SessionId,
    token: Secret,
    client: Client,
    url: String,
}

impl Posing {
    /// Starts a session, waits for its machine and gives that machine's place to a token that the test knows.
    pub(crate) async fn start(world: &TestServer) -> Self {
        let session = world.backend().unwrap().start("scripted").await.unwrap().session.id;
        Self::of(world, session).await
    }

    /// The same for a session that renews the credential.
    pub(crate) async fn renewing(world: &TestServer, credential: &CredentialId) -> Self {
        let request = json!({ "provider": "scripted", "renews": credential });
        let answer = world.backend().unwrap().post("/api/auth/start", request).await.unwrap();
        Self::of(world, answer.read::<Started>().unwrap().session.id).await
    }

    /// The same for a session that uses the credential, with a command that does not end.
    pub(crate) async fn using(world: &TestServer, credential: &CredentialId) -> Self {
        let request = json!({ "purpose": "exec", "argv": ["/bin/sleep", "600"] });
        let path = format!("/api/credentials/{credential}/use");
        let answer = world.backend().unwrap().post(&path, request).await.unwrap();
        Self::of(world, answer.read::<Started>().unwrap().session.id).await
    }

    /// The same at the server that there is now.
    pub(crate) fn at(self, world: &TestServer) -> Self {
        Self { url: format!("http://{}{STORE_PATH}", world.address().unwrap()), ..self }
    }

    async fn of(world: &TestServer, session: SessionId) -> Self {
        world.backend().unwrap().wait_status(&session, Status::VmStarted).await.unwrap();
        let token = Secret::new("agt_a-token-that-the-test-knows".to_owned());
        let store = store(world).await;
        let change = Change::new().agent_token(Some(Sha256Hex::of_secret(&token)));
        let event = NewEvent::new(0, "token_taken", "The test speaks for the machine.");
        let done = store.transition(&session, Expect::Active, change, event).await.unwrap();
        assert!(matches!(done, Transition::Done { .. }), "{done:?}");
        store.close().await;
        let client = Client::builder().no_proxy().timeout(anteroom_testbed::WAIT_MAX).build().unwrap();
        Self { session, token, client, url: format!("http://{}{STORE_PATH}", world.address().unwrap()) }
    }

    /// A delivery of this one file as the tool would write it.
    pub(crate) fn delivery(&self, content: &str) -> Delivery {
        let file = DeliveredFile {
            path: anteroom_testbed::ScriptedTool::CREDENTIAL.to_owned(),
            mode: 0o600,
            content: Base64::new(content.as_bytes().to_vec()),
        };
        Delivery {
            session: self.session.clone(),
            generation: 1,
            provider: "scripted".parse().unwrap(),
            files: vec![file],
        }
    }

    /// Delivers with the machine's token.
    pub(crate) async fn deliver(&self, delivery: &Delivery) -> ApiResponse {
        self.post(serde_json::to_string(delivery).unwrap()).await
    }

    /// Posts any body as JSON with the machine's token.
    pub(crate) async fn post(&self, body: impl Into<String>) -> ApiResponse {
        self.send(Some(self.token.expose()), "application/json", body.into()).await
    }

    /// Posts any body as anything with any token.
    pub(crate) async fn send(&self, token: Option<&str>, kind: &str, body: String) -> ApiResponse {
        let mut request = self.client.post(&self.url).header(header::CONTENT_TYPE, kind).body(body);
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        let answer = request.send().await.unwrap();
        ApiResponse { status: answer.status().as_u16(), text: answer.text().await.unwrap() }
    }
}

/// The server's own database, opened beside it.
pub(crate) async fn store(world: &TestServer) -> Store {
    let settings = Settings { busy_ms_max: 30_000, ..Settings::default() };
    Store::open(&world.state_dir().join("anteroom.db"), settings).await.unwrap()
}
