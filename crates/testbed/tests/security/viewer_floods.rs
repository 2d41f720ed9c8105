//! Viewers that repeat messages and requests without end.

use crate::fixture::{start_idle_session, start_session_with};
use anteroom_testbed::{TestConfig, WAIT_MAX, eventually, fake_rfb_server::SPOT_COLOUR};
use anteroom_wire::{
    TimelineKind,
    api::{SessionStatus, TimelineEntry},
};
use serde_json::json;
use std::{fmt::Write as _, fs, os::unix::fs::PermissionsExt};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

/// Bytes that the desktop or terminal received from a viewer that has left.
fn bytes_up(entry: &TimelineEntry) -> u64 {
    entry.data["bytes_up"].as_u64().unwrap()
}

#[tokio::test]
async fn viewer_that_floods_pointer_moves_sends_the_desktop_only_the_newest_and_its_click_arrives() {
    let (_flags, server, api, id) = start_idle_session("").await;
    let mut viewer = api.connect_desktop(&id).await.unwrap();
    let moves = 6_000_u16;
    for step in 0..moves {
        viewer.send_pointer_event(step % 600, step % 400, 0).await.unwrap();
    }
    viewer.click(300, 200).await.unwrap();
    let spot = async || {
        let frame = viewer.request_full_frame().await?;
        Ok((frame.pixel(300, 200) == Some(SPOT_COLOUR)).then_some(()))
    };
    eventually("the click at the end of the flood", WAIT_MAX, spot).await.unwrap();
    drop(viewer);
    let left = api.wait_entry(&id, TimelineKind::ViewerDisconnected).await.unwrap();
    let sent = u64::from(moves) * 6;
    assert!(bytes_up(&left) < sent * 2 / 3, "of {sent} bytes the desktop received {}", bytes_up(&left));
    server.stop_and_check_leaks().await.unwrap();
}

/// A tool that prints the width of its terminal whenever it changes, and a tool that hashes what is typed.
const WIDTH: &str = "#!/bin/sh\nwhile :; do stty size; sleep 0.05; done\n";
const DIGEST: &str = "#!/bin/sh\nstty raw -echo\nprintf READY\nhead -c COUNT | sha256sum > 'RESULT'\nsleep 3600\n";

/// A server whose provider `shell` runs this script.
fn shell_config(dir: &tempfile::TempDir, script: &str) -> TestConfig {
    let tool = dir.path().join("shell");
    fs::write(&tool, script).unwrap();
    fs::set_permissions(&tool, fs::Permissions::from_mode(0o755)).unwrap();
    let descriptor =
        fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../providers/examples/any_command.toml"));
    fs::write(dir.path().join("scripted.toml"), descriptor.unwrap().replace("\"any_command\"", "\"scripted\""))
        .unwrap();
    let settings =
        format!("providers_dir = '{}'\n[providers.scripted]\nargv = ['{}']\n", dir.path().display(), tool.display());
    TestConfig::with_clis(&["acme"]).with_settings(&settings)
}

#[tokio::test]
async fn of_a_flood_of_terminal_sizes_the_newest_arrives() {
    let dir = tempfile::tempdir().unwrap();
    let (server, api, id) = start_session_with(shell_config(&dir, WIDTH)).await;
    let mut terminal = api.open_terminal_socket(&id).await.unwrap();
    for step in 0..1_500 {
        terminal.send_text(&format!("{{\"type\":\"resize\",\"cols\":{},\"rows\":30}}", 60 + step % 60)).await.unwrap();
    }
    terminal.send_text("{\"type\":\"resize\",\"cols\":137,\"rows\":30}").await.unwrap();
    let mut shown = String::new();
    let newest = async {
        let mut bytes = [0; 4096];
        while !shown.contains(" 137") {
            let count = terminal.read(&mut bytes).await.unwrap();
            assert!(count > 0, "closed: {shown}");
            shown.push_str(&String::from_utf8_lossy(&bytes[..count]));
        }
    };
    timeout(WAIT_MAX, newest).await.expect("the tool sees the newest size");
    api.wait_status(&id, SessionStatus::VmStarted).await.unwrap();
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn every_byte_that_is_typed_as_fast_as_possible_reaches_the_tool() {
    let text: String = (0..30_000_u32).fold(String::new(), |mut text, number| {
        writeln!(text, "{number:05} brown").unwrap();
        text
    });
    let (dir, result) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let result = result.path().join("digest");
    let script = DIGEST.replace("COUNT", &text.len().to_string()).replace("RESULT", &result.display().to_string());
    let (server, api, id) = start_session_with(shell_config(&dir, &script)).await;
    let mut terminal = api.open_terminal_socket(&id).await.unwrap();
    let mut shown = Vec::new();
    let ready = async {
        while !String::from_utf8_lossy(&shown).contains("READY") {
            assert!(terminal.read_buf(&mut shown).await.unwrap() > 0);
        }
    };
    timeout(WAIT_MAX, ready).await.expect("the tool reads");
    let (mut reader, mut writer) = tokio::io::split(terminal);
    let typed = async {
        // Single keys, then pasted texts of several sizes.
        for key in text.as_bytes()[..500].chunks(1).chain(text.as_bytes()[500..].chunks(3_001)) {
            writer.write_all(key).await.unwrap();
            writer.flush().await.unwrap();
        }
        let digest = async || Ok(fs::read_to_string(&result).ok().filter(|digest| digest.len() > 64));
        eventually("the tool has read everything", WAIT_MAX, digest).await.unwrap()
    };
    let mut output = vec![0; 64 * 1024];
    let digest = tokio::select! {
        digest = typed => digest,
        () = async { while reader.read(&mut output).await.is_ok_and(|count| count > 0) {} } => panic!("closed"),
    };
    let expected = anteroom_store::Sha256Hex::of_bytes(text.as_bytes());
    assert_eq!(digest.split_whitespace().next(), Some(expected.as_str()));
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn requests_of_a_session_that_are_repeated_are_rejected_with_the_wait_and_other_sessions_are_served() {
    let (_flags, server, api, id) = start_idle_session("").await;
    let other = api.start_session("scripted").await.unwrap().session.id;
    api.wait_status(&id, SessionStatus::VmStarted).await.unwrap();
    api.wait_status(&other, SessionStatus::VmStarted).await.unwrap();
    for (verb, body, burst) in [
        ("paste", json!({ "text": "code" }), 20),
        ("open-url", json!({ "url": "https://example.com" }), 0),
        ("ticket", json!({ "purpose": "desktop" }), 30),
    ] {
        let path = |id| format!("/api/auth/session/{id}/{verb}");
        let mut rejected = 0;
        for _ in 0..120 {
            let response = api.post(&path(&id), body.clone()).await.unwrap();
            if response.status == 429 {
                assert_eq!(response.problem().unwrap().code, "too_many_requests");
                rejected += 1;
            }
        }
        // Some become permitted while the loop runs.
        assert!((1..=120 - burst).contains(&rejected), "{verb}: {rejected} of 120 were rejected");
        assert_ne!(api.post(&path(&other), body).await.unwrap().status, 429, "{verb} of another session");
    }
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn terminals_of_a_session_are_limited_and_a_closed_one_makes_room() {
    let (_flags, server, api, id) = start_idle_session("").await;
    api.wait_status(&id, SessionStatus::VmStarted).await.unwrap();
    let mut open = Vec::new();
    for _ in 0..8 {
        let mut terminal = api.open_terminal_socket(&id).await.unwrap();
        timeout(WAIT_MAX, terminal.read_u8()).await.unwrap().expect("the terminal shows something");
        open.push(terminal);
    }
    let mut rejected = api.open_terminal_socket(&id).await.unwrap();
    assert!(timeout(WAIT_MAX, rejected.read_u8()).await.unwrap().is_err());
    assert_eq!(rejected.close_reason().map(|close| close.code), Some(4429));
    api.connect_desktop(&id).await.expect("the desktop has streams of its own");
    open.pop();
    let room = async || {
        let mut terminal = api.open_terminal_socket(&id).await?;
        Ok(timeout(WAIT_MAX, terminal.read_u8()).await?.is_ok().then_some(()))
    };
    eventually("a terminal can be opened again", WAIT_MAX, room).await.unwrap();
    server.stop_and_check_leaks().await.unwrap();
}
