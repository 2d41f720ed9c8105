//! A server with an idle tool, and flag files for which scripted tools wait.

use anteroom_testbed::{Script, ScriptedTool, Step, TestConfig, TestServer};
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
        Step::WaitFor { path: self.path(name), ms_max: 300_000 }
    }

    /// The provider `scripted`, whose tool runs until the session ends.
    pub(crate) fn idle_tool(&self) -> ScriptedTool {
        ScriptedTool::new("scripted", Script::new([Step::print_line("Nothing to do"), self.wait_step("never")]))
    }
}

/// Starts a server whose provider `scripted` runs until the session ends.
pub(crate) async fn start_idle(settings: &str) -> (Flags, TestServer) {
    let flags = Flags::new();
    let server = TestServer::start(TestConfig::with_tool(flags.idle_tool()).with_settings(settings)).await.unwrap();
    (flags, server)
}
