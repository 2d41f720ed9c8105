//! `anteroom exec` while its command runs: signals, suspension, sizes, full-screen programs, and the end of one of the two sides.

use crate::{
    command_line::{CLI_MS_MAX, cli_command, start_use, text},
    exec::{TestTerminal, start_with_credential},
    exec_streams::RunningExec,
};
use anteroom_testbed::{TestServer, WAIT_MAX, eventually};
use anteroom_wire::{
    TimelineKind,
    api::{SessionList, SessionStatus},
};
use rustix::{
    process::{Pid, Signal, kill_process},
    termios::{Winsize, tcsetwinsize},
};
use serde_json::json;
use std::{
    process::Stdio,
    time::{Duration, Instant},
};
use tokio::{process::Child, time::timeout};

fn kill(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), signal).unwrap();
}

/// The state letter of a process (proc(5)); `None`: there is none.
fn process_state(pid: u32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

async fn wait_state(what: &str, pid: u32, expected: &[Option<char>]) {
    let reached = async || Ok(expected.contains(&process_state(pid)).then_some(()));
    eventually(what, WAIT_MAX, reached).await.unwrap();
}

async fn wait_exit(child: &mut Child) -> Option<i32> {
    timeout(Duration::from_millis(CLI_MS_MAX), child.wait()).await.unwrap().unwrap().code()
}

/// Starts `anteroom exec` with these arguments in a pseudo-terminal.
fn start_in_terminal(server: &TestServer, arguments: &[&str], cols: u16, rows: u16) -> (TestTerminal, Child) {
    let (terminal, tty) = TestTerminal::open(cols, rows);
    let mut command = cli_command(server, arguments);
    let stream = || Stdio::from(tty.try_clone().unwrap());
    command.stdin(stream()).stdout(stream()).stderr(stream());
    let child = command.spawn().unwrap();
    (terminal, child)
}

#[tokio::test]
async fn every_signal_reaches_the_command() {
    let (_flags, server, id) = start_with_credential().await;
    let script = "for s in INT QUIT USR1 USR2 HUP; do trap \"echo got $s\" $s; done; trap 'echo got TERM; exit 3' TERM; \
                  echo \"ready $$\"; while :; do sleep 0.05; done";
    let mut exec = RunningExec::start(&server, &["exec", "--credential", &id, "--", "sh", "-c", script]);
    exec.wait_line("ready").await;
    let pid = exec.pid();
    for (signal, name) in [
        (Signal::INT, "INT"),
        (Signal::QUIT, "QUIT"),
        (Signal::USR1, "USR1"),
        (Signal::USR2, "USR2"),
        (Signal::HUP, "HUP"),
        (Signal::TERM, "TERM"),
    ] {
        kill(pid, signal);
        exec.wait_line(&format!("got {name}")).await;
    }
    assert_eq!(exec.wait_exit().await, Some(3));
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn suspension_suspends_the_command_too_and_continuation_continues_both() {
    let (_flags, server, id) = start_with_credential().await;
    let script = "echo \"ready $$\"; read line; echo \"after $line\"";
    let mut exec = RunningExec::start(&server, &["exec", "--credential", &id, "--", "sh", "-c", script]);
    let command: u32 = exec.wait_line("ready ").await.trim_start_matches("ready ").parse().unwrap();
    kill(exec.pid(), Signal::TSTP);
    wait_state("suspended client", exec.pid(), &[Some('T')]).await;
    wait_state("suspended command", command, &[Some('T')]).await;
    kill(exec.pid(), Signal::CONT);
    wait_state("continued command", command, &[Some('S'), Some('R')]).await;
    exec.write(b"it\n").await;
    exec.wait_line("after it").await;
    assert_eq!(exec.wait_exit().await, Some(0));
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn ctrl_z_suspends_a_program_of_a_shell_in_the_terminal() {
    let (_flags, server, id) = start_with_credential().await;
    let arguments = ["exec", "--credential", &id, "--", "bash", "--norc", "-i"];
    let (mut terminal, mut child) = start_in_terminal(&server, &arguments, 80, 24);
    terminal.wait_output("bash-").await;
    terminal.type_keys(b"sh -c 'echo now; exec sleep 1000'\r");
    terminal.wait_output("now\r\n").await;
    // The program has the terminal now.
    terminal.type_keys(b"\x1a");
    terminal.wait_output("Stopped").await;
    terminal.screen.clear();
    terminal.type_keys(b"fg\r");
    terminal.wait_output("sleep 1000").await;
    terminal.type_keys(b"\x03");
    terminal.wait_output("bash-").await;
    terminal.type_keys(b"exit 4\r");
    assert_eq!(wait_exit(&mut child).await, Some(4));
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn full_screen_program_gets_keys_and_sizes_and_a_storm_of_sizes_ends_with_the_last() {
    let (_flags, server, id) = start_with_credential().await;
    // A small program that draws, reads single keys and redraws when the size changes, as an editor does.
    let script = "trap 'draw' WINCH; draw() { printf '\\033[2J\\033[H<%s>' \"$(stty size)\"; }; printf '\\033[?1049h'; stty raw -echo; \
                  draw; while :; do key=$(dd bs=1 count=1 2>/dev/null); case $key in q) break;; ?) printf \"key[$key]\"; esac; done; \
                  stty sane; printf '\\033[?1049l'; exit 6";
    let (mut terminal, mut child) =
        start_in_terminal(&server, &["exec", "--credential", &id, "--", "sh", "-c", script], 80, 24);
    terminal.wait_output("\u{1b}[?1049h").await;
    terminal.wait_output("<24 80>").await;
    terminal.type_keys(b"x");
    terminal.wait_output("key[x]").await;
    for step in 0..300_u16 {
        let size = Winsize { ws_row: 10 + step % 90, ws_col: 20 + step, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(terminal.pty(), size).unwrap();
        // A terminal sends SIGWINCH to its foreground processes; this one is no controlling terminal.
        kill(child.id().unwrap(), Signal::WINCH);
    }
    // A shell runs its trap when the program that it waits for has ended: with the next key.
    let until = Instant::now() + WAIT_MAX;
    let mut keys = 0;
    while !terminal.screen.contains("<39 319>") {
        assert!(Instant::now() < until, "the last size was lost: {:?}", terminal.screen);
        terminal.type_keys(b"y");
        keys += 1;
        terminal.wait_outputs("key[y]", keys).await;
    }
    terminal.type_keys(b"q");
    assert_eq!(wait_exit(&mut child).await, Some(6));
    terminal.wait_output("\u{1b}[?1049l").await;
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn server_that_is_killed_ends_exec_with_125_and_the_command_too() {
    let (_flags, mut server, id) = start_with_credential().await;
    let script = "echo \"ready $$\"; while :; do sleep 0.1; done";
    let mut exec = RunningExec::start(&server, &["exec", "--credential", &id, "--", "sh", "-c", script]);
    let command: u32 = exec.wait_line("ready ").await.trim_start_matches("ready ").parse().unwrap();
    server.kill_server().await.unwrap();
    assert_eq!(exec.wait_exit().await, Some(125));
    let stderr = exec.stderr().await;
    assert!(stderr.contains("the connection to the command was lost"), "{stderr}");
    wait_state("ended command", command, &[None, Some('Z')]).await;
    server.start_server().await.unwrap();
    wait_ended(&server, Some(129)).await;
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn client_that_is_killed_leaves_neither_command_nor_session() {
    let (_flags, server, id) = start_with_credential().await;
    let script = "trap '' HUP; echo \"ready $$\"; while :; do sleep 0.1; done";
    let mut exec = RunningExec::start(&server, &["exec", "--credential", &id, "--", "sh", "-c", script]);
    let command: u32 = exec.wait_line("ready ").await.trim_start_matches("ready ").parse().unwrap();
    kill(exec.pid(), Signal::KILL);
    wait_state("ended command", command, &[None, Some('Z')]).await;
    wait_ended(&server, Some(143)).await;
    server.stop_and_check_leaks().await.unwrap();
}

/// Waits until the only use of a credential has ended with this exit code.
async fn wait_ended(server: &TestServer, code: Option<i32>) {
    let api = server.backend_client().unwrap();
    let ended = async || {
        let list: SessionList = api.get("/api/sessions").await?.parse()?;
        let ended = |session: &anteroom_wire::api::SessionView| {
            let used = session.credential_use.as_ref().is_some_and(|used| used.exit_code == code);
            used && session.status == SessionStatus::Completed
        };
        Ok(list.sessions.iter().any(ended).then_some(()))
    };
    eventually("the end of the session", WAIT_MAX, ended).await.unwrap();
}

#[tokio::test]
async fn command_ends_when_its_output_is_no_longer_read() {
    let (_flags, server, id) = start_with_credential().await;
    let mut command = cli_command(&server, &["exec", "--credential", &id, "--", "yes"]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let mut first = [0; 100];
    tokio::io::AsyncReadExt::read_exact(&mut stdout, &mut first).await.unwrap();
    drop(stdout);
    let done = timeout(Duration::from_millis(CLI_MS_MAX), child.wait_with_output()).await.unwrap().unwrap();
    assert_eq!(done.status.code(), Some(141), "{}", text(&done.stderr));
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn attach_shows_the_terminal_of_a_session_and_detaches() {
    let (_flags, server, id) = start_with_credential().await;
    let api = server.backend_client().unwrap();
    let argv = ["sh", "-c", "echo is shown; cat"];
    let session = start_use(&api, &id, json!({ "purpose": "exec", "argv": argv })).await.id;
    api.wait_entry(&session, TimelineKind::CliStarted).await.unwrap();
    let (mut terminal, mut child) = start_in_terminal(&server, &["attach", session.as_str()], 100, 30);
    terminal.wait_output("is shown").await;
    terminal.type_keys(b"typed");
    terminal.wait_output("typed").await;
    terminal.type_keys(b"\r~.");
    assert_eq!(wait_exit(&mut child).await, Some(0));
    terminal.wait_output("detached").await;
    assert!(!api.get_session(&session).await.unwrap().status.is_ended(), "the session goes on");
    api.cancel_session(&session).await.unwrap();
    server.stop_and_check_leaks().await.unwrap();
}
