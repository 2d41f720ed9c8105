//! Commands that operate a running server: `sessions`, `helpers`, `status`, and `./up` while a server runs.

use crate::{
    command_line::{run_cli, text},
    fixture::{start_idle, start_idle_session},
};
use anteroom_testbed::{
    Script, ScriptedProvider, Step, TestConfig, TestServer, WAIT_MAX, plain_process::built_program,
};
use anteroom_wire::{
    SessionId,
    api::{HelperList, SessionStatus, SessionView},
    situation::Phase,
};
use serde_json::{Value, json};
use std::{fs, os::unix::fs::symlink, path::Path, process::Stdio};
use tokio::{process::Command, time::timeout};

const UNKNOWN: &str = "ses_00000000000000000000000000";

async fn status_of(server: &TestServer, id: &SessionId) -> SessionStatus {
    server.operator_client().unwrap().get_session(id).await.unwrap().status
}

#[tokio::test]
async fn sessions_cancel_ends_sessions_and_reports_each_that_it_could_not_end() {
    let (_flags, server, api, one) = start_idle_session("").await;
    let two = api.start_session("scripted").await.unwrap().session.id;
    let done = run_cli(&server, &["sessions", "cancel", one.as_str()]).await;
    assert!(done.status.success(), "{}", text(&done.stderr));
    assert_eq!(text(&done.stdout), format!("{one} cancelled\n"));
    assert_eq!(status_of(&server, &one).await, SessionStatus::Cancelled);
    assert!(!status_of(&server, &two).await.is_ended());

    let partly = run_cli(&server, &["sessions", "cancel", UNKNOWN, two.as_str(), "--json"]).await;
    assert_eq!(partly.status.code(), Some(1));
    assert!(text(&partly.stderr).contains(&format!("anteroom: {UNKNOWN}: There is no such session.")));
    let mut list: serde_json::Value = serde_json::from_slice(&partly.stdout).unwrap();
    let sessions: Vec<SessionView> = serde_json::from_value(list["sessions"].take()).unwrap();
    assert_eq!(
        sessions.iter().map(|view| (&view.id, view.status)).collect::<Vec<_>>(),
        [(&two, SessionStatus::Cancelled)]
    );
    assert_eq!(status_of(&server, &two).await, SessionStatus::Cancelled);

    for (arguments, code) in [
        (&["sessions", "cancel"][..], 2),
        (&["sessions", "cancel", "not-an-id"], 2),
        (&["sessions", "cancel", "--all", UNKNOWN], 2),
        (&["sessions", "cancel", UNKNOWN], 1),
        (&["sessions", one.as_str(), "--json"], 0),
    ] {
        assert_eq!(run_cli(&server, arguments).await.status.code(), Some(code), "{arguments:?}");
    }
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn sessions_cancel_all_ends_every_active_session_and_leaves_ended_ones() {
    let (flags, server) = start_idle("").await;
    let api = server.backend_client().unwrap();
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(api.start_session("scripted").await.unwrap().session.id);
    }
    let done = run_cli(&server, &["sessions", "cancel", "--all"]).await;
    assert!(done.status.success(), "{}", text(&done.stderr));
    for id in &ids {
        assert!(text(&done.stdout).contains(&format!("{id} cancelled")), "{}", text(&done.stdout));
        assert_eq!(status_of(&server, id).await, SessionStatus::Cancelled);
    }
    let again = run_cli(&server, &["sessions", "cancel", "--all"]).await;
    assert_eq!((again.status.code(), text(&again.stdout).as_str()), (Some(0), "No session is active.\n"));
    drop(flags);
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn helpers_commands_list_and_end_an_invitation() {
    let (_flags, server, api, id) = start_idle_session("").await;
    let path = format!("/api/auth/session/{id}/invitations");
    let invited = api.post(&path, json!({ "name": "Grace" })).await.unwrap();
    assert_eq!(invited.status, 200, "{}", invited.text);
    let printed = run_cli(&server, &["helpers", "list", id.as_str()]).await;
    assert!(text(&printed.stdout).contains("Grace"), "{}", text(&printed.stdout));
    let printed = run_cli(&server, &["helpers", "list", id.as_str(), "--json"]).await;
    let list: HelperList = serde_json::from_slice(&printed.stdout).unwrap();
    let helper = list.helpers[0].id.as_str();
    let ended = run_cli(&server, &["helpers", "end", id.as_str(), helper]).await;
    assert_eq!((ended.status.code(), text(&ended.stdout)), (Some(0), format!("{helper} ended\n")));
    let again = run_cli(&server, &["helpers", "end", id.as_str(), helper]).await;
    assert_eq!(again.status.code(), Some(1));
    assert!(text(&again.stderr).contains("no such helper"), "{}", text(&again.stderr));
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn status_names_the_servers_process_and_exits_with_3_without_one() {
    let (_flags, mut server) = start_idle("").await;
    let pid = server.server_pid().unwrap().as_raw_nonzero().get();
    let printed = run_cli(&server, &["status"]).await;
    assert!(printed.status.success(), "{}", text(&printed.stderr));
    assert!(text(&printed.stdout).contains(&format!("`kill {pid}`")), "{}", text(&printed.stdout));
    let printed = run_cli(&server, &["status", "--json"]).await;
    let report: Value = serde_json::from_slice(&printed.stdout).unwrap();
    assert_eq!((&report["running"], &report["process"]), (&json!(true), &json!(pid)));
    let (address, pages) = (server.address().unwrap().to_string(), server.base_url().unwrap());
    assert_eq!((&report["listen"], &report["pages"]), (&json!(address), &json!(pages)));
    server.stop_server().await.unwrap();
    let printed = run_cli(&server, &["status"]).await;
    assert_eq!(printed.status.code(), Some(3));
    let advised = format!("start it with: anteroom --config {} serve", server.path().join("config.toml").display());
    assert!(text(&printed.stderr).contains(&advised), "{}", text(&printed.stderr));
    let printed = run_cli(&server, &["status", "--json"]).await;
    let report: Value = serde_json::from_slice(&printed.stdout).unwrap();
    assert_eq!((printed.status.code(), &report["running"]), (Some(3), &json!(false)));
    server.start_server().await.unwrap();
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn usage_errors_name_an_empty_variable_and_both_ways_of_exec() {
    let (_flags, server) = start_idle("").await;
    let mut command = crate::command_line::cli_command(&server, &["status"]);
    let done = command.env("ANTEROOM_STATE_DIR", "").output().await.unwrap();
    assert_eq!(done.status.code(), Some(2));
    assert!(text(&done.stderr).contains("the variable ANTEROOM_STATE_DIR is empty"), "{}", text(&done.stderr));
    let done = run_cli(&server, &["exec", "--", "ls"]).await;
    assert_eq!(done.status.code(), Some(125));
    let said = text(&done.stderr);
    assert!(said.contains("--credential") && said.contains("--session"), "{said}");
    server.stop_and_check_leaks().await.unwrap();
}

/// A copy of what `./up` needs before it builds anything.
fn copy_up(dir: &Path) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    for sub in ["scripts", "target/release"] {
        fs::create_dir_all(dir.join(sub)).unwrap();
    }
    for file in ["up", "scripts/steps.sh"] {
        fs::copy(root.join(file), dir.join(file)).unwrap();
    }
    symlink(built_program("anteroom").unwrap(), dir.join("target/release/anteroom")).unwrap();
}

#[tokio::test]
async fn up_prints_how_to_open_and_stop_a_server_that_runs_and_builds_nothing() {
    let (_flags, server) = start_idle("").await;
    let dir = tempfile::tempdir().unwrap();
    copy_up(dir.path());
    let state_dir = server.state_dir().to_str().unwrap().to_owned();
    for arguments in [
        vec!["--demo".to_owned(), "--state-dir".to_owned(), state_dir.clone()],
        vec![format!("--state-dir={state_dir}")],
    ] {
        let mut up = Command::new(dir.path().join("up"));
        up.args(&arguments).stdin(Stdio::null()).kill_on_drop(true);
        let output = timeout(WAIT_MAX, up.output()).await.expect("it builds nothing").unwrap();
        let printed = text(&output.stdout);
        assert!(output.status.success(), "{printed}{}", text(&output.stderr));
        let pid = server.server_pid().unwrap().as_raw_nonzero();
        assert!(printed.contains(&format!("`kill {pid}`")) && printed.contains("/login#login_token="), "{printed}");
        assert!(!printed.contains("== "), "a step was taken: {printed}");
    }
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn sessions_says_what_went_wrong_in_a_session_whose_tool_failed() {
    let script = Script::new([Step::print_line("no network"), Step::Exit { code: 1 }]);
    let config = TestConfig::with_provider(ScriptedProvider::new("scripted", script));
    let server = TestServer::start(config).await.unwrap();
    let api = server.backend_client().unwrap();
    let id = api.start_session("scripted").await.unwrap().session.id;
    let failed = |view: &SessionView| view.for_person.phase == Phase::NeedsAttention;
    let view = api.wait_until(&id, "a failed tool", failed).await.unwrap();
    let listed = run_cli(&server, &["sessions"]).await;
    let row = text(&listed.stdout).lines().find(|line| line.contains(id.as_str())).unwrap().to_owned();
    assert!(row.trim_end().ends_with(&view.for_person.sentence), "{row}");
    server.stop_and_check_leaks().await.unwrap();
}

/// Runs `anteroom` with a state directory that does not exist; returns what it printed and whether it succeeded.
async fn run_without_state(arguments: &[&str]) -> (String, bool) {
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new(built_program("anteroom").unwrap());
    command.env("ANTEROOM_STATE_DIR", dir.path().join("state")).env("ANTEROOM_CACHE_DIR", dir.path().join("cache"));
    command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    let output = timeout(WAIT_MAX, command.output()).await.unwrap().unwrap();
    assert!(!dir.path().join("state").exists(), "{arguments:?} made a state directory");
    (text(&output.stdout) + &text(&output.stderr), output.status.success())
}

#[tokio::test]
async fn commands_without_a_server_and_its_state_directory_refuse_and_make_none() {
    let id = "cal_00000000000000000000000000";
    for arguments in [
        &["token", "create", "mine"][..],
        &["token", "list"],
        &["token", "rotate", id],
        &["token", "revoke", id],
        &["keys", "rotate"],
        &["keys", "accept-rows"],
    ] {
        let (printed, succeeded) = run_without_state(arguments).await;
        assert!(!succeeded, "{arguments:?}: {printed}");
        assert!(
            printed.contains("start `anteroom serve` once, or name the server's directory"),
            "{arguments:?}: {printed}"
        );
    }
}

#[tokio::test]
async fn doctor_knows_that_the_demo_needs_no_network() {
    let (printed, succeeded) = run_without_state(&["doctor", "--network", "demo"]).await;
    assert!(succeeded, "{printed}");
    assert!(printed.contains("is answered by `anteroom") && printed.contains("serve --demo` itself"), "{printed}");
}
