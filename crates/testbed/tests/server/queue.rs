//! Waiting for a machine, and keeping a session open: what the API shows, and which limits run.

use crate::fixture::start_idle;
use anteroom_testbed::{ApiClient, WAIT_MAX, eventually};
use anteroom_wire::{
    SessionId, TimelineKind,
    api::{SessionStatus, SessionView},
};
use serde_json::json;

async fn wait_queued(api: &ApiClient, id: &SessionId, position: u32) -> SessionView {
    api.wait_until(id, "queued", |view| view.queue_position == Some(position)).await.unwrap()
}

#[tokio::test]
async fn queued_session_shows_its_place_and_the_usual_wait_and_its_limit_does_not_run() {
    let settings =
        "[machines]\nmachines_max = 1\n[sessions]\nsession_s_max = 6\n[limits.sessions]\nreconcile_every_ms = 50\n";
    let (_flags, server) = start_idle(settings).await;
    let api = server.backend_client().unwrap();
    let start = async || api.start_session("scripted").await.unwrap().session.id;
    // The usual wait follows from the last uses of a machine.
    for _ in 0..3 {
        let id = start().await;
        api.wait_entry(&id, TimelineKind::MachineRequested).await.unwrap();
        api.cancel_session(&id).await.unwrap();
        server.wait_machines_removed().await.unwrap();
    }
    let first = start().await;
    api.wait_entry(&first, TimelineKind::MachineRequested).await.unwrap();
    let (second, third) = (start().await, start().await);
    let next = wait_queued(&api, &second, 1).await;
    assert_eq!(next.for_person.sentence, "You are next. Less than a minute.");
    let queued = wait_queued(&api, &third, 2).await;
    assert_eq!(queued.for_person.sentence, "You are number 2 in the queue. Less than a minute.");

    // Both others last as long as they may, so the third one waits longer than that.
    for id in [&first, &second] {
        let ended = api.wait_status(id, SessionStatus::Expired).await.unwrap();
        assert_eq!(ended.reason.unwrap().code, "deadline_expired");
    }
    api.wait_entry(&third, TimelineKind::MachineRequested).await.unwrap();
    let (ended, started) = (api.get_session(&second).await.unwrap(), api.get_session(&third).await.unwrap());
    assert!(queued.deadline_at < ended.ended_at.unwrap(), "it waited for longer than it may last");
    assert!(!started.status.is_ended() && started.deadline_at > queued.deadline_at, "{started:?}");
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn heartbeat_moves_the_idle_deadline_and_not_the_total_one() {
    let (_flags, server) = start_idle("").await;
    let api = server.backend_client().unwrap();
    let id = api.start_session("scripted").await.unwrap().session.id;
    let before = api.get_session(&id).await.unwrap();
    let path = format!("/api/auth/session/{id}/heartbeat");
    let moved = async || {
        let view: SessionView = api.post(&path, json!({})).await?.parse()?;
        Ok((view.idle_deadline_at > before.idle_deadline_at).then_some(view))
    };
    let after = eventually("the answer has a later idle deadline", WAIT_MAX, moved).await.unwrap();
    assert_eq!(after.deadline_at, before.deadline_at);
    assert!(api.get_session(&id).await.unwrap().idle_deadline_at >= after.idle_deadline_at);
    server.stop_and_check_leaks().await.unwrap();
}
