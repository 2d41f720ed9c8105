//! Viewers that hold all places at a session's desktop.

use crate::{
    browser_client::Browser,
    helper_access::{admit, open_desktop},
    helper_invitations::{post, start},
};
use anteroom_rfb::client::ViewerSocket;
use anteroom_testbed::{TestServer, WAIT_MAX};
use serde_json::json;
use tokio::{io::AsyncReadExt, time::timeout};

/// Desktop viewers of one session (docs/limits.md).
const PLACES: usize = 4;

/// Opens the desktop's WebSocket as a page of this browser, and reads nothing from it.
async fn open_silent(server: &TestServer, browser: &Browser, session: &str) -> ViewerSocket {
    let (status, ticket) = post(browser, &format!("{session}/ticket"), json!({ "purpose": "desktop" })).await;
    assert_eq!(status, 200, "{ticket}");
    let offered = format!("binary, ticket.{}", ticket["ticket"].as_str().unwrap());
    let pages = server.anonymous_client().unwrap();
    pages.open_websocket(&format!("{session}/novnc/websock"), &offered, true).await.unwrap()
}

/// The code of the problem with which the server closes a viewer that lost or got no place.
async fn closed_with(socket: &mut ViewerSocket) -> String {
    timeout(WAIT_MAX, socket.read_to_end(&mut Vec::new())).await.expect("the socket is closed").ok();
    let closing = socket.close_reason().expect("closed with a code");
    assert_eq!(closing.code, 4429, "{}", closing.reason);
    closing.reason.split(':').next().unwrap().to_owned()
}

#[tokio::test]
async fn helpers_that_hold_all_places_do_not_keep_the_person_from_the_desktop() {
    let (_dir, server, started, person) = start().await;
    let api = server.backend_client().unwrap();
    let session = format!("/api/auth/session/{}", started.session.id);
    assert_eq!(post(&person, &format!("{session}/consent"), json!({})).await.0, 200);
    let helper = admit(&server, &person, &session, "Grace", "b").await;
    let mut silent = Vec::new();
    for _ in 0..PLACES {
        silent.push(open_silent(&server, &helper, &session).await);
    }
    let mut late = open_silent(&server, &helper, &session).await;
    assert_eq!(closed_with(&mut late).await, "too_many_viewers");
    let mut desktop = open_desktop(&server, &person, &session).await;
    desktop.request_full_frame().await.unwrap();
    assert_eq!(closed_with(&mut silent[0]).await, "viewer_replaced");
    assert_eq!(api.get_session(&started.session.id).await.unwrap().viewers as usize, PLACES);
    drop(silent);
    desktop.request_full_frame().await.unwrap();
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn newer_connection_of_a_person_replaces_the_oldest_own_one_and_no_helper() {
    let (_dir, server, started, person) = start().await;
    let session = format!("/api/auth/session/{}", started.session.id);
    assert_eq!(post(&person, &format!("{session}/consent"), json!({})).await.0, 200);
    let helper = admit(&server, &person, &session, "Grace", "b").await;
    let mut watched = open_desktop(&server, &helper, &session).await;
    let mut silent = Vec::new();
    for _ in 1..PLACES {
        silent.push(open_silent(&server, &person, &session).await);
    }
    for replaced in 0..silent.len() {
        let mut desktop = open_desktop(&server, &person, &session).await;
        desktop.request_full_frame().await.unwrap();
        assert_eq!(closed_with(&mut silent[replaced]).await, "viewer_replaced");
        silent.push(desktop.into_inner());
    }
    watched.request_full_frame().await.expect("the helper watches on");
    server.stop_and_check_leaks().await.unwrap();
}
