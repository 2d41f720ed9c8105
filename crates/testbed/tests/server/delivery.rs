//! The delivery endpoint: rejected deliveries, idempotency, and retries while the database is not writable.

use crate::{Flags, fake_agent::FakeAgent, problem_of, start_idle, start_session_with};
use anteroom_testbed::{ApiResponse, ScriptedProvider, TestConfig, TestServer, WAIT_MAX, leaks::encoded_forms};
use anteroom_wire::{
    Base64, TimelineKind,
    agent::{CredentialDelivery, DeliveredFile, DeliveryResult},
    api::SessionStatus,
    diagnosis::Verdict,
};
use reqwest::Method;
use sqlx::{ConnectOptions, Connection, SqliteConnection, sqlite::SqliteConnectOptions};
use std::time::Duration;
use tokio::time::{Instant, sleep};

const GOOD: &str = "{\"token\": \"one\"}";
/// Must appear in no error response and in no file.
const CANARY: &str = "canary8d1f0a66c5e94b27";

/// Status, code and detail of an error response that must not contain the canary.
fn problem_without_canary(answer: &ApiResponse) -> (u16, String, String) {
    for needle in encoded_forms(CANARY) {
        let needle = String::from_utf8(needle).unwrap();
        assert!(!answer.text.contains(&needle), "the error quotes the request: {}", answer.text);
    }
    assert!(answer.text.len() < 2_000, "the error is too long: {} bytes", answer.text.len());
    problem_of(answer)
}

/// A rejected delivery changes nothing: the user can still sign in on the same machine.
async fn assert_session_unaffected(server: &TestServer, agent: &FakeAgent) {
    let view = server.backend_client().unwrap().get_session(&agent.session).await.unwrap();
    assert_eq!((view.status, view.generation), (SessionStatus::VmStarted, 1));
    assert_eq!(server.list_machines().len(), 1, "its machine exists");
    assert_eq!(server.operator_client().unwrap().list_credentials().await.unwrap().credentials, []);
}

async fn completed_entries(server: &TestServer, agent: &FakeAgent) -> usize {
    let timeline = server.backend_client().unwrap().get_timeline(&agent.session).await.unwrap();
    timeline.iter().filter(|entry| entry.kind == TimelineKind::Completed).count()
}

#[tokio::test]
async fn delivery_with_a_wrong_agent_token_is_rejected() {
    let (_flags, server) = start_idle("").await;
    let agent = FakeAgent::start(&server).await;
    let good = || serde_json::to_string(&agent.delivery(GOOD)).unwrap();
    for token in [None, Some("agt_another"), Some("")] {
        let (status, code, _) = problem_without_canary(&agent.send(token, "application/json", good()).await);
        assert_eq!((status, code.as_str()), (401, "wrong_agent_token"), "{token:?}");
        assert_session_unaffected(&server, &agent).await;
    }
    let replaced = CredentialDelivery { generation: 2, ..agent.delivery(GOOD) };
    let (status, code, _) = problem_without_canary(&agent.deliver(&replaced).await);
    assert_eq!((status, code.as_str()), (401, "wrong_agent_token"), "another generation's machine");
    assert_session_unaffected(&server, &agent).await;
    let unknown =
        CredentialDelivery { session: "ses_00000000000000000000000000".parse().unwrap(), ..agent.delivery(GOOD) };
    let (status, code, _) = problem_without_canary(&agent.deliver(&unknown).await);
    assert_eq!((status, code.as_str()), (404, "unknown_session"));
    assert_session_unaffected(&server, &agent).await;
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn malformed_delivery_is_rejected_without_echoing_its_content() {
    let (_flags, server) = start_idle(
        "[limits.http]\ndelivery_bytes_max = 8192\n[limits.sessions]\ncredential_bytes_max = 1024\n[log]\nlevel = 'trace'\n",
    )
    .await;
    let agent = FakeAgent::start(&server).await;
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
        let (status, code, detail) = problem_without_canary(&agent.post(body).await);
        assert_eq!((status, code.as_str()), expected, "{what}: {detail}");
        assert_session_unaffected(&server, &agent).await;
    }
    for kind in ["text/plain", "application/x-www-form-urlencoded", ""] {
        let (status, code, _) =
            problem_without_canary(&agent.send(Some(agent.token.expose()), kind, good.clone()).await);
        assert_eq!((status, code.as_str()), (415, "unsupported_media_type"), "{kind}");
    }
    let (_, _, detail) = problem_without_canary(&agent.post("{\"sesion\": 1}").await);
    assert!(detail.contains("sesion"), "an unknown key is named: {detail}");
    assert_session_unaffected(&server, &agent).await;
    assert_eq!(server.leak_scan().find_files_containing(CANARY), Vec::<std::path::PathBuf>::new());
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn wrong_credential_format_is_rejected_by_keys_without_values() {
    let (_flags, server) = start_idle("[log]\nlevel = 'trace'\n").await;
    let agent = FakeAgent::start(&server).await;
    let secret = format!("{{\"token\": \"{CANARY}\"}}");
    let at = |path: &str| DeliveredFile {
        path: path.to_owned(),
        mode: 0o600,
        content: Base64::new(secret.as_bytes().to_vec()),
    };
    let files = |files: Vec<DeliveredFile>| CredentialDelivery { files, ..agent.delivery("") };
    for (what, delivery, says) in [
        ("no JSON", agent.delivery(CANARY), "not complete JSON"),
        ("half of it", agent.delivery(&secret[..secret.len() - 3]), "not complete JSON"),
        ("another key", agent.delivery(&format!("{{\"other\": \"{CANARY}\"}}")), "/token"),
        ("an empty value", agent.delivery(&format!("{{\"token\": \"\", \"other\": \"{CANARY}\"}}")), "/token"),
        ("a value of another kind", agent.delivery(&format!("{{\"token\": [\"{CANARY}\"]}}")), "/token"),
        (
            "another provider",
            CredentialDelivery { provider: "codex".parse().unwrap(), ..agent.delivery(&secret) },
            "scripted",
        ),
        ("no file", files(vec![]), "no file"),
        ("another path", files(vec![at(".other/auth.json")]), "path"),
        ("a path out of the home", files(vec![at("../.scripted/auth.json")]), "path"),
        (
            "a second file elsewhere",
            files(vec![at(ScriptedProvider::CREDENTIAL_PATH), at("../../.ssh/authorized_keys")]),
            "path",
        ),
        (
            "one file twice",
            files(vec![at(ScriptedProvider::CREDENTIAL_PATH), at(ScriptedProvider::CREDENTIAL_PATH)]),
            "duplicate",
        ),
        ("many files", files((0..20).map(|_| at(ScriptedProvider::CREDENTIAL_PATH)).collect()), "files"),
    ] {
        let (status, code, detail) = problem_without_canary(&agent.deliver(&delivery).await);
        assert_eq!((status, code.as_str()), (422, "invalid_credential_format"), "{what}: {detail}");
        assert!(detail.contains(says), "{what}: {detail}");
        assert_session_unaffected(&server, &agent).await;
    }
    assert_eq!(server.leak_scan().find_files_containing(CANARY), Vec::<std::path::PathBuf>::new());
    // The same machine can still deliver a valid credential.
    let stored = agent.deliver(&agent.delivery(&secret)).await.parse().unwrap();
    assert!(matches!(stored, DeliveryResult::Stored { .. }), "{stored:?}");
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn second_delivery_is_ignored() {
    let (_flags, server) = start_idle("").await;
    let (api, agent) = (server.backend_client().unwrap(), FakeAgent::start(&server).await);
    let DeliveryResult::Stored { credential } = agent.deliver(&agent.delivery(GOOD)).await.parse().unwrap() else {
        panic!("not stored")
    };
    let view = api.get_session(&agent.session).await.unwrap();
    assert_eq!(
        (view.status, view.credential.map(|kept| kept.id)),
        (SessionStatus::Completed, Some(credential.clone()))
    );
    // Immediately and after the machine is removed; the same and different bytes.
    for content in [GOOD, "{\"token\": \"two\"}"] {
        let again: DeliveryResult = agent.deliver(&agent.delivery(content)).await.parse().unwrap();
        assert_eq!(again, DeliveryResult::Ignored);
        server.wait_machines_removed().await.unwrap();
    }
    assert_eq!(api.lease_credential(&credential).await.unwrap().files[0].content.expose(), GOOD.as_bytes());
    assert_eq!(server.operator_client().unwrap().list_credentials().await.unwrap().credentials.len(), 1);
    assert_eq!(completed_entries(&server, &agent).await, 1);
    // A completed session cannot be cancelled any more.
    assert_eq!(api.cancel_session(&agent.session).await.unwrap().status, SessionStatus::Completed);
    assert_eq!(api.get_session(&agent.session).await.unwrap().reason.unwrap().code, "completed");
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn concurrent_deliveries_store_exactly_one_credential() {
    let (_flags, server) = start_idle("").await;
    let agent = FakeAgent::start(&server).await;
    let delivery = agent.delivery(GOOD);
    let answers = futures_util::future::join_all((0..10).map(|_| agent.deliver(&delivery))).await;
    let outcomes: Vec<DeliveryResult> = answers.iter().map(|answer| answer.parse().unwrap()).collect();
    let stored = outcomes.iter().filter(|outcome| matches!(outcome, DeliveryResult::Stored { .. })).count();
    let ignored = outcomes.iter().filter(|outcome| **outcome == DeliveryResult::Ignored).count();
    assert_eq!((stored, ignored), (1, 9), "{outcomes:?}");
    assert_eq!(server.operator_client().unwrap().list_credentials().await.unwrap().credentials.len(), 1);
    assert_eq!(completed_entries(&server, &agent).await, 1);
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn delivery_to_a_cancelled_session_is_ignored() {
    let (_flags, server) = start_idle("").await;
    let (api, agent) = (server.backend_client().unwrap(), FakeAgent::start(&server).await);
    api.cancel_session(&agent.session).await.unwrap();
    let late: DeliveryResult = agent.deliver(&agent.delivery(GOOD)).await.parse().unwrap();
    assert_eq!(late, DeliveryResult::Ignored);
    assert_eq!(api.get_session(&agent.session).await.unwrap().status, SessionStatus::Cancelled);
    assert_eq!(api.list_credentials().await.unwrap().credentials, []);
    assert_eq!(completed_entries(&server, &agent).await, 0);
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn credential_deletion_is_idempotent_and_keeps_the_session_completed() {
    let (_flags, server) = start_idle("").await;
    let (api, agent) = (server.backend_client().unwrap(), FakeAgent::start(&server).await);
    let DeliveryResult::Stored { credential } = agent.deliver(&agent.delivery(GOOD)).await.parse().unwrap() else {
        panic!("not stored")
    };
    let path = format!("/api/credentials/{credential}");
    for _ in 0..2 {
        assert_eq!(api.call(Method::DELETE, &path, None).await.unwrap().status, 204);
        let lease = api.post(&format!("{path}/lease"), serde_json::json!({})).await.unwrap();
        assert_eq!((lease.status, lease.problem().unwrap().code.as_str()), (404, "unknown_credential"));
    }
    assert_eq!(api.get_session(&agent.session).await.unwrap().status, SessionStatus::Completed);
    // After the deletion the session still ignores deliveries.
    let again: DeliveryResult = agent.deliver(&agent.delivery(GOOD)).await.parse().unwrap();
    assert_eq!(again, DeliveryResult::Ignored);
    let kept = api.get(&format!("/api/auth/session/{}/credentials", agent.session)).await.unwrap();
    assert!(!kept.text.contains(credential.as_str()), "{}", kept.text);
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn rejected_delivery_is_on_the_timeline_and_explains_the_diagnosis() {
    let (_flags, server) = start_idle("").await;
    let (api, agent) = (server.backend_client().unwrap(), FakeAgent::start(&server).await);
    let wrong = format!("{{\"other\": \"{CANARY}\"}}");
    for _ in 0..3 {
        assert_eq!(problem_without_canary(&agent.deliver(&agent.delivery(&wrong)).await).0, 422);
    }
    let entry = api.wait_entry(&agent.session, TimelineKind::DeliveryRejected).await.unwrap();
    assert_eq!(
        (entry.data["reason"].as_str(), entry.data["by"].as_str()),
        (Some("invalid_credential_format"), Some("machine"))
    );
    assert!(entry.data["detail"].as_str().unwrap().contains("/token"), "the missing key is named: {entry:?}");
    let found = api.get_diagnosis(&agent.session).await.unwrap();
    assert_eq!(found.verdict, Verdict::CredentialInvalidFormat, "{}", found.sentence);
    assert!(found.sentence.contains(&entry.at) && found.sentence.contains("/token"), "{}", found.sentence);
    assert!(found.evidence.iter().any(|proof| proof.number == entry.number));
    // A delivery of another generation is recorded as unauthorized and does not change the diagnosis.
    let good = serde_json::to_string(&agent.delivery(GOOD)).unwrap();
    assert_eq!(problem_without_canary(&agent.send(Some("agt_stranger"), "application/json", good).await).0, 401);
    let replaced = CredentialDelivery { generation: 2, ..agent.delivery(GOOD) };
    assert_eq!(problem_without_canary(&agent.deliver(&replaced).await).0, 401);
    let unauthorized = async {
        loop {
            let timeline = api.get_timeline(&agent.session).await.unwrap();
            let rejected: Vec<_> =
                timeline.into_iter().filter(|entry| entry.kind == TimelineKind::DeliveryRejected).collect();
            if let [_, unauthorized, ..] = rejected.as_slice() {
                assert_eq!(rejected.len(), 2, "a stranger's delivery is on no timeline: {rejected:?}");
                return unauthorized.clone();
            }
            sleep(Duration::from_millis(20)).await;
        }
    };
    let unauthorized =
        tokio::time::timeout(WAIT_MAX, unauthorized).await.expect("the unauthorized delivery is recorded");
    assert_eq!(
        (unauthorized.data["reason"].as_str(), unauthorized.data["by"].as_str()),
        (Some("wrong_agent_token"), Some("unauthorized"))
    );
    api.cancel_session(&agent.session).await.unwrap();
    let timeline = api.get(&format!("/api/auth/session/{}/events", agent.session)).await.unwrap().text;
    assert!(!timeline.contains(CANARY), "the timeline contains no values");
    assert_eq!(server.leak_scan().find_files_containing(CANARY), Vec::<std::path::PathBuf>::new());
    server.stop_and_check_leaks().await.unwrap();
}

/// The number of deliveries rejected because the database was not writable.
fn deferred_deliveries(server: &TestServer) -> usize {
    let log = server.read_log();
    log.lines().filter(|line| line.contains("delivery_rejected") && line.contains("database_unavailable")).count()
}

#[tokio::test]
async fn delivery_is_retried_until_the_database_is_writable() {
    let flags = Flags::new();
    let content = "{\"token\": \"patient\",\n \"more\" : [1, 2.50]}\n";
    let (server, api, id) = start_session_with(
        TestConfig::with_provider(flags.provider(content)).with_settings("[limits.store]\nbusy_ms_max = 500\n"),
    )
    .await;
    api.wait_until(&id, "showing the address", |view| view.sign_in.url.is_some()).await.unwrap();
    let database = SqliteConnectOptions::new().filename(server.state_dir().join("anteroom.db")).busy_timeout(WAIT_MAX);
    let mut holder: SqliteConnection = database.connect().await.unwrap();
    sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut holder).await.unwrap();
    flags.set("go");
    let until = Instant::now() + WAIT_MAX;
    while deferred_deliveries(&server) < 2 {
        assert!(Instant::now() < until, "the delivery was not rejected and retried");
        sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(server.list_machines().len(), 1, "the machine holds the credential");
    assert_eq!(api.get_session(&id).await.unwrap().status, SessionStatus::Authenticating);
    assert_eq!(api.list_credentials().await.unwrap().credentials, []);
    sqlx::raw_sql("ROLLBACK").execute(&mut holder).await.unwrap();
    holder.close().await.unwrap();
    let kept = api.wait_status(&id, SessionStatus::Completed).await.unwrap().credential.unwrap();
    assert_eq!(api.lease_credential(&kept.id).await.unwrap().files[0].content.expose(), content.as_bytes());
    assert_eq!(api.list_credentials().await.unwrap().credentials.len(), 1);
    let completed =
        api.get_timeline(&id).await.unwrap().into_iter().filter(|entry| entry.kind == TimelineKind::Completed).count();
    assert_eq!(completed, 1);
    server.wait_machines_removed().await.unwrap();
    server.stop_and_check_leaks().await.unwrap();
}
