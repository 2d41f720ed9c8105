//! The fake desktop with a real RFB client.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use anteroom_rfb::client::{RfbClient, RfbError};
use anteroom_testbed::fake_rfb_server::{
    BLOCK_COLOUR, FakeRfbServer, SPOT_COLOUR, ServerBehaviour, background_colour_after_key, initial_background_colour,
    write_behaviour,
};
use std::{path::Path, time::Duration};
use tokio::{net::UnixStream, time::timeout};

const ANSWER_MS_MAX: u64 = 20_000;
const WAIT_MAX: Duration = Duration::from_secs(20);

async fn view(socket: &Path) -> Result<RfbClient<UnixStream>, RfbError> {
    RfbClient::connect(UnixStream::connect(socket).await.unwrap(), ANSWER_MS_MAX).await
}

fn desktop(dir: &tempfile::TempDir, name: &str) -> (FakeRfbServer, std::path::PathBuf) {
    let socket = dir.path().join("rfb.sock");
    (FakeRfbServer::start(&socket, name, 320, 240).unwrap(), socket)
}

#[tokio::test]
async fn desktop_shows_name_background_and_moving_block() {
    let dir = tempfile::tempdir().unwrap();
    let (desktop, socket) = desktop(&dir, "one");
    let mut viewer = view(&socket).await.unwrap();
    assert_eq!(viewer.desktop_name(), "one");
    let frame = viewer.request_full_frame().await.unwrap();
    assert_eq!((frame.width(), frame.height()), (320, 240));
    assert_eq!(
        (frame.count_pixels(BLOCK_COLOUR), frame.pixel(319, 239)),
        (256, Some(initial_background_colour("one")))
    );
    assert_ne!(initial_background_colour("one"), initial_background_colour("two"));
    let before = frame.center_of_colour(BLOCK_COLOUR, 256);
    viewer.send_update_request(true).await.unwrap();
    viewer.apply_next_update().await.unwrap();
    assert_ne!(viewer.frame().center_of_colour(BLOCK_COLOUR, 256), before);
    assert_eq!(desktop.accepted_connection_count(), 1);
}

#[tokio::test]
async fn key_presses_and_clicks_change_the_picture() {
    let dir = tempfile::tempdir().unwrap();
    let (_desktop, socket) = desktop(&dir, "one");
    let mut viewer = view(&socket).await.unwrap();
    viewer.type_text("a").await.unwrap();
    viewer.click(200, 100).await.unwrap();
    let changed = async {
        loop {
            let frame = viewer.request_full_frame().await.unwrap();
            if frame.pixel(319, 239) == Some(background_colour_after_key(u32::from('a')))
                && frame.pixel(205, 105) == Some(SPOT_COLOUR)
            {
                return;
            }
        }
    };
    timeout(WAIT_MAX, changed).await.expect("the picture changes");
}

#[tokio::test]
async fn desktop_closes_and_reopens_on_request() {
    let dir = tempfile::tempdir().unwrap();
    let (desktop, socket) = desktop(&dir, "one");
    let mut viewer = view(&socket).await.unwrap();
    desktop.set_behaviour(ServerBehaviour::Closed);
    let disconnected = async { while viewer.request_full_frame().await.is_ok() {} };
    timeout(WAIT_MAX, disconnected).await.expect("the open connection ends");
    assert!(view(&socket).await.is_err());
    desktop.set_behaviour(ServerBehaviour::Normal);
    view(&socket).await.unwrap().request_full_frame().await.unwrap();
}

#[tokio::test]
async fn silent_desktop_sends_no_greeting() {
    let dir = tempfile::tempdir().unwrap();
    let (desktop, socket) = desktop(&dir, "one");
    desktop.set_behaviour(ServerBehaviour::Silent);
    let late = RfbClient::connect(UnixStream::connect(&socket).await.unwrap(), 200).await;
    assert!(matches!(late, Err(RfbError::Timeout { limit_ms: 200, .. })));
}

#[tokio::test]
async fn flooding_desktop_sends_unrequested_updates() {
    let dir = tempfile::tempdir().unwrap();
    let (desktop, socket) = desktop(&dir, "one");
    let mut viewer = view(&socket).await.unwrap();
    desktop.set_behaviour(ServerBehaviour::Flood);
    for _ in 0..20 {
        assert_eq!(viewer.apply_next_update().await.unwrap().pixel_count, 320 * 240);
    }
}

#[tokio::test]
async fn another_process_can_set_desktop_behaviour() {
    let dir = tempfile::tempdir().unwrap();
    let (desktop, socket) = desktop(&dir, "one");
    let mut viewer = view(&socket).await.unwrap();
    write_behaviour(&socket, ServerBehaviour::Closed).unwrap();
    let disconnected = async { while viewer.request_full_frame().await.is_ok() {} };
    tokio::select! {
        () = desktop.follow_behaviour_file() => unreachable!("it never returns"),
        ended = timeout(WAIT_MAX, disconnected) => ended.expect("the behaviour is applied"),
    }
}

#[tokio::test]
async fn dropped_desktop_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (desktop, socket) = desktop(&dir, "one");
    let mut viewer = view(&socket).await.unwrap();
    drop(desktop);
    let disconnected = async { while viewer.request_full_frame().await.is_ok() {} };
    timeout(WAIT_MAX, disconnected).await.expect("its connections end");
    assert!(!socket.exists());
}
