//! The scripted tool, run as a program.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use anteroom_testbed::{Script, Step, script::WriteMode};
use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::Stdio, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    process::{Child, Command},
    time::timeout,
};

const WAIT_MAX: Duration = Duration::from_secs(20);

fn start(home: &Path, steps: Vec<Step>, env: &[(&str, &str)]) -> Child {
    let script = home.join("script.json");
    Script::new(steps).save(&script).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_anteroom-testbed"));
    command.arg("tool").arg(script).env_clear().env("HOME", home).envs(env.iter().copied());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap()
}

async fn finish(child: Child) -> (i32, String) {
    let output = timeout(WAIT_MAX, child.wait_with_output()).await.expect("exits in time").unwrap();
    (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
}

#[tokio::test]
async fn tool_prints_reads_and_exits_as_scripted() {
    let home = tempfile::tempdir().unwrap();
    let steps = vec![
        Step::print_line("Paste code here:"),
        Step::ReadLine,
        Step::print_line("got {line}"),
        Step::Exit { code: 3 },
    ];
    let mut child = start(home.path(), steps, &[]);
    child.stdin.take().unwrap().write_all(b"the code\n").await.unwrap();
    assert_eq!(finish(child).await, (3, "Paste code here:\ngot the code\n".to_owned()));
}

#[tokio::test]
async fn tool_writes_its_file_in_every_mode() {
    for mode in [WriteMode::Truncate, WriteMode::InHalves { wait_ms: 10 }, WriteMode::Rename] {
        let home = tempfile::tempdir().unwrap();
        let write = Step::WriteFile { path: ".codex/auth.json".into(), content: "{\"a\":1}".into(), mode };
        let status = Step::ExpectFile { path: ".codex/auth.json".into(), output: "Logged in".into() };
        assert_eq!(finish(start(home.path(), vec![write, status], &[])).await, (0, "Logged in\n".to_owned()));
        let file = home.path().join(".codex/auth.json");
        assert_eq!(fs::read_to_string(&file).unwrap(), "{\"a\":1}");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(home.path().join(".codex")).unwrap().count(), 1, "nothing else is left");
    }
}

#[tokio::test]
async fn file_written_in_halves_is_visible_half_written() {
    let home = tempfile::tempdir().unwrap();
    let mode = WriteMode::InHalves { wait_ms: 60_000 };
    let _child =
        start(home.path(), vec![Step::WriteFile { path: "auth.json".into(), content: "{\"a\":1}".into(), mode }], &[]);
    let half = async {
        while fs::read_to_string(home.path().join("auth.json")).unwrap_or_default() != "{\"a" {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(WAIT_MAX, half).await.expect("the first half is written");
}

#[tokio::test]
async fn tool_waits_for_a_file_and_times_out() {
    let home = tempfile::tempdir().unwrap();
    let wait = |ms_max| vec![Step::WaitForFile { path: "go".into(), ms_max }, Step::print_line("went")];
    assert_eq!(finish(start(home.path(), wait(50), &[])).await, (9, String::new()));
    let child = start(home.path(), wait(20_000), &[]);
    fs::write(home.path().join("go"), "").unwrap();
    assert_eq!(finish(child).await, (0, "went\n".to_owned()));
}

#[tokio::test]
async fn tool_opens_urls_with_configured_browser() {
    let home = tempfile::tempdir().unwrap();
    let browser = home.path().join("browser");
    fs::write(&browser, "#!/bin/sh\nprintf %s \"$1\" > \"$HOME/opened\"\n").unwrap();
    fs::set_permissions(&browser, fs::Permissions::from_mode(0o755)).unwrap();
    let url = "https://a.example/authorize?x=1&y=$(id)";
    let child = start(
        home.path(),
        vec![Step::OpenUrlWithBrowser { url: url.into() }],
        &[("BROWSER", browser.to_str().unwrap())],
    );
    assert_eq!(finish(child).await.0, 0);
    assert_eq!(fs::read_to_string(home.path().join("opened")).unwrap(), url);
}

#[tokio::test]
async fn tool_connects_through_proxy_and_prints_the_status() {
    let proxy = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", proxy.local_addr().unwrap());
    let home = tempfile::tempdir().unwrap();
    let child = start(
        home.path(),
        vec![Step::ProxyConnect { authority: "evil.example:443".into() }],
        &[("HTTPS_PROXY", &address)],
    );
    let (mut connection, _) = timeout(WAIT_MAX, proxy.accept()).await.unwrap().unwrap();
    let mut line = [0; 30];
    connection.read_exact(&mut line).await.unwrap();
    assert_eq!(&line, b"CONNECT evil.example:443 HTTP/");
    connection.write_all(b"HTTP/1.1 403 Forbidden\r\n\r\n").await.unwrap();
    assert_eq!(finish(child).await, (0, "CONNECT evil.example:443: HTTP/1.1 403 Forbidden\n".to_owned()));
}

#[tokio::test]
async fn tool_requires_a_terminal() {
    let home = tempfile::tempdir().unwrap();
    assert_eq!(finish(start(home.path(), vec![Step::RequireTerminal], &[])).await.0, 8);
}
