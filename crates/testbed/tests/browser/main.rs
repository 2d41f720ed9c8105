//! The page in a real browser while something happens to its server or its machine: it comes back by itself.
//!
//! The browser's side is `web/e2e/real/scene.mjs`; it needs Node, the pages' packages and a Chromium, as `./test` provides.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods, reason = "tests")]

use anteroom_controller::clock;
use anteroom_testbed::{Script, ScriptedTool, Step, TestConfig, TestServer, WAIT_MAX};
use anteroom_wire::{SessionId, api::Status};
use serde::Deserialize;
use std::{path::Path, process::Stdio, time::Duration};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::timeout,
};

/// From the moment at which a new server listens until the page shows the desktop again, on an idle machine 1 s to 2 s.
const BACK_MS_MAX: u64 = 3_000;

/// A page on its session.
struct Page {
    browser: Child,
    orders: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

#[derive(Debug, Deserialize)]
struct Shown {
    ground: String,
    note: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Back {
    back_at_ms: u64,
    counted_at_ms: u64,
    ground: String,
    /// What the page said while it was away.
    said: Vec<String>,
    /// Notes that the machine was replaced.
    replaced: u32,
    /// The two countdowns.
    countdowns: Vec<serde_json::Value>,
    faults: Vec<String>,
}

impl Page {
    /// Opens the link in a browser and waits until the desktop is on screen.
    async fn open(scene: &str, link: &str) -> (Self, Shown) {
        let web = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../web");
        let mut command = Command::new("node");
        command.args(["e2e/real/scene.mjs", scene]).current_dir(web).env("ANTEROOM_E2E_LINK", link);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut browser = command.spawn().expect("node starts: ./test installs it");
        let (orders, output) = (browser.stdin.take().unwrap(), browser.stdout.take().unwrap());
        let mut page = Self { browser, orders, lines: BufReader::new(output).lines() };
        let shown = serde_json::from_str(&page.line().await).unwrap();
        (page, shown)
    }

    async fn line(&mut self) -> String {
        let line = timeout(2 * WAIT_MAX, self.lines.next_line()).await.expect("the page answers in time").unwrap();
        line.expect("the scene failed; its error is above")
    }

    /// Tells the scene that it has happened, and waits until the page is back.
    async fn back(mut self) -> Back {
        self.orders.write_all(b"it has happened\n").await.unwrap();
        let back: Back = serde_json::from_str(&self.line().await).unwrap();
        assert!(timeout(WAIT_MAX, self.browser.wait()).await.expect("the browser ends").unwrap().success());
        assert_eq!(back.faults, Vec::<String>::new(), "nothing broke on the page");
        back
    }
}

/// A server with a session whose machine is ready, and the session's link.
async fn server(settings: &str) -> (tempfile::TempDir, TestServer, SessionId, String) {
    let scene = tempfile::tempdir().unwrap();
    let waits = Step::WaitFor { path: scene.path().join("never"), ms_max: 300_000 };
    let tool = ScriptedTool::new("scripted", Script::new([Step::print_line("Nothing to do"), waits]));
    let server = TestServer::start(TestConfig::with_tool(tool).with_settings(settings)).await.unwrap();
    let api = server.backend().unwrap();
    let started = api.start("scripted").await.unwrap();
    api.wait_status(&started.session.id, Status::VmStarted).await.unwrap();
    (scene, server, started.session.id, started.viewer_url)
}

/// From now on the server listens where it listens now, as one with a configured port does.
fn stay_at_this_port(server: &TestServer) {
    let (config, address) = (server.path().join("config.toml"), server.address().unwrap());
    let text = std::fs::read_to_string(&config).unwrap();
    let anywhere = "listen = \"127.0.0.1:0\"";
    assert!(text.contains(anywhere), "{text}");
    std::fs::write(&config, text.replace(anywhere, &format!("listen = \"{address}\""))).unwrap();
}

#[tokio::test]
async fn page_reconnects_to_same_desktop_after_server_crash() {
    let (_scene, mut server, id, link) = server("").await;
    let (page, shown) = Page::open("restart", &link).await;
    stay_at_this_port(&server);
    server.kill_server().await.unwrap();
    // Long enough for the page to have failed some times: its pauses grow.
    tokio::time::sleep(Duration::from_secs(4)).await;
    server.start_server().await.unwrap();
    let listens_at_ms = clock::now();
    let back = page.back().await;
    let (took, counted) =
        (back.back_at_ms.saturating_sub(listens_at_ms), back.counted_at_ms.saturating_sub(listens_at_ms));
    println!("back {took} ms after the server listened, countdowns right after {counted} ms; it said {:?}", back.said);
    assert_eq!(back.ground, shown.ground, "the same desktop");
    assert!(took <= BACK_MS_MAX, "back after {took} ms: {back:?}");
    assert_eq!((back.countdowns.len(), back.replaced), (2, 0), "{back:?}");
    assert!(!back.said.is_empty(), "what happened is said");
    assert_eq!(server.backend().unwrap().session(&id).await.unwrap().generation, 1);
    server.finish().await.unwrap();
}

#[tokio::test]
async fn page_reconnects_to_replacement_machine_and_reports_it() {
    let (_scene, server, id, link) = server("").await;
    let (page, shown) = Page::open("machine", &link).await;
    server.kill_machine(&server.machines().remove(0)).unwrap();
    let api = server.backend().unwrap();
    api.wait_until(&id, "ready again", |view| view.generation == 2 && view.status == Status::VmStarted).await.unwrap();
    let ready_at_ms = clock::now();
    let back = page.back().await;
    println!(
        "back {} ms after the machine was ready; it said {:?}",
        back.back_at_ms.saturating_sub(ready_at_ms),
        back.said
    );
    assert_ne!(back.ground, shown.ground, "another desktop");
    assert!(back.said.iter().any(|said| said.contains("replaced")), "{back:?}");
    assert_eq!((back.countdowns.len(), back.replaced), (2, 1), "{back:?}");
    server.finish().await.unwrap();
}

#[tokio::test]
async fn view_only_page_shows_desktop_and_sends_no_input() {
    let (_scene, server, id, link) = server("").await;
    let (page, shown) = Page::open("watch", &link.replacen('#', "&view=1#", 1)).await;
    assert!(shown.note.as_deref().is_some_and(|note| note.contains("View only")), "{shown:?}");
    // The desktop shows a key by another ground; it was typed before this.
    let back = page.back().await;
    assert_eq!(back.ground, shown.ground, "nothing was typed");
    let api = server.backend().unwrap();
    let joined = api.wait_entry(&id, "viewer_joined").await.unwrap();
    assert_eq!(joined.data["view_only"], true);
    server.finish().await.unwrap();
}
