//! The fake desktop through a real client.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use anteroom_controller::rfb::{RfbClient, RfbError};
use anteroom_testbed::fake_rfb_server::{
    BLOCK_COLOUR, Behaviour, FakeRfbServer, SPOT_COLOUR, background_after_key, background_of, write_behaviour,
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
async fn a_desktop_shows_its_name_its_ground_and_something_that_moves() {
    let dir = tempfile::tempdir().unwrap();
    let (desktop, socket) = desktop(&dir, "one");
    let mut viewer = view(&socket).await.unwrap();
    assert_eq!(viewer.name(), "one");
    let frame = viewer.whole_frame().await.unwrap();
    assert_eq!((frame.width(), frame.height()), (320, 240));
    assert_eq!((frame.count(BLOCK_COLOUR), frame.at(319, 239)), (256, Some(background_of("one"))));
    assert_ne!(background_of("one"), background_of("two"));
    let before = frame.middle_of(BLOCK_COLOUR, 256);
    viewer.request(true).await.unwrap();
    viewer.update().await.unwrap();
    assert_ne!(viewer.frame().middle_of(BLOCK_COLOUR, 256), before);
    assert_eq!(desktop.accepted(), 1);
}

#[tokio::test]
async fn what_is_typed_and_clicked_can_be_seen() {
    let dir = tempfile::tempdir().unwrap();
    let (_desktop, socket) = desktop(&dir, "one");
    let mut viewer = view(&socket).await.unwrap();
    viewer.type_text("a").await.unwrap();
    viewer.click(200, 100).await.unwrap();
    let seen = async {
        loop {
            let frame = viewer.whole_frame().await.unwrap();
            if frame.at(319, 239) == Some(background_after_key(u32::from('a')))
                && frame.at(205, 105) == Some(SPOT_COLOUR)
            {
                return;
            }
        }
    };
    timeout(WAIT_MAX, seen).await.expect("the picture changes");
}

#[tokio::test]
async fn a_desktop_closes_and_opens_again_when_told() {
    let dir = tempfile::tempdir().unwrap();
    let (desktop, socket) = desktop(&dir, "one");
    let mut viewer = view(&socket).await.unwrap();
    desktop.set_behaviour(Behaviour::Closed);
    let broken = async { while viewer.whole_frame().await.is_ok() {} };
    timeout(WAIT_MAX, broken).await.expect("the open connection ends");
    assert!(view(&socket).await.is_err());
    desktop.set_behaviour(Behaviour::Normal);
    view(&socket).await.unwrap().whole_frame().await.unwrap();
}

#[tokio::test]
async fn a_silent_desktop_does_not_even_greet() {
    let dir = tempfile::tempdir().unwrap();
    let (desktop, socket) = desktop(&dir, "one");
    desktop.set_behaviour(Behaviour::Silent);
    let late = RfbClient::connect(UnixStream::connect(&socket).await.unwrap(), 200).await;
    assert!(matches!(late, Err(RfbError::Late { limit_ms: 200, .. })));
}

#[tokio::test]
async fn a_flooding_desktop_sends_what_nobody_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let (desktop, socket) = desktop(&dir, "one");
    let mut viewer = view(&socket).await.unwrap();
    desktop.set_behaviour(Behaviour::Flood);
    for _ in 0..20 {
        assert_eq!(viewer.update().await.unwrap().pixels, 320 * 240);
    }
}

#[tokio::test]
async fn another_process_can_tell_a_desktop_how_to_behave() {
    let dir = tempfile::tempdir().unwrap();
    let (desktop, socket) = desktop(&dir, "one");
    let mut viewer = view(&socket).await.unwrap();
    write_behaviour(&socket, Behaviour::Closed).unwrap();
    let broken = async { while viewer.whole_frame().await.is_ok() {} };
    tokio::select! {
        () = desktop.follow_behaviour_file() => unreachable!("it obeys for ever"),
        ended = timeout(WAIT_MAX, broken) => ended.expect("the order is heard"),
    }
}

#[tokio::test]
async fn nothing_is_left_of_a_desktop_that_is_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let (desktop, socket) = desktop(&dir, "one");
    let mut viewer = view(&socket).await.unwrap();
    drop(desktop);
    let broken = async { while viewer.whole_frame().await.is_ok() {} };
    timeout(WAIT_MAX, broken).await.expect("its connections end");
    assert!(!socket.exists());
}
