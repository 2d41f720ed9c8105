//! The exec channel of the API: who may open it, its messages, and its bounds.

use crate::{
    command_line::{run_cli, start_use, text},
    exec::start_with_credential,
    exec_streams::RunningExec,
};
use anteroom_rfb::client::{ViewerConnectError, ViewerSocket};
use anteroom_testbed::{ApiClient, WAIT_MAX};
use anteroom_wire::{
    SessionId,
    api::SessionStatus,
    exec::{EXEC_SUBPROTOCOL, ExecStatus, PAYLOAD_BYTES_MAX, STDIN_WINDOW_BYTES},
};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

async fn open(api: &ApiClient, session: &SessionId) -> Result<ViewerSocket, ViewerConnectError> {
    api.open_websocket(&format!("/api/auth/session/{session}/exec"), EXEC_SUBPROTOCOL, false).await
}

async fn send(socket: &mut ViewerSocket, channel: u8, payload: &[u8]) {
    socket.write_all(&[&[channel], payload].concat()).await.unwrap();
    socket.flush().await.unwrap();
}

/// Waits for the first message, with which the command runs.
async fn wait_started(socket: &mut ViewerSocket) {
    let mut first = [0; 5];
    timeout(WAIT_MAX, socket.read_exact(&mut first)).await.unwrap().unwrap();
    assert_eq!(first, [6, 0, 0, 0, 0]);
}

/// All messages until the end, by channel; the exit status.
async fn read_to_end(socket: &mut ViewerSocket) -> (Vec<(u8, Vec<u8>)>, Option<ExecStatus>) {
    let (mut messages, mut status) = (Vec::new(), None);
    let mut buffer = vec![0; 2 * PAYLOAD_BYTES_MAX];
    while let Ok(count @ 1..) = timeout(WAIT_MAX, socket.read(&mut buffer)).await.unwrap() {
        if buffer[0] == 3 {
            status = Some(serde_json::from_slice(&buffer[1..count]).unwrap());
        }
        messages.push((buffer[0], buffer[1..count].to_vec()));
    }
    (messages, status)
}

fn on_channel(messages: &[(u8, Vec<u8>)], channel: u8) -> Vec<u8> {
    messages.iter().filter(|(of, _)| *of == channel).flat_map(|(_, payload)| payload.clone()).collect()
}

#[tokio::test]
async fn program_runs_the_sessions_command_once_over_the_websocket() {
    let (_flags, server, id) = start_with_credential().await;
    let api = server.backend_client().unwrap();
    let argv = ["sh", "-c", "cat; echo err >&2; exit 7"];
    let session = start_use(&api, &id, json!({ "purpose": "exec", "argv": argv, "attached": true })).await;
    let mut socket = open(&api, &session.id).await.unwrap();
    socket.send_text("{}").await.unwrap();
    send(&mut socket, 0, b"in").await;
    send(&mut socket, 255, &[0]).await;
    let (messages, status) = read_to_end(&mut socket).await;
    assert_eq!(messages[0], (6, vec![0; 4]), "the command runs");
    assert_eq!((on_channel(&messages, 1), on_channel(&messages, 2)), (b"in".to_vec(), b"err\n".to_vec()));
    assert_eq!(on_channel(&messages, 6), [0, 0, 0, 0, 0, 0, 0, 2], "what was read is granted again");
    let status = status.unwrap();
    assert_eq!((status.status.as_str(), status.exit_code()), ("Failure", Some(7)));
    assert_eq!(socket.close_reason().unwrap().code, 1000);
    drop(socket);
    let view = api.wait_status(&session.id, SessionStatus::Completed).await.unwrap();
    assert_eq!(view.credential_use.unwrap().exit_code, Some(7));
    let again = open(&api, &session.id).await;
    assert!(matches!(again, Err(ViewerConnectError::Rejected { status: 410, .. })), "{again:?}");
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn only_a_caller_that_may_use_the_credential_opens_the_channel_of_a_session_that_runs_commands() {
    let (_flags, server, id) = start_with_credential().await;
    let api = server.backend_client().unwrap();
    let mut main = RunningExec::start(&server, &["exec", "--credential", &id, "--", "sh", "-c", "echo ready; cat"]);
    main.wait_line("ready").await;
    let session: SessionId = main.session(&server).await.parse().unwrap();
    let sign_in = api.start_session("scripted").await.unwrap().session.id;
    let status = async |api: &ApiClient, session: &SessionId| match open(api, session).await {
        Ok(_) => 101,
        Err(ViewerConnectError::Rejected { status, .. }) => status,
        Err(other) => panic!("{other}"),
    };
    assert_eq!(status(&server.other_backend_client().unwrap(), &session).await, 403);
    assert_eq!(status(&server.anonymous_client().unwrap(), &session).await, 401);
    assert_eq!(status(&api, &sign_in).await, 403, "a sign-in runs no commands");
    assert_eq!(status(&api, &session).await, 101);
    // The session's command was started; a further one is not a second start.
    let mut socket = open(&api, &session).await.unwrap();
    socket.send_text("{}").await.unwrap();
    let (_, ended) = read_to_end(&mut socket).await;
    let ended = ended.unwrap();
    assert_eq!(
        (ended.exit_code(), ended.message.as_deref()),
        (Some(125), Some("the session's command was started before"))
    );
    api.cancel_session(&sign_in).await.unwrap();
    assert_eq!(main.wait_exit().await, Some(0));
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn messages_and_unread_input_are_bounded() {
    let (_flags, server, id) = start_with_credential().await;
    let api = server.backend_client().unwrap();
    let mut main = RunningExec::start(&server, &["exec", "--credential", &id, "--", "sh", "-c", "echo ready; cat"]);
    main.wait_line("ready").await;
    let session: SessionId = main.session(&server).await.parse().unwrap();
    let part = vec![b'x'; PAYLOAD_BYTES_MAX];
    for (what, start, messages, code) in [
        ("no start", "hello", vec![], 4400),
        ("an unknown key", "{\"shell\": true}", vec![], 4400),
        ("no list", "{\"argv\": \"ls\"}", vec![], 4400),
        ("no size", "{\"argv\": [\"ls\"], \"tty\": true}", vec![], 4400),
        ("a large message", "{\"argv\": [\"cat\"]}", vec![(0, [&part[..], b"x"].concat())], 4413),
        ("a channel of the machine", "{\"argv\": [\"cat\"]}", vec![(1, b"x".to_vec())], 4400),
        ("no such signal", "{\"argv\": [\"cat\"]}", vec![(5, b"SEGV".to_vec())], 1000),
        (
            "more input than is granted",
            "{\"argv\": [\"sleep\", \"1000\"]}",
            vec![(0, part.clone()); STDIN_WINDOW_BYTES / PAYLOAD_BYTES_MAX + 3],
            1000,
        ),
    ] {
        let mut socket = open(&api, &session).await.unwrap();
        socket.send_text(start).await.unwrap();
        if !messages.is_empty() {
            wait_started(&mut socket).await;
        }
        for (channel, payload) in messages {
            send(&mut socket, channel, &payload).await;
        }
        let (_, status) = read_to_end(&mut socket).await;
        assert_eq!(socket.close_reason().unwrap().code, code, "{what}");
        if let Some(status) = status.as_ref().filter(|_| start != "hello" && code == 4400) {
            let reason = socket.close_reason().unwrap().reason.clone();
            let said = status.message.clone().unwrap();
            assert!(["shell", "argv: expected", "tty: expected"].iter().any(|field| said.contains(field)), "{said}");
            assert!(reason.starts_with("malformed: the start: ") && reason.len() <= 123, "{reason}");
        }
        let exit_code = status.map(|status| status.exit_code().unwrap());
        let is_refused = code == 4400 && what != "a channel of the machine";
        let expected = if is_refused { Some(125) } else { (code == 1000).then_some(129) };
        assert_eq!(exit_code, expected, "{what}: the command is not run, or is ended");
    }
    // Input that a command does not read does not delay a signal.
    let mut socket = open(&api, &session).await.unwrap();
    socket.send_text("{\"argv\": [\"sleep\", \"1000\"]}").await.unwrap();
    wait_started(&mut socket).await;
    for _ in 0..STDIN_WINDOW_BYTES / PAYLOAD_BYTES_MAX {
        send(&mut socket, 0, &part).await;
    }
    send(&mut socket, 5, b"INT").await;
    assert_eq!(read_to_end(&mut socket).await.1.unwrap().exit_code(), Some(130));
    assert_eq!(main.wait_exit().await, Some(0));
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn files_are_copied_in_and_out_with_their_modes() {
    use std::{fs, os::unix::fs::PermissionsExt};
    let (_flags, server, id) = start_with_credential().await;
    let mut main = RunningExec::start(&server, &["exec", "--credential", &id, "--", "sh", "-c", "pwd; cat"]);
    let home = main.wait_line("/").await;
    let session = main.session(&server).await;
    let dir = tempfile::tempdir().unwrap();
    let tree = dir.path().join("tree");
    fs::create_dir_all(tree.join("below")).unwrap();
    let bytes: Vec<u8> = (0..100_000_u32).map(|i| i.to_le_bytes()[0]).collect();
    fs::write(tree.join("below/data"), &bytes).unwrap();
    fs::set_permissions(tree.join("below/data"), fs::Permissions::from_mode(0o750)).unwrap();
    let cp = async |from: &str, to: &str| {
        let done = run_cli(&server, &["cp", from, to]).await;
        (done.status.code(), text(&done.stderr))
    };
    let (in_machine, here) = (format!("{session}:{home}/copy"), dir.path().join("back"));
    let here = here.to_str().unwrap();
    assert_eq!(cp(tree.to_str().unwrap(), &in_machine).await, (Some(0), String::new()));
    assert_eq!(cp(&in_machine, here).await, (Some(0), String::new()));
    let back = dir.path().join("back/below/data");
    assert_eq!(fs::read(&back).unwrap(), bytes);
    assert_eq!(fs::metadata(&back).unwrap().permissions().mode() & 0o7777, 0o750);
    // A single file, into a directory that exists.
    let file = back.to_str().unwrap();
    assert_eq!(cp(file, &in_machine).await, (Some(0), String::new()));
    assert_eq!(cp(&format!("{in_machine}/data"), here).await, (Some(0), String::new()));
    assert_eq!(fs::read(dir.path().join("back/data")).unwrap(), bytes);
    let (code, stderr) = cp(&format!("{in_machine}/none"), here).await;
    assert!(code == Some(1) && stderr.contains("none: there is no such file"), "{code:?} {stderr}");
    assert!(!stderr.contains("tar:"), "{stderr}");
    let (code, stderr) = cp(file, &format!("{in_machine}/none/data")).await;
    assert!(code == Some(1) && stderr.contains("none: there is no such directory"), "{code:?} {stderr}");
    let (code, stderr) = cp(file, here).await;
    assert!(code == Some(2) && stderr.contains("SESSION:PATH"), "{code:?} {stderr}");
    // One file to standard output.
    let printed = run_cli(&server, &["cp", &format!("{in_machine}/data"), "-"]).await;
    assert_eq!((printed.status.code(), printed.stdout), (Some(0), bytes));
    assert_eq!(main.wait_exit().await, Some(0));
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn websocket_client_of_python_runs_a_command_although_it_sends_an_origin() {
    let (_flags, server, id) = start_with_credential().await;
    let api = server.backend_client().unwrap();
    let argv = ["sh", "-c", "printf from-the-machine"];
    let session = start_use(&api, &id, json!({ "purpose": "exec", "argv": argv, "attached": true })).await.id;
    let project = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
    let tools = tokio::process::Command::new(format!("{project}/scripts/python_tools.sh")).output().await.unwrap();
    assert!(tools.status.success(), "{}", text(&tools.stderr));
    let mut python = tokio::process::Command::new(format!("{}/python", text(&tools.stdout).trim()));
    python.arg(format!("{project}/crates/testbed/tests/server/exec_with_websocket_client.py"));
    python.arg(format!("ws://{}/api/auth/session/{session}/exec", server.address().unwrap()));
    python.env("TOKEN", server.backend_tokens()[0].expose()).env("no_proxy", "*").kill_on_drop(true);
    let done = timeout(WAIT_MAX, python.output()).await.unwrap().unwrap();
    assert_eq!((text(&done.stdout).trim(), text(&done.stderr).trim()), ("from-the-machine Success", ""));
    api.wait_status(&session, SessionStatus::Completed).await.unwrap();
    server.stop_and_check_leaks().await.unwrap();
}
