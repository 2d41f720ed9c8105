//! Viewers of an external desktop: they see it, and the session has the same states and limits as any other.

use crate::{
    Fixture, closing, connect_error,
    stand_ins::{RFB_3_8, StandIn, Web},
    start, verdict, vnc_server,
};
use anteroom_rfb::client::RfbClient;
use anteroom_testbed::{ApiClient, WAIT_MAX};
use anteroom_wire::{SessionId, TimelineKind, api::SessionStatus};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

/// Checks that a viewer receives a whole frame of the painted desktop.
pub(crate) async fn assert_sees_desktop(api: &ApiClient, id: &SessionId) {
    let mut viewer = api.connect_desktop(id).await.unwrap();
    assert!(viewer.desktop_name().contains("a desk outside"), "{}", viewer.desktop_name());
    let frame = timeout(WAIT_MAX, viewer.request_full_frame()).await.expect("a whole frame").unwrap();
    assert_eq!((frame.width(), frame.height()), (vnc_server::WIDTH, vnc_server::HEIGHT));
    for (x, y, colour) in [
        (5, 5, vnc_server::LEFT),
        (635, 5, vnc_server::RIGHT),
        (5, 395, vnc_server::LEFT),
        (635, 395, vnc_server::RIGHT),
        (320, 125, vnc_server::STRIPE),
    ] {
        assert_eq!(frame.pixel(x, y), Some(colour), "at {x},{y}");
    }
}

#[tokio::test]
async fn several_viewers_see_desktop_behind_websockify_but_not_its_address() {
    let (vnc, websockify) = vnc_server::start_behind_websockify().await;
    let fixture = Fixture::new();
    let server = fixture.start_server(&format!("ws://{}/", websockify.at), "").await;
    let api = server.backend_client().unwrap();
    let started = start(&api).await;
    let id = started.session.id;
    assert_eq!(started.session.machine.as_deref(), Some("desk"));
    assert_eq!(started.session.generations_max, 1, "an external machine is not replaced");
    let view = api.wait_status(&id, SessionStatus::VmStarted).await.unwrap();
    assert_eq!((view.stage, view.queue_position), (None, None));
    let (one, two) = tokio::join!(assert_sees_desktop(&api, &id), assert_sees_desktop(&api, &id));
    let ((), ()) = (one, two);
    api.wait_entry(&id, TimelineKind::DesktopConnected).await.unwrap();
    assert_eq!(verdict(&api, &id).await.0, "waiting_for_user");
    let timeline = api.get_timeline(&id).await.unwrap();
    let connected = timeline.iter().filter(|entry| entry.kind == TimelineKind::DesktopConnected).count();
    assert_eq!(connected, 1, "only a change is recorded: {timeline:#?}");
    for address in [websockify.at, vnc.at] {
        let port = format!(":{}", address.port());
        assert!(!api.recorded_responses().iter().any(|body| body.contains(&port)), "a response contains {port}");
    }
    let operator = verdict(&server.operator_client().unwrap(), &id).await.1;
    assert!(
        operator.contains(&format!("desk (ws://{}/)", websockify.at)),
        "the operator's diagnosis contains the address: {operator}"
    );
    server.stop_and_check_leaks().await.unwrap();
    websockify.end().await;
    vnc.end().await;
}

#[tokio::test]
async fn viewers_see_plain_vnc_server_again_after_its_restart() {
    let vnc = vnc_server::Vnc::start(&[]).await;
    let at = vnc.at;
    let fixture = Fixture::new();
    let server = fixture.start_server(&format!("vnc://{at}"), "").await;
    let api = server.backend_client().unwrap();
    let id = start(&api).await.session.id;
    assert_sees_desktop(&api, &id).await;

    let mut watching = api.open_desktop_socket(&id).await.unwrap();
    let mut greeting = [0; 12];
    watching.read_exact(&mut greeting).await.unwrap();
    vnc.end().await;
    let (code, reason) = closing(&mut watching).await;
    assert_eq!(code, 4502, "the viewer's connection is closed: {reason}");
    let (problem, data) = connect_error(&api, &id).await;
    assert_eq!(problem, "external_refused");
    let after_ms = data["after_ms"].as_u64().unwrap();
    println!("a stopped VNC server was reported after {after_ms} ms");
    assert!(after_ms < 1_000, "{data}");
    assert_eq!(verdict(&api, &id).await.0, "external_refused");

    let again = vnc_server::Vnc::start_at(at, &[]).await.expect("the port is free again");
    assert_sees_desktop(&api, &id).await;
    assert_eq!(verdict(&api, &id).await.0, "waiting_for_user");
    server.stop_and_check_leaks().await.unwrap();
    again.end().await;
}

#[tokio::test]
async fn missing_vnc_server_and_missing_websockify_have_different_errors() {
    let vnc = vnc_server::Vnc::start(&[]).await;
    let websockify = vnc_server::Websockify::start(vnc.at).await;
    let fixture = Fixture::new();
    let settings = "[limits.sessions]\nrejection_log_interval_ms = 100\n";
    let server = fixture.start_server(&format!("ws://{}/", websockify.at), settings).await;
    let api = server.backend_client().unwrap();
    let id = start(&api).await.session.id;
    assert_sees_desktop(&api, &id).await;
    vnc.end().await;
    assert_eq!(connect_error(&api, &id).await.0, "external_closed");
    websockify.end().await;
    let (code, reason) = closing(&mut api.open_desktop_socket(&id).await.unwrap()).await;
    assert_eq!(code, 4502);
    assert!(reason.starts_with("external_refused: "), "{reason}");
    assert_eq!(verdict(&api, &id).await.0, "external_refused", "the verdict is the newer cause");
    server.stop_and_check_leaks().await.unwrap();
}

/// The challenge of the VNC server and the answer to it pass, when this server does not know the password.
#[tokio::test]
async fn vnc_authentication_is_passed_through_to_the_viewer() {
    let fixture = Fixture::new();
    let vnc = vnc_server::Vnc::start(&vnc_server::with_password(&fixture)).await;
    let server = fixture.start_server(&format!("vnc://{}", vnc.at), "").await;
    let api = server.backend_client().unwrap();
    let id = start(&api).await.session.id;
    let socket = api.open_desktop_socket(&id).await.unwrap();
    let error = timeout(WAIT_MAX, RfbClient::connect(socket, 60_000)).await.unwrap().unwrap_err().to_string();
    assert!(error.contains("security types [2]"), "VncAuth is offered to the viewer: {error}");
    assert_eq!(verdict(&api, &id).await.0, "waiting_for_user");
    server.stop_and_check_leaks().await.unwrap();
    vnc.end().await;
}

#[tokio::test]
async fn viewer_that_does_not_speak_rfb_3_8_is_refused_with_a_sentence() {
    let desk = StandIn::start(Web::No, RFB_3_8).await;
    let server = Fixture::new().start_server(&format!("vnc://{}", desk.at), "").await;
    let api = server.backend_client().unwrap();
    let id = start(&api).await.session.id;
    for answer in [&b"RFB 003.003\n"[..], b"RFB 003.008\n\x02"] {
        let mut socket = api.open_desktop_socket(&id).await.unwrap();
        socket.write_all(answer).await.unwrap();
        socket.flush().await.unwrap();
        let (code, reason) = closing(&mut socket).await;
        assert_eq!(code, 4400);
        assert!(reason.starts_with("viewer_handshake: The viewer must use RFB 3.8"), "{reason}");
    }
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn external_sessions_expire_like_others() {
    let vnc = vnc_server::Vnc::start(&[]).await;
    let fixture = Fixture::new();
    let server = fixture.start_server(&format!("vnc://{}", vnc.at), "[sessions]\nidle_s_max = 3\n").await;
    let api = server.backend_client().unwrap();
    let id = start(&api).await.session.id;
    let mut watching = api.open_desktop_socket(&id).await.unwrap();
    let (code, reason) = closing(&mut watching).await;
    assert_eq!(code, 4410, "{reason}");
    let view = api.wait_status(&id, SessionStatus::Expired).await.unwrap();
    assert_eq!(view.reason.unwrap().code, "idle_expired");
    assert_eq!(verdict(&api, &id).await.0, "idle_expired");
    let next = start(&api).await.session.id;
    assert_sees_desktop(&api, &next).await;
    server.stop_and_check_leaks().await.unwrap();
    vnc.end().await;
}
