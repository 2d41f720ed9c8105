//! A server with an idle tool, and flag files for which scripted tools wait.

use anteroom_testbed::{ApiClient, Script, ScriptedProvider, Step, TestConfig, TestServer};
use anteroom_wire::SessionId;
use std::path::PathBuf;

/// Flag files, in a directory outside of the server's.
pub(crate) struct Flags {
    dir: tempfile::TempDir,
}

impl Flags {
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A step that waits until the test creates the file.
    pub(crate) fn wait_step(&self, name: &str) -> Step {
        Step::WaitForFile { path: self.path(name), ms_max: 300_000 }
    }

    /// The provider `scripted`, whose tool runs until the session ends.
    pub(crate) fn idle_provider(&self) -> ScriptedProvider {
        ScriptedProvider::new("scripted", Script::new([Step::print_line("Nothing to do"), self.wait_step("never")]))
    }
}

/// Starts a server whose provider `scripted` runs until the session ends.
pub(crate) async fn start_idle(settings: &str) -> (Flags, TestServer) {
    let flags = Flags::new();
    let server =
        TestServer::start(TestConfig::with_provider(flags.idle_provider()).with_settings(settings)).await.unwrap();
    (flags, server)
}

/// Starts a server with this configuration and a session of the provider `scripted`.
pub(crate) async fn start_session_with(config: TestConfig) -> (TestServer, ApiClient, SessionId) {
    let server = TestServer::start(config).await.unwrap();
    let api = server.backend_client().unwrap();
    let id = api.start_session("scripted").await.unwrap().session.id;
    (server, api, id)
}

/// Starts a server and a session whose tool runs until the session ends.
pub(crate) async fn start_idle_session(settings: &str) -> (Flags, TestServer, ApiClient, SessionId) {
    let flags = Flags::new();
    let config = TestConfig::with_provider(flags.idle_provider()).with_settings(settings);
    let (server, api, id) = start_session_with(config).await;
    (flags, server, api, id)
}
