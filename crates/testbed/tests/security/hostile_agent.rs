//! A hostile agent: a session on an external machine whose agent is the test, which posts any JSON with the agent's token.

use anteroom_testbed::{ApiClient, Script, ScriptedProvider, TestConfig, TestServer, WAIT_MAX};
use anteroom_wire::{
    SessionId,
    agent::EVENTS_PATH,
    api::{SessionStatus, SessionView, StartRequest, StartResponse},
};
use reqwest::Client;
use serde_json::{Value, json};
use std::{
    os::unix::fs::PermissionsExt,
    process::Output,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

pub(crate) const TOKEN: &str = "the-token-of-the-hostile-agent";

/// A text that takes over a terminal, a page or a log if it is shown as it is.
pub(crate) const HOSTILE: &str = "\u{1b}]0;TITLE-OWNED\u{7}\u{1b}[2J\u{1b}[31mRED\u{1b}]8;;http://evil.example\u{7}click\u{1b}]8;;\u{7}\
    \u{202e}RTL\u{2028}LS\u{2029}PS\u{9b}31mC1\u{200b}\u{feff}\u{e0041}<img src=x onerror=alert(1)>\r\nFORGED: line\u{8}\u{8}\u{7f}";

/// A server with one session whose machine is hostile.
pub(crate) struct HostileAgent {
    pub(crate) server: TestServer,
    pub(crate) api: ApiClient,
    client: Client,
    numbers: AtomicU64,
    _dir: tempfile::TempDir,
}

impl HostileAgent {
    /// Starts a server with the external machine `desk`. Its provider names `accounts.google.com`, one prompt and a form of codes.
    pub(crate) async fn start_server(settings: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        std::fs::write(&file, TOKEN).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        let settings = format!(
            "{settings}\n[external_machines.desk]\ndesktop = 'vnc://127.0.0.1:1'\nagent_token_file = {file:?}\n\
             greeting_ms_max = 700\n"
        );
        let prompts = json!([{ "id": "code", "matches": "Code:", "ask": { "label": "The code of the last page" } }]);
        let provider = ScriptedProvider::new("scripted", Script::new([]))
            .with_descriptor_key("sign_in_hosts", json!(["accounts.google.com"]))
            .with_descriptor_key("sign_in", json!({ "url": r"https?://\S+", "code": "code: ([A-Z]{4}-[0-9]{4})" }))
            .with_descriptor_key("prompts", prompts);
        let server = TestServer::start(TestConfig::with_provider(provider).with_settings(&settings)).await.unwrap();
        let api = server.backend_client().unwrap();
        let client = Client::builder().no_proxy().timeout(WAIT_MAX).build().unwrap();
        Self { server, api, client, numbers: AtomicU64::new(0), _dir: dir }
    }

    /// The same, with a session.
    pub(crate) async fn start(settings: &str) -> (Self, SessionId) {
        let agent = Self::start_server(settings).await;
        let id = agent.start_session(None).await.session.id;
        (agent, id)
    }

    /// Starts a session on the hostile machine.
    pub(crate) async fn start_session(&self, return_url: Option<&str>) -> StartResponse {
        let request = StartRequest {
            machine: Some("desk".into()),
            return_url: return_url.map(Into::into),
            ..StartRequest::new("scripted")
        };
        let started = self.api.start_session_with(&request).await.unwrap();
        self.api.wait_status(&started.session.id, SessionStatus::VmStarted).await.unwrap();
        started
    }

    /// Posts events as the machine's agent; returns the HTTP status.
    pub(crate) async fn send(&self, events: Vec<Value>) -> u16 {
        let number = |mut event: Value| {
            event["number"] = (self.numbers.fetch_add(1, Relaxed) + 1).into();
            event["at_unix_ms"] = 1.into();
            event
        };
        let events: Vec<Value> = events.into_iter().map(number).collect();
        let url = format!("http://{}{EVENTS_PATH}", self.server.address().unwrap());
        let request = self.client.post(url).bearer_auth(TOKEN).json(&json!({ "events": events }));
        request.send().await.unwrap().status().as_u16()
    }

    /// Reports an address, and returns the session.
    pub(crate) async fn send_url(&self, id: &SessionId, url: &str) -> SessionView {
        let event = json!({ "kind": "sign_in_url", "url": url, "source": "browser_command" });
        assert_eq!(self.send(vec![event]).await, 204, "{url}");
        self.api.get_session(id).await.unwrap()
    }

    /// Runs the `anteroom` command with the server's configuration.
    pub(crate) async fn run_cli(&self, arguments: &[&str]) -> Output {
        let mut command = self.server.anteroom_command().unwrap();
        command.args(arguments).stdin(std::process::Stdio::null());
        tokio::time::timeout(WAIT_MAX, command.output()).await.unwrap().unwrap()
    }

    /// Ends the session and the server.
    pub(crate) async fn end(self) {
        self.server.stop_and_check_leaks().await.unwrap();
    }
}

/// Every kind of event that has a text, with [`HOSTILE`] in each.
pub(crate) fn hostile_events() -> Vec<Value> {
    let e = HOSTILE;
    vec![
        json!({ "kind": "device_code", "code": format!("CALL +1 555 0100 NOW{e}") }),
        json!({ "kind": "prompt_opened", "id": e, "ask": { "id": e, "label": e, "secret": true, "expected_format": e, "rejection": e } }),
        json!({ "kind": "prompt_opened", "id": "code", "ask": { "id": "code", "label": format!("Your Google password{e}"), "secret": true, "expected_format": "We will not store it.", "rejection": e } }),
        json!({ "kind": "sign_in_outcome", "outcome": "failed", "why": e }),
        json!({ "kind": "browser_opening", "host": e }),
        json!({ "kind": "browser_opened", "host": e }),
        json!({ "kind": "browser_not_opened", "host": e, "why": e }),
        json!({ "kind": "candidate_rejected", "path": e, "why": e }),
        json!({ "kind": "delivery_retry", "attempts": 1, "error": e }),
        json!({ "kind": "credential_kept_in_machine", "path": e }),
        json!({ "kind": "cli_exited", "code": 1, "last_lines": [e, e] }),
        json!({ "kind": "child_exited", "name": e, "code": 1, "restarts": 1, "last_lines": [e] }),
        json!({ "kind": "crash_loop", "name": e, "exits": 3, "window_s": 5, "code": 1, "last_lines": [e] }),
        json!({ "kind": "crash_loop_ended", "name": e }),
        json!({ "kind": "out_of_memory", "victim": e, "kills": 1 }),
        json!({ "kind": "paste_rejected", "code": e }),
        json!({ "kind": "paste_accepted", "interpreted_as": "prompt", "id": e }),
        json!({ "kind": "keys_pressed", "id": e, "keys": ["enter"] }),
        json!({ "kind": "stage", "stage": "display", "state": "failed", "attempts": 1, "last_error": e, "changed_at_ms": 1 }),
        json!({ "kind": "method_switched", "method": e }),
        json!({ "kind": "sign_in_url", "url": "https://accounts-google.evil.example/signin", "source": "browser_command" }),
    ]
}
