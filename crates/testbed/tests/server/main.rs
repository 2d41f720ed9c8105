//! Black-box tests of the server over HTTP and WebSocket, with machines that are plain processes. One file for each subject.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod any_command;
mod auth;
mod command_line;
mod credential_lifetime;
mod credentials;
mod credentials_by_method;
mod credentials_interrupted;
mod database_writes;
mod delivery;
mod demo;
mod diagnosis;
mod egress;
mod end_reasons;
mod exec;
mod fake_agent;
mod invalid_requests;
mod leftover_check;
mod liveness;
mod past_incidents;
mod prompts_and_methods;
mod secrets;
mod sign_in;
mod slow_viewers;
mod timeline;
mod upgrade;
mod view_only;
mod viewers;
mod webhook;
mod webhook_credentials;

use anteroom_testbed::{Script, ScriptedTool, Step};
use std::path::PathBuf;

/// The sign-in URL that [`Flags::tool`] opens.
const URL: &str = "https://id.example/authorize?client=1&state=a%20b";

/// Flag files for which scripted tools wait, in a directory outside of the server's.
struct Flags {
    dir: tempfile::TempDir,
}

impl Flags {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn set(&self, name: &str) {
        std::fs::write(self.path(name), "").unwrap();
    }

    /// A step that waits until the test sets the flag.
    fn wait_step(&self, name: &str) -> Step {
        Step::WaitFor { path: self.path(name), ms_max: 300_000 }
    }

    /// A tool that opens [`URL`] through the browser shim, waits for `go` and writes this credential.
    fn tool(&self, content: &str) -> ScriptedTool {
        self.tool_with_steps([
            Step::Browser { url: URL.to_owned() },
            self.wait_step("go"),
            Step::write(ScriptedTool::CREDENTIAL, content),
        ])
    }

    /// The provider `scripted` with these steps.
    fn tool_with_steps(&self, steps: impl IntoIterator<Item = Step>) -> ScriptedTool {
        ScriptedTool::new("scripted", Script::new(steps))
    }

    /// A tool that runs until the session ends.
    fn idle_tool(&self) -> ScriptedTool {
        self.tool_with_steps([Step::print_line("Nothing to do"), self.wait_step("never")])
    }
}
