//! The credential's door: what it refuses, that it takes one delivery once, and that a database in trouble loses nothing.

use crate::{Scene, fake_agent::Posing};
use anteroom_testbed::{ApiResponse, TestConfig, WAIT_MAX, ScriptedTool, TestServer, leaks::needles};
use anteroom_wire::{
    Base64,
    agent::{Delivered, DeliveredFile, Delivery},
    api::Status,
    diagnosis::{Diagnosis, Verdict},
};
use reqwest::Method;
use sqlx::{ConnectOptions, Connection, SqliteConnection, sqlite::SqliteConnectOptions};
use std::time::Duration;
use tokio::time::{Instant, sleep};

const GOOD: &str = "{\"token\": \"one\"}";
/// What must be in no refusal and in no file.
const CANARY: &str = "canary8d1f0a66c5e94b27";

async fn idle_world(settings: &str) -> (Scene, TestServer) {
    let scene = Scene::new();
    let world = TestServer::start(TestConfig::with_tool(scene.idle_tool()).with_settings(settings)).await.unwrap();
    (scene, world)
}

/// What a refusal says, after a look for the canary.
fn refused(answer: &ApiResponse) -> (u16, String, String) {
    for needle in needles(CANARY) {
        let needle = String::from_utf8(needle).unwrap();
        assert!(!answer.text.contains(&needle), "a refusal quotes what was sent: {}", answer.text);
    }
    assert!(answer.text.len() < 2_000, "a refusal is short: {} bytes", answer.text.len());
    let problem = answer.problem().unwrap();
    (answer.status, problem.code, problem.detail.unwrap_or_default())
}

/// A refused delivery changes nothing: the person can still sign in on the same machine.
async fn nothing_happened(world: &TestServer, agent: &Posing) {
    let view = world.backend().unwrap().session(&agent.session).await.unwrap();
    assert_eq!((view.status, view.generation), (Status::VmStarted, 1));
    assert_eq!(world.machines().len(), 1, "its machine exists");
    assert_eq!(world.operator().unwrap().credentials().await.unwrap().credentials, []);
}

async fn completed_entries(world: &TestServer, agent: &Posing) -> usize {
    let timeline = world.backend().unwrap().timeline(&agent.session).await.unwrap();
    timeline.iter().filter(|entry| entry.kind == "completed").count()
}

async fn machines_are_gone(world: &TestServer) {
    let until = Instant::now() + WAIT_MAX;
    while !world.machines().is_empty() {
        assert!(Instant::now() < until, "machines are left: {:?}", world.machines());
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn delivery_with_a_wrong_agent_token_is_rejected() {
    let (_scene, world) = idle_world("").await;
    let agent = Posing::start(&world).await;
    let good = || serde_json::to_string(&agent.delivery(GOOD)).unwrap();
    for token in [None, Some("agt_another"), Some("")] {
        let (status, code, _) = refused(&agent.send(token, "application/json", good()).await);
        assert_eq!((status, code.as_str()), (401, "wrong_agent_token"), "{token:?}");
        nothing_happened(&world, &agent).await;
    }
    let replaced = Delivery { generation: 2, ..agent.delivery(GOOD) };
    let (status, code, _) = refused(&agent.deliver(&replaced).await);
    assert_eq!((status, code.as_str()), (401, "wrong_agent_token"), "another generation's machine");
    nothing_happened(&world, &agent).await;
    let unknown = Delivery { session: "ses_00000000000000000000000000".parse().unwrap(), ..agent.delivery(GOOD) };
    let (status, code, _) = refused(&agent.deliver(&unknown).await);
    assert_eq!((status, code.as_str()), (404, "unknown_session"));
    nothing_happened(&world, &agent).await;
    world.finish().await.unwrap();
}

#[tokio::test]
async fn malformed_delivery_is_rejected_without_echoing_its_content() {
    let (_scene, world) = idle_world(
        "[http]\ndelivery_bytes_max = 8192\n[sessions]\ncredential_bytes_max = 1024\n[log]\nlevel = 'trace'\n",
    )
    .await;
    let agent = Posing::start(&world).await;
    let good = serde_json::to_string(&agent.delivery(&format!("{{\"token\": \"{CANARY}\"}}"))).unwrap();
    let with = |pointer: &str, value: &str| {
        let mut body: serde_json::Value = serde_json::from_str(&good).unwrap();
        *body.pointer_mut(pointer).unwrap() = serde_json::json!(value);
        body.to_string()
    };
    for (what, body, expected) in [
        ("half of it", good[..good.len() - 20].to_owned(), (400, "malformed")),
        ("no JSON", format!("token={CANARY}"), (400, "malformed")),
        ("a text", format!("\"{CANARY}\""), (400, "malformed")),
        ("nothing", String::new(), (400, "malformed")),
        ("bytes that are not base64", with("/files/0/content", &format!("{CANARY}*")), (400, "malformed")),
        ("a mode that is no number", with("/files/0/mode", CANARY), (400, "malformed")),
        ("an id that is none", with("/session", &format!("ses_{CANARY}")), (400, "malformed")),
        ("a list of texts", with("/files", CANARY), (400, "malformed")),
        ("nothing but brackets", "[".repeat(4_000), (400, "malformed")),
        ("a very long key", format!("{{\"{}\": \"{CANARY}\"}}", "k".repeat(3_900)), (400, "malformed")),
        ("too much", with("/files/0/content", &CANARY.repeat(400)), (413, "too_large")),
    ] {
        let (status, code, detail) = refused(&agent.post(body).await);
        assert_eq!((status, code.as_str()), expected, "{what}: {detail}");
        nothing_happened(&world, &agent).await;
    }
    for kind in ["text/plain", "application/x-www-form-urlencoded", ""] {
        let (status, code, _) = refused(&agent.send(Some("agt_x"), kind, good.clone()).await);
        assert_eq!((status, code.as_str()), (415, "unsupported_media_type"), "{kind}");
    }
    let (_, _, detail) = refused(&agent.post("{\"sesion\": 1}").await);
    assert!(detail.contains("sesion"), "an unknown key is named: {detail}");
    nothing_happened(&world, &agent).await;
    assert_eq!(world.leaks().files_with(CANARY), Vec::<std::path::PathBuf>::new());
    world.finish().await.unwrap();
}

#[tokio::test]
async fn wrong_credential_format_is_rejected_by_keys_without_values() {
    let (_scene, world) = idle_world("[log]\nlevel = 'trace'\n").await;
    let agent = Posing::start(&world).await;
    let secret = format!("{{\"token\": \"{CANARY}\"}}");
    let at = |path: &str| DeliveredFile {
        path: path.to_owned(),
        mode: 0o600,
        content: Base64::new(secret.as_bytes().to_vec()),
    };
    let files = |files: Vec<DeliveredFile>| Delivery { files, ..agent.delivery("") };
    for (what, delivery, says) in [
        ("no JSON", agent.delivery(CANARY), "not JSON"),
        ("half of it", agent.delivery(&secret[..secret.len() - 3]), "not JSON"),
        ("another key", agent.delivery(&format!("{{\"other\": \"{CANARY}\"}}")), "/token"),
        ("an empty value", agent.delivery(&format!("{{\"token\": \"\", \"other\": \"{CANARY}\"}}")), "/token"),
        ("a value of another kind", agent.delivery(&format!("{{\"token\": [\"{CANARY}\"]}}")), "/token"),
        ("another provider", Delivery { provider: "codex".parse().unwrap(), ..agent.delivery(&secret) }, "scripted"),
        ("no file", files(vec![]), "no file"),
        ("another path", files(vec![at(".other/auth.json")]), "path"),
        ("a path out of the home", files(vec![at("../.scripted/auth.json")]), "path"),
        ("a second file elsewhere", files(vec![at(ScriptedTool::CREDENTIAL), at("../../.ssh/authorized_keys")]), "path"),
        ("one file twice", files(vec![at(ScriptedTool::CREDENTIAL), at(ScriptedTool::CREDENTIAL)]), "twice"),
        ("many files", files((0..20).map(|_| at(ScriptedTool::CREDENTIAL)).collect()), "files"),
    ] {
        let (status, code, detail) = refused(&agent.deliver(&delivery).await);
        assert_eq!((status, code.as_str()), (422, "invalid_credential_format"), "{what}: {detail}");
        assert!(detail.contains(says), "{what}: {detail}");
        nothing_happened(&world, &agent).await;
    }
    assert_eq!(world.leaks().files_with(CANARY), Vec::<std::path::PathBuf>::new());
    // The same machine may still deliver what is good.
    let stored = agent.deliver(&agent.delivery(&secret)).await.read().unwrap();
    assert!(matches!(stored, Delivered::Stored { .. }), "{stored:?}");
    world.finish().await.unwrap();
}

#[tokio::test]
async fn second_delivery_is_ignored() {
    let (_scene, world) = idle_world("").await;
    let (api, agent) = (world.backend().unwrap(), Posing::start(&world).await);
    let Delivered::Stored { credential } = agent.deliver(&agent.delivery(GOOD)).await.read().unwrap() else {
        panic!("not stored")
    };
    let view = api.session(&agent.session).await.unwrap();
    assert_eq!((view.status, view.credential.map(|kept| kept.id)), (Status::Completed, Some(credential.clone())));
    // At once, and when the machine is gone; the same, and other bytes.
    for content in [GOOD, "{\"token\": \"two\"}"] {
        let again: Delivered = agent.deliver(&agent.delivery(content)).await.read().unwrap();
        assert_eq!(again, Delivered::Ignored);
        machines_are_gone(&world).await;
    }
    assert_eq!(api.lease(&credential).await.unwrap().files[0].content.expose(), GOOD.as_bytes());
    assert_eq!(world.operator().unwrap().credentials().await.unwrap().credentials.len(), 1);
    assert_eq!(completed_entries(&world, &agent).await, 1);
    // A completed session cannot be cancelled any more.
    assert_eq!(api.cancel(&agent.session).await.unwrap().status, Status::Completed);
    assert_eq!(api.session(&agent.session).await.unwrap().reason.unwrap().code, "completed");
    world.finish().await.unwrap();
}

#[tokio::test]
async fn concurrent_deliveries_store_exactly_one_credential() {
    let (_scene, world) = idle_world("").await;
    let agent = Posing::start(&world).await;
    let delivery = agent.delivery(GOOD);
    let answers = futures_util::future::join_all((0..10).map(|_| agent.deliver(&delivery))).await;
    let outcomes: Vec<Delivered> = answers.iter().map(|answer| answer.read().unwrap()).collect();
    let stored = outcomes.iter().filter(|outcome| matches!(outcome, Delivered::Stored { .. })).count();
    let ignored = outcomes.iter().filter(|outcome| **outcome == Delivered::Ignored).count();
    assert_eq!((stored, ignored), (1, 9), "{outcomes:?}");
    assert_eq!(world.operator().unwrap().credentials().await.unwrap().credentials.len(), 1);
    assert_eq!(completed_entries(&world, &agent).await, 1);
    world.finish().await.unwrap();
}

#[tokio::test]
async fn delivery_to_a_cancelled_session_is_ignored() {
    let (_scene, world) = idle_world("").await;
    let (api, agent) = (world.backend().unwrap(), Posing::start(&world).await);
    api.cancel(&agent.session).await.unwrap();
    let late: Delivered = agent.deliver(&agent.delivery(GOOD)).await.read().unwrap();
    assert_eq!(late, Delivered::Ignored);
    assert_eq!(api.session(&agent.session).await.unwrap().status, Status::Cancelled);
    assert_eq!(api.credentials().await.unwrap().credentials, []);
    assert_eq!(completed_entries(&world, &agent).await, 0);
    world.finish().await.unwrap();
}

#[tokio::test]
async fn credential_deletion_is_idempotent_and_keeps_the_session_completed() {
    let (_scene, world) = idle_world("").await;
    let (api, agent) = (world.backend().unwrap(), Posing::start(&world).await);
    let Delivered::Stored { credential } = agent.deliver(&agent.delivery(GOOD)).await.read().unwrap() else {
        panic!("not stored")
    };
    let path = format!("/api/credentials/{credential}");
    for _ in 0..2 {
        assert_eq!(api.call(Method::DELETE, &path, None).await.unwrap().status, 204);
        let lease = api.post(&format!("{path}/lease"), serde_json::json!({})).await.unwrap();
        assert_eq!((lease.status, lease.problem().unwrap().code.as_str()), (404, "unknown_credential"));
    }
    assert_eq!(api.session(&agent.session).await.unwrap().status, Status::Completed);
    // Deleting does not open the session's door again.
    let again: Delivered = agent.deliver(&agent.delivery(GOOD)).await.read().unwrap();
    assert_eq!(again, Delivered::Ignored);
    let kept = api.get(&format!("/api/auth/session/{}/credentials", agent.session)).await.unwrap();
    assert!(!kept.text.contains(credential.as_str()), "{}", kept.text);
    world.finish().await.unwrap();
}

#[tokio::test]
async fn rejected_delivery_is_on_the_timeline_and_explains_the_diagnosis() {
    let (_scene, world) = idle_world("").await;
    let (api, agent) = (world.backend().unwrap(), Posing::start(&world).await);
    let wrong = format!("{{\"other\": \"{CANARY}\"}}");
    for _ in 0..3 {
        assert_eq!(refused(&agent.deliver(&agent.delivery(&wrong)).await).0, 422);
    }
    let entry = api.wait_entry(&agent.session, "delivery_rejected").await.unwrap();
    assert_eq!((entry.data["reason"].as_str(), entry.data["by"].as_str()), (Some("invalid_credential_format"), Some("machine")));
    assert!(entry.data["detail"].as_str().unwrap().contains("/token"), "the missing key is named: {entry:?}");
    let diagnosis = || async {
        let path = format!("/api/auth/session/{}/diagnosis", agent.session);
        api.get(&path).await.unwrap().read::<Diagnosis>().unwrap()
    };
    let found = diagnosis().await;
    assert_eq!(found.verdict, Verdict::CredentialInvalidFormat, "{}", found.sentence);
    assert!(found.sentence.contains(&entry.at) && found.sentence.contains("/token"), "{}", found.sentence);
    assert!(found.evidence.iter().any(|proof| proof.number == entry.number));
    // What a stranger sends is noted as that, and explains nothing.
    let good = serde_json::to_string(&agent.delivery(GOOD)).unwrap();
    assert_eq!(refused(&agent.send(Some("agt_stranger"), "application/json", good).await).0, 401);
    let strange = async {
        loop {
            let timeline = api.timeline(&agent.session).await.unwrap();
            let refused: Vec<_> = timeline.into_iter().filter(|entry| entry.kind == "delivery_rejected").collect();
            if refused.len() == 2 {
                return refused[1].clone();
            }
            sleep(Duration::from_millis(20)).await;
        }
    };
    let strange = tokio::time::timeout(WAIT_MAX, strange).await.expect("the stranger is noted");
    assert_eq!(
        (strange.data["reason"].as_str(), strange.data["by"].as_str()),
        (Some("wrong_agent_token"), Some("stranger"))
    );
    api.cancel(&agent.session).await.unwrap();
    let timeline = api.get(&format!("/api/auth/session/{}/events", agent.session)).await.unwrap().text;
    assert!(!timeline.contains(CANARY), "values are on no timeline");
    assert_eq!(world.leaks().files_with(CANARY), Vec::<std::path::PathBuf>::new());
    world.finish().await.unwrap();
}

/// How often the server has told an agent that the database cannot be written.
fn put_off(world: &TestServer) -> usize {
    let log = world.log();
    log.lines().filter(|line| line.contains("delivery_rejected") && line.contains("database_unavailable")).count()
}

#[tokio::test]
async fn delivery_is_retried_until_the_database_is_writable() {
    let scene = Scene::new();
    let content = "{\"token\": \"patient\",\n \"more\" : [1, 2.50]}\n";
    let world = TestServer::start(TestConfig::with_tool(scene.tool(content)).with_settings("[store]\nbusy_ms_max = 500\n")).await.unwrap();
    let api = world.backend().unwrap();
    let id = api.start("scripted").await.unwrap().session.id;
    api.wait_until(&id, "showing the address", |view| view.sign_in.url.is_some()).await.unwrap();
    let database = SqliteConnectOptions::new().filename(world.state_dir().join("anteroom.db")).busy_timeout(WAIT_MAX);
    let mut holder: SqliteConnection = database.connect().await.unwrap();
    sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut holder).await.unwrap();
    scene.raise("go");
    let until = Instant::now() + WAIT_MAX;
    while put_off(&world) < 2 {
        assert!(Instant::now() < until, "the agent was not put off");
        sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(world.machines().len(), 1, "the machine holds the credential");
    assert_eq!(api.session(&id).await.unwrap().status, Status::Authenticating);
    assert_eq!(api.credentials().await.unwrap().credentials, []);
    sqlx::raw_sql("ROLLBACK").execute(&mut holder).await.unwrap();
    holder.close().await.unwrap();
    let kept = api.wait_status(&id, Status::Completed).await.unwrap().credential.unwrap();
    assert_eq!(api.lease(&kept.id).await.unwrap().files[0].content.expose(), content.as_bytes());
    assert_eq!(api.credentials().await.unwrap().credentials.len(), 1);
    let completed = api.timeline(&id).await.unwrap().into_iter().filter(|entry| entry.kind == "completed").count();
    assert_eq!(completed, 1);
    machines_are_gone(&world).await;
    world.finish().await.unwrap();
}
