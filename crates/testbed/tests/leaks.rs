//! The leak check finds every process and file of a directory, and no others.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use anteroom_testbed::{LeakScan, Script, Step, eventually, leaks::encoded_forms};
use base64::{Engine, engine::general_purpose::STANDARD};
use std::{fs, process::Stdio, time::Duration};
use tokio::process::{Child, Command};

const WAIT_MAX: Duration = Duration::from_secs(20);

/// Starts a process that runs for a minute and does not have the directory in its arguments.
fn sleeper(change: impl FnOnce(&mut Command)) -> (tempfile::TempDir, Child) {
    let elsewhere = tempfile::tempdir().unwrap();
    let script = elsewhere.path().join("script.json");
    Script::new([Step::Pause { ms: 60_000 }]).save(&script).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_anteroom-testbed"));
    command.arg("tool").arg(script).env_clear().stdin(Stdio::null()).kill_on_drop(true);
    change(&mut command);
    let child = command.spawn().unwrap();
    (elsewhere, child)
}

#[tokio::test]
async fn process_is_found_by_directory_environment_or_open_file_and_killed() {
    let dir = tempfile::tempdir().unwrap();
    let leaks = LeakScan::for_dir(dir.path());
    assert_eq!(leaks.find_processes(), []);
    let file = fs::File::create(dir.path().join("output")).unwrap();
    let mut children = vec![
        sleeper(|command| _ = command.current_dir(dir.path())),
        sleeper(|command| _ = command.env("MARK", dir.path())),
        sleeper(|command| _ = command.stdout(file)),
    ];
    // A process that has just started may not have its environment yet.
    let all_found = async || {
        let mut found: Vec<_> = leaks.find_processes().into_iter().map(|found| found.found_by).collect();
        found.sort_unstable();
        Ok((found == ["cwd", "environ", "fd"]).then_some(()))
    };
    eventually("every process is found", WAIT_MAX, all_found).await.unwrap();
    leaks.wait_none_left(Duration::from_millis(50)).await.unwrap_err();
    assert_eq!(leaks.find_processes().len(), 3);
    leaks.kill_processes();
    for (_, child) in &mut children {
        child.wait().await.unwrap();
    }
    leaks.wait_none_left(WAIT_MAX).await.unwrap();
}

#[test]
fn secret_is_found_in_plain_text_and_base64() {
    let dir = tempfile::tempdir().unwrap();
    let secret = "demo_at_0123456789abcdef";
    for (index, before) in ["", "x", "xy", "xyz"].into_iter().enumerate() {
        fs::write(dir.path().join(format!("{index}")), STANDARD.encode(format!("{before}{secret} and more"))).unwrap();
    }
    fs::create_dir(dir.path().join("deep")).unwrap();
    fs::write(dir.path().join("deep/clear"), format!("a{secret}b")).unwrap();
    fs::write(dir.path().join("innocent"), STANDARD.encode("demo_at_fedcba9876543210 and more")).unwrap();
    assert_eq!(LeakScan::for_dir(dir.path()).find_files_containing(secret).len(), 5);
    assert_eq!(encoded_forms(secret).len(), 4);
}
