//! End-to-end tests: a real browser, server, QEMU machine and tool. Only the identity providers are fakes, reached by their host
//! names through the egress gate. Run by `./test`, which sets `ANTEROOM_TEST_IMAGE`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods, reason = "tests")]

mod codex;
mod crash;
mod demo;
mod pasted_code;

use anteroom_testbed::{QEMU_WAIT_TIMEOUT, Qemu, TestConfig, TestServer, eventually, leaks::encoded_forms};
use anteroom_wire::{SessionId, agent::DeliveredFile, api::SessionList};
use std::{fs, path::Path, process::Stdio};
use tokio::{
    process::{Child, Command},
    time::timeout,
};

/// Starts a browser script of `web/e2e/real`.
fn browser(server: &TestServer<Qemu>, script: &str) -> Child {
    browser_with(server, script, &[])
}

/// The same with more environment variables.
fn browser_with(server: &TestServer<Qemu>, script: &str, more: &[(&str, &str)]) -> Child {
    let web = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../web");
    let mut command = Command::new("node");
    command
        .arg(format!("e2e/real/{script}"))
        .current_dir(web)
        .env("ANTEROOM_E2E_LINK", server.login_link().unwrap())
        .env("ANTEROOM_E2E_TOKEN", server.operator_token().expose())
        .env("ANTEROOM_E2E_SLOW_MS", QEMU_WAIT_TIMEOUT.as_millis().to_string())
        .envs(more.iter().copied())
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command.spawn().expect("node starts")
}

/// Waits until the browser script ends with success.
async fn wait_success(mut browser: Child) {
    let status =
        timeout(QEMU_WAIT_TIMEOUT * 3, browser.wait()).await.expect("the browser script ends in time").unwrap();
    assert!(status.success(), "the browser script failed: {status}");
}

/// Waits for the session that the page starts.
async fn wait_session(server: &TestServer<Qemu>) -> SessionId {
    let api = server.operator_client().unwrap();
    let first = async || {
        let list: SessionList = api.get("/api/sessions").await?.parse()?;
        Ok(list.sessions.into_iter().next().map(|session| session.id))
    };
    eventually("the page starts a session", QEMU_WAIT_TIMEOUT, first).await.unwrap()
}

/// Leases the files of the session's credential.
async fn lease(server: &TestServer<Qemu>, id: &SessionId) -> Vec<DeliveredFile> {
    let api = server.operator_client().unwrap();
    let view = api.get_session(id).await.unwrap();
    api.lease_credential(&view.credential.expect("a stored credential").id).await.unwrap().files
}

/// Checks that no secret is in a file of the server (database, its log, server's log, receipts, run directories), on the timeline, or
/// in a process's arguments or environment.
async fn assert_stored_nowhere(server: &TestServer<Qemu>, id: &SessionId, secrets: &[String]) {
    assert!(!secrets.is_empty(), "nothing was issued");
    let timeline = server.operator_client().unwrap().get(&format!("/api/auth/session/{id}/events")).await.unwrap().text;
    let mut texts = process_arguments(server);
    texts.push(("timeline".to_owned(), timeline.into_bytes()));
    for secret in secrets {
        let files = server.leak_scan().find_files_containing(secret);
        assert!(files.is_empty(), "a secret is in {files:?}");
        assert_not_in(secret, &texts);
    }
}

/// The arguments and environment of every process of the server, each with its path in `/proc`.
fn process_arguments(server: &TestServer<Qemu>) -> Vec<(String, Vec<u8>)> {
    let paths = server
        .leak_scan()
        .find_processes()
        .into_iter()
        .flat_map(|found| ["cmdline", "environ"].map(|name| format!("/proc/{}/{name}", found.pid)));
    paths.map(|path| (path.clone(), fs::read(path).unwrap_or_default())).collect()
}

fn assert_not_in(secret: &str, texts: &[(String, Vec<u8>)]) {
    for (path, bytes) in texts {
        let found = encoded_forms(secret).iter().any(|needle| bytes.windows(needle.len()).any(|part| part == needle));
        assert!(!found, "a secret is in {path}");
    }
}

/// The search for secrets finds one that is there.
#[tokio::test]
async fn journey_secret_search_finds_a_planted_secret() {
    let server = TestServer::start(TestConfig::qemu("")).await.unwrap();
    let planted = "canary-0123456789abcdef";
    fs::write(server.path().join("state/planted"), format!("x{planted}y")).unwrap();
    assert_eq!(server.leak_scan().find_files_containing(planted).len(), 1);
    fs::remove_file(server.path().join("state/planted")).unwrap();
    server.stop_and_check_leaks().await.unwrap();
}
