//! The whole path: a real browser, a real server, a real QEMU machine, the real tools; only the identity providers are
//! stand-ins, reached by their names through the egress gate. Run by `./test`, which sets `ANTEROOM_TEST_IMAGE`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods, reason = "tests")]

mod codex;
mod crash;
mod demo;

use anteroom_testbed::{QemuServer, leaks::needles, qemu_server::QEMU_WAIT_MAX};
use anteroom_wire::{SessionId, agent::DeliveredFile, api::SessionList};
use std::{fs, path::Path, process::Stdio};
use tokio::{
    process::{Child, Command},
    time::{Instant, sleep, timeout},
};

/// Starts a journey of the pages (`web/e2e/real`) in a browser.
fn browser(server: &QemuServer, script: &str) -> Child {
    browser_with(server, script, &[])
}

/// The same with something more in its environment.
fn browser_with(server: &QemuServer, script: &str, more: &[(&str, &str)]) -> Child {
    let web = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../web");
    let mut command = Command::new("node");
    command
        .arg(format!("e2e/real/{script}"))
        .current_dir(web)
        .env("ANTEROOM_E2E_LINK", server.login_link().unwrap())
        .env("ANTEROOM_E2E_TOKEN", server.token().expose())
        .env("ANTEROOM_E2E_SLOW_MS", QEMU_WAIT_MAX.as_millis().to_string())
        .envs(more.iter().copied())
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command.spawn().expect("node starts")
}

async fn arrived(mut browser: Child) {
    let status = timeout(QEMU_WAIT_MAX * 3, browser.wait()).await.expect("the browser's journey ends").unwrap();
    assert!(status.success(), "the browser's journey failed: {status}");
}

/// The session that the page has started.
async fn the_session(server: &QemuServer) -> SessionId {
    let api = server.operator().unwrap();
    let until = Instant::now() + QEMU_WAIT_MAX;
    loop {
        let list: SessionList = api.get("/api/sessions").await.unwrap().read().unwrap();
        if let Some(session) = list.sessions.into_iter().next() {
            return session.id;
        }
        assert!(Instant::now() < until, "the page started no session");
        sleep(std::time::Duration::from_millis(50)).await;
    }
}

/// The leased files of the session's credential.
async fn leased(server: &QemuServer, id: &SessionId) -> Vec<DeliveredFile> {
    let api = server.operator().unwrap();
    let view = api.session(id).await.unwrap();
    api.lease(&view.credential.expect("a stored credential").id).await.unwrap().files
}

/// No secret lies in a file below the server (database, its log, server's log, receipts, run directories), on the timeline,
/// or among a process's arguments and environment.
async fn nowhere(server: &QemuServer, id: &SessionId, secrets: &[String]) {
    assert!(!secrets.is_empty(), "nothing was issued");
    let timeline = server.operator().unwrap().get(&format!("/api/auth/session/{id}/events")).await.unwrap().text;
    let mut seen = said_to_processes(server);
    seen.push(("timeline".to_owned(), timeline.into_bytes()));
    for secret in secrets {
        let files = server.leaks().files_with(secret);
        assert!(files.is_empty(), "a secret lies in {files:?}");
        not_in(secret, &seen);
    }
}

/// Arguments and environment of every process of the server, by their places.
fn said_to_processes(server: &QemuServer) -> Vec<(String, Vec<u8>)> {
    let places = server
        .leaks()
        .processes()
        .into_iter()
        .flat_map(|found| ["cmdline", "environ"].map(|name| format!("/proc/{}/{name}", found.pid)));
    places.map(|place| (place.clone(), fs::read(place).unwrap_or_default())).collect()
}

fn not_in(secret: &str, seen: &[(String, Vec<u8>)]) {
    for (place, bytes) in seen {
        let found = needles(secret).iter().any(|needle| bytes.windows(needle.len()).any(|part| part == needle));
        assert!(!found, "a secret stands in {place}");
    }
}

/// The canary search finds what is there: a check that cannot fail would be worth nothing.
#[tokio::test]
async fn journey_secret_search_finds_a_planted_secret() {
    let server = QemuServer::start("", &Default::default(), false).await.unwrap();
    let planted = "canary-0123456789abcdef";
    fs::write(server.path().join("state/planted"), format!("x{planted}y")).unwrap();
    assert_eq!(server.leaks().files_with(planted).len(), 1);
    fs::remove_file(server.path().join("state/planted")).unwrap();
    server.finish().await.unwrap();
}
