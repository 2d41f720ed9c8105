//! The log file and `anteroom logs`.

use crate::{Flags, anteroom, command, start_idle, start_idle_session, start_session, stdout_of, text};
use anteroom_testbed::{TestConfig, TestServer, WAIT_MAX};
use anteroom_wire::{SessionId, TimelineKind, api::SessionStatus};
use serde_json::Value;
use std::{fs, os::unix::fs::PermissionsExt, process::Stdio};
use tokio::io::{AsyncBufReadExt, BufReader};

fn parsed(lines: &str) -> Vec<Value> {
    lines.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
}

#[tokio::test]
async fn log_file_is_json_lines_with_owner_only_permissions() {
    let settings = "[log]\nformat = 'text'\nlevel = 'trace'\n";
    let (_flags, server, _, id) = start_session(settings).await;
    let path = server.state_dir().join("log/anteroom.jsonl");
    let lines = fs::read_to_string(&path).unwrap();
    let lines = &lines[..=lines.rfind('\n').unwrap()];
    assert!(parsed(lines).iter().any(|line| line["session"] == id.as_str() && line["outcome"] == "cli_started"));
    assert!(!lines.contains('\u{1b}'), "no colour codes");
    assert!(!server.read_log().contains('\u{1b}'), "standard error is no terminal");
    assert!(
        serde_json::from_str::<Value>(server.read_log().lines().next().unwrap()).is_err(),
        "standard error has the configured text format"
    );
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(path.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o700);
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn logs_of_a_session_contain_its_machines_and_no_other_session() {
    let flags = Flags::new();
    let settings = format!("[log]\nerror_file = '{}'\n", flags.path("errors.jsonl").display());
    let mut server =
        TestServer::start(TestConfig::with_provider(flags.idle_provider()).with_settings(&settings)).await.unwrap();
    let api = server.backend_client().unwrap();
    let [id, other] = [
        api.start_session("scripted").await.unwrap().session.id,
        api.start_session("scripted").await.unwrap().session.id,
    ];
    for id in [&id, &other] {
        api.wait_entry(id, TimelineKind::CliStarted).await.unwrap();
    }
    server.kill_machine(&last_machine(&api, &id).await).unwrap();
    api.wait_until(&id, "on its second machine", |view| view.generation == 2).await.unwrap();
    let check = |printed: String| {
        let lines = parsed(&printed);
        assert!(lines.iter().any(|line| line["session"] == id.as_str()), "{printed}");
        let of_machine = |line: &&Value| line["session"].is_null() && line["machine"].is_string();
        assert!(lines.iter().find(of_machine).is_some(), "the machines' lines are included: {printed}");
        assert!(!printed.contains(other.as_str()), "another session's line: {printed}");
        lines.len()
    };
    let all = check(stdout_of(&server, &["logs", id.as_str()]).await);
    let warnings = parsed(&stdout_of(&server, &["logs", id.as_str(), "--level", "warn"]).await);
    assert!(warnings.len() < all && warnings.iter().all(|line| line["level"] == "WARN" || line["level"] == "ERROR"));
    // The error file contains only warnings and errors.
    let errors = parsed(&fs::read_to_string(flags.path("errors.jsonl")).unwrap());
    assert!(errors.iter().all(|line| line["level"] == "WARN" || line["level"] == "ERROR"), "{errors:?}");
    assert!(stdout_of(&server, &["logs", "--lines", "5"]).await.lines().count() == 5);
    server.stop_server().await.unwrap();
    check(stdout_of(&server, &["logs", id.as_str()]).await);
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn logs_of_a_session_are_printed_with_a_warning_when_database_is_unreadable() {
    let (_flags, mut server, _, id) = start_session("").await;
    server.stop_server().await.unwrap();
    let (database, aside) = (server.state_dir().join("anteroom.db"), server.state_dir().join("aside"));
    fs::rename(&database, &aside).unwrap();
    fs::write(&database, "no database at all, ".repeat(100)).unwrap();
    fs::set_permissions(&database, fs::Permissions::from_mode(0o600)).unwrap();
    let output = anteroom(&server, &["logs", id.as_str()]).await;
    fs::rename(&aside, &database).unwrap();
    let (lines, stderr) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{stderr}");
    assert!(parsed(&lines).iter().any(|line| line["session"] == id.as_str()), "{lines}");
    assert!(stderr.contains("not a database") && stderr.contains("only lines that name"), "{stderr}");
    server.start_server().await.unwrap();
    server.stop_and_check_leaks().await.unwrap();
}

/// The machine that was requested last.
async fn last_machine(api: &anteroom_testbed::ApiClient, id: &SessionId) -> anteroom_wire::MachineId {
    let timeline = api.get_timeline(id).await.unwrap();
    let named = |entry: &anteroom_wire::api::TimelineEntry| entry.data["machine"].as_str()?.parse().ok();
    timeline.iter().rev().find_map(named).unwrap()
}

#[tokio::test]
async fn logs_of_unknown_session_are_an_error() {
    let (_flags, mut server) = start_idle("").await;
    for is_running in [true, false] {
        let output = anteroom(&server, &["logs", "ses_00000000000000000000000000"]).await;
        assert!(!output.status.success() && output.stdout.is_empty(), "{is_running}");
        let stderr = text(&output.stderr);
        assert!(stderr.contains("there is no session ses_00000000000000000000000000"), "{is_running}: {stderr}");
        server.stop_server().await.unwrap();
    }
    let output = anteroom(&server, &["logs", "nonsense"]).await;
    assert!(text(&output.stderr).contains("not a session id"), "{}", text(&output.stderr));
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn log_follower_receives_new_lines() {
    let (_flags, server, api, id) = start_idle_session("").await;
    let mut following = command(&server, &["logs", id.as_str(), "--follow"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(following.stdout.take().unwrap()).lines();
    lines.next_line().await.unwrap().expect("an earlier line");
    api.cancel_session(&id).await.unwrap();
    let cancelled = async {
        while let Some(line) = lines.next_line().await.unwrap() {
            if serde_json::from_str::<Value>(&line).unwrap()["outcome"] == "cancelled" {
                return;
            }
        }
        panic!("the follower ended");
    };
    tokio::time::timeout(WAIT_MAX, cancelled).await.expect("the follower prints the new line");
    following.kill().await.unwrap();
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn log_files_are_size_limited_and_rotated_files_are_still_read() {
    let settings = "[log]\nlevel = 'trace'\nfile_bytes_max = 65536\nfiles_kept_max = 50\n";
    let (_flags, server, api, id) = start_session(settings).await;
    let dir = server.state_dir().join("log");
    let files = || fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path()).collect::<Vec<_>>();
    let deadline = tokio::time::Instant::now() + WAIT_MAX;
    while files().len() < 3 {
        futures_util::future::join_all((0..20).map(|_| api.get("/api/sessions"))).await;
        assert!(tokio::time::Instant::now() < deadline, "{:?}", files());
    }
    for path in files() {
        let meta = fs::metadata(&path).unwrap();
        assert!(meta.len() <= 65536, "{}: {}", path.display(), meta.len());
        assert_eq!(meta.permissions().mode() & 0o777, 0o600, "{}", path.display());
    }
    let printed = stdout_of(&server, &["logs", id.as_str()]).await;
    assert!(parsed(&printed).iter().any(|line| line["outcome"] == "cli_started"), "{printed}");
    api.cancel_session(&id).await.unwrap();
    api.wait_status(&id, SessionStatus::Cancelled).await.unwrap();
    server.stop_and_check_leaks().await.unwrap();
}
