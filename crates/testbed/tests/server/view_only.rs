//! Viewers that only look.

use crate::{Scene, viewers::closing};
use anteroom_controller::rfb::{RfbClient, ViewerSocket};
use anteroom_testbed::{
    TestConfig, WAIT_MAX, TestServer,
    fake_rfb_server::{SPOT_COLOUR, background_of},
};
use anteroom_wire::{SessionId, api::Status};
use serde_json::json;
use std::time::Duration;
use tokio::{
    io::AsyncWriteExt,
    time::{Instant, sleep},
};

async fn idle_world(settings: &str) -> (Scene, TestServer, SessionId) {
    let scene = Scene::new();
    let world = TestServer::start(TestConfig::with_tool(scene.idle_tool()).with_settings(settings)).await.unwrap();
    let id = world.backend().unwrap().start("scripted").await.unwrap().session.id;
    (scene, world, id)
}

/// The ground's colour, and the colour at the place that is clicked.
async fn look(viewer: &mut RfbClient<ViewerSocket>) -> [Option<anteroom_controller::rfb::Rgb>; 2] {
    let frame = viewer.whole_frame().await.unwrap();
    [frame.at(639, 479), frame.at(305, 205)]
}

#[tokio::test]
async fn view_only_input_does_not_reach_the_desktop() {
    let (_scene, world, id) = idle_world("").await;
    let api = world.backend().unwrap();
    let mut watcher = api.desktop_view_only(&id).await.unwrap();
    let before = look(&mut watcher).await;
    assert_eq!(before[0], Some(background_of(watcher.name())));
    watcher.click(300, 200).await.unwrap();
    watcher.key(u32::from('a')).await.unwrap();
    // The desktop answers in the order of the stream: what was sent before this request would have been seen.
    for _ in 0..3 {
        assert_eq!(look(&mut watcher).await, before, "nothing was typed or clicked");
    }
    // The same words of somebody who takes part are obeyed.
    let mut person = api.desktop(&id).await.unwrap();
    person.click(300, 200).await.unwrap();
    person.key(u32::from('a')).await.unwrap();
    let until = Instant::now() + WAIT_MAX;
    loop {
        let now = look(&mut person).await;
        if now[0] != before[0] && now[1] == Some(SPOT_COLOUR) {
            break;
        }
        assert!(Instant::now() < until, "the person's desktop does not obey: {now:?}");
    }
    assert_eq!(look(&mut watcher).await, before);
    let joined = api.timeline(&id).await.unwrap().into_iter().filter(|entry| entry.kind == "viewer_joined");
    let view_only: Vec<_> = joined.map(|entry| entry.data["view_only"].as_bool()).collect();
    assert_eq!(view_only, [Some(true), Some(false)]);
    world.finish().await.unwrap();
}

#[tokio::test]
async fn view_only_viewer_sending_an_unknown_message_is_closed_as_malformed() {
    let (_scene, world, id) = idle_world("").await;
    let api = world.backend().unwrap();
    let mut watcher = api.desktop_view_only(&id).await.unwrap();
    watcher.whole_frame().await.unwrap();
    let mut socket = watcher.into_inner();
    socket.write_all(&[99, 1, 2, 3]).await.unwrap();
    socket.flush().await.unwrap();
    let (code, reason) = closing(&mut socket).await;
    assert_eq!((code, reason.split(':').next()), (4400, Some("malformed")));
    let left = api.wait_entry(&id, "viewer_left").await.unwrap();
    assert_eq!(left.data["detail"], "a view-only viewer sent message type 99");
    world.finish().await.unwrap();
}

#[tokio::test]
async fn view_only_viewer_counts_as_a_viewer_and_its_ticket_opens_only_its_own_socket() {
    let (_scene, world, id) = idle_world("[sessions]\nviewers_max = 1\n").await;
    let api = world.backend().unwrap();
    let path = format!("/api/auth/session/{id}/ticket");
    let terminal = api.post(&path, json!({ "purpose": "terminal", "view_only": true })).await.unwrap();
    assert_eq!((terminal.status, terminal.problem().unwrap().code.as_str()), (400, "malformed"));
    let ticket: anteroom_wire::api::Ticket =
        api.post(&path, json!({ "purpose": "desktop", "view_only": true })).await.unwrap().read().unwrap();
    let acting = ticket.ticket.trim_start_matches("view_");
    assert_ne!(acting, ticket.ticket);
    let socket = format!("/api/auth/session/{id}/novnc/websock");
    let (code, _) = closing(&mut api.open_websocket(&socket, &format!("binary, ticket.{acting}"), true).await.unwrap()).await;
    assert_eq!(code, 4401, "a view-only ticket cannot be made one that acts");
    let watcher = api.desktop_view_only(&id).await.unwrap();
    assert_eq!(api.session(&id).await.unwrap().viewers, 1);
    assert_eq!(closing(&mut api.desktop_socket(&id).await.unwrap()).await.0, 4429);
    drop(watcher);
    world.finish().await.unwrap();
}

#[tokio::test]
async fn view_only_viewing_does_not_prevent_idle_expiry() {
    let (_scene, world, id) = idle_world("[sessions]\nidle_s_max = 4\nsweep_every_ms = 50\n").await;
    let api = world.backend().unwrap();
    let mut watcher = api.desktop_view_only(&id).await.unwrap();
    let until = Instant::now() + WAIT_MAX;
    // Every picture is asked for: somebody who takes part would keep the session alive with that.
    while watcher.whole_frame().await.is_ok() {
        assert!(Instant::now() < until, "the session does not expire");
        sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(api.wait_status(&id, Status::Expired).await.unwrap().reason.unwrap().code, "idle_expired");
    let (code, reason) = closing(&mut watcher.into_inner()).await;
    assert_eq!((code, reason.split(':').next()), (4410, Some("idle_expired")));
    world.finish().await.unwrap();
}
