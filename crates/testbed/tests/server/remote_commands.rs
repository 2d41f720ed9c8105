//! Every command works on another host with an operator's token, but for those that need the server's host. The list of the commands is
//! docs/cli.md, which is generated from their definition: a new command without an example that runs needs a row here.

use crate::{
    command_line::{CLI_MS_MAX, text},
    examples_scene::{Scene, Sink, examples, is_run},
    network_namespace::rerun_inside,
};
use anteroom_testbed::plain_process::built_program;
use serde_json::{Value, json};
use std::{collections::BTreeSet, fs, os::unix::fs::PermissionsExt, path::Path, process::Stdio, time::Duration};
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout},
    time::timeout,
};

/// Commands that work only on the server's host, and what they say of it.
const NEED_THE_HOST: &[(&str, &str)] = &[
    ("serve", "is the server"),
    ("doctor", "checks the host"),
    ("image build", "images"),
    ("image export anteroom-image.tar", "images"),
    ("image fetch anteroom-image.tar", "images"),
    ("image show", "images"),
    ("image lock", "images"),
    ("image sbom", "images"),
    // From afar a person cannot see what would be accepted: docs/keys.md.
    ("keys accept-rows", "only a look at that file can justify"),
    ("keys list --key-file keys", "key file of the server's host"),
    // The server must be stopped.
    ("db export data.tar.gz", "moves the database of the host"),
    ("db import data.tar.gz", "moves the database of the host"),
    ("backup --with-key backup.tar.gz", "the key file, which does not leave the server's host"),
];

/// Commands whose examples need more than a line; each has a function below.
const OF_THEIR_OWN: &[&str] = &[
    "attach",
    "backup",
    "restore",
    "erase",
    "bench start",
    "providers outdated",
    "host invite",
    "host join",
    "host drain",
    "host undrain",
    "host remove",
    "host fence",
];

/// Runs a line that must succeed; returns its standard output.
async fn succeed(scene: &Scene, home: &Path, line: &str) -> String {
    let done = scene.run_in(home, line, Sink::Pipe).await;
    assert!(done.status.success(), "{line}: {}{}", text(&done.stdout), text(&done.stderr));
    text(&done.stdout)
}

/// Runs a line that must fail with 1; returns its standard error.
async fn fail(scene: &Scene, home: &Path, line: &str) -> String {
    let done = scene.run_in(home, line, Sink::Pipe).await;
    assert_eq!(done.status.code(), Some(1), "{line}: {}{}", text(&done.stdout), text(&done.stderr));
    text(&done.stderr)
}

/// A command that follows something, and its lines.
fn follow(scene: &Scene, home: &Path, line: &str) -> (Child, Lines<BufReader<ChildStdout>>) {
    let mut child = scene.spawn(home, line, Sink::Pipe);
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    (child, lines)
}

/// Reads lines until one has this text.
async fn wait_line(lines: &mut Lines<BufReader<ChildStdout>>, part: &str) {
    let found = async {
        while let Some(line) = lines.next_line().await.unwrap() {
            if line.contains(part) {
                return;
            }
        }
        panic!("the output ended before {part:?}");
    };
    timeout(Duration::from_millis(CLI_MS_MAX), found).await.unwrap_or_else(|_| panic!("no line with {part:?}"));
}

/// The server's log and its audit trail are followed from another host.
async fn follow_log_and_trail(scene: &Scene, home: &Path) {
    let session = scene.new_session("idle").await;
    let (mut of_all, mut all) = follow(scene, home, "logs --follow --lines 5 --json");
    let (mut of_session, mut one) = follow(scene, home, &format!("logs {session} --follow --level info"));
    let (mut of_trail, mut trail) = follow(scene, home, "audit tail --follow --action session.");
    // The first line shows that each follows.
    for lines in [&mut all, &mut one, &mut trail] {
        wait_line(lines, "").await;
    }
    let cancel = format!("/api/auth/session/{session}/cancel");
    scene.post(&cancel, json!({})).await;
    wait_line(&mut all, "\"cancelled\"").await;
    wait_line(&mut one, "\"cancelled\"").await;
    wait_line(&mut trail, "session.cancel").await;
    for child in [&mut of_all, &mut of_session, &mut of_trail] {
        child.kill().await.unwrap();
    }
}

/// A backup comes over the network without the key, and a state directory is made of it where the command runs.
async fn back_up_and_restore(scene: &Scene, home: &Path) {
    let out: Value = serde_json::from_str(&succeed(scene, home, "backup backup.tar.gz --json").await).unwrap();
    assert!(out["manifest"]["credentials"].as_u64().unwrap() > 0, "{out}");
    let file = home.join("backup.tar.gz");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(&file).unwrap().len(), out["bytes"].as_u64().unwrap());
    assert!(fail(scene, home, "backup backup.tar.gz").await.contains("exists already"));
    let error = fail(scene, home, "restore backup.tar.gz --state-dir restored").await;
    assert!(error.contains("the key file") && error.contains("is missing"), "{error}");
    fs::copy(scene.server.state_dir().join("vault.key"), home.join("restored/vault.key")).unwrap();
    let printed = succeed(scene, home, "restore backup.tar.gz --state-dir restored").await;
    assert!(printed.contains("Restored into restored"), "{printed}");
    let checked = succeed(scene, home, "db check --state-dir restored").await;
    assert!(checked.contains("Nothing is wrong"), "{checked}");
    let left = fs::read_dir(scene.server.state_dir()).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(left.into_iter().all(|name| !name.to_string_lossy().contains("backup")), "the server keeps no copy");
}

/// What is for hosts of a cluster reaches the server, which says that it is alone.
async fn answers_of_a_server_that_is_alone(scene: &Scene, home: &Path) {
    let of_name =
        ["drain", "undrain", "remove", "fence --i-saw-it-dead"].map(|command| format!("host {command} host-2"));
    for line in of_name.iter().map(String::as_str).chain(["host invite"]) {
        let error = fail(scene, home, line).await;
        assert!(error.contains("[cluster]"), "{line}: {error}");
    }
    // It asks the host of the invitation, which it reads from standard input.
    assert!(fail(scene, home, "host join").await.contains("invitation"));
}

/// The terminal of a session, from another host.
async fn attach(scene: &Scene, home: &Path) {
    let session = scene.new_session("idle").await;
    let mut script = scene.command(Path::new("script"), home);
    let line = format!("stty cols 100 rows 30; exec {} attach {session}", built_program("anteroom").unwrap().display());
    script.args(["-qec", &line, "/dev/null"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut script = script.spawn().unwrap();
    let mut shown = script.stdout.take().unwrap();
    let mut seen = Vec::new();
    let idle = async {
        while !text(&seen).contains("Idle") {
            assert_ne!(tokio::io::AsyncReadExt::read_buf(&mut shown, &mut seen).await.unwrap(), 0, "{}", text(&seen));
        }
    };
    timeout(Duration::from_millis(CLI_MS_MAX), idle).await.expect("the terminal is shown");
    let mut keys = script.stdin.take().unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut keys, b"\r~.").await.unwrap();
    let read_on = tokio::io::copy(&mut shown, &mut seen);
    timeout(Duration::from_millis(CLI_MS_MAX), read_on).await.expect("it detaches").unwrap();
    assert!(text(&seen).contains("detached"), "{}", text(&seen));
    assert!(script.wait().await.unwrap().success());
    drop(keys);
}

#[tokio::test]
async fn every_command_works_on_another_host_or_says_that_it_needs_the_servers() {
    if !rerun_inside("remote_commands::every_command_works_on_another_host_or_says_that_it_needs_the_servers") {
        return;
    }
    let mut scene = Scene::start_for_another_host().await;
    let home = scene.home().await;
    let mut missing = BTreeSet::new();
    for (path, lines) in examples() {
        let needs_host =
            NEED_THE_HOST.iter().any(|(line, _)| line.split(' ').take(path.split(' ').count()).eq(path.split(' ')));
        let Some(example) = lines.iter().find(|line| is_run(line)) else {
            if !needs_host && !OF_THEIR_OWN.contains(&path.as_str()) {
                missing.insert(path);
            }
            continue;
        };
        if path == "cp" {
            scene.copy(example).await;
            continue;
        }
        let (line, home) = (scene.prepare(example).await, scene.home().await);
        let done = scene.run_in(home.path(), &line, Sink::Pipe).await;
        let expected = i32::from(line.starts_with("sessions watch"));
        assert_eq!(done.status.code(), Some(expected), "{line}: {}{}", text(&done.stdout), text(&done.stderr));
    }
    assert!(missing.is_empty(), "these commands have no example that runs and no row: {missing:?}");
    for (line, reason) in NEED_THE_HOST {
        let error = fail(&scene, home.path(), line).await;
        assert!(error.contains(reason) && error.contains("Run it on the server's host"), "{line}: {error}");
    }
    answers_of_a_server_that_is_alone(&scene, home.path()).await;
    attach(&scene, home.path()).await;
    back_up_and_restore(&scene, home.path()).await;
    follow_log_and_trail(&scene, home.path()).await;
    succeed(&scene, home.path(), "erase --user u-17 --yes").await;
    let shown: Value = serde_json::from_str(&succeed(&scene, home.path(), "config show --json").await).unwrap();
    assert_eq!(shown["public_url"]["source"], scene.server.config_file().to_str().unwrap(), "the server's settings");
    assert!(fail(&scene, home.path(), "config check token.txt").await.contains("token.txt"));
    // They need no server: one that is named changes nothing.
    let error = fail(&scene, home.path(), "bench start --count 1").await;
    assert!(error.contains("anteroom image"), "this host has no image: {error}");
    let done = scene.run_in(home.path(), "providers outdated --profile work", Sink::Pipe).await;
    assert!(text(&done.stdout).contains("tested"), "{}{}", text(&done.stdout), text(&done.stderr));
    assert!(text(&done.stderr).contains("uses no server"), "{}", text(&done.stderr));
    scene.end().await;
}
