//! A credential from capture to deletion: handed out once, kept in the machine, replaced without a trace, standing by its own end.

use crate::{
    Scene,
    fake_agent::{Posing, store},
};
use anteroom_testbed::{ApiResponse, ApiClient, TestConfig, Script, Step, ScriptedTool, TestServer};
use anteroom_wire::{
    CredentialId, SessionId,
    agent::Delivered,
    api::{CredentialHealth, CredentialMeta, Lease, ProviderList, Status},
    provider::StoragePolicy,
};
use reqwest::Method;
use serde_json::json;
use std::{
    path::PathBuf,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

const OLD: &str = "canary5b0c7e12d9f34a68old";
const NEW: &str = "canary5b0c7e12d9f34a68new";

/// A tool whose credential is there once the scene says `go`.
fn scripted(scene: &Scene, policy: &str) -> ScriptedTool {
    scene.tool("{\"token\": \"of the scene\"}").with("policy", json!(policy))
}

async fn world_of(tool: ScriptedTool, settings: &str) -> TestServer {
    TestServer::start(TestConfig::with_tool(tool).with_settings(&format!("[sessions]\nsweep_every_ms = 100\n{settings}"))).await.unwrap()
}

async fn completed(api: &ApiClient, id: &SessionId) -> CredentialMeta {
    api.wait_status(id, Status::Completed).await.unwrap().credential.unwrap()
}

/// What a session's machine delivers and the server stores.
async fn delivered(world: &TestServer, content: &str) -> CredentialMeta {
    let agent = Posing::start(world).await;
    assert_eq!(agent.deliver(&agent.delivery(content)).await.status, 200);
    completed(&world.backend().unwrap(), &agent.session).await
}

async fn lease(api: &ApiClient, id: &CredentialId) -> ApiResponse {
    api.post(&format!("/api/credentials/{id}/lease"), json!({})).await.unwrap()
}

async fn read(api: &ApiClient, id: &CredentialId) -> ApiResponse {
    api.get(&format!("/api/credentials/{id}")).await.unwrap()
}

fn code(answer: &ApiResponse) -> (u16, String) {
    (answer.status, answer.problem().unwrap().code)
}

fn token(value: &str) -> String {
    format!("{{\"token\": \"{value}\"}}")
}

/// Whether these bytes stand in the database or its log.
fn holds(world: &TestServer, bytes: &[u8]) -> bool {
    let database = world.state_dir().join("anteroom.db");
    let files = ["", "-wal"].map(|suffix| PathBuf::from(format!("{}{suffix}", database.display())));
    let holds = |file: &PathBuf| {
        let content = std::fs::read(file).unwrap_or_default();
        content.windows(bytes.len()).any(|window| window == bytes)
    };
    files.iter().any(holds)
}

/// Sealed content that only the present bytes of this credential have.
async fn sealed_tail(world: &TestServer, id: &CredentialId) -> Vec<u8> {
    let store = store(world).await;
    let sealed = store.read_back(id).await.unwrap().unwrap();
    store.close().await;
    let tail = sealed.as_bytes()[136..].to_vec();
    assert!(holds(world, &tail), "the search finds what is there");
    tail
}

/// Waits until something is so.
async fn until(what: &str, mut is: impl FnMut() -> bool) {
    let end = tokio::time::Instant::now() + anteroom_testbed::WAIT_MAX;
    while !is() {
        assert!(tokio::time::Instant::now() < end, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn concurrent_leases_of_a_deliver_once_credential_succeed_exactly_once() {
    let scene = Scene::new();
    let world = world_of(scripted(&scene, "deliver_once"), "").await;
    let api = world.backend().unwrap();
    let id = api.start("scripted").await.unwrap().session.id;
    scene.raise("go");
    let meta = completed(&api, &id).await;
    assert_eq!(meta.policy, StoragePolicy::DeliverOnce);
    assert!(meta.deliver_until.is_some(), "{meta:?}");
    let stranger = world.other_backend().unwrap();
    assert_eq!(lease(&stranger, &meta.id).await.status, 403);
    let tail = sealed_tail(&world, &meta.id).await;
    let racers = (0..12).map(|_| {
        let (api, id) = (world.backend().unwrap(), meta.id.clone());
        tokio::spawn(async move { lease(&api, &id).await })
    });
    let racers: Vec<_> = racers.collect();
    let (mut given, mut refused) = (Vec::new(), 0);
    for racer in racers {
        let answer = racer.await.unwrap();
        if answer.status == 200 {
            given.push(answer.read::<Lease>().unwrap());
        } else {
            assert_eq!(code(&answer), (410, "already_delivered".into()));
            refused += 1;
        }
    }
    assert_eq!((given.len(), refused), (1, 11));
    assert_eq!(given[0].files[0].content.expose(), b"{\"token\": \"of the scene\"}");
    until("the sealed bytes are gone from the database and its log", || !holds(&world, &tail)).await;
    assert_eq!(code(&read(&api, &meta.id).await), (410, "already_delivered".into()));
    assert_eq!(read(&stranger, &meta.id).await.status, 403, "a stranger is not even told that");
    assert_eq!(api.credentials().await.unwrap().credentials, []);
    api.wait_entry(&id, "credential_leased").await.unwrap();
    world.finish().await.unwrap();
}

#[tokio::test]
async fn deliver_once_credential_is_deleted_and_reported_after_its_deadline() {
    let scene = Scene::new();
    let world = world_of(scripted(&scene, "deliver_once"), "[credentials]\ndeliver_once_s_max = 1\n").await;
    let api = world.backend().unwrap();
    let id = api.start("scripted").await.unwrap().session.id;
    scene.raise("go");
    api.wait_status(&id, Status::Completed).await.unwrap();
    api.wait_entry(&id, "credential_delivery_expired").await.unwrap();
    let database = store(&world).await;
    let stored = database.credential_of(&id).await.unwrap().unwrap();
    assert!(stored.deleted_at_ms >= stored.kept.until_ms(), "not before its time");
    let answer = lease(&api, &stored.id).await;
    assert_eq!(code(&answer), (404, "unknown_credential".into()));
    assert!(answer.problem().unwrap().detail.unwrap().contains("nobody fetched it"), "{}", answer.text);
    assert_eq!(database.leases(&stored.id, 10).await.unwrap(), []);
    database.close().await;
    assert!(world.log().contains("credential_delivery_expired"));
    world.finish().await.unwrap();
}

#[tokio::test]
async fn keep_in_machine_credential_is_rejected_on_delivery() {
    let scene = Scene::new();
    let world = world_of(scene.idle_tool().with("policy", json!("keep_in_machine")), "").await;
    let agent = Posing::start(&world).await;
    let answer = agent.deliver(&agent.delivery(&token("one"))).await;
    assert_eq!(code(&answer), (403, "forbidden_by_policy".into()));
    assert_eq!(world.operator().unwrap().credentials().await.unwrap().credentials, []);
    let view = world.backend().unwrap().session(&agent.session).await.unwrap();
    assert_eq!(view.status, Status::VmStarted);
    world.finish().await.unwrap();
}

#[tokio::test]
async fn provider_with_forbidden_policy_is_listed_as_unavailable_and_cannot_start() {
    let scene = Scene::new();
    let world = world_of(scene.idle_tool().with("policy", json!("forbidden")), "").await;
    let api = world.backend().unwrap();
    let list: ProviderList = api.get("/api/providers").await.unwrap().read().unwrap();
    let of_scene = list.providers.iter().find(|view| view.id.as_str() == "scripted").unwrap();
    assert_eq!((of_scene.available, of_scene.unavailable.as_ref()), (false, Some(&of_scene.policy_sentence)));
    let refused = api.post("/api/auth/start", json!({ "provider": "scripted" })).await.unwrap();
    assert_eq!(code(&refused), (403, "forbidden_by_policy".into()));
    assert!(refused.problem().unwrap().detail.unwrap().contains(&of_scene.policy_sentence), "{}", refused.text);
    assert_eq!(world.machines(), []);
    world.finish().await.unwrap();
}

#[tokio::test]
async fn renewal_erases_the_old_credential() {
    let scene = Scene::new();
    let world = world_of(scene.idle_tool(), "").await;
    let api = world.backend().unwrap();
    let meta = delivered(&world, &token(OLD)).await;
    let tail = sealed_tail(&world, &meta.id).await;
    let second = Posing::renewing(&world, &meta.id).await;
    let answer = second.deliver(&second.delivery(&token(NEW))).await;
    assert_eq!(answer.read::<Delivered>().unwrap(), Delivered::Stored { credential: meta.id.clone() });
    let again = completed(&api, &second.session).await;
    assert_eq!((&again.id, &again.session), (&meta.id, &second.session));
    assert_eq!(api.lease(&meta.id).await.unwrap().files[0].content.expose(), token(NEW).as_bytes());
    until("the old sealed bytes are gone from the database and its log", || !holds(&world, &tail)).await;
    for plain in [OLD, NEW] {
        assert_eq!(world.leaks().files_with(plain), Vec::<PathBuf>::new());
    }
    assert_eq!(api.session(&meta.session).await.unwrap().credential, Some(again), "both completed with it");
    world.finish().await.unwrap();
}

#[tokio::test]
async fn credential_deleted_during_its_renewal_stays_deleted() {
    let scene = Scene::new();
    let world = world_of(scene.idle_tool(), "").await;
    let api = world.backend().unwrap();
    let meta = delivered(&world, &token("one")).await;
    let again = Posing::renewing(&world, &meta.id).await;
    let path = format!("/api/credentials/{}", meta.id);
    assert_eq!(api.call(Method::DELETE, &path, None).await.unwrap().status, 204);
    let answer = again.deliver(&again.delivery(&token("two"))).await;
    assert_eq!(code(&answer), (404, "unknown_credential".into()));
    let view = api.wait_status(&again.session, Status::Failed).await.unwrap();
    assert_eq!(view.reason.unwrap().code, "unknown_credential");
    assert_eq!(code(&read(&api, &meta.id).await), (404, "unknown_credential".into()));
    world.finish().await.unwrap();
}

#[tokio::test]
async fn exec_can_deliver_repeatedly_without_ending() {
    let scene = Scene::new();
    let world = world_of(scene.idle_tool(), "").await;
    let api = world.backend().unwrap();
    let meta = delivered(&world, &token("one")).await;
    let using = Posing::using(&world, &meta.id).await;
    for value in ["two", "three", "three"] {
        let answer = using.deliver(&using.delivery(&token(value))).await;
        assert_eq!(answer.read::<Delivered>().unwrap(), Delivered::Stored { credential: meta.id.clone() });
        let leased = api.lease(&meta.id).await.unwrap();
        assert_eq!(leased.files[0].content.expose(), token(value).as_bytes());
        assert_eq!(leased.credential.session, using.session);
        assert!(!api.session(&using.session).await.unwrap().status.is_terminal(), "the use goes on");
    }
    let wrong = using.deliver(&using.delivery("{\"tokens\": \"four\"}")).await;
    assert_eq!(code(&wrong), (422, "invalid_credential_format".into()));
    let timeline = api.timeline(&using.session).await.unwrap();
    let told: Vec<_> = timeline.iter().filter(|entry| entry.kind == "credential_refreshed").collect();
    assert_eq!(told.len(), 2, "the same bytes once more change nothing: {told:?}");
    assert_eq!(told[1].data["revision"], 3);
    world.finish().await.unwrap();
}

#[tokio::test]
async fn health_follows_the_expiry_in_the_credential() {
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let rules = json!({
        "paths": [ScriptedTool::CREDENTIAL],
        "required": ["/token"],
        "ends_at": { "pointer": "/until", "unit": "unix_s" },
    });
    let scene = Scene::new();
    let world = world_of(scene.idle_tool().with("credential", rules), "").await;
    let api = world.backend().unwrap();
    for (ends_s, health) in [
        (now_s + 365 * 86_400, CredentialHealth::Valid),
        (now_s + 3_600, CredentialHealth::Expiring),
        (now_s - 10, CredentialHealth::NeedsAuth),
    ] {
        let meta = delivered(&world, &format!("{{\"token\": \"t\", \"until\": {ends_s}}}")).await;
        assert_eq!(meta.health, health, "{meta:?}");
        assert!(meta.ends_at.is_some() && !meta.health_detail.is_empty());
        let alone: CredentialMeta = read(&api, &meta.id).await.read().unwrap();
        assert_eq!((alone.health, &alone.ends_at), (health, &meta.ends_at));
    }
    until("the sweep has told of both ends", || world.log().matches("credential_ends").count() >= 2).await;
    world.finish().await.unwrap();
}

#[tokio::test]
async fn text_credential_and_companion_file_are_delivered_unchanged() {
    let scene = Scene::new();
    let text = "machine example.test:\n  oauth_token: s3cret\n";
    let rules = json!({
        "paths": [".scripted/hosts.yml"],
        "beside": [".scripted/config.yml"],
        "format": "text",
        "text_matches": "(?m)^ +oauth_token: \\S+$",
    });
    let steps = [
        scene.wait("go"),
        Step::write(".scripted/config.yml", "editor: none\n"),
        Step::write(".scripted/hosts.yml", text),
        scene.wait("never"),
    ];
    let world = world_of(ScriptedTool::new("scripted", Script::new(steps)).with("credential", rules), "").await;
    let api = world.backend().unwrap();
    let id = api.start("scripted").await.unwrap().session.id;
    scene.raise("go");
    let meta = completed(&api, &id).await;
    let files = api.lease(&meta.id).await.unwrap().files;
    let files: Vec<_> = files.iter().map(|file| (file.path.as_str(), file.content.expose())).collect();
    assert_eq!(files, [(".scripted/hosts.yml", text.as_bytes()), (".scripted/config.yml", &b"editor: none\n"[..])]);
    world.finish().await.unwrap();
}
