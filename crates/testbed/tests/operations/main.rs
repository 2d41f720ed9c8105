//! What operators do when something is wrong: read logs, pack a bundle, count what is left over, look at what the sweep would
//! do, find the host too small. Through the server's own doors and its command line, in worlds of plain machines.

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

/// A place outside of every server with a file for which a script waits.
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

    /// Waits until the test raises the flag.
    fn wait(&self, name: &str) -> Step {
        Step::WaitFor { path: self.path(name), ms_max: 300_000 }
    }

    /// Lives until the session ends.
    fn idle_tool(&self) -> ScriptedTool {
        ScriptedTool::new("scripted", Script::new([Step::print_line("Nothing to do"), self.wait("never")]))
    }
}

/// The command line with the server's own configuration.
fn command(server: &TestServer, arguments: &[&str]) -> Command {
    let mut command = Command::new(built_program("anteroom").unwrap());
    command.arg("--config").arg(server.path().join("config.toml")).args(arguments).kill_on_drop(true);
    command
}

/// What the command line says, and how it ends.
async fn anteroom(server: &TestServer, arguments: &[&str]) -> Output {
    tokio::time::timeout(WAIT_MAX, command(server, arguments).output()).await.unwrap().unwrap()
}

/// What the command line says when it must go well.
async fn says(server: &TestServer, arguments: &[&str]) -> String {
    let output = anteroom(server, arguments).await;
    assert!(output.status.success(), "{arguments:?}: {}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Changes the database behind a server that does not run.
async fn change(server: &TestServer, statement: &'static str) {
    let options = SqliteConnectOptions::new().filename(server.state_dir().join("anteroom.db"));
    let mut database: SqliteConnection = options.connect().await.unwrap();
    sqlx::query(statement).execute(&mut database).await.unwrap();
    database.close().await.unwrap();
}

fn canary(kind: &str) -> String {
    let mut chance = [0; 16];
    getrandom::fill(&mut chance).unwrap();
    format!("{kind}{}", chance.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
}
