//! The programs of other people.

use std::{env, path::PathBuf, process::Stdio};
use tokio::process::Command;

/// The top directory of the project.
pub(crate) fn project() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../..")).canonicalize().unwrap()
}

/// The directory with the Python programs: of `ANTEROOM_TEST_PYTHON_TOOLS`, else it is prepared.
pub(crate) async fn python_tools() -> PathBuf {
    if let Some(directory) = env::var_os("ANTEROOM_TEST_PYTHON_TOOLS") {
        return directory.into();
    }
    let mut prepare = Command::new(project().join("scripts/python_tools.sh"));
    PathBuf::from(output(prepare.stderr(Stdio::inherit())).await.trim_end())
}

/// Runs a program that must succeed; returns what it printed, the standard error last.
pub(crate) async fn output(command: &mut Command) -> String {
    let output = command.kill_on_drop(true).output().await.unwrap();
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    let printed = text(&output.stdout) + &text(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}\n{printed}", output.status);
    printed
}
