//! Viewers of a session whose machine has exited. In an earlier system the WebSocket of such a viewer connected to the address of a
//! stopped machine, timed out and was closed with 1006, without a cause.
//!
//! Here the close frame contains code and cause immediately, API clients get the same cause as an error, `anteroom diagnose` explains
//! the chain of events, and a replaced machine is visible at the same URL.

use crate::{idle_provider, start_ready, wait_close};
use anteroom_testbed::{ApiClient, DurationStats, TestConfig, TestServer, measure_recovery, processes};
use anteroom_wire::{SessionId, TimelineKind, api::SessionStatus};
use std::time::Instant;

const TRIES: usize = 20;
const CLOSED_MS_MAX: u128 = 100;

/// A server with one session whose desktop a viewer has seen.
async fn start_viewed_session(settings: &str) -> (TestServer, ApiClient, SessionId) {
    let server = TestServer::start(TestConfig::with_provider(idle_provider()).with_settings(settings)).await.unwrap();
    let api = server.backend_client().unwrap();
    let id = start_ready(&api).await;
    api.connect_desktop(&id).await.unwrap().request_full_frame().await.unwrap();
    (server, api, id)
}

fn kill_machine(server: &TestServer) {
    processes::kill_process(processes::find_machine_pid(&server.state_dir(), &server.list_machines()[0]).unwrap())
        .unwrap();
}

#[tokio::test]
async fn viewer_of_a_session_without_a_machine_is_closed_with_the_cause_within_100_ms() {
    let (server, api, id) = start_viewed_session("[sessions]\nrestarts_max = 0\n").await;
    // The tickets are created while the session is active.
    let mut tickets = Vec::new();
    for _ in 0..TRIES {
        tickets.push(api.create_ticket(&id, "desktop").await.unwrap().ticket);
    }
    let machine = measure_recovery::current_machine(&api, &id).await.unwrap();
    kill_machine(&server);
    api.wait_status(&id, SessionStatus::Failed).await.unwrap();
    let path = format!("/api/auth/session/{id}/novnc/websock");
    let mut close_time = DurationStats::EMPTY;
    for ticket in &tickets {
        let began = Instant::now();
        let mut socket = api.open_websocket(&path, &format!("binary, ticket.{ticket}"), true).await.unwrap();
        let (code, reason) = wait_close(&mut socket).await;
        close_time.add(began.elapsed());
        assert_eq!(code, 4410);
        assert_eq!(reason, "machine_failed: The machine ended and the session had no restart left.");
    }
    println!("closed after {close_time}");
    assert!(close_time.nearest_rank_percentile(50).as_millis() <= CLOSED_MS_MAX, "{close_time}");
    // An API client gets the same cause.
    let asked = serde_json::json!({ "purpose": "desktop" });
    let response = api.post(&format!("/api/auth/session/{id}/ticket"), asked).await.unwrap();
    assert_eq!((response.status, response.problem().unwrap().code.as_str()), (410, "machine_failed"));
    let plain = api.open_websocket(&path, "binary", false).await;
    assert!(plain.is_err(), "a ticket is required");
    // Neither process nor socket of the machine exists.
    assert_eq!(processes::find_machine_pid(&server.state_dir(), &machine), None);
    assert!(server.list_machines().is_empty());
    check_diagnosis(&server, &api, &id).await;
    server.stop_and_check_leaks().await.unwrap();
}

/// Checks the output of `anteroom diagnose`: when and why the machine ended, which viewer was rejected, and that no credential was
/// delivered.
async fn check_diagnosis(server: &TestServer, api: &ApiClient, id: &SessionId) {
    let exited = api.wait_entry(id, TimelineKind::MachineExited).await.unwrap();
    let rejected = api.wait_entry(id, TimelineKind::ViewerRejected).await.unwrap();
    assert!(exited.at <= rejected.at, "{} {}", exited.at, rejected.at);
    let output = server.run_anteroom(&["diagnose", id.as_str()]).await.unwrap();
    let clauses = [
        format!(
            "The machine ended at {} because its process was killed by signal 9, which this server did not send; ",
            exited.at
        ),
        format!("the viewer's WebSocket was rejected at {} for that reason; ", rejected.at),
        "no credential was delivered.".to_owned(),
    ];
    for clause in &clauses {
        assert!(output.lines().next().unwrap().contains(clause), "{clause}\n{output}");
    }
    for part in ["machine_killed", "machine_exited", "viewer_rejected", "start a new session"] {
        assert!(output.contains(part), "{part}:\n{output}");
    }
}

#[tokio::test]
async fn viewer_connecting_between_two_machines_sees_the_next_one_at_the_same_url() {
    let (server, api, id) = start_viewed_session("").await;
    let mut waited = DurationStats::EMPTY;
    // The default restart limit allows two replacements.
    for generation in 2..=3 {
        let before = measure_recovery::current_machine(&api, &id).await.unwrap();
        kill_machine(&server);
        api.wait_until(&id, "between two machines", |view| {
            view.status == SessionStatus::VmStopped || view.generation == generation
        })
        .await
        .unwrap();
        let began = Instant::now();
        // Like the page: a ticket, and the socket at the same URL.
        let mut viewer = api.connect_desktop(&id).await.unwrap();
        viewer.request_full_frame().await.unwrap();
        waited.add(began.elapsed());
        assert_ne!(viewer.desktop_name(), format!("desktop of {before}"), "the desktop is that of the new machine");
        let view = api.wait_status(&id, SessionStatus::VmStarted).await.unwrap();
        assert_eq!(view.generation, generation);
        let output = server.run_anteroom(&["diagnose", id.as_str()]).await.unwrap();
        assert!(output.contains("waiting_for_user"), "a recovered session is healthy:\n{output}");
    }
    println!("a picture {waited}");
    let kinds: Vec<_> = api.get_timeline(&id).await.unwrap().into_iter().map(|entry| entry.kind).collect();
    let count = |kind| kinds.iter().filter(|found| **found == kind).count();
    assert_eq!(
        (count(TimelineKind::MachineExited), count(TimelineKind::MachineReplaced), count(TimelineKind::ViewerRejected)),
        (2, 2, 0),
        "{kinds:?}"
    );
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn viewer_connecting_while_the_next_machine_is_queued_is_closed_with_the_cause() {
    let settings = "[machines]\nmachines_max = 1\n[sessions]\nsocket_wait_ms_max = 300\n";
    let (server, api, id) = start_viewed_session(settings).await;
    let rival = api.start_session("idle").await.unwrap().session.id;
    kill_machine(&server);
    // The free slot goes to the first session in the queue.
    api.wait_status(&rival, SessionStatus::VmStarted).await.unwrap();
    api.wait_until(&id, "queued", |view| view.queue_position.is_some()).await.unwrap();
    let (code, reason) = wait_close(&mut api.open_desktop_socket(&id).await.unwrap()).await;
    assert!(reason.starts_with("not_ready: ") || reason.starts_with("no_capacity: "), "{code} {reason}");
    assert!([4409, 4503].contains(&code), "{code} {reason}");
    let output = server.run_anteroom(&["diagnose", id.as_str()]).await.unwrap();
    assert!(output.contains("waiting_for_capacity") && output.contains("killed by signal 9"), "{output}");
    api.cancel_session(&rival).await.unwrap();
    api.wait_status(&id, SessionStatus::VmStarted).await.unwrap();
    api.connect_desktop(&id).await.unwrap().request_full_frame().await.unwrap();
    server.stop_and_check_leaks().await.unwrap();
}
