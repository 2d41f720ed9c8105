//! What operators use when something is wrong: logs, support bundles, the leak report, reconciliation, admission and metrics. The tests
//! use the API and the command line of a server with plain-process machines.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod admission;
mod bundle;
mod logs;
mod metrics;
mod reconcile_and_leaks;

use anteroom_testbed::{Script, ScriptedTool, Step, TestServer, WAIT_MAX, plain_process::built_program};
use sqlx::{ConnectOptions, Connection, SqliteConnection, sqlite::SqliteConnectOptions};
use std::{path::PathBuf, process::Output};
use tokio::process::Command;

/// A directory for files that scripts wait for.
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

    /// A step that waits until the test creates the file.
    fn wait(&self, name: &str) -> Step {
        Step::WaitFor { path: self.path(name), ms_max: 300_000 }
    }

    /// A tool that runs until the session ends.
    fn idle_tool(&self) -> ScriptedTool {
        ScriptedTool::new("scripted", Script::new([Step::print_line("Nothing to do"), self.wait("never")]))
    }
}

/// A command that runs `anteroom` with the server's configuration.
fn command(server: &TestServer, arguments: &[&str]) -> Command {
    let mut command = Command::new(built_program("anteroom").unwrap());
    command.arg("--config").arg(server.path().join("config.toml")).args(arguments).kill_on_drop(true);
    command
}

/// Runs `anteroom`; returns its output and exit status.
async fn anteroom(server: &TestServer, arguments: &[&str]) -> Output {
    tokio::time::timeout(WAIT_MAX, command(server, arguments).output()).await.unwrap().unwrap()
}

/// Runs `anteroom`, which must succeed; returns its standard output.
async fn stdout_of(server: &TestServer, arguments: &[&str]) -> String {
    let output = anteroom(server, arguments).await;
    assert!(output.status.success(), "{arguments:?}: {}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Changes the database while the server is not running.
async fn execute_sql(server: &TestServer, statement: &'static str) {
    let options = SqliteConnectOptions::new().filename(server.state_dir().join("anteroom.db"));
    let mut database: SqliteConnection = options.connect().await.unwrap();
    sqlx::query(statement).execute(&mut database).await.unwrap();
    database.close().await.unwrap();
}

fn canary(kind: &str) -> String {
    let mut random = [0; 16];
    getrandom::fill(&mut random).unwrap();
    format!("{kind}{}", hex::encode(random))
}
