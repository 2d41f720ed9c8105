//! The examples of responses in the document are answers of a server, shortened and without its addresses. `ANTEROOM_WRITE_DOCS=1` writes
//! those whose form has changed; the document has them after the next build.

use crate::{
    clients::start_demo,
    document::{document, operations, resolved},
    tools::{output, project, python_tools},
};
use anteroom_testbed::{ApiClient, TestServer, plain_process::built_program};
use anteroom_wire::{
    SessionId,
    api::{SessionStatus, StartRequest},
};
use reqwest::Client;
use serde_json::{Map, Value, json};
use std::{collections::BTreeSet, fs, path::PathBuf};
use tokio::process::Command;

/// Elements of a list in an example.
const ELEMENTS_MAX: usize = 2;
/// Values of secrets, by the names of their fields.
const SECRETS: &[(&str, &str)] = &[
    ("secret", "ant_EXAMPLE"),
    ("ticket", "EXAMPLE"),
    ("content", "e30="),
    (
        "viewer_url",
        "https://anteroom.example/dashboard/remote-cli/auth?session=ses_01m8ydhrgt6fq1x2v7c9ek3b5a#pass=EXAMPLE",
    ),
    ("url", "https://anteroom.example/enter#pass=EXAMPLE"),
];

fn file() -> PathBuf {
    project().join("crates/server/src/http/document/examples.json")
}

/// The names of the schemas of all successful JSON responses.
fn schemas_of_responses(document: &Value) -> BTreeSet<String> {
    let responses = operations(document).flat_map(|(_, operation)| operation["responses"].as_object().unwrap());
    let successes = responses.filter(|(status, _)| status.starts_with('2'));
    let names = successes.filter_map(|(_, response)| {
        let schema = &resolved(document, response)["content"]["application/json"]["schema"];
        schema["$ref"].as_str().map(|name| name.rsplit('/').next().unwrap().to_owned())
    });
    names.collect()
}

/// Answers of a server by the names of their schemas.
struct Recorder {
    server: TestServer,
    operator: ApiClient,
    backend: ApiClient,
    found: Map<String, Value>,
}

impl Recorder {
    async fn get(&mut self, schema: &str, path: &str) -> Value {
        let answer = self.operator.get(path).await.unwrap();
        self.keep(schema, path, answer.status, &answer.text)
    }

    async fn post(&mut self, schema: &str, path: &str, body: Value) -> Value {
        let answer = self.operator.post(path, body).await.unwrap();
        self.keep(schema, path, answer.status, &answer.text)
    }

    fn keep(&mut self, schema: &str, path: &str, status: u16, text: &str) -> Value {
        assert!((200..300).contains(&status), "{path}: {text}");
        let answer: Value = serde_json::from_str(text).unwrap();
        self.found.insert(schema.to_owned(), answer.clone());
        answer
    }

    /// A sign-in with a key, whose page is not open.
    async fn sign_in(&mut self) -> SessionId {
        let pages = format!("http://{}/demo/keys", self.server.address().unwrap());
        let made = Client::builder().no_proxy().build().unwrap().post(pages).body("name=Ada");
        let made = made.header("content-type", "application/x-www-form-urlencoded").send().await.unwrap();
        let made: Value = serde_json::from_str(&made.text().await.unwrap()).unwrap();
        let request = StartRequest {
            method: Some("api_key".to_owned()),
            user_id: Some("u-17".to_owned()),
            return_url: Some("https://app.example.com/done".to_owned()),
            ..StartRequest::new("demo")
        };
        let started = self.backend.start_session_with(&request).await.unwrap();
        self.found.insert("StartResponse".to_owned(), serde_json::to_value(&started).unwrap());
        let (id, path) = (started.session.id.clone(), format!("/api/auth/session/{}", started.session.id));
        let asks = self.backend.wait_until(&id, "asking for the key", |view| view.sign_in.prompt.is_some()).await;
        self.found.insert("SignInView".to_owned(), serde_json::to_value(asks.unwrap().sign_in).unwrap());
        self.get("ConsentView", &format!("{path}/consent")).await;
        self.post("Ticket", &format!("{path}/ticket"), json!({ "purpose": "desktop" })).await;
        self.post("LoginLink", &format!("{path}/invitations"), json!({ "name": "Ada" })).await;
        self.get("HelperList", &format!("{path}/helpers")).await;
        self.get("MachineList", "/api/machines").await;
        self.post("PasteResult", &format!("{path}/paste"), json!({ "text": made["key"] })).await;
        self.backend.wait_status(&id, SessionStatus::Completed).await.unwrap();
        id
    }

    async fn record(&mut self) {
        let id = self.sign_in().await;
        let path = format!("/api/auth/session/{id}");
        for (schema, path) in [
            ("SessionView", path.clone()),
            ("Timeline", format!("{path}/events")),
            ("Diagnosis", format!("{path}/diagnosis")),
            ("LogLines", format!("{path}/log")),
            ("SessionList", "/api/sessions?count=true".to_owned()),
            ("ProviderList", "/api/providers".to_owned()),
            ("Overview", "/api/overview".to_owned()),
            ("RefusedHostList", "/api/egress/refused".to_owned()),
            ("KeyReport", "/api/keys".to_owned()),
            ("LeakReport", "/api/leaks".to_owned()),
            ("ConfigReport", "/api/config".to_owned()),
            ("WebhookReport", "/api/webhook".to_owned()),
            ("CurrentCaller", "/api/me".to_owned()),
            ("BrowserList", "/api/browsers".to_owned()),
            ("OidcProvider", "/api/oidc".to_owned()),
            ("Health", "/health".to_owned()),
        ] {
            self.get(schema, &path).await;
        }
        let list = self.get("CredentialList", "/api/credentials?count=true").await;
        let credential = list["credentials"][0]["id"].as_str().unwrap().to_owned();
        self.get("CredentialMeta", &format!("/api/credentials/{credential}")).await;
        self.post("Lease", &format!("/api/credentials/{credential}/lease"), json!({})).await;
        let body = json!({ "purpose": "exec", "argv": [built_program("anteroom-demo-cli").unwrap(), "status"] });
        let started = self.backend.post(&format!("/api/credentials/{credential}/use"), body).await.unwrap();
        let started: Value = started.parse().unwrap();
        let used = started["session"]["id"].as_str().unwrap().parse().unwrap();
        self.backend.wait_until(&used, "ended", |view| view.status.is_ended()).await.unwrap();
        self.get("ScreenView", &format!("/api/auth/session/{used}/screen")).await;
        let created = self.post("CreatedToken", "/api/tokens", json!({ "name": "shop" })).await;
        let token = created["token"]["id"].as_str().unwrap().to_owned();
        self.get("TokenList", "/api/tokens?role=backend&count=true").await;
        self.post("RevokedToken", &format!("/api/tokens/{token}/revoke"), json!({})).await;
        self.post("ReconcileReport", "/api/reconcile?dry_run=true", json!({})).await;
        self.post("DatabaseReport", "/api/database/check", json!({})).await;
        self.post("EraseReport", "/api/erase", json!({ "user_id": "u-18" })).await;
        self.get("AuditPage", "/api/audit?limit=2").await;
        self.get("AuditVerification", "/api/audit/verification").await;
    }
}

/// What needs an OpenID provider, an agent or a receiver.
fn others() -> [(&'static str, Value); 5] {
    let (session, credential) = ("ses_01m8ydhrgt6fq1x2v7c9ek3b5a", "crd_01m8ydhrgt6fq1x2v7c9ek3b5a");
    let paths = json!([".config/anteroom-demo/credentials.json"]);
    let result = json!({
        "id": "msg_01m8ydhrgt6fq1x2v7c9ek3b5a", "receiver": "backend", "url": "https://backend.example/anteroom", "error": null,
    });
    [
        ("OidcStart", json!({ "authorization_url": "https://login.example.com/authorize?client_id=anteroom" })),
        ("OidcOutcome", json!({ "outcome": "signed_in" })),
        ("AgentSession", json!({ "session": session, "generation": 1, "provider": "demo", "credential_paths": paths })),
        ("DeliveryResult", json!({ "outcome": "stored", "credential": credential })),
        ("WebhookTestResults", json!({ "results": [result] })),
    ]
}

/// Answers of a host of a cluster.
fn of_hosts() -> [(&'static str, Value); 3] {
    let host = json!({
        "id": "hst_01m8ydhrgt6fq1x2v7c9ek3b5a", "name": "host-1", "state": "answers", "draining": false, "incarnation": 1, "sessions": 3,
        "machines": 3, "machines_max": 8, "version": "0.1.0", "peer_url": "https://host-1.internal:7061", "labels": {},
        "joined_at": "2026-08-17T09:30:12.000Z",
    });
    let invitation = json!({ "invitation": "arj_EXAMPLE", "expires_in_s": 900, "authority": "5a".repeat(32) });
    [
        ("HostList", json!({ "cluster": "production", "own": host["id"], "hosts": [host] })),
        ("HostInvitation", invitation),
        ("FencedHost", json!({ "sessions": 3 })),
    ]
}

/// Shortens lists, and replaces secrets and what is particular to the server.
fn clean(value: &mut Value, name: &str, particular: &[(String, &str)]) {
    match value {
        Value::Array(values) => {
            values.truncate(ELEMENTS_MAX);
            values.iter_mut().for_each(|value| clean(value, name, particular));
        }
        Value::Object(members) => members.iter_mut().for_each(|(name, value)| clean(value, name, particular)),
        Value::String(text) => {
            let secret = SECRETS.iter().find(|(secret, _)| *secret == name && !text.is_empty());
            *text = secret.map_or_else(|| std::mem::take(text), |(_, secret)| (*secret).to_owned());
            for (own, general) in particular {
                *text = text.replace(own.as_str(), general);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn names(example: &Value) -> Vec<&String> {
    example.as_object().into_iter().flat_map(Map::keys).collect()
}

#[tokio::test]
async fn each_successful_response_has_an_example_that_is_an_answer_of_a_server() {
    let document = document();
    let server = start_demo("").await;
    let (operator, backend) = (server.operator_client().unwrap(), server.backend_client().unwrap());
    let mut recorder = Recorder { server, operator, backend, found: Map::new() };
    recorder.record().await;
    let state_dir = recorder.server.state_dir();
    let particular = [
        (recorder.server.base_url().unwrap(), "https://anteroom.example"),
        (recorder.server.address().unwrap().to_string(), "127.0.0.1:7060"),
        (state_dir.display().to_string(), "/var/lib/anteroom"),
        (state_dir.parent().unwrap().display().to_string(), "/var/lib"),
    ];
    let mut found = std::mem::take(&mut recorder.found);
    found.iter_mut().for_each(|(_, example)| clean(example, "", &particular));
    found.extend(of_hosts().map(|(name, example)| (name.to_owned(), example)));
    found.extend(others().map(|(name, example)| (name.to_owned(), example)));
    let mut written: Map<String, Value> =
        fs::read(file()).map_or_else(|_| Map::new(), |text| serde_json::from_slice(&text).unwrap());
    if std::env::var_os("ANTEROOM_WRITE_DOCS").is_some() {
        let changed = found
            .iter()
            .filter(|(name, example)| written.get(*name).is_none_or(|known| names(known) != names(example)));
        let changed: Vec<_> = changed.map(|(name, example)| (name.clone(), example.clone())).collect();
        written.extend(changed);
        written.retain(|name, _| found.contains_key(name));
        fs::write(file(), serde_json::to_string_pretty(&written).unwrap() + "\n").unwrap();
    }
    for (name, example) in &found {
        let known = written.get(name).unwrap_or(&Value::Null);
        assert_eq!(names(known), names(example), "{name}: ANTEROOM_WRITE_DOCS=1 writes the examples");
    }
    let known: BTreeSet<_> = written.keys().cloned().collect();
    assert_eq!(known, schemas_of_responses(&document), "each successful response has an example");
    recorder.server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn each_example_is_what_its_schema_says() {
    let mut validate = Command::new(python_tools().await.join("python"));
    validate
        .arg(project().join("crates/testbed/tests/api/validate_examples.py"))
        .arg(project().join("web/openapi.json"));
    let count: usize = output(&mut validate).await.trim().parse().unwrap();
    assert!(count > 50, "{count} examples");
    for name in schemas_of_responses(&document()) {
        assert!(document()["components"]["schemas"][&name]["examples"][0].is_object(), "{name} has no example");
    }
}
