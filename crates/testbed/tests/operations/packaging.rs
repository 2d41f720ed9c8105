//! What `packaging/` and `scripts/` make and ship: manifests for deployers, a release, an OCI image, databases on three hosts. The
//! Debian package has tests of its own.

mod deployers;
mod full;

use anteroom_testbed::WAIT_MAX;
use std::{path::PathBuf, process::Stdio};
use tokio::{process::Command, time::timeout};

/// A file or directory of the project.
fn project(path: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../..")).canonicalize().unwrap().join(path)
}

/// A program with these arguments.
fn command(program: impl Into<PathBuf>, arguments: &[&str]) -> Command {
    let mut command = Command::new(program.into());
    command.args(arguments);
    command
}

/// Runs a command that must succeed; returns its standard output.
async fn output(mut command: Command) -> String {
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output();
    let output = timeout(WAIT_MAX * 8, output).await.unwrap_or_else(|_| panic!("{command:?} does not end")).unwrap();
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{command:?}: {}\n{printed}{}", output.status, crate::text(&output.stderr));
    printed
}

/// Whether this process may do what only root may; else it says so.
fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("not tried: it needs root");
    }
    root
}
