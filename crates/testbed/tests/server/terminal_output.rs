//! What the command line prints on a terminal.

use crate::Flags;
use crate::{
    command_line::{CLI_MS_MAX, cli_command, run_cli, sign_in, text},
    exec::TestTerminal,
    fixture::start_idle_session,
};
use anteroom_testbed::{TestConfig, TestServer};
use std::{process::Stdio, time::Duration};
use tokio::time::timeout;

/// Runs `anteroom` on a terminal of this width until it ends; returns its exit code and what is on the terminal, without escape sequences
/// that only set colours.
async fn run_on_terminal(server: &TestServer, columns: u16, arguments: &[&str], keys: &[u8]) -> (Option<i32>, String) {
    let (mut terminal, tty) = TestTerminal::open(columns, 50);
    let mut command = cli_command(server, arguments);
    let stream = || Stdio::from(tty.try_clone().unwrap());
    command.stdin(stream()).stdout(stream()).stderr(stream()).env_remove("FORCE_HYPERLINK").env("TERM", "xterm");
    let mut child = command.spawn().unwrap();
    if !keys.is_empty() {
        terminal.wait_output("[y/N]").await;
        terminal.type_keys(keys);
    }
    let end = timeout(Duration::from_millis(CLI_MS_MAX), child.wait()).await.unwrap().unwrap();
    // Everything before it was written by then.
    rustix::io::write(&tty, b"THE END").unwrap();
    terminal.wait_output("THE END").await;
    (end.code(), terminal.screen.replace("THE END", "").replace('\r', ""))
}

#[tokio::test]
async fn tables_fit_60_and_200_columns_and_show_relative_times() {
    let (_flags, server, _api, id) = start_idle_session("").await;
    for columns in [60, 200] {
        for arguments in [
            &["sessions"][..],
            &["sessions", id.as_str()],
            &["diagnose", id.as_str()],
            &["providers", "list"],
            &["token", "list"],
            &["keys", "list"],
            &["top", "--once"],
            &["doctor", "--leaks"],
        ] {
            let (code, screen) = run_on_terminal(&server, columns, arguments, b"").await;
            assert_eq!(code, Some(0), "{arguments:?}: {screen}");
            let longest_word = screen.split_whitespace().map(str::len).max().unwrap_or_default();
            assert!(longest_word >= 8, "{arguments:?} prints something: {screen}");
            for line in screen.lines() {
                let fits = line.chars().count() <= usize::from(columns) || line.split_whitespace().count() == 1;
                assert!(fits, "{columns} {arguments:?}: {line:?}");
            }
        }
        let (_, screen) = run_on_terminal(&server, columns, &["sessions"], b"").await;
        assert!(screen.contains(id.as_str()) && (screen.contains(" ago") || screen.contains("now")), "{screen}");
    }
    let piped = text(&run_cli(&server, &["sessions"]).await.stdout);
    let row = piped.lines().find(|line| line.contains(id.as_str())).unwrap();
    assert!(row.contains("T") && row.contains("Z"), "RFC 3339 without a terminal: {row}");
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn deleting_asks_on_a_terminal_and_needs_yes_without_one() {
    let flags = Flags::new();
    let server = TestServer::start(TestConfig::with_provider(flags.provider("{\"token\": \"x\"}"))).await.unwrap();
    let id = sign_in(&flags, &server).await;
    for arguments in [&["credentials", "delete", &id][..], &["erase", "--user", "u"]] {
        let refused = run_cli(&server, arguments).await;
        assert_eq!(refused.status.code(), Some(1), "{arguments:?}");
        assert!(text(&refused.stderr).contains("add --yes"), "{}", text(&refused.stderr));
    }
    let delete = ["credentials", "delete", &id];
    let (code, screen) = run_on_terminal(&server, 120, &delete, b"n\n").await;
    assert_eq!((code, screen.contains("nothing was changed")), (Some(1), true), "{screen}");
    assert_eq!(server.backend_client().unwrap().list_credentials().await.unwrap().credentials.len(), 1);
    let (code, screen) = run_on_terminal(&server, 120, &delete, b"y\n").await;
    assert_eq!((code, screen.contains("was deleted")), (Some(0), true), "{screen}");
    assert!(server.backend_client().unwrap().list_credentials().await.unwrap().credentials.is_empty());
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn sign_in_shows_a_qr_code_and_a_link_that_a_click_opens() {
    let flags = Flags::new();
    // No phone opens an address of this computer: there is no code for it, unless it is asked for.
    let provider = flags.provider("{\"token\": \"x\"}");
    let config = TestConfig::with_provider(provider).with_settings("public_url = 'https://desk.example'\n");
    let server = TestServer::start(config).await.unwrap();
    flags.set("go");
    for (columns, has_code) in [(120, true), (40, false)] {
        let (mut terminal, tty) = TestTerminal::open(columns, 60);
        let mut command = cli_command(&server, &["login", "scripted", "--no-open"]);
        let stream = || Stdio::from(tty.try_clone().unwrap());
        command.stdin(stream()).stdout(stream()).stderr(stream()).env("FORCE_HYPERLINK", "1");
        let mut child = command.spawn().unwrap();
        terminal.wait_output("Signed in.").await;
        timeout(Duration::from_millis(CLI_MS_MAX), child.wait()).await.unwrap().unwrap();
        assert_eq!(terminal.screen.contains("▀▄"), has_code, "{columns}: {}", terminal.screen);
        assert!(terminal.screen.contains("\u{1b}]8;;https://"), "{}", terminal.screen);
    }
    let piped = run_cli(&server, &["login", "scripted", "--no-open", "--qr", "--json"]).await;
    let credential: serde_json::Value = serde_json::from_slice(&piped.stdout).unwrap();
    assert_eq!(credential["provider"], "scripted");
    assert!(!text(&piped.stderr).contains("\u{1b}]8"), "{}", text(&piped.stderr));
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn watching_a_session_ends_with_it_and_a_stop_leaves_it() {
    let (_flags, server, api, id) = start_idle_session("").await;
    let watch = |arguments: &[&str]| {
        let mut command = cli_command(&server, arguments);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap()
    };
    let mut all = watch(&["sessions", "watch"]);
    let one = watch(&["sessions", "watch", id.as_str()]);
    let mut lines = tokio::io::AsyncBufReadExt::lines(tokio::io::BufReader::new(all.stdout.take().unwrap()));
    let line = timeout(Duration::from_millis(CLI_MS_MAX), lines.next_line()).await.unwrap().unwrap().unwrap();
    assert!(line.contains(id.as_str()), "{line}");
    assert!(!api.get_session(&id).await.unwrap().status.is_ended());
    let cancelled = run_cli(&server, &["sessions", "cancel", id.as_str()]).await;
    assert!(cancelled.status.success());
    let done = timeout(Duration::from_millis(CLI_MS_MAX), one.wait_with_output()).await.unwrap().unwrap();
    assert_eq!(done.status.code(), Some(1), "cancelled, not completed");
    let printed = text(&done.stdout);
    assert!(printed.contains("accepted") && printed.contains("cancelled"), "{printed}");
    let mut last = String::new();
    while !last.contains("cancelled") {
        last = timeout(Duration::from_millis(CLI_MS_MAX), lines.next_line()).await.unwrap().unwrap().unwrap();
    }
    let pid = rustix::process::Pid::from_raw(all.id().unwrap().cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let end = timeout(Duration::from_millis(CLI_MS_MAX), all.wait()).await.unwrap().unwrap();
    assert_eq!(end.code(), Some(130));
    server.stop_and_check_leaks().await.unwrap();
}
