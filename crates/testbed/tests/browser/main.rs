//! The page in a real browser while its server or its machine crashes: the page reconnects without the user.
//!
//! The browser is driven by `web/e2e/real/scene.mjs`, which needs Node, the npm packages of the web pages and Chromium, as `./test`
//! provides them, and Firefox for `firefox.rs`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods, reason = "tests")]

mod admin;
mod embedding;
mod firefox;
mod helpers;
mod neighbours;
mod oidc;
mod reverse_proxies;

use anteroom_controller::unix_time;
use anteroom_testbed::{Script, ScriptedProvider, Step, TestConfig, TestServer, WAIT_MAX};
use anteroom_wire::{SessionId, TimelineKind, api::SessionStatus};
use serde::Deserialize;
use std::{path::Path, process::Stdio, time::Duration};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::timeout,
};

/// The longest time from when a new server listens until the page shows the desktop again. It is 1 s to 2 s on an idle host.
const RECONNECT_MS_MAX: u64 = 3_000;

/// A page in a browser that shows a session.
struct Page {
    browser: Child,
    input: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

/// What the page shows first, as the script prints it.
#[derive(Debug, Deserialize)]
struct Shown {
    background: String,
    note: Option<String>,
}

/// What the page shows after it has reconnected, as the script prints it.
#[derive(Debug, Deserialize)]
struct Reconnected {
    reconnected_at_ms: u64,
    countdowns_at_ms: u64,
    background: String,
    /// The messages on the page while it was disconnected.
    messages: Vec<String>,
    /// How many notices state that the machine was replaced.
    replaced_notices: u32,
    /// The two countdowns.
    countdowns: Vec<serde_json::Value>,
    page_errors: Vec<String>,
}

impl Page {
    /// Opens the link in a browser and waits until the desktop is on screen.
    async fn open(scene: &str, link: &str) -> (Self, Shown) {
        let web = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../web");
        let mut command = Command::new("node");
        command.args(["e2e/real/scene.mjs", scene]).current_dir(web).env("ANTEROOM_E2E_LINK", link);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut browser = command.spawn().expect("node starts: ./test installs it");
        let (input, output) = (browser.stdin.take().unwrap(), browser.stdout.take().unwrap());
        let mut page = Self { browser, input, lines: BufReader::new(output).lines() };
        let shown = serde_json::from_str(&page.line().await).unwrap();
        (page, shown)
    }

    async fn line(&mut self) -> String {
        let line =
            timeout(2 * WAIT_MAX, self.lines.next_line()).await.expect("the script prints a line in time").unwrap();
        line.expect("the script failed; its error is above")
    }

    /// Notifies the script of the crash, and waits until the page has reconnected.
    async fn reconnected(mut self) -> Reconnected {
        self.input.write_all(b"it has happened\n").await.unwrap();
        let back: Reconnected = serde_json::from_str(&self.line().await).unwrap();
        assert!(timeout(WAIT_MAX, self.browser.wait()).await.expect("the browser exits").unwrap().success());
        assert_eq!(back.page_errors, Vec::<String>::new(), "the page reports no error");
        back
    }
}

/// The page shows both deadlines of a session in its last minutes.
const CLOSING_SOON: &str = "[sessions]\nidle_s_max = 200\nsession_s_max = 290\n";

/// Starts a server and a session, and waits until the machine is ready; returns the session's link too.
async fn start_session(settings: &str) -> (tempfile::TempDir, TestServer, SessionId, String) {
    let dir = tempfile::tempdir().unwrap();
    let wait = Step::WaitForFile { path: dir.path().join("never"), ms_max: 300_000 };
    let provider = ScriptedProvider::new("scripted", Script::new([Step::print_line("Nothing to do"), wait]))
        .with_descriptor_key("lanes", serde_json::json!(["link", "desktop", "terminal"]));
    let server = TestServer::start(TestConfig::with_provider(provider).with_settings(settings)).await.unwrap();
    let api = server.backend_client().unwrap();
    let started = api.start_session("scripted").await.unwrap();
    api.wait_status(&started.session.id, SessionStatus::VmStarted).await.unwrap();
    (dir, server, started.session.id, started.viewer_url)
}

/// Configures the server to listen on its current port after a restart.
fn keep_port(server: &TestServer) {
    let (config, address) = (server.path().join("config.toml"), server.address().unwrap());
    let text = std::fs::read_to_string(&config).unwrap();
    let any_port = "listen = \"127.0.0.1:0\"";
    assert!(text.contains(any_port), "{text}");
    std::fs::write(&config, text.replace(any_port, &format!("listen = \"{address}\""))).unwrap();
}

#[tokio::test]
async fn page_reconnects_to_same_desktop_after_server_crash() {
    let (_dir, mut server, id, link) = start_session(CLOSING_SOON).await;
    let (page, shown) = Page::open("restart", &link).await;
    keep_port(&server);
    server.kill_server().await.unwrap();
    // Long enough for several failed attempts of the page, whose retry delays grow.
    tokio::time::sleep(Duration::from_secs(4)).await;
    server.start_server().await.unwrap();
    let listens_at_ms = unix_time::now_unix_ms();
    let back = page.reconnected().await;
    let (took, counted) =
        (back.reconnected_at_ms.saturating_sub(listens_at_ms), back.countdowns_at_ms.saturating_sub(listens_at_ms));
    println!(
        "reconnected {took} ms after the server listened, countdowns correct after {counted} ms; {:?}",
        back.messages
    );
    assert_eq!(back.background, shown.background, "the same desktop");
    assert!(took <= RECONNECT_MS_MAX, "reconnected after {took} ms: {back:?}");
    assert_eq!((back.countdowns.len(), back.replaced_notices), (2, 0), "{back:?}");
    assert!(!back.messages.is_empty(), "the page reports the interruption");
    assert_eq!(server.backend_client().unwrap().get_session(&id).await.unwrap().generation, 1);
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn page_reconnects_to_replacement_machine_and_reports_it() {
    let (_dir, server, id, link) = start_session(CLOSING_SOON).await;
    let (page, shown) = Page::open("machine", &link).await;
    server.kill_machine(&server.list_machines().remove(0)).unwrap();
    let api = server.backend_client().unwrap();
    api.wait_until(&id, "ready again", |view| view.generation == 2 && view.status == SessionStatus::VmStarted)
        .await
        .unwrap();
    let ready_at_ms = unix_time::now_unix_ms();
    let back = page.reconnected().await;
    println!(
        "reconnected {} ms after the machine was ready; {:?}",
        back.reconnected_at_ms.saturating_sub(ready_at_ms),
        back.messages
    );
    assert_ne!(back.background, shown.background, "another desktop");
    assert!(back.messages.iter().any(|message| message.contains("temporary computer stopped")), "{back:?}");
    assert_eq!((back.countdowns.len(), back.replaced_notices), (2, 1), "{back:?}");
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn view_only_page_shows_desktop_and_sends_no_input() {
    let (_dir, server, id, link) = start_session(CLOSING_SOON).await;
    let (page, shown) = Page::open("watch", &link.replacen('#', "&view=1#", 1)).await;
    assert!(shown.note.as_deref().is_some_and(|note| note.contains("View only")), "{shown:?}");
    // A key would change the background; the script has typed one before this.
    let back = page.reconnected().await;
    assert_eq!(back.background, shown.background, "no input reached the desktop");
    let api = server.backend_client().unwrap();
    let joined = api.wait_entry(&id, TimelineKind::ViewerJoined).await.unwrap();
    assert_eq!(joined.data["view_only"], true);
    server.stop_and_check_leaks().await.unwrap();
}
