//! Sessions on external machines, through the server's API: VNC servers and websockify of Debian, stand-ins for those of other makers, and
//! servers that are no desktops.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods, reason = "tests")]

mod agent;
mod configuration;
mod connect_errors;
mod desktop_checks;
mod desktops;
mod encryption;
mod page;
mod partition;
mod real_servers;
mod stand_ins;
mod viewers;
mod vnc_server;
mod x11;

use anteroom_rfb::client::ViewerSocket;
use anteroom_testbed::{ApiClient, ApiResponse, Script, ScriptedProvider, TestConfig, TestServer, WAIT_MAX};
use anteroom_wire::{
    SessionId, TimelineKind,
    api::{StartRequest, StartResponse},
};
use std::{os::unix::fs::PermissionsExt, path::PathBuf};
use tokio::{io::AsyncReadExt, time::timeout};

/// The token of the agent of `desk`.
const TOKEN: &str = "the-token-of-the-agent-outside";

/// A directory for token files.
struct Fixture {
    dir: tempfile::TempDir,
}

impl Fixture {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn token_file(&self, name: &str, token: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, token).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    /// One machine's settings.
    fn machine(&self, name: &str, desktop: &str, token: &str) -> String {
        let file = self.token_file(name, token);
        format!(
            "[external_machines.{name}]\ndesktop = '{desktop}'\nagent_token_file = {file:?}\ngreeting_ms_max = 700\n"
        )
    }

    /// Starts a server like [`Self::start_server`], with these additional settings of `desk`.
    async fn start_server_with_desk(&self, desktop: &str, desk_settings: &str) -> TestServer {
        let settings = format!("{}{desk_settings}\n", self.machine("desk", desktop, TOKEN));
        TestServer::start(
            TestConfig::with_provider(ScriptedProvider::new("scripted", Script::new([]))).with_settings(&settings),
        )
        .await
        .unwrap()
    }

    /// Starts a server with the external machine `desk` and a provider whose tool is not in this host's image.
    async fn start_server(&self, desktop: &str, settings: &str) -> TestServer {
        let settings = format!("{settings}\n{}", self.machine("desk", desktop, TOKEN));
        let provider = ScriptedProvider::new("scripted", Script::new([]));
        TestServer::start(TestConfig::with_provider(provider).with_settings(&settings)).await.unwrap()
    }
}

fn request(machine: &str) -> StartRequest {
    StartRequest { machine: Some(machine.into()), ..StartRequest::new("scripted") }
}

/// Starts a session on `desk`.
async fn start(api: &ApiClient) -> StartResponse {
    api.start_session_with(&request("desk")).await.unwrap()
}

/// Requests a session on a machine; returns the response.
async fn request_session(api: &ApiClient, machine: &str) -> ApiResponse {
    api.post("/api/auth/start", serde_json::to_value(request(machine)).unwrap()).await.unwrap()
}

/// Reads until the server closes the connection; returns the close code and the reason.
async fn closing(socket: &mut ViewerSocket) -> (u16, String) {
    let mut rest = Vec::new();
    timeout(WAIT_MAX, socket.read_to_end(&mut rest)).await.expect("closed in time").ok();
    let closing = socket.close_reason().expect("closed with a code").clone();
    (closing.code, closing.reason)
}

/// Connects a viewer, which is closed with an error; returns the problem's code and the data of its timeline entry.
async fn connect_error(api: &ApiClient, id: &SessionId) -> (String, serde_json::Value) {
    let (code, reason) = closing(&mut api.open_desktop_socket(id).await.unwrap()).await;
    assert_eq!(code, 4502, "{reason}");
    let entry = api.wait_entry(id, TimelineKind::DesktopConnectFailed).await.unwrap();
    let problem = reason.split_once(": ").expect("code: sentence").0.to_owned();
    assert_eq!(entry.data["reason"], problem.as_str());
    (problem, entry.data)
}

/// The diagnosis for this caller: its verdict, and the whole response.
async fn verdict(api: &ApiClient, id: &SessionId) -> (String, String) {
    let response = api.get(&format!("/api/auth/session/{id}/diagnosis")).await.unwrap();
    let found: anteroom_wire::diagnosis::Diagnosis = response.parse().unwrap();
    (found.verdict.code().to_owned(), response.text)
}
