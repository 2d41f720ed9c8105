//! The examples of `--help` run, and each command that prints ends with an error, and leaves nothing, when its output cannot be written or
//! Ctrl-C stops it. The list of the commands is docs/cli.md, which is generated from their definition.

use crate::{
    command_line::{CLI_MS_MAX, text},
    examples_scene::{NOT_RUN, Scene, Sink, examples, is_run},
};
use anteroom_testbed::{WAIT_MAX, eventually};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::{collections::BTreeMap, os::unix::process::ExitStatusExt, time::Duration};
use tokio::time::timeout;

/// Commands none of whose examples prints here.
const SILENT: &[&str] = &["cp", "man", "logs"];

#[tokio::test]
async fn examples_of_the_help_run() {
    let all = examples();
    for (line, reason) in NOT_RUN {
        assert!(all.iter().any(|(_, lines)| lines.iter().any(|known| known == line)), "docs/cli.md has no {line:?}");
        assert!(reason.len() > 15, "{line}");
    }
    let mut scene = Scene::start().await;
    for example in all.iter().flat_map(|(_, lines)| lines).filter(|line| is_run(line)) {
        if example.starts_with("cp ") {
            scene.copy(example).await;
            continue;
        }
        let (line, home) = (scene.prepare(example).await, scene.home().await);
        let done = scene.run_in(home.path(), &line, Sink::Pipe).await;
        // A session that was cancelled is one that did not complete.
        let expected = i32::from(line.starts_with("sessions watch"));
        assert_eq!(done.status.code(), Some(expected), "{line}: {}{}", text(&done.stdout), text(&done.stderr));
    }
    scene.end().await;
}

/// The first example of each command that runs here, without a file for its output.
fn printing_examples() -> BTreeMap<String, String> {
    let of_command = |(path, lines): (String, Vec<String>)| {
        let line = lines.into_iter().find(|line| is_run(line))?;
        Some((path, line.split(" > ").next().unwrap().to_owned()))
    };
    let mut found: BTreeMap<_, _> = examples().into_iter().filter_map(of_command).collect();
    found.retain(|path, _| !SILENT.contains(&path.as_str()));
    found
}

#[tokio::test]
async fn output_that_cannot_be_written_and_ctrl_c_end_every_command() {
    let mut scene = Scene::start().await;
    let commands = printing_examples();
    assert!(commands.len() > 30, "{commands:?}");
    for (number, (path, example)) in commands.iter().enumerate() {
        for sink in [Sink::Full, Sink::Closed] {
            let (line, home) = (scene.prepare(example).await, scene.home().await);
            let done = scene.run_in(home.path(), &line, sink).await;
            let errors = text(&done.stderr);
            let (code, reason) = match (sink, path.as_str()) {
                (_, "token create" | "token rotate") => (1, "could not be printed; revoke it"),
                (Sink::Closed, _) => (141, ""),
                (_, "exec") => (125, "No space left"),
                (..) => (1, "No space left"),
            };
            assert_eq!(done.status.code(), Some(code), "{sink:?} {line}: {errors}");
            assert!(errors.contains(reason), "{line}: {errors}");
        }
        // The moments are the subject of the test: before the command begins, while it runs, and when it is done.
        let (line, home) = (scene.prepare(example).await, scene.home().await);
        let mut child = scene.spawn(home.path(), &line, Sink::Pipe);
        tokio::time::sleep(Duration::from_millis((number as u64 % 10) * 15)).await;
        let _ = kill_process(Pid::from_raw(child.id().unwrap().cast_signed()).unwrap(), Signal::INT);
        let end = timeout(Duration::from_millis(CLI_MS_MAX), child.wait()).await.unwrap().unwrap();
        let is_stopped = end.code() == Some(130) || end.signal() == Some(Signal::INT.as_raw());
        assert!(is_stopped || end.code() == Some(i32::from(path == "sessions watch")), "{line}: {end}");
    }
    let operator = scene.server.operator_client().unwrap();
    let nothing_left = async || {
        let active: Value = operator.get("/api/sessions?state=active").await?.parse()?;
        let mut sessions = active["sessions"].as_array().into_iter().flatten();
        Ok(sessions.all(|session| session["provider"] == "idle").then_some(()))
    };
    eventually("the sessions of stopped commands have ended", WAIT_MAX, nothing_left).await.unwrap();
    scene.end().await;
}
