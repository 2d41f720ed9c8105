//! Credentials that a test stores by delivering them as an agent, and what the API reports of the keys that wrap them.

use crate::{fake_agent::FakeAgent, fixture::Flags};
use anteroom_testbed::{Script, ScriptedProvider, Step, TestConfig, TestServer, WAIT_MAX, eventually};
use anteroom_wire::{CredentialId, api::SessionStatus, operator_reports::KeyReport};
use serde_json::json;

/// A server whose provider `scripted` runs until a credential is delivered.
pub(crate) async fn start_server(settings: &str) -> (Flags, TestServer) {
    let flags = Flags::new();
    let config = config(&flags).with_settings(settings);
    (flags, TestServer::start(config).await.unwrap())
}

/// A server with the provider `scripted`, and with `signing`, whose tool writes the credential with the token `one`.
pub(crate) fn config(flags: &Flags) -> TestConfig {
    let write = Step::write(ScriptedProvider::CREDENTIAL_PATH, content("one"));
    let signing = ScriptedProvider::new("signing", Script::new([write, flags.wait_step("never")]));
    TestConfig::with_providers([flags.idle_provider(), signing])
}

/// Starts a session whose tool signs in: for a server whose keys, and so the MACs of its rows, the test cannot make.
pub(crate) async fn deliver_by_tool(server: &TestServer) -> CredentialId {
    let api = server.backend_client().unwrap();
    let session = api.start_session("signing").await.unwrap().session.id;
    api.wait_status(&session, SessionStatus::Completed).await.unwrap().credential.unwrap().id
}

/// The credential file with this token.
pub(crate) fn content(token: &str) -> String {
    format!("{{\"token\": \"{token}\"}}")
}

/// Starts a session and delivers this token for it.
pub(crate) async fn deliver(server: &TestServer, token: &str) -> CredentialId {
    deliver_for(server, token, None).await
}

/// The same for a user.
pub(crate) async fn deliver_for(server: &TestServer, token: &str, user_id: Option<&str>) -> CredentialId {
    let agent = FakeAgent::start_for(server, user_id).await;
    let answer = agent.deliver(&agent.delivery(&content(token))).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let api = server.backend_client().unwrap();
    api.wait_status(&agent.session, SessionStatus::Completed).await.unwrap().credential.unwrap().id
}

/// The content of the credential's file, by a lease.
pub(crate) async fn lease(server: &TestServer, id: &CredentialId) -> String {
    let lease = server.backend_client().unwrap().lease_credential(id).await.unwrap();
    String::from_utf8(lease.files[0].content.expose().to_vec()).unwrap()
}

pub(crate) async fn key_report(server: &TestServer) -> KeyReport {
    server.operator_client().unwrap().get("/api/keys").await.unwrap().parse().unwrap()
}

/// Rotates, and waits until no record is left under an older key. Returns the number of the primary key.
pub(crate) async fn rotate(server: &TestServer) -> u32 {
    let answer = server.operator_client().unwrap().post("/api/keys/rotate", json!({})).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text);
    wait_rewrapped(server).await
}

/// Waits until no record is left under an older key.
pub(crate) async fn wait_rewrapped(server: &TestServer) -> u32 {
    let rewrapped = async || {
        let report = key_report(server).await;
        let primary = report.keys.iter().find(|key| key.is_primary).map(|key| key.id);
        Ok((report.records_to_rewrap == 0).then_some(primary).flatten())
    };
    eventually("every record is rewrapped", WAIT_MAX, rewrapped).await.unwrap()
}

/// Status and code of an answer to `POST /api/keys/{id}/retire`; the code of a success is empty.
pub(crate) async fn retire(server: &TestServer, id: u32) -> (u16, String) {
    let answer = server.operator_client().unwrap().post(&format!("/api/keys/{id}/retire"), json!({})).await.unwrap();
    (answer.status, answer.problem().map(|problem| problem.code).unwrap_or_default())
}
