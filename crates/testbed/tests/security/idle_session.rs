//! A server with a session whose machine runs and whose tool does nothing.

use anteroom_testbed::{ApiClient, Script, ScriptedProvider, Step, TestConfig, TestServer};
use anteroom_wire::{SessionId, api::SessionStatus};

pub(crate) struct Idle {
    pub(crate) server: TestServer,
    /// The client of the backend that owns the session.
    pub(crate) api: ApiClient,
    pub(crate) session: SessionId,
    _dir: tempfile::TempDir,
}

impl Idle {
    pub(crate) async fn start(settings: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let wait = Step::WaitForFile { path: dir.path().join("never"), ms_max: 300_000 };
        let provider = ScriptedProvider::new("scripted", Script::new([Step::print_line("Nothing to do"), wait]));
        let server = TestServer::start(TestConfig::with_provider(provider).with_settings(settings)).await.unwrap();
        let api = server.backend_client().unwrap();
        let session = api.start_session("scripted").await.unwrap().session.id;
        api.wait_status(&session, SessionStatus::VmStarted).await.unwrap();
        Self { server, api, session, _dir: dir }
    }

    /// The path of the session.
    pub(crate) fn path(&self) -> String {
        format!("/api/auth/session/{}", self.session)
    }

    /// Lines of a request head with the token of the operator.
    pub(crate) fn operator_line(&self) -> String {
        format!("Authorization: Bearer {}\r\n", self.server.operator_token().expose())
    }

    pub(crate) async fn finish(self) {
        self.server.stop_and_check_leaks().await.unwrap();
    }
}
