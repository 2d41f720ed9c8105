//! An external desktop on the page in a real browser: shown, reported while it is unavailable, and shown again.

use crate::{Fixture, encryption::Certified, start, vnc_server};
use anteroom_testbed::{TestServer, WAIT_MAX};
use anteroom_wire::api::SessionStatus;
use std::{path::Path, process::Stdio};
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    time::timeout,
};

/// A command that runs the browser script `web/e2e/real/external.mjs` with this link.
fn browser(claim: &str, link: &str) -> Command {
    let mut command = browser_script("external.mjs", link);
    command.env("ANTEROOM_E2E_CLAIM", claim);
    command
}

/// A command that runs this script of `web/e2e/real` with this link.
fn browser_script(name: &str, link: &str) -> Command {
    let web = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../web");
    let mut command = Command::new("node");
    command
        .arg(format!("e2e/real/{name}"))
        .current_dir(web)
        .env("ANTEROOM_E2E_VIEWER_LINK", link)
        .env("ANTEROOM_E2E_SLOW_MS", WAIT_MAX.as_millis().to_string())
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command
}

async fn wait_success(mut browser: Child) {
    let status = timeout(WAIT_MAX * 4, browser.wait()).await.expect("the browser script ends in time").unwrap();
    assert!(status.success(), "the browser script failed: {status}");
}

/// Waits for a line of the browser script that contains `wanted`, and prints the lines before it.
async fn wait_line(lines: &mut Lines<BufReader<ChildStdout>>, wanted: &str) {
    let waiting = async {
        while let Some(line) = lines.next_line().await.unwrap() {
            eprintln!("{line}");
            if line.contains(wanted) {
                return;
            }
        }
        panic!("the browser script ended before {wanted}");
    };
    timeout(WAIT_MAX * 3, waiting).await.unwrap_or_else(|_| panic!("no {wanted}"));
}

#[tokio::test]
async fn journey_page_shows_external_desktop() {
    let (vnc, websockify) = vnc_server::start_behind_websockify().await;
    let fixture = Fixture::new();
    let server = fixture.start_server(&format!("ws://{}/", websockify.at), "").await;
    let api = server.backend_client().unwrap();
    let started = start(&api).await;
    api.wait_status(&started.session.id, SessionStatus::VmStarted).await.unwrap();
    let away = "The remote browser does not answer yet.";
    let mut page = browser("external", &started.viewer_url);
    let mut page = page.env("ANTEROOM_E2E_AWAY", away).stdout(Stdio::piped()).spawn().expect("node starts");
    let mut lines = BufReader::new(page.stdout.take().unwrap()).lines();
    wait_line(&mut lines, "SEEN").await;
    let at = websockify.at;
    websockify.end().await;
    wait_line(&mut lines, "AWAY").await;
    let websockify = vnc_server::Websockify::start_at(at, vnc.at, &[]).await.expect("the port is free again");
    wait_line(&mut lines, "# pass 1").await;
    wait_success(page).await;
    server.stop_and_check_leaks().await.unwrap();
    websockify.end().await;
    vnc.end().await;
}

/// A password goes from the type box and from the clipboard into a field of a browser on the desktop, and nowhere else.
#[tokio::test]
async fn journey_typed_password_arrives_exactly_and_is_stored_and_logged_nowhere() {
    let vnc = vnc_server::Vnc::start(&[]).await;
    let fixture = Fixture::new();
    let server = fixture.start_server(&format!("vnc://{}", vnc.at), "[log]\nlevel = 'trace'\n").await;
    let (api, operator) = (server.backend_client().unwrap(), server.operator_client().unwrap());
    let started = start(&api).await;
    let ascii = "MySecret-0123456789-of-40-characters@{}[]|~";
    let mut page = browser_script("type.mjs", &started.viewer_url);
    page.env("ANTEROOM_E2E_DISPLAY", format!(":{}", vnc.display))
        .env("ANTEROOM_E2E_TEXT", format!("{ascii}é€漢😀"))
        .env("ANTEROOM_E2E_COPIED", "copied: é€漢😀");
    wait_success(page.spawn().expect("node starts")).await;
    let id = started.session.id;
    for path in ["events", "diagnosis"] {
        operator.get(&format!("/api/auth/session/{id}/{path}")).await.unwrap();
    }
    assert_eq!(server.leak_scan().find_files_containing(ascii), Vec::<std::path::PathBuf>::new());
    let answers = operator.recorded_responses().into_iter().chain([server.read_log()]);
    assert_eq!(answers.filter(|text| text.contains("MySecret-")).collect::<Vec<_>>(), Vec::<String>::new());
    server.stop_and_check_leaks().await.unwrap();
    vnc.end().await;
}

/// The page asks for the VNC server's password, and asks again after a wrong one.
#[tokio::test]
async fn journey_page_asks_for_vnc_password() {
    let fixture = Fixture::new();
    let vnc = vnc_server::Vnc::start(&vnc_server::with_password(&fixture)).await;
    assert_page_asks_for_password(fixture.start_server(&format!("vnc://{}", vnc.at), "").await).await;
    vnc.end().await;
}

#[tokio::test]
async fn journey_s32_page_asks_for_vnc_password_of_a_desktop_with_vencrypt() {
    let fixture = Fixture::new();
    let certified = Certified::new(&fixture, &["127.0.0.1"], false);
    let vnc = vnc_server::Vnc::start(&certified.vnc_arguments_with_password(&fixture)).await;
    let desktop = format!("vencrypt://{}", vnc.at);
    assert_page_asks_for_password(fixture.start_server_with_desk(&desktop, &certified.ca_setting()).await).await;
    vnc.end().await;
}

async fn assert_page_asks_for_password(server: TestServer) {
    let started = start(&server.backend_client().unwrap()).await;
    let mut page = browser("password", &started.viewer_url);
    wait_success(page.env("ANTEROOM_E2E_PASSWORD", vnc_server::PASSWORD).spawn().expect("node starts")).await;
    server.stop_and_check_leaks().await.unwrap();
}
