//! Credentials with the policy deliver_once: attached to one webhook message, or leased by the owner, never both.

use crate::{
    Flags,
    fake_agent::FakeAgent,
    problem_of,
    webhook::{Inbox, NO_RESPONSE, ON_RELEASE, Receiver, complete_session, wait_report},
};
use anteroom_testbed::{ApiClient, ApiResponse, ScriptedProvider, TestConfig, TestServer};
use anteroom_wire::{
    CredentialId, SessionId, TimelineKind,
    agent::DeliveryResult,
    api::{Lease, SessionStatus},
};
use serde_json::json;
use std::fs;

const CONTENT: &str = "{\"token\": \"once\"}";
const WITH_FILES: &str = "include_credential = true\n";

fn provider(flags: &Flags) -> ScriptedProvider {
    flags.provider(CONTENT).with_descriptor_key("policy", json!("deliver_once"))
}

async fn start_with_webhook(flags: &Flags, receiver: &Receiver, more: &str) -> TestServer {
    let settings = receiver.settings(flags, &format!("{WITH_FILES}{more}"));
    TestServer::start(TestConfig::with_provider(provider(flags)).with_settings(&settings)).await.unwrap()
}

async fn request_lease(api: &ApiClient, id: &CredentialId) -> ApiResponse {
    api.post(&format!("/api/credentials/{id}/lease"), json!({})).await.unwrap()
}

fn content(answer: &ApiResponse) -> Vec<u8> {
    answer.parse::<Lease>().unwrap().files[0].content.expose().to_vec()
}

/// The attached content of each message, in the order of arrival.
fn sent_contents(inbox: &Inbox) -> Vec<Option<Vec<u8>>> {
    let files = |message: &crate::webhook::Message| {
        let files = message.read().data.files?;
        Some(files[0].content.expose().to_vec())
    };
    inbox.messages().iter().map(files).collect()
}

async fn wait_credential(api: &ApiClient, session: &SessionId) -> CredentialId {
    api.wait_status(session, SessionStatus::Completed).await.unwrap().credential.unwrap().id
}

#[tokio::test]
async fn credential_in_webhook_delivery_cannot_be_leased() {
    let (flags, inbox) = (Flags::new(), Inbox::with_statuses(&[ON_RELEASE]));
    let receiver = Receiver::start(&inbox).await;
    let server = start_with_webhook(&flags, &receiver, "").await;
    let api = server.backend_client().unwrap();
    let session = complete_session(&flags, &api).await;
    inbox.wait_messages(1).await;
    let id = wait_credential(&api, &session).await;
    for _ in 0..3 {
        let (status, code, detail) = problem_of(&request_lease(&api, &id).await);
        assert_eq!((status, code.as_str()), (410, "already_delivered"));
        assert!(detail.contains("being delivered to the webhook"), "{detail}");
    }
    inbox.release.notify_one();
    let taken = api.wait_entry(&session, TimelineKind::WebhookDelivered).await.unwrap();
    assert!(taken.sentence.contains("it was deleted here"), "{taken:?}");
    let (status, code, detail) = problem_of(&request_lease(&api, &id).await);
    assert_eq!((status, code.as_str(), detail.contains("delivered at")), (410, "already_delivered", true), "{detail}");
    wait_report(&server, |report| report.pending.is_empty()).await;
    assert_eq!(sent_contents(&inbox), [Some(CONTENT.as_bytes().to_vec()), None]);
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn credential_rejected_by_the_webhook_can_be_leased_and_is_not_attached_again() {
    let (flags, inbox) = (Flags::new(), Inbox::with_statuses(&[503, 503]));
    let receiver = Receiver::start(&inbox).await;
    // There is time for a lease between the first attempt and the next.
    let settings = receiver.settings(&flags, WITH_FILES).replace("retry_ms_min = 20", "retry_ms_min = 3000");
    let settings = settings.replace("retry_ms_max = 200", "retry_ms_max = 3000");
    let server = TestServer::start(TestConfig::with_provider(provider(&flags)).with_settings(&settings)).await.unwrap();
    let api = server.backend_client().unwrap();
    let session = complete_session(&flags, &api).await;
    api.wait_entry(&session, TimelineKind::WebhookFailed).await.unwrap();
    let leased = request_lease(&api, &pending_credential(&server).await).await;
    let before = inbox.messages().len();
    assert_eq!(content(&leased), CONTENT.as_bytes());
    wait_report(&server, |report| report.pending.is_empty()).await;
    let sent = sent_contents(&inbox);
    assert_eq!(sent[0].as_deref(), Some(CONTENT.as_bytes()), "the rejected message contained the credential");
    assert!(
        sent.len() > before && sent[before..].iter().all(Option::is_none),
        "after the lease the messages contain no credential"
    );
    server.stop_and_check_leaks().await.unwrap();
}

/// The credential of the first pending message.
async fn pending_credential(server: &TestServer) -> CredentialId {
    wait_report(server, |report| !report.pending.is_empty()).await.pending[0].credential.clone().unwrap()
}

#[tokio::test]
async fn credential_of_an_abandoned_webhook_message_can_be_leased_again() {
    let (flags, inbox) = (Flags::new(), Inbox::with_statuses(&[NO_RESPONSE, 503]));
    let receiver = Receiver::start(&inbox).await;
    let limits = "timeout_ms_max = 1000\nretry_ms_min = 4000\nretry_ms_max = 4000";
    let settings = receiver
        .settings(&flags, &format!("{WITH_FILES}attempts_max = 3\n"))
        .replace("retry_ms_min = 20\nretry_ms_max = 200", limits);
    inbox.push_status(503);
    let server = TestServer::start(TestConfig::with_provider(provider(&flags)).with_settings(&settings)).await.unwrap();
    let api = server.backend_client().unwrap();
    let session = complete_session(&flags, &api).await;
    // It is unknown whether the receiver has accepted the first attempt; the rejection of the second does not change that.
    for tries in [1, 2] {
        wait_report(&server, |report| report.pending.first().is_some_and(|message| message.attempts == tries)).await;
        let (status, code, _) = problem_of(&request_lease(&api, &pending_credential(&server).await).await);
        assert_eq!((status, code.as_str()), (410, "already_delivered"), "after {tries} tries");
    }
    let abandoned = api.wait_entry(&session, TimelineKind::WebhookAbandoned).await.unwrap();
    assert!(abandoned.sentence.contains("can be fetched here until"), "{abandoned:?}");
    let id = wait_credential(&api, &session).await;
    assert_eq!(content(&request_lease(&api, &id).await), CONTENT.as_bytes());
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn webhook_message_is_sent_again_after_a_server_crash_and_its_credential_stays_reserved() {
    let (flags, inbox) = (Flags::new(), Inbox::with_statuses(&[NO_RESPONSE, ON_RELEASE]));
    let receiver = Receiver::start(&inbox).await;
    let mut server = start_with_webhook(&flags, &receiver, "").await;
    let session = complete_session(&flags, &server.backend_client().unwrap()).await;
    inbox.wait_messages(1).await;
    server.kill_server().await.unwrap();
    server.start_server().await.unwrap();
    let api = server.backend_client().unwrap();
    let messages = inbox.wait_messages(2).await;
    assert_eq!(messages[0].id(), messages[1].id(), "the same message again");
    let id = wait_credential(&api, &session).await;
    assert_eq!(problem_of(&request_lease(&api, &id).await).1, "already_delivered");
    inbox.release.notify_one();
    wait_report(&server, |report| report.pending.is_empty()).await;
    assert_eq!(problem_of(&request_lease(&api, &id).await).1, "already_delivered");
    // Attaching is disabled while a message is in delivery: its credential can be leased afterwards.
    reset_go_flag(&flags);
    inbox.push_status(NO_RESPONSE);
    let session = complete_session(&flags, &api).await;
    inbox.wait_messages(4).await;
    let id = wait_credential(&api, &session).await;
    server.kill_server().await.unwrap();
    let file = server.path().join("config.toml");
    let config = fs::read_to_string(&file).unwrap();
    assert!(config.contains("include_credential = true"), "{config}");
    fs::write(&file, config.replace("include_credential = true", "include_credential = false")).unwrap();
    server.start_server().await.unwrap();
    assert_eq!(content(&request_lease(&server.backend_client().unwrap(), &id).await), CONTENT.as_bytes());
    wait_report(&server, |report| report.pending.is_empty()).await;
    server.stop_and_check_leaks().await.unwrap();
}

/// Clears the flag `go`, so that the tool of the next session waits again.
fn reset_go_flag(flags: &Flags) {
    fs::remove_file(flags.path("go")).unwrap();
}

#[tokio::test]
async fn refreshed_deliver_once_credential_is_delivered_once() {
    let (flags, inbox) = (Flags::new(), Inbox::default());
    let receiver = Receiver::start(&inbox).await;
    let settings = receiver.settings(&flags, WITH_FILES);
    // A renewal waits for the use of a credential that its tool may refresh.
    let rules = json!({
        "paths": [ScriptedProvider::CREDENTIAL_PATH], "required": ["/token"], "never_refreshed": true,
    });
    let provider = flags.idle_provider().with_descriptor_key("credential", rules);
    let mut server = TestServer::start(TestConfig::with_provider(provider).with_settings(&settings)).await.unwrap();
    // During the use the policy of its provider changes to deliver_once, and the credential is renewed.
    let first = FakeAgent::start(&server).await;
    assert_eq!(first.deliver(&first.delivery("{\"token\": \"1\"}")).await.status, 200);
    let id = wait_credential(&server.backend_client().unwrap(), &first.session).await;
    let using = FakeAgent::start_using(&server, &id).await;
    wait_report(&server, |report| report.pending.is_empty()).await;
    server.stop_server().await.unwrap();
    let file = server.path().join("providers/scripted.toml");
    let provider = fs::read_to_string(&file).unwrap();
    fs::write(&file, provider.replace("policy = \"store\"", "policy = \"deliver_once\"")).unwrap();
    server.start_server().await.unwrap();
    let api = server.backend_client().unwrap();
    api.wait_status(&using.session, SessionStatus::VmStarted).await.unwrap();
    let using = using.with_server(&server);
    let renewing = FakeAgent::start_renewing(&server, &id).await;
    let before = inbox.messages().len();
    inbox.push_status(ON_RELEASE);
    assert_eq!(renewing.deliver(&renewing.delivery("{\"token\": \"2\"}")).await.status, 200);
    inbox.wait_messages(before + 1).await;
    // The second revision is in delivery: the third is not deleted with it and is sent separately.
    let answer = using.deliver(&using.delivery("{\"token\": \"3\"}")).await;
    assert_eq!(answer.parse::<DeliveryResult>().unwrap(), DeliveryResult::Stored { credential: id.clone() });
    inbox.release.notify_one();
    let taken = api.wait_entry(&renewing.session, TimelineKind::WebhookDelivered).await.unwrap();
    assert!(taken.sentence.contains("was replaced here during the delivery"), "{taken:?}");
    let taken = api.wait_entry(&using.session, TimelineKind::WebhookDelivered).await.unwrap();
    assert!(taken.sentence.contains("it was deleted here"), "{taken:?}");
    let sent: Vec<_> = sent_contents(&inbox)[before..].iter().flatten().cloned().collect();
    assert_eq!(sent, [&b"{\"token\": \"2\"}"[..], b"{\"token\": \"3\"}"], "each revision once");
    // A later refresh cannot be stored any more; this is recorded.
    let answer = using.deliver(&using.delivery("{\"token\": \"4\"}")).await;
    assert_eq!(problem_of(&answer).1, "unknown_credential");
    let lost = api.wait_entry(&using.session, TimelineKind::CredentialNotRefreshed).await.unwrap();
    assert!(lost.sentence.contains("the change is lost"), "{lost:?}");
    server.stop_and_check_leaks().await.unwrap();
}
