//! `exec`: a command with a stored credential in a new machine, through the API and the command line.

use crate::{
    Flags,
    command_line::{CLI_MS_MAX, cli_command, run_cli, sign_in, start_use, text},
};
use anteroom_testbed::{ScriptedProvider, TestConfig, TestServer, WAIT_MAX};
use anteroom_wire::{
    TimelineKind,
    agent::UsePurpose,
    api::{CredentialUseView, SessionList, SessionStatus},
    diagnosis::Verdict,
};
use reqwest::Method;
use rustix::{
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize},
};
use serde_json::json;
use std::{
    fs::File,
    io::{Read, Write},
    os::fd::OwnedFd,
    process::Stdio,
    time::Duration,
};
use tokio::{
    io::AsyncWriteExt,
    sync::mpsc,
    time::{Instant, timeout},
};

const CONTENT: &str = "{\"token\": \"first\"}";

/// A server with one stored credential.
pub(crate) async fn start_with_credential() -> (Flags, TestServer, String) {
    let flags = Flags::new();
    // With this level commands write no log lines to standard error.
    let config = TestConfig::with_provider(flags.provider(CONTENT)).with_settings("[log]\nlevel = 'info'\n");
    let server = TestServer::start(config).await.unwrap();
    let id = sign_in(&flags, &server).await;
    (flags, server, id)
}

#[tokio::test]
async fn exec_installs_the_credential_and_returns_the_exit_code() {
    let (_flags, server, id) = start_with_credential().await;
    let api = server.backend_client().unwrap();
    let argv = json!(["sh", "-c", "grep -q first .scripted/auth.json && exit 7"]);
    let session = start_use(&api, &id, json!({ "purpose": "exec", "argv": argv })).await;
    assert_eq!((session.lanes.len(), session.renews.as_ref()), (1, None));
    let view = api.wait_status(&session.id, SessionStatus::Completed).await.unwrap();
    let credential = id.parse().unwrap();
    assert_eq!(
        view.credential_use,
        Some(CredentialUseView { purpose: UsePurpose::Exec, credential, exit_code: Some(7), waits_for: None })
    );
    assert_eq!(view.reason.unwrap().code, "use_completed");
    assert_eq!(view.next_action, "The command with the stored credential exited with code 7.");
    let found = api.get_diagnosis(&session.id).await.unwrap();
    assert_eq!(found.verdict, Verdict::Completed);
    assert!(found.sentence.contains("exit code 7"), "{}", found.sentence);
    let opened = api.wait_entry(&session.id, TimelineKind::CredentialUnsealed).await.unwrap();
    assert_eq!(opened.data["revision"], 1);
    assert_eq!(api.list_credentials().await.unwrap().credentials.len(), 1, "nothing new is stored");
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn running_exec_is_not_waiting_for_a_user() {
    let (flags, server, id) = start_with_credential().await;
    let api = server.backend_client().unwrap();
    let wait = format!("while [ ! -e {} ]; do sleep 0.05; done", flags.path("enough").display());
    let session = start_use(&api, &id, json!({ "purpose": "exec", "argv": ["sh", "-c", wait] })).await;
    api.wait_entry(&session.id, TimelineKind::CliStarted).await.unwrap();
    let view = api.get_session(&session.id).await.unwrap();
    assert_eq!(
        (view.status, view.next_action.as_str()),
        (SessionStatus::VmStarted, "The command runs in the terminal.")
    );
    let found = api.get_diagnosis(&session.id).await.unwrap();
    assert_eq!(found.verdict, Verdict::CommandRunning, "{}", found.sentence);
    flags.set("enough");
    api.wait_status(&session.id, SessionStatus::Completed).await.unwrap();
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn replacement_machine_receives_the_credential_and_reruns_the_command() {
    let (flags, server, id) = start_with_credential().await;
    let api = server.backend_client().unwrap();
    let script = format!(
        "grep -q first .scripted/auth.json || exit 9; while [ ! -e {} ]; do sleep 0.05; done; exit 3",
        flags.path("enough").display()
    );
    let session = start_use(&api, &id, json!({ "purpose": "exec", "argv": ["sh", "-c", script] })).await;
    api.wait_entry(&session.id, TimelineKind::CliStarted).await.unwrap();
    let machine = server.list_machines().pop().unwrap();
    server.kill_machine(&machine).unwrap();
    api.wait_until(&session.id, "replaced", |view| view.generation == 2 && view.status == SessionStatus::VmStarted)
        .await
        .unwrap();
    flags.set("enough");
    let view = api.wait_status(&session.id, SessionStatus::Completed).await.unwrap();
    assert_eq!(view.credential_use.unwrap().exit_code, Some(3));
    let opened = api.get_timeline(&session.id).await.unwrap();
    assert_eq!(opened.iter().filter(|entry| entry.kind == TimelineKind::CredentialUnsealed).count(), 2);
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn exec_requires_the_owner_and_a_valid_command() {
    let (flags, server, id) = start_with_credential().await;
    let api = server.backend_client().unwrap();
    let path = format!("/api/credentials/{id}/use");
    let exec = json!({ "purpose": "exec", "argv": ["true"] });
    let use_problem = |api: anteroom_testbed::ApiClient, path: String, body: serde_json::Value| async move {
        let answer = api.post(&path, body).await.unwrap();
        (answer.status, answer.problem().unwrap().code)
    };
    for (caller, api, expected) in [
        ("another backend", server.other_backend_client().unwrap(), (403, "not_owner")),
        ("anonymous", server.anonymous_client().unwrap(), (401, "unauthenticated")),
    ] {
        let (status, code) = use_problem(api, path.clone(), exec.clone()).await;
        assert_eq!((status, code.as_str()), expected, "{caller}");
    }
    let long: Vec<String> = (0..300).map(|_| "x".to_owned()).collect();
    for (body, expected) in [
        (json!({ "purpose": "exec" }), (400, "malformed")),
        (json!({ "purpose": "exec", "argv": [""] }), (400, "malformed")),
        (json!({ "purpose": "exec", "argv": ["a\u{0}b"] }), (400, "malformed")),
        (json!({ "purpose": "exec", "argv": long }), (400, "malformed")),
        (json!({ "purpose": "check", "argv": ["true"] }), (400, "malformed")),
        (json!({ "purpose": "check" }), (409, "no_such_command")),
        (json!({ "purpose": "logout" }), (409, "no_such_command")),
        (json!({ "purpose": "dance" }), (400, "malformed")),
    ] {
        let (status, code) = use_problem(api.clone(), path.clone(), body.clone()).await;
        assert_eq!((status, code.as_str()), expected, "{body}");
    }
    let none = "/api/credentials/crd_00000000000000000000000000/use".to_owned();
    assert_eq!(use_problem(api.clone(), none, exec.clone()).await, (404, "unknown_credential".to_owned()));
    assert_eq!(api.call(Method::DELETE, &format!("/api/credentials/{id}"), None).await.unwrap().status, 204);
    assert_eq!(use_problem(api.clone(), path, exec).await, (404, "unknown_credential".to_owned()));
    let sessions: SessionList = api.get("/api/sessions").await.unwrap().parse().unwrap();
    assert_eq!(sessions.sessions.len(), 1, "nothing was started");
    drop(flags);
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn deliver_once_credential_cannot_be_used_by_exec() {
    let flags = Flags::new();
    let provider = flags.provider(CONTENT).with_descriptor_key("policy", json!("deliver_once"));
    let server = TestServer::start(TestConfig::with_provider(provider)).await.unwrap();
    let id = sign_in(&flags, &server).await;
    let api = server.backend_client().unwrap();
    let path = format!("/api/credentials/{id}/use");
    let answer = api.post(&path, json!({ "purpose": "exec", "argv": ["true"] })).await.unwrap();
    assert_eq!((answer.status, answer.problem().unwrap().code.as_str()), (403, "forbidden_by_policy"));
    assert_eq!(api.lease_credential(&id.parse().unwrap()).await.unwrap().files[0].content.expose(), CONTENT.as_bytes());
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn exec_without_a_terminal_prints_every_line_once_and_returns_the_exit_code() {
    let (_flags, server, id) = start_with_credential().await;
    let script = "cat .scripted/auth.json; echo; for i in $(seq 1 120); do echo line $i of many; done; exit 7";
    let done = run_cli(&server, &["exec", "--credential", &id, "--", "sh", "-c", script]).await;
    assert_eq!(done.status.code(), Some(7), "{}", text(&done.stderr));
    let expected: String = (1..=120).map(|i| format!("line {i} of many\n")).collect();
    assert_eq!(text(&done.stdout), format!("{CONTENT}\n{expected}"), "{}", text(&done.stderr));
    assert_eq!(text(&done.stderr), "", "no further output");
    server.stop_and_check_leaks().await.unwrap();
}

/// Runs `anteroom exec` with a shell script and this piped input, which must succeed; returns its standard output.
async fn exec_with_input(server: &TestServer, id: &str, script: &str, input: &[u8]) -> String {
    let mut command = cli_command(server, &["exec", "--credential", id, "--", "sh", "-c", script]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input).await.unwrap();
    drop(stdin);
    let done = timeout(Duration::from_millis(CLI_MS_MAX), child.wait_with_output()).await.unwrap().unwrap();
    assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
    text(&done.stdout)
}

#[tokio::test]
async fn exec_forwards_piped_input_and_streams_output() {
    let (_flags, server, id) = start_with_credential().await;
    let script = "echo who; read name; echo hello $name; read more || echo no more";
    let out = exec_with_input(&server, &id, script, b"ada\n").await;
    assert_eq!(out, "who\nhello ada\nno more\n");
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn exec_forwards_end_of_input_within_a_line() {
    let (_flags, server, id) = start_with_credential().await;
    let out = exec_with_input(&server, &id, "cat > got; cat got; echo; wc -c < got", b"one\nand a half").await;
    assert_eq!(out, "one\nand a half\n14\n");
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn exec_forwards_terminal_resizes() {
    let (_flags, server, id) = start_with_credential().await;
    let script = "while [ \"$(stty size)\" != '29 91' ]; do sleep 0.05; done; echo first; \
                  while [ \"$(stty size)\" != '37 113' ]; do sleep 0.05; done; echo second";
    let (mut terminal, tty) = TestTerminal::open(91, 29);
    let mut command = cli_command(&server, &["exec", "--credential", &id, "--", "sh", "-c", script]);
    let stream = || Stdio::from(tty.try_clone().unwrap());
    command.stdin(stream()).stdout(stream()).stderr(stream());
    let mut child = command.spawn().unwrap();
    terminal.wait_output("first").await;
    tcsetwinsize(&terminal.pty, Winsize { ws_row: 37, ws_col: 113, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
    // A terminal sends SIGWINCH to its foreground processes; this one is no controlling terminal.
    let pid = rustix::process::Pid::from_raw(child.id().unwrap().cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::WINCH).unwrap();
    terminal.wait_output("second").await;
    let done = timeout(Duration::from_millis(CLI_MS_MAX), child.wait()).await.unwrap().unwrap();
    assert_eq!(done.code(), Some(0));
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn credential_changed_by_a_command_is_stored_under_the_same_id() {
    let (_flags, server, id) = start_with_credential().await;
    let api = server.backend_client().unwrap();
    let script = "printf '{\"token\": \"second\"}' > .scripted/new && mv .scripted/new .scripted/auth.json";
    let done = run_cli(&server, &["exec", "--credential", &id, "--", "sh", "-c", script]).await;
    assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
    assert!(text(&done.stderr).contains(&format!("is stored ({id})")), "{}", text(&done.stderr));
    let lease = api.lease_credential(&id.parse().unwrap()).await.unwrap();
    assert_eq!(lease.files[0].content.expose(), b"{\"token\": \"second\"}");
    assert_eq!(api.list_credentials().await.unwrap().credentials.len(), 1);
    // The next machine receives the changed credential.
    let done = run_cli(&server, &["exec", "--credential", &id, "--", "cat", ScriptedProvider::CREDENTIAL_PATH]).await;
    assert_eq!(text(&done.stdout), "{\"token\": \"second\"}", "{}", text(&done.stderr));
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn exec_exit_codes_distinguish_not_started_from_failed() {
    let (_flags, server, id) = start_with_credential().await;
    let done = run_cli(&server, &["exec", "--credential", &id, "--", "no-such-program"]).await;
    assert_eq!(done.status.code(), Some(127), "like a shell: {}", text(&done.stderr));
    assert!(text(&done.stderr).contains("no-such-program could not be started"), "{}", text(&done.stderr));
    let done = run_cli(&server, &["exec", "--credential", &id, "--", "/etc/passwd"]).await;
    assert_eq!(done.status.code(), Some(126), "like a shell: {}", text(&done.stderr));
    assert_eq!(done.stdout, b"");
    let none = "crd_00000000000000000000000000";
    let done = run_cli(&server, &["exec", "--credential", none, "--", "true"]).await;
    assert_eq!(done.status.code(), Some(125), "{}", text(&done.stderr));
    assert!(text(&done.stderr).contains("no such credential"), "{}", text(&done.stderr));
    for wrong in
        [&["exec", "--credential", "mine", "--", "true"][..], &["exec", "--credential", &id], &["exec", "--", "true"]]
    {
        let done = run_cli(&server, wrong).await;
        assert_eq!(done.status.code(), Some(125), "{wrong:?}: {}", text(&done.stderr));
    }
    let done = run_cli(&server, &["exec", "--help"]).await;
    assert!(done.status.success() && text(&done.stdout).contains("--credential"), "{}", text(&done.stdout));
    server.stop_and_check_leaks().await.unwrap();
}

/// The near side of a pseudo terminal, with everything that was written to it.
pub(crate) struct TestTerminal {
    pty: File,
    output: mpsc::UnboundedReceiver<Vec<u8>>,
    pub(crate) screen: String,
}

impl TestTerminal {
    /// Opens a pseudo terminal of this size; the second value is for the three streams of a program.
    pub(crate) fn open(cols: u16, rows: u16) -> (Self, OwnedFd) {
        let pty = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&pty).unwrap();
        unlockpt(&pty).unwrap();
        tcsetwinsize(&pty, Winsize { ws_row: rows, ws_col: cols, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
        let name = ptsname(&pty, Vec::new()).unwrap();
        let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY | rustix::fs::OFlags::CLOEXEC;
        let tty = rustix::fs::open(&name, flags, rustix::fs::Mode::empty()).unwrap();
        let (sender, output) = mpsc::unbounded_channel();
        let mut screen = File::from(pty.try_clone().unwrap());
        std::thread::spawn(move || {
            let mut part = [0; 4096];
            while let Ok(count) = screen.read(&mut part) {
                if count == 0 || sender.send(part[..count].to_vec()).is_err() {
                    return;
                }
            }
        });
        (Self { pty: File::from(pty), output, screen: String::new() }, tty)
    }

    /// Waits until this text was written.
    pub(crate) async fn wait_output(&mut self, what: &str) {
        self.wait_outputs(what, 1).await;
    }

    /// Waits until this text was written so many times.
    pub(crate) async fn wait_outputs(&mut self, what: &str, times: usize) {
        let until = Instant::now() + WAIT_MAX;
        while self.screen.matches(what).count() < times {
            let left = until.saturating_duration_since(Instant::now());
            let part =
                timeout(left, self.output.recv()).await.unwrap_or_else(|_| panic!("no {what:?}: {:?}", self.screen));
            self.screen.push_str(&String::from_utf8_lossy(&part.expect("the terminal stays open")));
        }
    }

    pub(crate) fn pty(&self) -> &File {
        &self.pty
    }

    pub(crate) fn type_keys(&mut self, keys: &[u8]) {
        self.pty.write_all(keys).unwrap();
    }
}

#[tokio::test]
async fn exec_restores_the_terminal_after_the_command() {
    let (_flags, server, id) = start_with_credential().await;
    let script = "trap 'echo got it; exit 5' INT; echo size $(stty size); echo ready; while :; do sleep 0.1; done";
    let (mut terminal, tty) = TestTerminal::open(97, 31);
    let before = tcgetattr(&tty).unwrap();
    let mut command = cli_command(&server, &["exec", "--credential", &id, "--", "sh", "-c", script]);
    let stream = || Stdio::from(tty.try_clone().unwrap());
    command.stdin(stream()).stdout(stream()).stderr(stream());
    let mut child = command.spawn().unwrap();
    terminal.wait_output("ready").await;
    let during = tcgetattr(&tty).unwrap();
    assert!(!during.local_modes.contains(LocalModes::ICANON) && !during.local_modes.contains(LocalModes::ISIG));
    terminal.screen.clear();
    terminal.type_keys(b"\x03");
    terminal.wait_output("got it").await;
    let done = timeout(Duration::from_millis(CLI_MS_MAX), child.wait()).await.unwrap().unwrap();
    assert_eq!(done.code(), Some(5));
    assert!(terminal.screen.contains("ready\r\n") || terminal.screen.contains("got it\r\n"), "{:?}", terminal.screen);
    assert!(!terminal.screen.contains("\u{1b}["), "nothing is added to the command's output: {:?}", terminal.screen);
    let modes = tcgetattr(&tty).unwrap();
    assert_eq!((modes.local_modes, modes.input_modes), (before.local_modes, before.input_modes));
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn terminated_exec_ends_the_command_and_its_session_and_restores_the_terminal() {
    let (_flags, server, id) = start_with_credential().await;
    let api = server.backend_client().unwrap();
    let (mut terminal, tty) = TestTerminal::open(80, 24);
    let before = tcgetattr(&tty).unwrap();
    let script = "echo ready; while :; do sleep 0.1; done";
    let mut command = cli_command(&server, &["exec", "--credential", &id, "--", "sh", "-c", script]);
    let stream = || Stdio::from(tty.try_clone().unwrap());
    command.stdin(stream()).stdout(stream()).stderr(stream());
    let mut child = command.spawn().unwrap();
    terminal.wait_output("ready").await;
    let pid = rustix::process::Pid::from_raw(child.id().unwrap().cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let done = timeout(Duration::from_millis(CLI_MS_MAX), child.wait()).await.unwrap().unwrap();
    assert_eq!(done.code(), Some(143));
    assert_eq!(tcgetattr(&tty).unwrap().local_modes, before.local_modes);
    let list: SessionList = api.get("/api/sessions").await.unwrap().parse().unwrap();
    let exit_codes: Vec<_> = list
        .sessions
        .iter()
        .filter_map(|session| Some((session.status, session.credential_use.as_ref()?.exit_code)))
        .collect();
    assert_eq!(exit_codes, [(SessionStatus::Completed, Some(143))], "the command got the signal");
    server.stop_and_check_leaks().await.unwrap();
}
