//! Viewers: desktop and terminal sockets, tickets and limits.

use crate::{Flags, start_idle, start_idle_session, start_session_with};
use anteroom_rfb::client::{RfbClient, ViewerConnectError, ViewerSocket};
use anteroom_testbed::{
    Script, ScriptedProvider, Step, TestConfig, WAIT_MAX,
    fake_rfb_server::{SPOT_COLOUR, ServerBehaviour, initial_background_colour},
};
use anteroom_wire::{TimelineKind, api::SessionStatus};
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

/// Reads until the server closes; returns the close code and the reason.
pub(crate) async fn wait_close(socket: &mut ViewerSocket) -> (u16, String) {
    let mut rest = Vec::new();
    timeout(WAIT_MAX, socket.read_to_end(&mut rest)).await.expect("closed within the limit").ok();
    let closing = socket.close_reason().expect("closed with a code").clone();
    (closing.code, closing.reason)
}

#[tokio::test]
async fn each_viewer_sees_and_controls_the_machine_of_its_session() {
    let (_flags, server) = start_idle("").await;
    let api = server.backend_client().unwrap();
    let mut grounds = Vec::new();
    for _ in 0..2 {
        // Immediately: the socket waits until the machine is ready.
        let id = api.start_session("scripted").await.unwrap().session.id;
        let mut viewer = api.connect_desktop(&id).await.unwrap();
        let ground = viewer.request_full_frame().await.unwrap().pixel(639, 479).unwrap();
        assert_eq!(ground, initial_background_colour(viewer.desktop_name()));
        viewer.click(300, 200).await.unwrap();
        while viewer.request_full_frame().await.unwrap().pixel(305, 205) != Some(SPOT_COLOUR) {}
        grounds.push((viewer.desktop_name().to_owned(), ground));
    }
    assert_ne!(grounds[0], grounds[1]);
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn ticket_opens_one_socket_of_one_session_once() {
    let (_flags, server) = start_idle("").await;
    let api = server.backend_client().unwrap();
    let [one, two] = [
        api.start_session("scripted").await.unwrap().session.id,
        api.start_session("scripted").await.unwrap().session.id,
    ];
    let path = |id| format!("/api/auth/session/{id}/novnc/websock");
    let ticket = api.create_ticket(&one, "desktop").await.unwrap().ticket;
    let offered = format!("binary, ticket.{ticket}");
    let rejected_status = |dialled: Result<ViewerSocket, ViewerConnectError>| match dialled {
        Err(ViewerConnectError::Rejected { status, .. }) => status,
        other => panic!("{other:?}"),
    };
    assert_eq!(rejected_status(api.open_websocket(&path(&two), &offered, false).await), 401, "another session's");
    let ticket = api.create_ticket(&one, "desktop").await.unwrap().ticket;
    let offered = format!("binary, ticket.{ticket}");
    let socket = api.open_websocket(&path(&one), &offered, false).await.unwrap();
    RfbClient::connect(socket, 60_000).await.unwrap();
    assert_eq!(rejected_status(api.open_websocket(&path(&one), &offered, false).await), 401, "a second time");
    let (code, reason) = wait_close(&mut api.open_websocket(&path(&one), &offered, true).await.unwrap()).await;
    assert_eq!(code, 4401, "a browser gets the reason in the close frame: {reason}");
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn view_only_viewers_over_the_limit_are_rejected() {
    let (_flags, server, api, id) = start_idle_session("[limits.sessions]\nviewers_max = 1\n").await;
    let first = api.connect_desktop(&id).await.unwrap();
    assert_eq!(wait_close(&mut api.open_view_only_socket(&id).await.unwrap()).await.0, 4429);
    drop(first);
    api.wait_until(&id, "without a viewer", |view| view.viewers == 0).await.unwrap();
    api.connect_desktop(&id).await.unwrap();
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn viewer_socket_waits_fifteen_seconds_for_the_desktop() {
    let (_flags, server, api, id) = start_idle_session("").await;
    api.wait_status(&id, SessionStatus::VmStarted).await.unwrap();
    let machine = server.list_machines().remove(0);
    server.set_desktop_behaviour(&machine, ServerBehaviour::Closed).await.unwrap();
    let mut viewer = api.open_desktop_socket(&id).await.unwrap();
    let opening = async {
        // Nearly as long as `socket_wait_ms_max` allows.
        tokio::time::sleep(Duration::from_secs(15)).await;
        server.set_desktop_behaviour(&machine, ServerBehaviour::Normal).await.unwrap();
    };
    let greeting = async {
        viewer.write_all(b"RFB 003.008\n").await.unwrap();
        viewer.flush().await.unwrap();
        let mut greeting = [0; 12];
        viewer.read_exact(&mut greeting).await.map(|_| greeting).map_err(|_| viewer.close_reason().cloned())
    };
    let (greeting, ()) = timeout(WAIT_MAX, async { tokio::join!(greeting, opening) }).await.unwrap();
    assert_eq!(greeting, Ok(*b"RFB 003.008\n"));
    // The desktop received the version that was sent while it was closed: it offers its security types at once.
    let mut types = [0; 2];
    timeout(WAIT_MAX, viewer.read_exact(&mut types)).await.unwrap().unwrap();
    assert_eq!(types, [1, 1]);
    let entries = api.get_timeline(&id).await.unwrap();
    assert!(entries.iter().all(|entry| entry.kind != TimelineKind::ViewerRejected), "{entries:#?}");
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn terminal_shows_tool_output_and_accepts_resizes() {
    let (_flags, server, api, id) = start_idle_session("").await;
    let mut terminal = api.open_terminal_socket(&id).await.unwrap();
    terminal.send_text("{\"type\":\"resize\",\"cols\":100,\"rows\":30}").await.unwrap();
    let mut seen = Vec::new();
    let shown = async {
        while !String::from_utf8_lossy(&seen).contains("Nothing to do") {
            terminal.read_buf(&mut seen).await.unwrap();
        }
    };
    timeout(WAIT_MAX, shown).await.expect("the output of the tool");
    terminal.send_text("{\"type\":\"dance\"}").await.unwrap();
    assert_eq!(wait_close(&mut terminal).await.0, 4400);
    server.stop_and_check_leaks().await.unwrap();
}

/// Reads until the terminal has printed all of these texts.
async fn wait_terminal_texts(terminal: &mut ViewerSocket, texts: &[&str]) {
    let mut seen = Vec::new();
    let shown = async {
        while !texts.iter().all(|text| String::from_utf8_lossy(&seen).contains(text)) {
            terminal.read_buf(&mut seen).await.unwrap();
        }
    };
    timeout(WAIT_MAX, shown).await.unwrap_or_else(|_| panic!("{texts:?} in {}", String::from_utf8_lossy(&seen)));
}

#[tokio::test]
async fn narrower_terminal_that_is_opened_late_shows_all_lines_from_the_top() {
    let address = format!("https://first.example/{}/last", "client_id=0123456789&".repeat(18));
    let script = Script::new([Step::print_line(&address), Step::print_line("Press Enter"), Step::ReadLine]);
    let provider = ScriptedProvider::new("scripted", script);
    let (server, api, id) = start_session_with(TestConfig::with_provider(provider)).await;
    let mut wide = api.open_sized_terminal_socket(&id, 160, 45).await.unwrap();
    wait_terminal_texts(&mut wide, &["Press Enter"]).await;
    let mut narrow = api.open_sized_terminal_socket(&id, 60, 20).await.unwrap();
    wait_terminal_texts(&mut narrow, &["https://first.example/", "/last", "Press Enter"]).await;
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn stalled_viewer_blocks_neither_other_viewers_nor_the_sign_in() {
    let flags = Flags::new();
    let (server, api, id) = start_session_with(TestConfig::with_provider(flags.provider("{\"token\": \"x\"}"))).await;
    let mut stuck = api.connect_desktop(&id).await.unwrap();
    let mut viewer = api.connect_desktop(&id).await.unwrap();
    stuck.request_full_frame().await.unwrap();
    viewer.request_full_frame().await.unwrap();
    server.set_desktop_behaviour(&server.list_machines().remove(0), ServerBehaviour::Flood).await.unwrap();
    for _ in 0..40 {
        viewer.apply_next_update().await.unwrap();
    }
    flags.set("go");
    api.wait_status(&id, SessionStatus::Completed).await.unwrap();
    drop(stuck);
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn soak_idle_viewer_with_heartbeats_stays_connected_for_fifteen_minutes() {
    if std::env::var("ANTEROOM_TEST_FULL").is_ok_and(|full| !full.is_empty()) {
        soak(Duration::from_secs(15 * 60)).await;
    } else {
        println!("skipped: it takes fifteen minutes; run with ANTEROOM_TEST_FULL=1 (./test --full)");
    }
}

/// A viewer that only reads; the heartbeat of the page alone keeps the session alive.
async fn soak(how_long: Duration) {
    let (_flags, server, api, id) = start_idle_session("[sessions]\nidle_s_max = 60\n").await;
    let mut viewer = api.connect_desktop(&id).await.unwrap();
    viewer.request_full_frame().await.unwrap();
    let name = viewer.desktop_name().to_owned();
    let mut socket = viewer.into_inner();
    let beat = async {
        loop {
            let beat = api.post(&format!("/api/auth/session/{id}/heartbeat"), serde_json::json!({})).await.unwrap();
            assert_eq!(beat.status, 200, "{}", beat.text);
            tokio::time::sleep(Duration::from_secs(20)).await;
        }
    };
    // No update was requested, so none arrives; reading answers the pings.
    let reading = async { timeout(how_long, socket.read_u8()).await };
    let read = tokio::select! {
        read = reading => read,
        () = beat => unreachable!("the heartbeat loop is endless"),
    };
    assert!(read.is_err(), "no data and no close: {read:?} {:?}", socket.close_reason());
    let update_request = [3, 0, 0, 0, 0, 0, 0, 16, 0, 16];
    socket.write_all(&update_request).await.unwrap();
    socket.flush().await.unwrap();
    assert_eq!(timeout(WAIT_MAX, socket.read_u8()).await.unwrap().unwrap(), 0, "a picture, on the same socket");
    let second = api.connect_desktop(&id).await.unwrap();
    assert_eq!(second.desktop_name(), name, "the same machine");
    assert_eq!(api.get_session(&id).await.unwrap().generation, 1);
    server.stop_and_check_leaks().await.unwrap();
}
