//! The audit trail: what is in it, what is not, and how much strangers and viewers can write.

use anteroom_testbed::{ApiClient, Script, ScriptedProvider, Step, TestConfig, TestServer, WAIT_MAX, eventually};
use anteroom_wire::{
    SessionId, TimelineKind,
    api::{SessionStatus, StartResponse},
};
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use tokio::io::AsyncWriteExt;

/// What a user types and pastes in these tests; it must be nowhere in the trail.
const CANARY: &str = "canary-of-what-was-typed";

/// A server whose tool opens an address, waits for the file `go` and writes a credential.
pub(crate) struct Fixture {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) server: TestServer,
}

impl Fixture {
    pub(crate) async fn start(settings: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let provider = ScriptedProvider::new(
            "scripted",
            Script::new([
                Step::OpenUrlWithBrowser { url: "https://id.example/authorize?state=a".to_owned() },
                Step::WaitForFile { path: dir.path().join("go"), ms_max: 300_000 },
                Step::write(ScriptedProvider::CREDENTIAL_PATH, "{\"token\": \"x\"}"),
            ]),
        );
        let server = TestServer::start(TestConfig::with_provider(provider).with_settings(settings)).await.unwrap();
        Self { dir, server }
    }

    pub(crate) async fn start_session(&self) -> (ApiClient, StartResponse) {
        let api = self.server.backend_client().unwrap();
        let started = api.start_session("scripted").await.unwrap();
        api.wait_until(&started.session.id, "showing the address", |view| view.sign_in.url.is_some()).await.unwrap();
        (api, started)
    }

    pub(crate) fn trail_text(&self) -> String {
        trail_text(&self.server)
    }
}

pub(crate) fn trail_text(server: &TestServer) -> String {
    segment_files(server).iter().map(|path| std::fs::read_to_string(path).unwrap()).collect()
}

pub(crate) fn segment_files(server: &TestServer) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(server.state_dir().join("audit")).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let mut found: Vec<_> = paths.filter(|path| path.extension().is_some_and(|end| end == "jsonl")).collect();
    found.sort();
    found
}

/// All records of the trail.
pub(crate) fn records(server: &TestServer) -> Vec<Value> {
    trail_text(server).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn of_action<'a>(records: &'a [Value], action: &str) -> Vec<&'a Value> {
    records.iter().filter(|record| record["action"] == action).collect()
}

/// Waits until the trail has this action.
async fn wait_action(server: &TestServer, action: &str) {
    let found = async || Ok((!of_action(&records(server), action).is_empty()).then_some(()));
    eventually(action, WAIT_MAX, found).await.unwrap();
}

/// Redeems a login link without any other cookie or token; returns the status and the cookie.
async fn redeem(server: &TestServer, link: &str) -> (u16, String) {
    let (_, token) = link.split_once("#login_token=").unwrap();
    let url = format!("http://{}/api/login", server.address().unwrap());
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let response =
        client.post(url).json(&json!({ "login_token": token, "browser_key": "5a".repeat(32) })).send().await.unwrap();
    let cookie = response.headers().get("set-cookie").map(|cookie| cookie.to_str().unwrap().to_owned());
    (response.status().as_u16(), cookie.unwrap_or_default().split(';').next().unwrap().to_owned())
}

/// Views, types, pastes and so on in a session.
async fn use_session(api: &ApiClient, id: &SessionId) {
    let path = |rest: &str| format!("/api/auth/session/{id}/{rest}");
    let mut desktop = api.connect_desktop(id).await.unwrap();
    api.wait_entry(id, TimelineKind::ViewerJoined).await.unwrap();
    desktop.type_text(CANARY).await.unwrap();
    drop(desktop);
    let mut terminal = api.open_terminal_socket(id).await.unwrap();
    terminal.write_all(CANARY.as_bytes()).await.unwrap();
    terminal.flush().await.unwrap();
    for (rest, body) in [
        ("paste", json!({ "text": CANARY })),
        ("type", json!({ "text": CANARY })),
        ("open-url", json!({ "url": format!("https://a.example/?code={CANARY}") })),
        ("method", json!({ "method": "no-such-method" })),
    ] {
        api.post(&path(rest), body).await.unwrap();
    }
    for rest in ["screen", "oauth-url"] {
        assert_eq!(api.get(&path(rest)).await.unwrap().status, 200, "{rest}");
    }
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "a list of deeds")]
async fn s10_every_kind_of_deed_is_recorded_with_caller_and_peer() {
    let fixture = Fixture::start("").await;
    let server = &fixture.server;
    let (api, started) = fixture.start_session().await;
    let id = &started.session.id;
    use_session(&api, id).await;
    let (operator, stranger) = (server.operator_client().unwrap(), server.other_backend_client().unwrap());
    assert_eq!(redeem(server, &started.viewer_url).await.0, 204);
    assert_eq!(redeem(server, &started.viewer_url).await.0, 401);
    assert_eq!(stranger.get(&format!("/api/auth/session/{id}")).await.unwrap().status, 403);
    assert_eq!(server.anonymous_client().unwrap().get("/api/me").await.unwrap().status, 401);
    assert_eq!(operator.post(&format!("/api/auth/session/{id}/bundle"), json!({})).await.unwrap().status, 200);
    assert_eq!(operator.post("/api/links", json!({})).await.unwrap().status, 200);
    assert_eq!(operator.post("/api/reconcile", json!({})).await.unwrap().status, 200);
    assert_eq!(operator.get("/api/leaks").await.unwrap().status, 200);
    std::fs::write(fixture.dir.path().join("go"), "").unwrap();
    let credential = api.wait_status(id, SessionStatus::Completed).await.unwrap().credential.unwrap().id;
    api.lease_credential(&credential).await.unwrap();
    let exec = json!({ "purpose": "exec", "argv": ["true"] });
    let used = api.post(&format!("/api/credentials/{credential}/use"), exec).await.unwrap();
    assert_eq!(used.status, 202, "{}", used.text);
    let second = api.start_session("scripted").await.unwrap().session.id;
    api.post(&format!("/api/auth/session/{second}/restart"), json!({})).await.unwrap();
    api.cancel_session(&second).await.unwrap();
    assert_eq!(api.call(Method::DELETE, &format!("/api/credentials/{credential}"), None).await.unwrap().status, 204);
    assert_eq!(operator.get("/api/audit").await.unwrap().status, 200);
    for action in ["desktop.close", "terminal.close", "input.type"] {
        wait_action(server, action).await;
    }

    let records = records(server);
    let backend = of_action(&records, "session.start")[0]["actor"].clone();
    assert_eq!(
        (&backend["kind"], &backend["role"], &backend["name"]),
        (&json!("token"), &json!("backend"), &json!("a test's backend"))
    );
    let by_backend = [
        "session.start",
        "ticket.create",
        "desktop.open",
        "desktop.close",
        "terminal.open",
        "terminal.close",
        "input.type",
        "input.paste",
        "input.open_url",
        "session.method",
        "session.restart",
        "session.cancel",
        "screen.read",
        "sign_in_url.read",
        "credential.lease",
        "credential.use",
        "credential.delete",
    ];
    let by_operator = ["bundle.create", "login_link.create", "reconcile.run", "leaks.list"];
    let by_others = ["login", "identification.failed", "access.refused"];
    for action in by_backend.iter().chain(&by_operator).chain(&by_others) {
        let found = of_action(&records, action);
        assert!(!found.is_empty(), "{action} is not recorded");
        for record in found {
            assert_eq!(record["peer"], "127.0.0.1", "{record}");
        }
    }
    for action in by_backend {
        for record in of_action(&records, action) {
            assert_eq!(record["actor"]["id"], backend["id"], "{record}");
            let about_one = record["session"].is_string() || record["credential"].is_string();
            assert!(about_one && record["request"].is_string(), "{record}");
        }
    }
    for action in by_operator {
        assert_eq!(of_action(&records, action)[0]["actor"]["role"], "operator");
    }
    let stored = of_action(&records, "credential.store")[0];
    assert!(stored["peer"].as_str().unwrap().starts_with("machine:"), "{stored}");
    assert_eq!((&stored["actor"]["kind"], &stored["session"]), (&json!("agent"), &json!(id)));
    let outcomes: Vec<_> =
        of_action(&records, "credential.lease").iter().map(|record| record["outcome"].clone()).collect();
    assert_eq!(outcomes, ["attempted", "ok"], "before the deed and after it");
    assert_eq!(of_action(&records, "access.refused")[0]["outcome"], "not_owner");
    assert!(of_action(&records, "server.start")[0]["details"]["settings_changed"].as_str().unwrap().contains("listen"));
    assert!(!fixture.trail_text().contains(CANARY), "what was typed is recorded");
    let kinds: BTreeSet<_> = records.iter().map(|record| record["action"].as_str().unwrap()).collect();
    assert!(kinds.len() >= 24, "{kinds:?}");
    fixture.server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn s10_failed_guesses_of_strangers_leave_few_records_and_are_all_counted() {
    const GUESSES: u64 = 6_000;
    let mut fixture = Fixture::start("").await;
    let before = records(&fixture.server).len();
    let address = fixture.server.address().unwrap();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let guess = |number: u64| {
        let client = client.clone();
        async move {
            let request = client.get(format!("http://{address}/api/sessions?n={number}"));
            request.bearer_auth(format!("ant_guess{number}")).send().await.unwrap().status().as_u16()
        }
    };
    for first in (0..GUESSES).step_by(50) {
        let statuses = futures_util::future::join_all((first..first + 50).map(guess)).await;
        assert!(statuses.iter().all(|status| [401, 429].contains(status)), "{statuses:?}");
    }
    fixture.server.stop_server().await.unwrap();
    let records = records(&fixture.server);
    let failed = of_action(&records, "identification.failed");
    let counted: u64 = failed.iter().map(|record| record["count"].as_u64().unwrap()).sum();
    assert!(records.len() - before <= 12, "{} records", records.len() - before);
    assert!(
        failed.iter().all(|record| record["details"]["route"] == "GET /api/sessions" && record["peer"] == "127.0.0.1")
    );
    // Requests over a limit of the server are refused before their caller is looked for.
    assert!((100..=GUESSES).contains(&counted), "{counted}");
    fixture.server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn s10_viewer_cannot_fill_the_trail_with_what_it_may_repeat() {
    let fixture = Fixture::start("").await;
    let (_, started) = fixture.start_session().await;
    let (_, cookie) = redeem(&fixture.server, &started.viewer_url).await;
    let before = records(&fixture.server).len();
    let base = format!("http://{}", fixture.server.address().unwrap());
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let own = format!("/api/auth/session/{}", started.session.id);
    for number in 0..100 {
        // A session that does not exist has another id each time.
        let other = format!("/api/auth/session/{}/cancel", SessionId::from_parts(number, [7; 10]));
        for path in [format!("{own}/paste"), format!("{own}/ticket"), other] {
            let body = json!({ "text": "a", "purpose": "terminal" });
            let request =
                client.post(format!("{base}{path}")).header("cookie", &cookie).header("x-anteroom", "5a".repeat(32));
            request.json(&body).send().await.unwrap();
        }
    }
    let written = records(&fixture.server).len() - before;
    assert!(written <= 12, "{written} records for 300 requests");
    fixture.server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn s10_only_operators_read_the_trail_and_find_records_by_caller_action_session_and_time() {
    let fixture = Fixture::start("").await;
    let (api, started) = fixture.start_session().await;
    let id = started.session.id;
    let other = api.start_session("scripted").await.unwrap().session.id;
    assert_eq!(api.get("/api/audit").await.unwrap().status, 403);
    assert_eq!(api.get("/api/audit/verification").await.unwrap().status, 403);
    assert_eq!(fixture.server.anonymous_client().unwrap().get("/api/audit").await.unwrap().status, 401);
    let operator = fixture.server.operator_client().unwrap();
    let list = async |query: &str| -> Vec<Value> {
        let page: Value = operator.get(&format!("/api/audit?{query}")).await.unwrap().parse().unwrap();
        page["records"].as_array().unwrap().clone()
    };
    let starts = list("action=session.start").await;
    assert_eq!(starts.iter().map(|record| &record["session"]).collect::<Vec<_>>(), [&json!(other), &json!(id)]);
    let about = list(&format!("session={id}")).await;
    assert!(!about.is_empty() && about.iter().all(|record| record["session"] == json!(id)));
    let by = list("actor=a%20test%27s%20backend&action=session.").await;
    assert_eq!(by.len(), 2, "{by:?}");
    let at = starts[0]["at_ms"].as_u64().unwrap();
    assert!(list(&format!("until_ms={at}")).await.iter().all(|record| record["at_ms"].as_u64().unwrap() < at));
    let first = list("after=0&limit=2").await;
    assert_eq!(first.iter().map(|record| record["seq"].as_u64().unwrap()).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(list("after=2&limit=1").await[0]["seq"], 3);
    assert_eq!(operator.get("/api/audit?speed=1").await.unwrap().status, 400);

    let csv = fixture.server.run_anteroom(&["audit", "export", "--format", "csv", "--since", "1h"]).await.unwrap();
    assert!(csv.starts_with("seq,at_ms,action,") && csv.contains(",session.start,ok,"), "{csv}");
    let newest = fixture.server.run_anteroom(&["audit", "tail", "--lines", "2", "--action", "session."]).await.unwrap();
    assert_eq!(newest.lines().count(), 2, "{newest}");
    let metrics = operator.get("/metrics").await.unwrap().text;
    assert!(metrics.contains("anteroom_audit_write_failures_total 0"), "{metrics}");
    fixture.server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn s10_records_of_concurrent_requests_are_in_order_and_none_is_lost() {
    let fixture = Fixture::start("").await;
    let operator = fixture.server.operator_client().unwrap();
    let links = (0..100).map(|_| operator.post("/api/links", json!({})));
    for response in futures_util::future::join_all(links).await {
        assert_eq!(response.unwrap().status, 200);
    }
    let records = records(&fixture.server);
    let created = of_action(&records, "login_link.create");
    let requests: BTreeSet<_> = created.iter().map(|record| record["request"].as_str().unwrap()).collect();
    assert_eq!((created.len(), requests.len()), (100, 100));
    let numbers: Vec<_> = records.iter().map(|record| record["seq"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (1..=u64::try_from(records.len()).unwrap()).collect::<Vec<_>>());
    fixture.server.stop_and_check_leaks().await.unwrap();
}
