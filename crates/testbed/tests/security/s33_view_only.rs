//! View-only as a role, and the filter that follows what the desktop offers.

use crate::{
    fixture::start_idle_session,
    s26_kinds_of_callers::{open_store, store_caller, viewer_cookies},
};
use anteroom_rfb::client::{RfbClient, ViewerSocket};
use anteroom_store::{CallerKind, Role};
use anteroom_testbed::{WAIT_MAX, fake_rfb_server::initial_background_colour};
use anteroom_wire::api::Ticket;
use reqwest::Client;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

const ANSWER_MS_MAX: u64 = 60_000;

#[tokio::test]
async fn s33_helper_sees_the_desktop_and_cannot_act_whatever_it_asks_for() {
    let (_flags, server, api, id) = start_idle_session("").await;
    let store = open_store(&server).await;
    let helper =
        store_caller(&store, 1, |new| (new.kind, new.role) = (CallerKind::ViewerCookie, Role::Helper(id.clone())))
            .await;
    let address = server.address().unwrap();
    let (client, cookie) = (Client::builder().no_proxy().build().unwrap(), viewer_cookies(&id, &helper.secret));
    let call = async |path: &str, body: Value| {
        let url = format!("http://{address}/api/auth/session/{id}{path}");
        let request = client.post(url).header("cookie", &cookie).header("x-anteroom", "5a".repeat(32));
        request.header("content-type", "application/json").body(body.to_string()).send().await.unwrap()
    };
    for (path, body) in [
        ("/ticket", json!({ "purpose": "terminal" })),
        ("/paste", json!({ "text": "x" })),
        ("/type", json!({ "text": "x" })),
        ("/open-url", json!({ "url": "https://a.example/" })),
        ("/heartbeat", json!({})),
        ("/restart", json!({})),
        ("/cancel", json!({})),
    ] {
        assert_eq!(call(path, body).await.status(), 403, "{path}");
    }
    // It asks for a desktop with input.
    let answer = call("/ticket", json!({ "purpose": "desktop", "view_only": false })).await;
    let ticket: Ticket = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
    let protocols = format!("binary, ticket.{}", ticket.ticket);
    let url = format!("ws://{address}/api/auth/session/{id}/novnc/websock");
    let bearer = format!("Bearer {}", server.operator_token().expose());
    let headers = [("Sec-WebSocket-Protocol", protocols.as_str()), ("Authorization", bearer.as_str())];
    let socket = ViewerSocket::connect(&url, &headers, ANSWER_MS_MAX).await.unwrap();
    let mut viewer = RfbClient::connect(socket, ANSWER_MS_MAX).await.unwrap();
    let before = initial_background_colour(viewer.desktop_name());
    viewer.click(300, 200).await.unwrap();
    viewer.press_key(u32::from('a')).await.unwrap();
    // The desktop answers in order: input sent before these requests would be visible.
    for _ in 0..3 {
        let frame = viewer.request_full_frame().await.unwrap();
        assert_eq!([frame.pixel(639, 479), frame.pixel(305, 205)], [Some(before); 2], "no input arrived");
    }
    assert!(!api.get_session(&id).await.unwrap().status.is_ended());
    drop(viewer);
    store.close().await;
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn s33_view_only_viewer_cannot_select_a_security_type_that_the_desktop_does_not_offer() {
    let (_flags, server, api, id) = start_idle_session("").await;
    let request = json!({ "purpose": "desktop", "view_only": true });
    let ticket: Ticket = api.post(&format!("/api/auth/session/{id}/ticket"), request).await.unwrap().parse().unwrap();
    let protocols = format!("binary, ticket.{}", ticket.ticket);
    let path = format!("/api/auth/session/{id}/novnc/websock");
    let mut socket = api.open_websocket(&path, &protocols, true).await.unwrap();
    let mut version = [0; 12];
    socket.read_exact(&mut version).await.unwrap();
    socket.write_all(b"RFB 003.008\n").await.unwrap();
    socket.flush().await.unwrap();
    let mut offer = [0; 2];
    socket.read_exact(&mut offer).await.unwrap();
    assert_eq!(offer, [1, 1], "the desktop offers only the type None");
    // As the filter of the type VNC authentication reads it: a response to a challenge. As the desktop reads it: keys.
    let keys = [&[2][..], &[4; 16], &[1]].concat();
    socket.write_all(&keys).await.unwrap();
    socket.flush().await.unwrap();
    let mut rest = Vec::new();
    timeout(WAIT_MAX, socket.read_to_end(&mut rest)).await.expect("closed within the limit").ok();
    assert_eq!(socket.close_reason().expect("closed with a code").code, 4400);
    server.stop_and_check_leaks().await.unwrap();
}
