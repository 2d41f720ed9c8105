//! View-only viewers.

use crate::{start_idle_session, viewers::wait_close};
use anteroom_rfb::client::{RfbClient, ViewerSocket};
use anteroom_testbed::{
    WAIT_MAX,
    fake_rfb_server::{SPOT_COLOUR, initial_background_colour},
};
use anteroom_wire::{TimelineKind, api::SessionStatus};
use serde_json::json;
use std::time::Duration;
use tokio::{
    io::AsyncWriteExt,
    time::{Instant, sleep},
};

/// The background colour, and the colour at the clicked position.
async fn read_colours(viewer: &mut RfbClient<ViewerSocket>) -> [Option<anteroom_rfb::client::Rgb>; 2] {
    let frame = viewer.request_full_frame().await.unwrap();
    [frame.pixel(639, 479), frame.pixel(305, 205)]
}

#[tokio::test]
async fn view_only_input_does_not_reach_the_desktop() {
    let (_flags, server, api, id) = start_idle_session("").await;
    let mut watcher = api.connect_view_only_desktop(&id).await.unwrap();
    let before = read_colours(&mut watcher).await;
    assert_eq!(before[0], Some(initial_background_colour(watcher.desktop_name())));
    watcher.click(300, 200).await.unwrap();
    watcher.press_key(u32::from('a')).await.unwrap();
    // The desktop answers in order: input sent before this request would be visible.
    for _ in 0..3 {
        assert_eq!(read_colours(&mut watcher).await, before, "no input arrived");
    }
    // The same input of a viewer with control takes effect.
    let mut active_viewer = api.connect_desktop(&id).await.unwrap();
    active_viewer.click(300, 200).await.unwrap();
    active_viewer.press_key(u32::from('a')).await.unwrap();
    let until = Instant::now() + WAIT_MAX;
    loop {
        let now = read_colours(&mut active_viewer).await;
        if now[0] != before[0] && now[1] == Some(SPOT_COLOUR) {
            break;
        }
        assert!(Instant::now() < until, "the input has no effect: {now:?}");
    }
    assert_eq!(read_colours(&mut watcher).await, before);
    let joined =
        api.get_timeline(&id).await.unwrap().into_iter().filter(|entry| entry.kind == TimelineKind::ViewerJoined);
    let view_only: Vec<_> = joined.map(|entry| entry.data["view_only"].as_bool()).collect();
    assert_eq!(view_only, [Some(true), Some(false)]);
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn view_only_viewer_sending_an_unknown_message_is_closed_as_malformed() {
    let (_flags, server, api, id) = start_idle_session("").await;
    let mut watcher = api.connect_view_only_desktop(&id).await.unwrap();
    watcher.request_full_frame().await.unwrap();
    let mut socket = watcher.into_inner();
    socket.write_all(&[99, 1, 2, 3]).await.unwrap();
    socket.flush().await.unwrap();
    let (code, reason) = wait_close(&mut socket).await;
    assert_eq!((code, reason.split(':').next()), (4400, Some("malformed")));
    let left = api.wait_entry(&id, TimelineKind::ViewerDisconnected).await.unwrap();
    assert_eq!(left.data["detail"], "a view-only viewer sent message type 99");
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn view_only_viewer_counts_as_a_viewer_and_its_ticket_opens_only_its_own_socket() {
    let (_flags, server, api, id) = start_idle_session("[limits.sessions]\nviewers_max = 1\n").await;
    let path = format!("/api/auth/session/{id}/ticket");
    let terminal = api.post(&path, json!({ "purpose": "terminal", "view_only": true })).await.unwrap();
    assert_eq!((terminal.status, terminal.problem().unwrap().code.as_str()), (400, "malformed"));
    let ticket: anteroom_wire::api::Ticket =
        api.post(&path, json!({ "purpose": "desktop", "view_only": true })).await.unwrap().parse().unwrap();
    let stripped = ticket.ticket.trim_start_matches("view_");
    assert_ne!(stripped, ticket.ticket);
    let socket = format!("/api/auth/session/{id}/novnc/websock");
    let (code, _) =
        wait_close(&mut api.open_websocket(&socket, &format!("binary, ticket.{stripped}"), true).await.unwrap()).await;
    assert_eq!(code, 4401, "a view-only ticket cannot be turned into an interactive one");
    let watcher = api.connect_view_only_desktop(&id).await.unwrap();
    assert_eq!(api.get_session(&id).await.unwrap().viewers, 1);
    assert_eq!(wait_close(&mut api.open_view_only_socket(&id).await.unwrap()).await.0, 4429);
    drop(watcher);
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn view_only_viewing_does_not_prevent_idle_expiry() {
    let (_flags, server, api, id) =
        start_idle_session("[sessions]\nidle_s_max = 4\n[limits.sessions]\nreconcile_every_ms = 50\n").await;
    let mut watcher = api.connect_view_only_desktop(&id).await.unwrap();
    let until = Instant::now() + WAIT_MAX;
    // Each picture is requested: the requests of an interactive viewer would keep the session alive.
    while watcher.request_full_frame().await.is_ok() {
        assert!(Instant::now() < until, "the session does not expire");
        sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(api.wait_status(&id, SessionStatus::Expired).await.unwrap().reason.unwrap().code, "idle_expired");
    let (code, reason) = wait_close(&mut watcher.into_inner()).await;
    assert_eq!((code, reason.split(':').next()), (4410, Some("idle_expired")));
    server.stop_and_check_leaks().await.unwrap();
}
