//! Commands that are stopped, and outputs that cannot be written.

use crate::{
    Flags,
    command_line::{CLI_MS_MAX, cli_command, run_cli, text},
    exec::TestTerminal,
    fixture::{start_idle, start_idle_session},
};
use anteroom_testbed::{Script, ScriptedProvider, Step, TestConfig, TestServer, eventually};
use anteroom_wire::api::SessionList;
use rustix::process::{Pid, Signal, kill_process};
use std::{
    fs::File,
    os::unix::process::ExitStatusExt,
    process::{Output, Stdio},
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    time::timeout,
};

const LOGIN: [&str; 3] = ["login", "scripted", "--no-open"];

fn send(child: &Child, signal: Signal) {
    kill_process(Pid::from_raw(child.id().unwrap().cast_signed()).unwrap(), signal).unwrap();
}

async fn end_of(child: &mut Child) -> std::process::ExitStatus {
    timeout(Duration::from_millis(CLI_MS_MAX), child.wait()).await.unwrap().unwrap()
}

/// Waits until no session is active.
async fn wait_all_ended(server: &TestServer) {
    let api = server.operator_client().unwrap();
    let all_ended = async || {
        let list: SessionList = api.get("/api/sessions").await?.parse()?;
        Ok(list.sessions.iter().all(|view| view.status.is_ended()).then_some(()))
    };
    eventually("every session has ended", anteroom_testbed::WAIT_MAX, all_ended).await.unwrap();
}

/// Starts a sign-in whose output is a pipe, and waits until it shows its link.
async fn start_login(server: &TestServer) -> (Child, tokio::io::Lines<BufReader<tokio::process::ChildStdout>>) {
    let mut command = cli_command(server, &LOGIN);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    while !lines.next_line().await.unwrap().expect("the link is printed").contains("://") {}
    (child, lines)
}

#[tokio::test]
async fn each_signal_cancels_the_sign_in_with_the_exit_code_of_a_shell() {
    let (_flags, server) = start_idle("").await;
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143), (Signal::HUP, 129)] {
        let (mut child, _lines) = start_login(&server).await;
        send(&child, signal);
        assert_eq!(end_of(&mut child).await.code(), Some(code), "{signal:?}");
        wait_all_ended(&server).await;
    }
    server.wait_machines_removed().await.unwrap();
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn closed_pipe_ends_the_sign_in() {
    let (_flags, server) = start_idle("").await;
    let (mut child, lines) = start_login(&server).await;
    drop(lines);
    assert_eq!(end_of(&mut child).await.code(), Some(141));
    wait_all_ended(&server).await;
    server.stop_and_check_leaks().await.unwrap();
}

/// The moments are the subject of the test: before, while and after the session starts.
#[tokio::test]
async fn ctrl_c_at_ten_moments_leaves_nothing() {
    let (_flags, server) = start_idle("").await;
    for moment in 0..10_u64 {
        let mut command = cli_command(&server, &LOGIN);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        tokio::time::sleep(Duration::from_millis(moment * moment * 8)).await;
        send(&child, Signal::INT);
        let end = end_of(&mut child).await;
        assert!(end.code() == Some(130) || end.signal() == Some(Signal::INT.as_raw()), "moment {moment}: {end}");
    }
    wait_all_ended(&server).await;
    server.wait_machines_removed().await.unwrap();
    server.stop_and_check_leaks().await.unwrap();
}

/// Runs a command whose standard output is a device without space.
async fn run_with_full_output(server: &TestServer, arguments: &[&str]) -> Output {
    let full = File::options().write(true).open("/dev/full").unwrap();
    let mut command = cli_command(server, arguments);
    let child = command.stdin(Stdio::null()).stdout(full).stderr(Stdio::piped()).spawn().unwrap();
    timeout(Duration::from_millis(CLI_MS_MAX), child.wait_with_output()).await.unwrap().unwrap()
}

#[tokio::test]
async fn output_that_cannot_be_written_ends_a_command_with_one_error() {
    let (_flags, server, _api, id) = start_idle_session("").await;
    let id = id.as_str();
    // All commands with an example: help_examples.rs.
    for arguments in [
        &["--help"][..],
        &["sessions", "--help"],
        &["sessions", id],
        &["sessions", "--json"],
        &["logs", id],
        &["logs"],
        &["erase", "--user", "none", "--yes"],
        &["sessions", "cancel", id],
    ] {
        let done = run_with_full_output(&server, arguments).await;
        let errors = text(&done.stderr);
        assert_eq!(done.status.code(), Some(1), "{arguments:?}: {errors}");
        assert!(
            errors.contains("anteroom: standard output cannot be written: No space left"),
            "{arguments:?}: {errors}"
        );
    }
    wait_all_ended(&server).await;
    let done = run_with_full_output(&server, &["token", "create", "never shown"]).await;
    let errors = text(&done.stderr);
    assert!(
        errors.contains("could not be printed; revoke it: anteroom") && errors.contains("token revoke cal_"),
        "{errors}"
    );
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn sign_in_whose_tool_has_ended_is_started_again_with_enter_and_hides_the_browsers_hosts() {
    let flags = Flags::new();
    let steps =
        [Step::ProxyConnect { authority: "update.example:443".into() }, flags.wait_step("go"), Step::Exit { code: 1 }];
    let provider = ScriptedProvider::new("scripted", Script::new(steps));
    let server = TestServer::start(TestConfig::with_provider(provider)).await.unwrap();
    let (mut terminal, tty) = TestTerminal::open(120, 40);
    let mut command: Command = cli_command(&server, &LOGIN);
    let stream = || Stdio::from(tty.try_clone().unwrap());
    let mut child = command.stdin(stream()).stdout(stream()).stderr(stream()).spawn().unwrap();
    flags.set("go");
    terminal.wait_output("Press Enter to start").await;
    assert!(terminal.screen.contains("→ Scripted tool could not connect."), "{}", terminal.screen);
    assert!(!terminal.screen.contains("update.example"), "{}", terminal.screen);
    terminal.screen.clear();
    terminal.type_keys(b"\n");
    terminal.wait_output("Press Enter to start").await;
    send(&child, Signal::INT);
    assert_eq!(end_of(&mut child).await.code(), Some(130));
    let listed = run_cli(&server, &["sessions", "--json"]).await;
    let list: SessionList = serde_json::from_slice(&listed.stdout).unwrap();
    assert_eq!(list.sessions.len(), 1, "the same session went on");
    wait_all_ended(&server).await;
    server.stop_and_check_leaks().await.unwrap();
}
