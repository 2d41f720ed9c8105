//! Pastes at open prompts, changes of the sign-in method, providers added by one file, and the prompts of `login`.

use crate::{
    Flags, URL,
    command_line::{CLI_MS_MAX, cli_command, run_cli, text},
    exec::TestTerminal,
    problem_of,
};
use anteroom_testbed::{
    ApiClient, ApiResponse, Script, ScriptedProvider, Step, TestConfig, TestServer, WAIT_MAX, leaks::encoded_forms,
};
use anteroom_wire::{
    SessionId, TimelineKind,
    api::{SessionStatus, SessionView, StartRequest},
};
use serde_json::{Value, json};
use sqlx::{ConnectOptions, SqliteConnection, sqlite::SqliteConnectOptions};
use std::{os::unix::fs::PermissionsExt, process::Stdio, time::Duration};

/// Pasted text that must appear in no log and no response.
const PASTED: &str = "canary5c1e#b07d2a9f";

fn prompts() -> Value {
    json!([{
        "id": "paste_code",
        "matches": r"Paste code:\s*\z",
        "ask": { "label": "The code of the last page", "pattern": "[a-z0-9]{8,}#[a-z0-9]{8,}", "expected_format": "Two halves.",
            "rejected": "(?m)^Wrong code: (.*)$" },
    }])
}

/// Opens a URL, prompts for a code, rejects the first one and writes the second one.
fn provider_with_code_prompt(flags: &Flags) -> ScriptedProvider {
    flags
        .provider_with_steps([
            Step::OpenUrlWithBrowser { url: URL.to_owned() },
            Step::Print { text: "\nPaste code: ".to_owned() },
            Step::ReadLine,
            Step::Print { text: "\nWrong code: not this one\nPaste code: ".to_owned() },
            Step::ReadLine,
            Step::print_line("\nThanks"),
            Step::write(ScriptedProvider::CREDENTIAL_PATH, "{\"token\": \"{line}\"}"),
        ])
        .with_descriptor_key("prompts", prompts())
}

/// One method waits for the browser, the other prompts for a key.
fn two_methods(flags: &Flags) -> ScriptedProvider {
    let key = Script::new([
        Step::Print { text: "Key: ".to_owned() },
        Step::ReadLine,
        Step::write(ScriptedProvider::CREDENTIAL_PATH, "{\"key\": \"{line}\"}"),
        flags.wait_step("never"),
    ]);
    let differs = json!({
        "label": "With a key",
        "lanes": ["terminal"],
        "next_action": "Bring your key.",
        "prompts": [{ "id": "key", "matches": r"Key:\s*\z", "ask": { "label": "Your key", "secret": true } }],
        "credential_required": ["/key"],
    });
    flags
        .provider_with_steps([Step::OpenUrlWithBrowser { url: URL.to_owned() }, flags.wait_step("never")])
        .with_descriptor_key("label", json!("With a browser"))
        .with_descriptor_key("method", json!("browser"))
        .with_method("key", key, differs)
}

async fn start_session(api: &ApiClient) -> SessionId {
    api.start_session("scripted").await.unwrap().session.id
}

async fn wait_prompt(api: &ApiClient, id: &SessionId, rule: &str) -> SessionView {
    let asks = |view: &SessionView| view.sign_in.prompt.as_ref().is_some_and(|prompt| prompt.id == rule);
    api.wait_until(id, &format!("asking {rule}"), asks).await.unwrap()
}

async fn post(api: &ApiClient, id: &SessionId, end: &str, body: Value) -> ApiResponse {
    api.post(&format!("/api/auth/session/{id}/{end}"), body).await.unwrap()
}

#[tokio::test]
async fn valid_paste_is_typed_at_the_open_prompt() {
    let flags = Flags::new();
    let server = TestServer::start(
        TestConfig::with_provider(provider_with_code_prompt(&flags)).with_settings("[log]\nlevel = 'trace'\n"),
    )
    .await
    .unwrap();
    let api = server.backend_client().unwrap();
    let id = start_session(&api).await;
    let view = wait_prompt(&api, &id, "paste_code").await;
    assert_eq!(
        (view.status, view.sign_in.prompt.unwrap().label.as_str()),
        (SessionStatus::Authenticating, "The code of the last page")
    );
    let (status, code, detail) = problem_of(&post(&api, &id, "paste", json!({ "text": "half" })).await);
    assert_eq!((status, code.as_str()), (422, "wrong_answer"), "{detail}");
    assert!(detail.contains("Two halves."), "{detail}");
    let first = post(&api, &id, "paste", json!({ "text": "aaaaaaaa#bbbbbbbb" })).await;
    assert_eq!(first.parse::<Value>().unwrap(), json!({ "interpreted_as": "prompt", "id": "paste_code" }));
    let again = |view: &SessionView| view.sign_in.prompt.as_ref().is_some_and(|prompt| prompt.rejection.is_some());
    let view = api.wait_until(&id, "asking again", again).await.unwrap();
    assert_eq!(view.sign_in.prompt.unwrap().rejection.as_deref(), Some("not this one"));
    // The former path of the same operation.
    assert_eq!(post(&api, &id, "code", json!({ "code": format!("  {PASTED}\n") })).await.status, 204);
    let view = api.wait_status(&id, SessionStatus::Completed).await.unwrap();
    let lease = api.lease_credential(&view.credential.unwrap().id).await.unwrap();
    assert_eq!(lease.files[0].content.expose(), format!("{{\"token\": \"{PASTED}\"}}").as_bytes());
    let (status, code, _) = problem_of(&post(&api, &id, "paste", json!({ "text": PASTED })).await);
    assert_eq!((status, code.as_str()), (410, "completed"));
    for needle in encoded_forms(PASTED) {
        let needle = String::from_utf8(needle).unwrap();
        assert!(
            !server.read_log().contains(&needle)
                && !api.recorded_responses().iter().any(|response| response.contains(&needle))
        );
    }
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn paste_without_a_prompt_or_with_control_characters_is_rejected() {
    let flags = Flags::new();
    let provider = flags.idle_provider().with_descriptor_key("prompts", prompts());
    let server = TestServer::start(TestConfig::with_provider(provider)).await.unwrap();
    let api = server.backend_client().unwrap();
    let id = start_session(&api).await;
    api.wait_entry(&id, TimelineKind::CliStarted).await.unwrap();
    for (body, expected) in [
        (json!({ "text": "aaaaaaaa#bbbbbbbb" }), (409, "no_prompt")),
        (json!({ "text": " \n " }), (400, "malformed")),
        (json!({ "text": "a\u{7}b" }), (400, "malformed")),
        (json!({ "text": "a\nb" }), (409, "no_prompt")),
        (json!({ "text": "a".repeat(16 * 1024 + 1) }), (400, "malformed")),
        (json!({ "text": "a".repeat(70 * 1024) }), (413, "too_large")),
        (json!({ "txt": "a" }), (400, "malformed")),
    ] {
        let (status, code, detail) = problem_of(&post(&api, &id, "paste", body).await);
        assert_eq!((status, code.as_str()), expected, "{detail}");
        assert!(!detail.contains("aaaaaaaa"), "{detail}");
    }
    let (status, code, _) = problem_of(
        &post(&server.other_backend_client().unwrap(), &id, "paste", json!({ "text": "aaaaaaaa#bbbbbbbb" })).await,
    );
    assert_eq!((status, code.as_str()), (403, "not_owner"));
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn changed_method_starts_a_new_run_and_applies_to_replacement_machines() {
    let flags = Flags::new();
    let server = TestServer::start(TestConfig::with_provider(two_methods(&flags))).await.unwrap();
    let api = server.backend_client().unwrap();
    let id = start_session(&api).await;
    let view = api.wait_until(&id, "showing the address", |view| view.sign_in.url.is_some()).await.unwrap();
    let names: Vec<_> = view.methods.iter().map(|method| method.id.as_str()).collect();
    assert_eq!((view.method.as_str(), names), ("browser", vec!["browser", "key"]));
    let (status, code, detail) = problem_of(&post(&api, &id, "method", json!({ "method": "phone" })).await);
    assert_eq!((status, code.as_str()), (400, "unknown_method"));
    assert!(detail.contains("browser, key"), "{detail}");
    let view: SessionView = post(&api, &id, "method", json!({ "method": "key" })).await.parse().unwrap();
    assert_eq!((view.method.as_str(), view.next_action.as_str(), view.lanes.len()), ("key", "Bring your key.", 1));
    let view = wait_prompt(&api, &id, "key").await;
    assert_eq!(
        (view.status, view.sign_in.url),
        (SessionStatus::Authenticating, None),
        "the URL belonged to the previous run"
    );
    for kind in [TimelineKind::MethodChosen, TimelineKind::MethodSwitched] {
        api.wait_entry(&id, kind).await.unwrap();
    }
    server.kill_machine(&server.list_machines()[0]).unwrap();
    let another = |view: &SessionView| view.generation == 2 && view.sign_in.prompt.is_some();
    let view = api.wait_until(&id, "asking in another machine", another).await.unwrap();
    assert_eq!((view.method.as_str(), view.sign_in.prompt.unwrap().secret), ("key", true));
    assert_eq!(post(&api, &id, "paste", json!({ "text": "sk-1" })).await.status, 200);
    let view = api.wait_status(&id, SessionStatus::Completed).await.unwrap();
    let lease = api.lease_credential(&view.credential.unwrap().id).await.unwrap();
    assert_eq!(
        lease.files[0].content.expose(),
        b"{\"key\": \"sk-1\"}",
        "the credential of the chosen method was stored"
    );
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn chosen_method_survives_a_server_restart() {
    let flags = Flags::new();
    let mut server = TestServer::start(TestConfig::with_provider(two_methods(&flags))).await.unwrap();
    let api = server.backend_client().unwrap();
    let with = |method: Option<&str>| StartRequest {
        idempotency_key: Some("one".into()),
        method: method.map(str::to_owned),
        ..StartRequest::new("scripted")
    };
    let id = api.start_session_with(&with(Some("key"))).await.unwrap().session.id;
    assert_eq!(api.start_session_with(&with(Some("key"))).await.unwrap().session.id, id);
    let other = api.post("/api/auth/start", serde_json::to_value(with(None)).unwrap()).await.unwrap();
    assert_eq!(problem_of(&other).1, "idempotency_key_reused");
    let unknown = StartRequest { idempotency_key: None, ..with(Some("phone")) };
    let unknown = api.post("/api/auth/start", serde_json::to_value(unknown).unwrap()).await.unwrap();
    assert_eq!((problem_of(&unknown).0, problem_of(&unknown).1.as_str()), (400, "unknown_method"));
    wait_prompt(&api, &id, "key").await;
    server.kill_server().await.unwrap();
    server.start_server().await.unwrap();
    let api = server.backend_client().unwrap();
    wait_prompt(&api, &id, "key").await;
    let view = api.wait_status(&id, SessionStatus::Authenticating).await.unwrap();
    assert_eq!((view.method.as_str(), view.next_action.as_str(), view.generation), ("key", "Bring your key.", 1));
    assert_eq!(post(&api, &id, "paste", json!({ "text": "sk-2" })).await.status, 200);
    api.wait_status(&id, SessionStatus::Completed).await.unwrap();
    server.stop_and_check_leaks().await.unwrap();
}

async fn database(server: &TestServer) -> SqliteConnection {
    SqliteConnectOptions::new()
        .filename(server.state_dir().join("anteroom.db"))
        .busy_timeout(WAIT_MAX)
        .connect()
        .await
        .unwrap()
}

#[tokio::test]
async fn method_change_is_rejected_during_a_delivery() {
    let flags = Flags::new();
    let provider = flags.provider("{\"token\": \"one\"}").with_descriptor_key("label", json!("One")).with_method(
        "other",
        Script::new([flags.wait_step("never")]),
        json!({ "label": "Other" }),
    );
    let server = TestServer::start(TestConfig::with_provider(provider)).await.unwrap();
    let api = server.backend_client().unwrap();
    let id = start_session(&api).await;
    api.wait_until(&id, "showing the address", |view| view.sign_in.url.is_some()).await.unwrap();
    let trigger = "CREATE TRIGGER not_now BEFORE INSERT ON credentials BEGIN SELECT RAISE(ABORT, 'not now'); END";
    sqlx::raw_sql(trigger).execute(&mut database(&server).await).await.unwrap();
    flags.set("go");
    api.wait_entry(&id, TimelineKind::DeliveryRetry).await.unwrap();
    let (status, code, _) = problem_of(&post(&api, &id, "method", json!({ "method": "other" })).await);
    assert_eq!((status, code.as_str()), (409, "delivery_in_progress"));
    assert_eq!(api.get_session(&id).await.unwrap().method, "default");
    sqlx::raw_sql("DROP TRIGGER not_now").execute(&mut database(&server).await).await.unwrap();
    api.wait_status(&id, SessionStatus::Completed).await.unwrap();
    let (status, code, _) = problem_of(&post(&api, &id, "method", json!({ "method": "other" })).await);
    assert_eq!((status, code.as_str()), (410, "completed"));
    server.stop_and_check_leaks().await.unwrap();
}

/// A provider file as an operator would write it for a new tool.
const NEW_PROVIDER: &str = r##"
id = "newcomer"
name = "Newcomer"
cli = "newcomer"
argv = ["/bin/sh", "-c", "printf 'Visit https://new.example/device and enter: AB12-CD34\\nContinue? [y/n] '; read yes; printf 'Token: '; read token; mkdir -p .new; printf 'token=%s\\n' \"$token\" > .new/token"]
lanes = ["device_code", "terminal"]
next_action = "Open the link and enter the code."
sign_in_hosts = ["new.example"]
policy = "store"
egress = []

[sign_in]
url = 'https://new\.example/\S+'
code = 'enter: ([A-Z0-9]{4}-[A-Z0-9]{4})'

[[prompts]]
id = "go_on"
matches = 'Continue\? \[y/n\]\s*\z'
press = ["y", "enter"]

[[prompts]]
id = "token"
matches = 'Token:\s*\z'
ask = { label = "The token" }

[credential]
paths = [".new/token"]
format = "text"
text_matches = '^token=\w+\n$'
"##;

#[tokio::test]
async fn one_provider_file_adds_a_new_tool() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("newcomer.toml"), NEW_PROVIDER).unwrap();
    let settings = format!("providers_dir = '{}'\n", dir.path().display());
    let server = TestServer::start(TestConfig::with_clis(&["newcomer"]).with_settings(&settings)).await.unwrap();
    let api = server.backend_client().unwrap();
    let listed: Value = api.get("/api/providers").await.unwrap().parse().unwrap();
    let listed = listed["providers"].as_array().unwrap().iter().find(|view| view["id"] == "newcomer").cloned().unwrap();
    assert_eq!((&listed["available"], &listed["unavailable"]), (&json!(true), &Value::Null));
    let id = api.start_session("newcomer").await.unwrap().session.id;
    let view = wait_prompt(&api, &id, "token").await;
    assert_eq!(view.sign_in.url.as_deref(), Some("https://new.example/device"));
    assert_eq!(view.sign_in.device_code.as_deref(), Some("AB12-CD34"));
    api.wait_entry(&id, TimelineKind::KeysPressed).await.unwrap();
    assert_eq!(post(&api, &id, "paste", json!({ "text": "t0ken" })).await.status, 200);
    let view = api.wait_status(&id, SessionStatus::Completed).await.unwrap();
    let lease = api.lease_credential(&view.credential.unwrap().id).await.unwrap();
    assert_eq!(lease.files[0].content.expose(), b"token=t0ken\n");
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn login_reads_the_api_key_from_a_file_and_writes_the_credential_into_a_directory() {
    let flags = Flags::new();
    let server = TestServer::start(TestConfig::with_provider(two_methods(&flags))).await.unwrap();
    let [key, out] = ["key", "out/"].map(|name| flags.path(name).display().to_string());
    std::fs::write(&key, format!("{PASTED}\n")).unwrap();
    std::fs::create_dir(&out).unwrap();
    let done =
        run_cli(&server, &["login", "scripted", "--method", "key", "--api-key-file", &key, "--out", &out, "--no-open"])
            .await;
    assert!(done.status.success(), "{}{}", text(&done.stdout), text(&done.stderr));
    let file = flags.path("out").join(ScriptedProvider::CREDENTIAL_PATH);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), format!("{{\"key\": \"{PASTED}\"}}"));
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert!(!text(&done.stdout).contains(PASTED), "{}", text(&done.stdout));
    let listed = run_cli(&server, &["providers", "list"]).await;
    assert!(text(&listed.stdout).contains("browser (link, terminal)"), "{}", text(&listed.stdout));
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn login_prompts_in_the_terminal_without_echoing_the_secret() {
    let flags = Flags::new();
    let server = TestServer::start(TestConfig::with_provider(two_methods(&flags))).await.unwrap();
    let (mut terminal, tty) = TestTerminal::open(200, 50);
    let mut command = cli_command(&server, &["login", "scripted", "--method", "key", "--no-open"]);
    let stream = || Stdio::from(tty.try_clone().unwrap());
    command.stdin(stream()).stdout(stream()).stderr(stream());
    let mut child = command.spawn().unwrap();
    terminal.wait_output("Your key: ").await;
    terminal.type_keys(format!("{PASTED}\n").as_bytes());
    terminal.wait_output("Signed in.").await;
    let done = tokio::time::timeout(Duration::from_millis(CLI_MS_MAX), child.wait()).await.unwrap().unwrap();
    assert!(done.success());
    assert!(!terminal.screen.contains(PASTED), "{}", terminal.screen);
    server.stop_and_check_leaks().await.unwrap();
}
