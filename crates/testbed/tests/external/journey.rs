//! An external desktop through the real page, in a real browser.

use crate::{Scene, desk, start};
use anteroom_testbed::SOON;
use anteroom_wire::api::Status;
use std::{path::Path, process::Stdio};
use tokio::{process::Command, time::timeout};

/// Plays `web/e2e/real/external.mjs` against this link.
async fn played(claim: &str, link: &str, password: &str) {
    let web = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../web");
    let mut command = Command::new("node");
    command
        .arg("e2e/real/external.mjs")
        .current_dir(web)
        .env("ANTEROOM_E2E_VIEWER_LINK", link)
        .env("ANTEROOM_E2E_PASSWORD", password)
        .env("ANTEROOM_E2E_CLAIM", claim)
        .env("ANTEROOM_E2E_SLOW_MS", SOON.as_millis().to_string())
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let status = timeout(SOON * 4, command.status()).await.expect("the browser's journey ends").expect("node starts");
    assert!(status.success(), "{claim}: the browser's journey failed: {status}");
}

#[tokio::test]
async fn journey_an_external_desktop_is_viewed_through_the_page() {
    let vnc = desk::Vnc::start(&[]).await;
    let websockify = desk::Websockify::start(vnc.at).await;
    let scene = Scene::new();
    let world = scene.world(&format!("ws://{}/", websockify.at), "").await;
    let api = world.backend().unwrap();
    let started = start(&api).await;
    api.wait_status(&started.session.id, Status::VmStarted).await.unwrap();
    played("external", &started.viewer_url, "").await;
    world.finish().await.unwrap();
    websockify.end().await;
    vnc.end().await;
}

/// The page asks for the desktop's own password, and says what is wrong while the desktop is away.
#[tokio::test]
async fn journey_the_page_asks_for_an_external_desktops_password() {
    let scene = Scene::new();
    let vnc = desk::Vnc::start(&desk::with_password(&scene)).await;
    let world = scene.world(&format!("vnc://{}", vnc.at), "").await;
    let started = start(&world.backend().unwrap()).await;
    played("password", &started.viewer_url, desk::PASSWORD).await;
    world.finish().await.unwrap();
    vnc.end().await;
}
