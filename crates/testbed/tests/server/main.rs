//! The server through its own doors, in worlds of plain machines: one file for each group of claims.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod any_command;
mod credentials;
mod credentials_by_method;
mod credentials_interrupted;
mod delivery;
mod demo;
mod auth;
mod end_reasons;
mod exec;
mod invalid_requests;
mod prompts_and_methods;
mod credential_lifetime;
mod liveness;
mod fake_agent;
mod past_incidents;
mod secrets;
mod slow_viewers;
mod sign_in;
mod leftover_check;
mod timeline;
mod upgrade;
mod command_line;
mod viewers;
mod view_only;
mod egress;
mod webhook;
mod webhook_credentials;
mod diagnosis;
mod database_writes;

use anteroom_testbed::{Script, Step, ScriptedTool};
use std::path::PathBuf;

/// The address that [`Scene::tool`] opens.
const URL: &str = "https://id.example/authorize?client=1&state=a%20b";

/// A place outside of every world with a file for which a script waits.
struct Scene {
    dir: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn flag(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn raise(&self, name: &str) {
        std::fs::write(self.flag(name), "").unwrap();
    }

    /// Waits until the test raises the flag.
    fn wait(&self, name: &str) -> Step {
        Step::WaitFor { path: self.flag(name), ms_max: 300_000 }
    }

    /// Shows an address through the browser shim, waits for `go`, writes this credential.
    fn tool(&self, content: &str) -> ScriptedTool {
        self.tool_that([Step::Browser { url: URL.to_owned() }, self.wait("go"), Step::write(ScriptedTool::CREDENTIAL, content)])
    }

    /// The provider `scripted` with these steps.
    fn tool_that(&self, steps: impl IntoIterator<Item = Step>) -> ScriptedTool {
        ScriptedTool::new("scripted", Script::new(steps))
    }

    /// Lives until the session ends.
    fn idle_tool(&self) -> ScriptedTool {
        self.tool_that([Step::print_line("Nothing to do"), self.wait("never")])
    }
}
