//! The failure that this project was made after: a viewer's WebSocket led to the address of a machine that had been
//! stopped. It waited for a connection that could not come, was closed with 1006, and nobody could say why.
//!
//! Here the cause is told by code and sentence at once, the same cause to programs as HTTP status, and `anteroom diagnose` tells
//! the whole story afterwards; and what can be healed heals behind the same page.

use crate::{closing, idle, up};
use anteroom_testbed::{ApiClient, TestConfig, WAIT_MAX, DurationStats, TestServer, measure_recovery, plain_process::built_program, processes};
use anteroom_wire::{SessionId, api::Status};
use std::time::Instant;
use tokio::process::Command;

const TRIES: usize = 20;
const TOLD_MS_MAX: u128 = 100;

/// A world in which a session's machine has been looked at and was then killed.
async fn after_a_death(settings: &str) -> (TestServer, ApiClient, SessionId) {
    let world = TestServer::start(TestConfig::with_tool(idle()).with_settings(settings)).await.unwrap();
    let api = world.backend().unwrap();
    let id = up(&api).await;
    api.desktop(&id).await.unwrap().whole_frame().await.unwrap();
    (world, api, id)
}

fn kill(world: &TestServer) {
    processes::kill(processes::machine_pid(&world.state_dir(), &world.machines()[0]).unwrap()).unwrap();
}

/// What `anteroom diagnose SESSION` prints.
async fn why(world: &TestServer, id: &SessionId) -> String {
    let mut command = Command::new(built_program("anteroom").unwrap());
    command.arg("--state-dir").arg(world.state_dir()).args(["diagnose", id.as_str()]).kill_on_drop(true);
    let output = tokio::time::timeout(WAIT_MAX, command.output()).await.unwrap().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn viewer_of_a_session_without_a_machine_is_closed_with_the_cause_within_100_ms() {
    let (world, api, id) = after_a_death("[sessions]\nrestarts_max = 0\n").await;
    // A page holds a ticket for each try; it is asked for while the session lives.
    let mut tickets = Vec::new();
    for _ in 0..TRIES {
        tickets.push(api.ticket(&id, "desktop").await.unwrap().ticket);
    }
    let machine = measure_recovery::current_machine(&api, &id).await.unwrap();
    kill(&world);
    api.wait_status(&id, Status::Failed).await.unwrap();
    let path = format!("/api/auth/session/{id}/novnc/websock");
    let mut told = DurationStats::EMPTY;
    for ticket in &tickets {
        let began = Instant::now();
        let mut socket = api.open_websocket(&path, &format!("binary, ticket.{ticket}"), true).await.unwrap();
        let (code, reason) = closing(&mut socket).await;
        told.add(began.elapsed());
        assert_eq!(code, 4410);
        assert_eq!(reason, "machine_failed: The machine ended and the session had no restart left.");
    }
    println!("told {told}");
    assert!(told.percentile(50).as_millis() <= TOLD_MS_MAX, "{told}");
    // A program that asks over HTTP is told the same.
    let asked = serde_json::json!({ "purpose": "desktop" });
    let refused = api.post(&format!("/api/auth/session/{id}/ticket"), asked).await.unwrap();
    assert_eq!((refused.status, refused.problem().unwrap().code.as_str()), (410, "machine_failed"));
    let plain = api.open_websocket(&path, "binary", false).await;
    assert!(plain.is_err(), "nothing opens without a ticket");
    // There is nothing that could have been dialled: neither process nor socket nor address.
    assert_eq!(processes::machine_pid(&world.state_dir(), &machine), None);
    assert!(world.machines().is_empty());
    story(&world, &api, &id).await;
    world.finish().await.unwrap();
}

/// The command line's story: when the machine ended, why, which viewer was refused for it and when, and that nothing was
/// delivered.
async fn story(world: &TestServer, api: &ApiClient, id: &SessionId) {
    let gone = api.wait_entry(id, "machine_exited").await.unwrap();
    let refused = api.wait_entry(id, "viewer_rejected").await.unwrap();
    assert!(gone.at <= refused.at, "{} {}", gone.at, refused.at);
    let words = why(world, id).await;
    let clauses = [
        format!(
            "The machine ended at {} because its process was killed by signal 9, which this server did not send; ",
            gone.at
        ),
        format!("the viewer's WebSocket was rejected at {} for that reason; ", refused.at),
        "no credential was delivered.".to_owned(),
    ];
    for clause in &clauses {
        assert!(words.lines().next().unwrap().contains(clause), "{clause}\n{words}");
    }
    for part in ["machine_killed", "machine_exited", "viewer_rejected", "start a new session"] {
        assert!(words.contains(part), "{part}:\n{words}");
    }
}

#[tokio::test]
async fn viewer_connecting_between_two_machines_sees_the_next_one_at_the_same_url() {
    let (world, api, id) = after_a_death("").await;
    let mut waited = DurationStats::EMPTY;
    // Restarts are few: one session is good for two deaths.
    for generation in 2..=3 {
        let before = measure_recovery::current_machine(&api, &id).await.unwrap();
        kill(&world);
        api.wait_until(&id, "between two machines", |view| view.status == Status::VmStopped || view.generation == generation)
            .await
            .unwrap();
        let began = Instant::now();
        // The page's own way: a ticket and the socket under the address that it had.
        let mut viewer = api.desktop(&id).await.unwrap();
        viewer.whole_frame().await.unwrap();
        waited.add(began.elapsed());
        assert_ne!(viewer.name(), format!("desktop of {before}"), "the former machine answers nobody");
        let view = api.wait_status(&id, Status::VmStarted).await.unwrap();
        assert_eq!(view.generation, generation);
        let words = why(&world, &id).await;
        assert!(words.contains("waiting_for_person"), "a healed session is healthy:\n{words}");
    }
    println!("a picture {waited}");
    let kinds: Vec<_> = api.timeline(&id).await.unwrap().into_iter().map(|entry| entry.kind).collect();
    let count = |kind: &str| kinds.iter().filter(|found| *found == kind).count();
    assert_eq!((count("machine_exited"), count("machine_replaced"), count("viewer_rejected")), (2, 2, 0), "{kinds:?}");
    world.finish().await.unwrap();
}

#[tokio::test]
async fn viewer_connecting_while_the_next_machine_is_queued_is_closed_with_the_cause() {
    let settings = "[machines]\nmachines_max = 1\n[sessions]\nsocket_wait_ms_max = 300\n";
    let (world, api, id) = after_a_death(settings).await;
    let rival = api.start("idle").await.unwrap().session.id;
    kill(&world);
    // The room goes to whoever waited for it first.
    api.wait_status(&rival, Status::VmStarted).await.unwrap();
    api.wait_until(&id, "in line", |view| view.queue_position.is_some()).await.unwrap();
    let (code, reason) = closing(&mut api.desktop_socket(&id).await.unwrap()).await;
    assert!(reason.starts_with("not_ready: ") || reason.starts_with("no_capacity: "), "{code} {reason}");
    assert!([4409, 4503].contains(&code), "{code} {reason}");
    let words = why(&world, &id).await;
    assert!(words.contains("waiting_for_capacity") && words.contains("killed by signal 9"), "{words}");
    api.cancel(&rival).await.unwrap();
    api.wait_status(&id, Status::VmStarted).await.unwrap();
    api.desktop(&id).await.unwrap().whole_frame().await.unwrap();
    world.finish().await.unwrap();
}
