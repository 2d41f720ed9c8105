//! The bytes of `anteroom exec`: every one, in order, on its own stream, and the command's exit status.

use crate::{
    command_line::{CLI_MS_MAX, cli_command, run_cli, text},
    exec::start_with_credential,
};
use anteroom_controller::random;
use anteroom_store::Sha256Hex;
use anteroom_testbed::{TestServer, WAIT_MAX};
use anteroom_wire::api::SessionList;
use std::{
    process::{Output, Stdio},
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout},
    time::timeout,
};

/// Runs `anteroom exec` with a shell script and this input.
pub(crate) async fn exec_script(server: &TestServer, id: &str, script: &str, input: Vec<u8>) -> Output {
    let mut command = cli_command(server, &["exec", "--credential", id, "--", "sh", "-c", script]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let feeding = tokio::spawn(async move { stdin.write_all(&input).await });
    let done = timeout(Duration::from_millis(CLI_MS_MAX), child.wait_with_output()).await.unwrap().unwrap();
    // A command that does not read its input closes it.
    let _ = feeding.await.unwrap();
    done
}

#[tokio::test]
async fn ten_megabytes_of_random_bytes_pass_in_out_and_on_standard_error() {
    const BYTES: usize = 10_000_000;
    let (_flags, server, id) = start_with_credential().await;
    for round in 0..5 {
        let input: Vec<u8> = (0..BYTES / 50).flat_map(|_| random::random_bytes::<50>()).collect();
        let sent = Sha256Hex::of_bytes(&input);
        let done = exec_script(&server, &id, "tee /dev/stderr; exit 9", input).await;
        assert_eq!(done.status.code(), Some(9), "{round}");
        assert_eq!((done.stdout.len(), done.stderr.len()), (BYTES, BYTES), "{round}");
        assert_eq!((Sha256Hex::of_bytes(&done.stdout), Sha256Hex::of_bytes(&done.stderr)), (sent.clone(), sent));
    }
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn every_line_of_a_long_output_arrives_once() {
    let (_flags, server, id) = start_with_credential().await;
    let rounds = if std::env::var_os("ANTEROOM_TEST_FULL").is_some() { 100 } else { 3 };
    let expected: String = (1..=200_000).map(|i| format!("{i}\n")).collect();
    for round in 0..rounds {
        let done = run_cli(&server, &["exec", "--credential", &id, "--", "seq", "1", "200000"]).await;
        assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
        assert!(done.stdout == expected.as_bytes(), "round {round}: {} bytes", done.stdout.len());
    }
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn control_characters_tabs_and_missing_line_ends_are_kept() {
    let (_flags, server, id) = start_with_credential().await;
    let done =
        exec_script(&server, &id, r"printf 'a\0b\001\377\tc'; printf 'x\ty' >&2; cat", b"no end\r".to_vec()).await;
    assert_eq!(done.stdout, b"a\0b\x01\xff\tcno end\r");
    assert_eq!(done.stderr, b"x\ty");
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn secret_that_is_piped_in_is_not_echoed_and_a_terminal_can_be_forced() {
    let (_flags, server, id) = start_with_credential().await;
    let script = "read k; echo \"length ${#k}\"; test -t 0 && echo terminal || echo pipes";
    let done = exec_script(&server, &id, script, b"sk-secret-123\n".to_vec()).await;
    assert_eq!(text(&done.stdout), "length 13\npipes\n");
    let mut command =
        cli_command(&server, &["exec", "--tty", "--credential", &id, "--", "sh", "-c", "tty >&2; stty size"]);
    command.stdin(Stdio::null());
    let done = timeout(Duration::from_millis(CLI_MS_MAX), command.output()).await.unwrap().unwrap();
    assert!(text(&done.stdout).starts_with("/dev/pts/"), "{}", text(&done.stdout));
    assert!(text(&done.stdout).ends_with("\r\n24 80\r\n"), "{}", text(&done.stdout));
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn command_that_a_signal_ends_exits_with_its_number() {
    let (_flags, server, id) = start_with_credential().await;
    for (signal, code) in [("KILL", 137), ("TERM", 143), ("SEGV", 139)] {
        let script = format!("kill -{signal} $$");
        let done = run_cli(&server, &["exec", "--credential", &id, "--", "sh", "-c", &script]).await;
        assert_eq!(done.status.code(), Some(code), "{signal}: {}", text(&done.stderr));
    }
    server.stop_and_check_leaks().await.unwrap();
}

/// An `anteroom exec` with pipes that runs.
pub(crate) struct RunningExec {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Lines<BufReader<ChildStdout>>,
}

impl RunningExec {
    pub(crate) fn start(server: &TestServer, arguments: &[&str]) -> Self {
        let mut command = cli_command(server, arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { stdin: child.stdin.take(), child, lines }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id().unwrap()
    }

    /// The next line of its output that begins so.
    pub(crate) async fn wait_line(&mut self, beginning: &str) -> String {
        loop {
            let line = timeout(WAIT_MAX, self.lines.next_line()).await;
            let line = line.unwrap_or_else(|_| panic!("no line {beginning:?}")).unwrap();
            let line = line.unwrap_or_else(|| panic!("the output ended before {beginning:?}"));
            if line.starts_with(beginning) {
                return line;
            }
        }
    }

    pub(crate) async fn write(&mut self, input: &[u8]) {
        self.stdin.as_mut().unwrap().write_all(input).await.unwrap();
    }

    pub(crate) async fn wait_exit(&mut self) -> Option<i32> {
        self.stdin = None;
        timeout(Duration::from_millis(CLI_MS_MAX), self.child.wait()).await.unwrap().unwrap().code()
    }

    pub(crate) async fn stderr(&mut self) -> String {
        let mut stderr = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut stderr).await.unwrap();
        stderr
    }

    /// The session that it started, once it is known.
    pub(crate) async fn session(&self, server: &TestServer) -> String {
        let api = server.backend_client().unwrap();
        let list: SessionList = api.get("/api/sessions").await.unwrap().parse().unwrap();
        let active =
            list.sessions.iter().find(|session| session.credential_use.is_some() && !session.status.is_ended());
        active.unwrap().id.to_string()
    }
}

#[tokio::test]
async fn every_exit_code_of_further_commands_in_the_machine_is_returned() {
    let (_flags, server, id) = start_with_credential().await;
    let mut main = RunningExec::start(&server, &["exec", "--credential", &id, "--", "sh", "-c", "echo ready; cat"]);
    main.wait_line("ready").await;
    let session = main.session(&server).await;
    for first in (0..=255).step_by(4) {
        let codes: Vec<i32> = (first..first + 4).collect();
        let runs = codes.iter().map(|code| {
            let script = format!("exit {code}");
            let mut command = cli_command(&server, &["exec", "--session", &session, "--", "sh", "-c", &script]);
            command.stdin(Stdio::null());
            async move { timeout(Duration::from_millis(CLI_MS_MAX), command.output()).await.unwrap().unwrap() }
        });
        let done = futures_util::future::join_all(runs).await;
        let returned: Vec<i32> = done.iter().map(|done| done.status.code().unwrap()).collect();
        assert_eq!(returned, codes, "{:?}", done.iter().map(|done| text(&done.stderr)).collect::<Vec<_>>());
    }
    assert_eq!(main.wait_exit().await, Some(0), "the end of its input ends the session's command");
    let done = run_cli(&server, &["exec", "--session", &session, "--", "true"]).await;
    assert_eq!(done.status.code(), Some(125), "{}", text(&done.stderr));
    server.stop_and_check_leaks().await.unwrap();
}
