//! Credentials from capture to deletion: storage policies, renewal without remains, and expiry.

use crate::{
    Flags,
    credentials::run_cli_text,
    fake_agent::{FakeAgent, store},
};
use anteroom_testbed::{ApiClient, ApiResponse, Script, ScriptedProvider, Step, TestConfig, TestServer};
use anteroom_wire::{
    CredentialId, SessionId, TimelineKind,
    agent::DeliveryResult,
    api::{CredentialHealth, CredentialMeta, Lease, ProviderList, SessionStatus},
    diagnosis::Verdict,
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

/// A provider whose tool writes its credential once the flag `go` is set.
fn provider_with_policy(flags: &Flags, policy: &str) -> ScriptedProvider {
    flags.provider("{\"token\": \"of the tool\"}").with_descriptor_key("policy", json!(policy))
}

async fn start_server(provider: ScriptedProvider, settings: &str) -> TestServer {
    TestServer::start(
        TestConfig::with_provider(provider)
            .with_settings(&format!("[limits.sessions]\nreconcile_every_ms = 100\n{settings}")),
    )
    .await
    .unwrap()
}

async fn wait_completed(api: &ApiClient, id: &SessionId) -> CredentialMeta {
    api.wait_status(id, SessionStatus::Completed).await.unwrap().credential.unwrap()
}

/// Starts a session and delivers this content for it; returns the stored credential.
async fn deliver(server: &TestServer, content: &str) -> CredentialMeta {
    let agent = FakeAgent::start(server).await;
    assert_eq!(agent.deliver(&agent.delivery(content)).await.status, 200);
    wait_completed(&server.backend_client().unwrap(), &agent.session).await
}

async fn request_lease(api: &ApiClient, id: &CredentialId) -> ApiResponse {
    api.post(&format!("/api/credentials/{id}/lease"), json!({})).await.unwrap()
}

async fn get_credential(api: &ApiClient, id: &CredentialId) -> ApiResponse {
    api.get(&format!("/api/credentials/{id}")).await.unwrap()
}

fn status_and_code(answer: &ApiResponse) -> (u16, String) {
    (answer.status, answer.problem().unwrap().code)
}

fn token(value: &str) -> String {
    format!("{{\"token\": \"{value}\"}}")
}

/// Whether the database file or its write-ahead log contains these bytes.
fn database_contains(server: &TestServer, bytes: &[u8]) -> bool {
    let database = server.state_dir().join("anteroom.db");
    let files = ["", "-wal"].map(|suffix| PathBuf::from(format!("{}{suffix}", database.display())));
    let holds = |file: &PathBuf| {
        let content = std::fs::read(file).unwrap_or_default();
        content.windows(bytes.len()).any(|window| window == bytes)
    };
    files.iter().any(holds)
}

/// A part of the sealed content that is unique to the present revision of this credential.
async fn sealed_tail(server: &TestServer, id: &CredentialId) -> Vec<u8> {
    let store = store(server).await;
    let sealed = store.get_sealed_bytes(id).await.unwrap().unwrap();
    store.close().await;
    let tail = sealed.as_bytes()[136..].to_vec();
    assert!(database_contains(server, &tail), "the search finds existing bytes");
    tail
}

/// Polls until the condition holds.
async fn eventually(what: &str, mut is: impl FnMut() -> bool) {
    let end = tokio::time::Instant::now() + anteroom_testbed::WAIT_MAX;
    while !is() {
        assert!(tokio::time::Instant::now() < end, "not within the limit: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn concurrent_leases_of_a_deliver_once_credential_succeed_exactly_once() {
    let flags = Flags::new();
    let server = start_server(provider_with_policy(&flags, "deliver_once"), "").await;
    let api = server.backend_client().unwrap();
    let id = api.start_session("scripted").await.unwrap().session.id;
    flags.set("go");
    let meta = wait_completed(&api, &id).await;
    assert_eq!(meta.storage_policy, StoragePolicy::DeliverOnce);
    assert!(meta.deliver_until.is_some(), "{meta:?}");
    let stranger = server.other_backend_client().unwrap();
    assert_eq!(request_lease(&stranger, &meta.id).await.status, 403);
    let tail = sealed_tail(&server, &meta.id).await;
    let racers = (0..12).map(|_| {
        let (api, id) = (server.backend_client().unwrap(), meta.id.clone());
        tokio::spawn(async move { request_lease(&api, &id).await })
    });
    let racers: Vec<_> = racers.collect();
    let (mut leases, mut rejected) = (Vec::new(), 0);
    for racer in racers {
        let answer = racer.await.unwrap();
        if answer.status == 200 {
            leases.push(answer.parse::<Lease>().unwrap());
        } else {
            assert_eq!(status_and_code(&answer), (410, "already_delivered".into()));
            rejected += 1;
        }
    }
    assert_eq!((leases.len(), rejected), (1, 11));
    assert_eq!(leases[0].files[0].content.expose(), b"{\"token\": \"of the tool\"}");
    eventually("the sealed bytes are erased from the database and its log", || !database_contains(&server, &tail))
        .await;
    assert_eq!(status_and_code(&get_credential(&api, &meta.id).await), (410, "already_delivered".into()));
    assert_eq!(
        get_credential(&stranger, &meta.id).await.status,
        403,
        "another backend does not learn about the delivery"
    );
    assert_eq!(api.list_credentials().await.unwrap().credentials, []);
    api.wait_entry(&id, TimelineKind::CredentialLeased).await.unwrap();
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn deliver_once_credential_is_deleted_and_reported_after_its_deadline() {
    let flags = Flags::new();
    let server =
        start_server(provider_with_policy(&flags, "deliver_once"), "[credentials]\ndeliver_once_s_max = 1\n").await;
    let api = server.backend_client().unwrap();
    let id = api.start_session("scripted").await.unwrap().session.id;
    flags.set("go");
    api.wait_status(&id, SessionStatus::Completed).await.unwrap();
    api.wait_entry(&id, TimelineKind::CredentialDeliveryExpired).await.unwrap();
    let database = store(&server).await;
    let stored = database.get_credential_of_session(&id).await.unwrap().unwrap();
    assert!(stored.deleted_at_ms >= stored.deletion_policy.until_ms(), "deleted only after its deadline");
    let answer = request_lease(&api, &stored.id).await;
    assert_eq!(status_and_code(&answer), (404, "unknown_credential".into()));
    assert!(answer.problem().unwrap().detail.unwrap().contains("not fetched before"), "{}", answer.text);
    assert_eq!(database.list_leases(&stored.id, 10).await.unwrap(), []);
    database.close().await;
    assert!(server.read_log().contains("credential_delivery_expired"));
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn keep_in_machine_credential_is_rejected_on_delivery() {
    let flags = Flags::new();
    let server = start_server(flags.idle_provider().with_descriptor_key("policy", json!("keep_in_machine")), "").await;
    let agent = FakeAgent::start(&server).await;
    let answer = agent.deliver(&agent.delivery(&token("one"))).await;
    assert_eq!(status_and_code(&answer), (403, "forbidden_by_policy".into()));
    assert_eq!(server.operator_client().unwrap().list_credentials().await.unwrap().credentials, []);
    let view = server.backend_client().unwrap().get_session(&agent.session).await.unwrap();
    assert_eq!(view.status, SessionStatus::VmStarted);
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn provider_with_forbidden_policy_is_listed_as_unavailable_and_cannot_start() {
    let flags = Flags::new();
    let server = start_server(flags.idle_provider().with_descriptor_key("policy", json!("forbidden")), "").await;
    let api = server.backend_client().unwrap();
    let list: ProviderList = api.get("/api/providers").await.unwrap().parse().unwrap();
    let of_scene = list.providers.iter().find(|view| view.id.as_str() == "scripted").unwrap();
    assert_eq!((of_scene.available, of_scene.unavailable.as_ref()), (false, Some(&of_scene.policy_sentence)));
    let rejected = api.post("/api/auth/start", json!({ "provider": "scripted" })).await.unwrap();
    assert_eq!(status_and_code(&rejected), (403, "forbidden_by_policy".into()));
    assert!(rejected.problem().unwrap().detail.unwrap().contains(&of_scene.policy_sentence), "{}", rejected.text);
    assert_eq!(server.list_machines(), []);
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn renewal_erases_the_old_credential() {
    let flags = Flags::new();
    let server = start_server(flags.idle_provider(), "").await;
    let api = server.backend_client().unwrap();
    let meta = deliver(&server, &token(OLD)).await;
    let tail = sealed_tail(&server, &meta.id).await;
    let second = FakeAgent::start_renewing(&server, &meta.id).await;
    let answer = second.deliver(&second.delivery(&token(NEW))).await;
    assert_eq!(answer.parse::<DeliveryResult>().unwrap(), DeliveryResult::Stored { credential: meta.id.clone() });
    let again = wait_completed(&api, &second.session).await;
    assert_eq!((&again.id, &again.session), (&meta.id, &second.session));
    assert_eq!(api.lease_credential(&meta.id).await.unwrap().files[0].content.expose(), token(NEW).as_bytes());
    eventually("the old sealed bytes are erased from the database and its log", || !database_contains(&server, &tail))
        .await;
    for plain in [OLD, NEW] {
        assert_eq!(server.leak_scan().find_files_containing(plain), Vec::<PathBuf>::new());
    }
    assert_eq!(api.get_session(&meta.session).await.unwrap().credential, Some(again), "both sessions refer to it");
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn credential_deleted_during_its_renewal_stays_deleted() {
    let flags = Flags::new();
    let server = start_server(flags.idle_provider(), "").await;
    let api = server.backend_client().unwrap();
    let meta = deliver(&server, &token("one")).await;
    let again = FakeAgent::start_renewing(&server, &meta.id).await;
    let path = format!("/api/credentials/{}", meta.id);
    assert_eq!(api.call(Method::DELETE, &path, None).await.unwrap().status, 204);
    let answer = again.deliver(&again.delivery(&token("two"))).await;
    assert_eq!(status_and_code(&answer), (404, "unknown_credential".into()));
    let view = api.wait_status(&again.session, SessionStatus::Failed).await.unwrap();
    assert_eq!(view.reason.unwrap().code, "credential_deleted");
    assert_eq!(status_and_code(&get_credential(&api, &meta.id).await), (404, "unknown_credential".into()));
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn exec_can_deliver_repeatedly_without_ending() {
    let flags = Flags::new();
    // A credential that is leased during its use.
    let rules =
        json!({ "paths": [ScriptedProvider::CREDENTIAL_PATH], "required": ["/token"], "never_refreshed": true });
    let server = start_server(flags.idle_provider().with_descriptor_key("credential", rules), "").await;
    let api = server.backend_client().unwrap();
    let meta = deliver(&server, &token("one")).await;
    let using = FakeAgent::start_using(&server, &meta.id).await;
    for value in ["two", "three", "three"] {
        let answer = using.deliver(&using.delivery(&token(value))).await;
        assert_eq!(answer.parse::<DeliveryResult>().unwrap(), DeliveryResult::Stored { credential: meta.id.clone() });
        let leased = api.lease_credential(&meta.id).await.unwrap();
        assert_eq!(leased.files[0].content.expose(), token(value).as_bytes());
        assert_eq!(leased.credential.session, using.session);
        assert!(!api.get_session(&using.session).await.unwrap().status.is_ended(), "the use continues");
    }
    let wrong = using.deliver(&using.delivery("{\"tokens\": \"four\"}")).await;
    assert_eq!(status_and_code(&wrong), (422, "invalid_credential_format".into()));
    let timeline = api.get_timeline(&using.session).await.unwrap();
    let refreshes: Vec<_> = timeline.iter().filter(|entry| entry.kind == TimelineKind::CredentialRefreshed).collect();
    assert_eq!(refreshes.len(), 2, "delivering the same bytes again changes nothing: {refreshes:?}");
    assert_eq!(refreshes[1].data["revision"], 3);
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn health_follows_the_expiry_in_the_credential() {
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let rules = json!({
        "paths": [ScriptedProvider::CREDENTIAL_PATH],
        "required": ["/token"],
        "expires_at": { "pointer": "/until", "unit": "unix_s" },
    });
    let flags = Flags::new();
    let server = start_server(flags.idle_provider().with_descriptor_key("credential", rules), "").await;
    let api = server.backend_client().unwrap();
    for (ends_s, health) in [
        (now_s + 365 * 86_400, CredentialHealth::Valid),
        (now_s + 3_600, CredentialHealth::Expiring),
        (now_s - 10, CredentialHealth::NeedsAuth),
    ] {
        let meta = deliver(&server, &format!("{{\"token\": \"t\", \"until\": {ends_s}}}")).await;
        assert_eq!(meta.health, health, "{meta:?}");
        assert!(meta.expires_at.is_some() && !meta.health_detail.is_empty());
        let alone: CredentialMeta = get_credential(&api, &meta.id).await.parse().unwrap();
        assert_eq!((alone.health, &alone.expires_at), (health, &meta.expires_at));
    }
    eventually("the reconciliation has logged both expiries", || {
        server.read_log().matches("credential_expires").count() >= 2
    })
    .await;
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn account_of_a_credential_is_in_lists_and_in_its_session() {
    let rules = json!({
        "paths": [ScriptedProvider::CREDENTIAL_PATH],
        "required": ["/token"],
        "account": { "pointer": "/user" },
    });
    let flags = Flags::new();
    let server = start_server(flags.idle_provider().with_descriptor_key("credential", rules), "").await;
    let api = server.backend_client().unwrap();
    let content = r#"{"token": "t", "user": "Zo\u00eb \u001b[31m<ada@example.test>"}"#;
    for (content, account) in [(content, Some("Zoë �[31m<ada@example.test>")), (r#"{"token": "t"}"#, None)] {
        let in_session = deliver(&server, content).await;
        assert_eq!(in_session.account.as_deref(), account);
        let listed = api.list_credentials().await.unwrap().credentials;
        let listed = listed.iter().find(|listed| listed.id == in_session.id).unwrap();
        assert_eq!((&listed.account, &listed.checked_at), (&in_session.account, &in_session.stored_at));
    }
    let (_, printed, _) = run_cli_text(&server, &["credentials", "list"]).await;
    assert!(printed.contains("Zoë �[31m<ada@example.test>"), "{printed}");
    server.stop_and_check_leaks().await.unwrap();
}

/// The credential rules of a tool whose file names the account.
fn rules_with_account() -> serde_json::Value {
    json!({
        "paths": [ScriptedProvider::CREDENTIAL_PATH],
        "required": ["/token"],
        "account": { "pointer": "/user" },
        "never_refreshed": true,
    })
}

#[tokio::test]
async fn another_account_or_user_never_gets_into_a_credential() {
    let flags = Flags::new();
    let provider = flags.idle_provider().with_descriptor_key("credential", rules_with_account());
    let server = start_server(provider, "").await;
    let api = server.backend_client().unwrap();
    let of = |token: &str, user: &str| match user {
        "" => format!(r#"{{"token": "{token}"}}"#),
        user => format!(r#"{{"token": "{token}", "user": "{user}"}}"#),
    };
    let first = FakeAgent::start_for(&server, Some("u-1")).await;
    assert_eq!(first.deliver(&first.delivery(&of("one", "ada@example.test"))).await.status, 200);
    let meta = wait_completed(&api, &first.session).await;
    let other = json!({ "provider": "scripted", "renews": meta.id, "user_id": "u-2" });
    let refused = api.post("/api/auth/start", other).await.unwrap();
    assert_eq!(status_and_code(&refused), (409, "other_user".into()));
    for (token, user, expected) in [
        ("two", "mallory@example.test", SessionStatus::Failed),
        ("three", "Ada@Example.test", SessionStatus::Completed),
        ("four", "", SessionStatus::Completed),
    ] {
        let agent = FakeAgent::start_renewing(&server, &meta.id).await;
        assert_eq!(api.get_session(&agent.session).await.unwrap().user_id.as_deref(), Some("u-1"), "{token}");
        let answer = agent.deliver(&agent.delivery(&of(token, user))).await;
        let view = api.wait_status(&agent.session, expected).await.unwrap();
        let lease = api.lease_credential(&meta.id).await.unwrap();
        let stored = String::from_utf8_lossy(lease.files[0].content.expose()).into_owned();
        if expected == SessionStatus::Completed {
            assert!(stored.contains(token), "{stored}");
            continue;
        }
        assert_eq!(status_and_code(&answer), (409, "other_account".into()));
        assert_eq!(view.reason.unwrap().code, "other_account");
        api.wait_verdict(&agent.session, Verdict::OtherAccount).await.unwrap();
        let timeline = api.get_timeline(&agent.session).await.unwrap();
        assert!(!format!("{timeline:?}").contains("mallory"), "{timeline:?}");
        assert!(stored.contains("one"), "{stored}");
    }
    // A command that signs the tool in to another account does not change the credential either.
    let known = FakeAgent::start_renewing(&server, &meta.id).await;
    assert_eq!(known.deliver(&known.delivery(&of("five", "ada@example.test"))).await.status, 200);
    api.wait_status(&known.session, SessionStatus::Completed).await.unwrap();
    let using = FakeAgent::start_using(&server, &meta.id).await;
    let answer = using.deliver(&using.delivery(&of("six", "mallory@example.test"))).await;
    assert_eq!(status_and_code(&answer), (409, "other_account".into()));
    api.wait_entry(&using.session, TimelineKind::CredentialNotRefreshed).await.unwrap();
    let lease = api.lease_credential(&meta.id).await.unwrap();
    assert!(lease.files[0].content.expose().windows(4).any(|part| part == b"five"));
    api.cancel_session(&using.session).await.unwrap();
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn text_credential_and_companion_file_are_delivered_unchanged() {
    let flags = Flags::new();
    let text = "machine example.test:\n  oauth_token: s3cret\n";
    let rules = json!({
        "paths": [".scripted/hosts.yml"],
        "companions": [".scripted/config.yml"],
        "format": "text",
        "text_matches": "(?m)^ +oauth_token: \\S+$",
    });
    let steps = [
        flags.wait_step("go"),
        Step::write(".scripted/config.yml", "editor: none\n"),
        Step::write(".scripted/hosts.yml", text),
        flags.wait_step("never"),
    ];
    let server = start_server(
        ScriptedProvider::new("scripted", Script::new(steps)).with_descriptor_key("credential", rules),
        "",
    )
    .await;
    let api = server.backend_client().unwrap();
    let id = api.start_session("scripted").await.unwrap().session.id;
    flags.set("go");
    let meta = wait_completed(&api, &id).await;
    let files = api.lease_credential(&meta.id).await.unwrap().files;
    let files: Vec<_> = files.iter().map(|file| (file.path.as_str(), file.content.expose())).collect();
    assert_eq!(files, [(".scripted/hosts.yml", text.as_bytes()), (".scripted/config.yml", &b"editor: none\n"[..])]);
    server.stop_and_check_leaks().await.unwrap();
}
