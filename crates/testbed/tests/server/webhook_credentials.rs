//! A credential that is handed out once goes by one way: with one message to the webhook, or to its owner who asks for it.

use crate::{
    Scene,
    fake_agent::Posing,
    webhook::{HELD, Inbox, NEVER, Receiver, reported, signed_in},
};
use anteroom_testbed::{ApiResponse, ApiClient, TestConfig, ScriptedTool, TestServer};
use anteroom_wire::{
    CredentialId, SessionId,
    agent::Delivered,
    api::{Lease, Status},
};
use serde_json::json;
use std::fs;

const CONTENT: &str = "{\"token\": \"once\"}";
const WITH_FILES: &str = "include_credential = true\n";

fn tool(scene: &Scene) -> ScriptedTool {
    scene.tool(CONTENT).with("policy", json!("deliver_once"))
}

async fn world(scene: &Scene, receiver: &Receiver, more: &str) -> TestServer {
    let settings = receiver.settings(scene, &format!("{WITH_FILES}{more}"));
    TestServer::start(TestConfig::with_tool(tool(scene)).with_settings(&settings)).await.unwrap()
}

async fn lease(api: &ApiClient, id: &CredentialId) -> ApiResponse {
    api.post(&format!("/api/credentials/{id}/lease"), json!({})).await.unwrap()
}

fn refused(answer: &ApiResponse) -> (u16, String, String) {
    let problem = answer.problem().unwrap();
    (answer.status, problem.code, problem.detail.unwrap_or_default())
}

fn content(answer: &ApiResponse) -> Vec<u8> {
    answer.read::<Lease>().unwrap().files[0].content.expose().to_vec()
}

/// The bytes in each message, in the order in which they came.
fn sent(inbox: &Inbox) -> Vec<Option<Vec<u8>>> {
    let files = |message: &crate::webhook::Message| {
        let files = message.read().data.files?;
        Some(files[0].content.expose().to_vec())
    };
    inbox.messages().iter().map(files).collect()
}

async fn credential(api: &ApiClient, session: &SessionId) -> CredentialId {
    api.wait_status(session, Status::Completed).await.unwrap().credential.unwrap().id
}

#[tokio::test]
async fn credential_in_webhook_delivery_cannot_be_leased() {
    let (scene, inbox) = (Scene::new(), Inbox::answering(&[HELD]));
    let receiver = Receiver::start(&inbox).await;
    let world = world(&scene, &receiver, "").await;
    let api = world.backend().unwrap();
    let session = signed_in(&scene, &api).await;
    inbox.holds(1).await;
    let id = credential(&api, &session).await;
    for _ in 0..3 {
        let (status, code, detail) = refused(&lease(&api, &id).await);
        assert_eq!((status, code.as_str()), (410, "already_delivered"));
        assert!(detail.contains("on its way to the webhook"), "{detail}");
    }
    inbox.let_go.notify_one();
    let taken = api.wait_entry(&session, "webhook_delivered").await.unwrap();
    assert!(taken.sentence.contains("it was deleted here"), "{taken:?}");
    let (status, code, detail) = refused(&lease(&api, &id).await);
    assert_eq!((status, code.as_str(), detail.contains("that was at")), (410, "already_delivered", true), "{detail}");
    reported(&world, |report| report.pending.is_empty()).await;
    assert_eq!(sent(&inbox), [Some(CONTENT.as_bytes().to_vec()), None]);
    world.finish().await.unwrap();
}

#[tokio::test]
async fn credential_rejected_by_the_webhook_can_be_leased_and_is_not_attached_again() {
    let (scene, inbox) = (Scene::new(), Inbox::answering(&[503, 503]));
    let receiver = Receiver::start(&inbox).await;
    // Between the first try and the next there is time for a person.
    let settings = receiver.settings(&scene, WITH_FILES).replace("retry_ms_min = 20", "retry_ms_min = 3000");
    let settings = settings.replace("retry_ms_max = 200", "retry_ms_max = 3000");
    let world = TestServer::start(TestConfig::with_tool(tool(&scene)).with_settings(&settings)).await.unwrap();
    let api = world.backend().unwrap();
    let session = signed_in(&scene, &api).await;
    api.wait_entry(&session, "webhook_failed").await.unwrap();
    let leased = lease(&api, &credential_of(&world).await).await;
    let before = inbox.messages().len();
    assert_eq!(content(&leased), CONTENT.as_bytes());
    reported(&world, |report| report.pending.is_empty()).await;
    let sent = sent(&inbox);
    assert_eq!(sent[0].as_deref(), Some(CONTENT.as_bytes()), "it was refused with the bytes in it");
    assert!(sent.len() > before && sent[before..].iter().all(Option::is_none), "from the lease on it goes without");
    world.finish().await.unwrap();
}

/// The one that waits in the outbox.
async fn credential_of(world: &TestServer) -> CredentialId {
    reported(world, |report| !report.pending.is_empty()).await.pending[0].credential.clone().unwrap()
}

#[tokio::test]
async fn credential_of_an_abandoned_webhook_message_can_be_leased_again() {
    let (scene, inbox) = (Scene::new(), Inbox::answering(&[NEVER, 503]));
    let receiver = Receiver::start(&inbox).await;
    let settings = "attempts_max = 3\ntimeout_ms_max = 1000\n";
    let settings = receiver
        .settings(&scene, &format!("{WITH_FILES}{settings}"))
        .replace("retry_ms_min = 20\nretry_ms_max = 200", "retry_ms_min = 4000\nretry_ms_max = 4000");
    inbox.then(503);
    let world = TestServer::start(TestConfig::with_tool(tool(&scene)).with_settings(&settings)).await.unwrap();
    let api = world.backend().unwrap();
    let session = signed_in(&scene, &api).await;
    // Nobody knows whether the first was taken; that the second was not changes nothing of that.
    for tries in [1, 2] {
        reported(&world, |report| report.pending.first().is_some_and(|message| message.attempts == tries)).await;
        let (status, code, _) = refused(&lease(&api, &credential_of(&world).await).await);
        assert_eq!((status, code.as_str()), (410, "already_delivered"), "after {tries} tries");
    }
    let abandoned = api.wait_entry(&session, "webhook_abandoned").await.unwrap();
    assert!(abandoned.sentence.contains("can be fetched here until"), "{abandoned:?}");
    let id = credential(&api, &session).await;
    assert_eq!(content(&lease(&api, &id).await), CONTENT.as_bytes());
    world.finish().await.unwrap();
}

#[tokio::test]
async fn webhook_delivery_interrupted_by_a_restart_keeps_its_credential() {
    let (scene, inbox) = (Scene::new(), Inbox::answering(&[NEVER, HELD]));
    let receiver = Receiver::start(&inbox).await;
    let mut world = world(&scene, &receiver, "").await;
    let session = signed_in(&scene, &world.backend().unwrap()).await;
    inbox.holds(1).await;
    world.kill_server().await.unwrap();
    world.start_server().await.unwrap();
    let api = world.backend().unwrap();
    let messages = inbox.holds(2).await;
    assert_eq!(messages[0].id(), messages[1].id(), "the same one again");
    let id = credential(&api, &session).await;
    assert_eq!(refused(&lease(&api, &id).await).1, "already_delivered");
    inbox.let_go.notify_one();
    reported(&world, |report| report.pending.is_empty()).await;
    assert_eq!(refused(&lease(&api, &id).await).1, "already_delivered");
    // It is set to be fetched from now on; the one that is on its way then is let go.
    scene_again(&scene);
    inbox.then(NEVER);
    let session = signed_in(&scene, &api).await;
    inbox.holds(4).await;
    let id = credential(&api, &session).await;
    world.kill_server().await.unwrap();
    let file = world.path().join("config.toml");
    let config = fs::read_to_string(&file).unwrap();
    assert!(config.contains("include_credential = true"), "{config}");
    fs::write(&file, config.replace("include_credential = true", "include_credential = false")).unwrap();
    world.start_server().await.unwrap();
    assert_eq!(content(&lease(&world.backend().unwrap(), &id).await), CONTENT.as_bytes());
    reported(&world, |report| report.pending.is_empty()).await;
    world.finish().await.unwrap();
}

/// The next session's tool waits anew.
fn scene_again(scene: &Scene) {
    fs::remove_file(scene.flag("go")).unwrap();
}

#[tokio::test]
async fn refreshed_deliver_once_credential_is_delivered_once() {
    let (scene, inbox) = (Scene::new(), Inbox::default());
    let receiver = Receiver::start(&inbox).await;
    let settings = receiver.settings(&scene, WITH_FILES);
    let mut world = TestServer::start(TestConfig::with_tool(scene.idle_tool()).with_settings(&settings)).await.unwrap();
    // While it is used its provider becomes one whose credentials are handed out once, and it is signed in to again.
    let first = Posing::start(&world).await;
    assert_eq!(first.deliver(&first.delivery("{\"token\": \"1\"}")).await.status, 200);
    let id = credential(&world.backend().unwrap(), &first.session).await;
    let using = Posing::using(&world, &id).await;
    reported(&world, |report| report.pending.is_empty()).await;
    world.stop_server().await.unwrap();
    let file = world.path().join("providers/scripted.toml");
    let provider = fs::read_to_string(&file).unwrap();
    fs::write(&file, provider.replace("policy = \"store\"", "policy = \"deliver_once\"")).unwrap();
    world.start_server().await.unwrap();
    let api = world.backend().unwrap();
    api.wait_status(&using.session, Status::VmStarted).await.unwrap();
    let using = using.at(&world);
    let renewing = Posing::renewing(&world, &id).await;
    let before = inbox.messages().len();
    inbox.then(HELD);
    assert_eq!(renewing.deliver(&renewing.delivery("{\"token\": \"2\"}")).await.status, 200);
    inbox.holds(before + 1).await;
    // The second revision is on its way: the third is not deleted with it, and goes by itself.
    let answer = using.deliver(&using.delivery("{\"token\": \"3\"}")).await;
    assert_eq!(answer.read::<Delivered>().unwrap(), Delivered::Stored { credential: id.clone() });
    inbox.let_go.notify_one();
    let taken = api.wait_entry(&renewing.session, "webhook_delivered").await.unwrap();
    assert!(taken.sentence.contains("other bytes took its place"), "{taken:?}");
    let taken = api.wait_entry(&using.session, "webhook_delivered").await.unwrap();
    assert!(taken.sentence.contains("it was deleted here"), "{taken:?}");
    let sent: Vec<_> = sent(&inbox)[before..].iter().flatten().cloned().collect();
    assert_eq!(sent, [&b"{\"token\": \"2\"}"[..], b"{\"token\": \"3\"}"], "each once");
    // What it changes from now on has no place any more, and that is told.
    let answer = using.deliver(&using.delivery("{\"token\": \"4\"}")).await;
    assert_eq!(refused(&answer).1, "unknown_credential");
    let lost = api.wait_entry(&using.session, "credential_not_refreshed").await.unwrap();
    assert!(lost.sentence.contains("the change is not kept"), "{lost:?}");
    world.finish().await.unwrap();
}
