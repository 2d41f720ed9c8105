//! The timeline: buffering while the database is not writable, and limits for repeated rejections.

use crate::{Flags, start_idle, start_idle_session, viewers::wait_close};
use anteroom_controller::unix_time;
use anteroom_testbed::{TestServer, WAIT_MAX};
use anteroom_wire::{
    SessionId, TimelineKind,
    api::{SessionStatus, TimelineEntry},
};
use serde_json::json;
use sqlx::{ConnectOptions, Connection, SqliteConnection, sqlite::SqliteConnectOptions};
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// Holds the database's write lock until it is dropped or [released](Self::release).
pub(crate) struct DatabaseLock(SqliteConnection);

impl DatabaseLock {
    pub(crate) async fn acquire(server: &TestServer) -> Self {
        let database =
            SqliteConnectOptions::new().filename(server.state_dir().join("anteroom.db")).busy_timeout(WAIT_MAX);
        let mut connection = database.connect().await.unwrap();
        sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut connection).await.unwrap();
        Self(connection)
    }

    pub(crate) async fn release(mut self) {
        sqlx::raw_sql("ROLLBACK").execute(&mut self.0).await.unwrap();
        self.0.close().await.unwrap();
    }
}

pub(crate) async fn start_ready_session(settings: &str) -> (Flags, TestServer, SessionId) {
    let (flags, server, api, id) = start_idle_session(settings).await;
    api.wait_status(&id, SessionStatus::VmStarted).await.unwrap();
    (flags, server, id)
}

/// The current time in the format of the entries, which sorts by time.
fn now() -> String {
    unix_time::format_rfc3339(unix_time::now_unix_ms())
}

fn entry_of(timeline: &[TimelineEntry], kind: TimelineKind) -> &TimelineEntry {
    timeline.iter().find(|entry| entry.kind == kind).unwrap_or_else(|| panic!("no {kind}: {timeline:#?}"))
}

#[tokio::test]
async fn events_during_a_database_lock_are_recorded_in_order_with_their_own_time() {
    // A database call fails after 200 ms; the lock lasts ten times longer.
    let (_flags, server, id) = start_ready_session("[limits.store]\nbusy_ms_max = 200\n").await;
    let api = server.backend_client().unwrap();
    let viewer = api.connect_desktop(&id).await.unwrap();
    api.wait_entry(&id, TimelineKind::ViewerJoined).await.unwrap();
    let lock = DatabaseLock::acquire(&server).await;
    let began = now();
    server.kill_machine(&server.list_machines().remove(0)).unwrap();
    assert_eq!(wait_close(&mut viewer.into_inner()).await.0, 4510);
    let ticket = format!("/api/auth/session/{id}/ticket");
    let rejected = api.post(&ticket, json!({ "purpose": "desktop" })).await.unwrap();
    assert_eq!(rejected.problem().unwrap().code, "database_unavailable");
    let refused_at = now();
    sleep(Duration::from_secs(2)).await;
    let until = now();
    lock.release().await;
    api.wait_until(&id, "ready again", |view| view.generation == 2 && view.status == SessionStatus::VmStarted)
        .await
        .unwrap();
    api.wait_entry(&id, TimelineKind::TicketRejected).await.unwrap();
    let timeline = api.get_timeline(&id).await.unwrap();
    let [exited, left, ticket] =
        [TimelineKind::MachineExited, TimelineKind::ViewerDisconnected, TimelineKind::TicketRejected]
            .map(|kind| entry_of(&timeline, kind));
    for entry in [exited, left, ticket] {
        assert!(began <= entry.at && entry.at <= until, "the time of the event, not of the write: {entry:?}");
    }
    assert!(exited.at <= left.at && left.at <= ticket.at && ticket.at <= refused_at);
    let replaced = entry_of(&timeline, TimelineKind::MachineReplaced);
    let order = [exited, left, ticket, replaced].map(|entry| entry.number);
    assert!(order.is_sorted(), "{timeline:#?}");
    assert!(timeline.iter().all(|entry| entry.kind != TimelineKind::EntriesLost), "{timeline:#?}");
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn stopping_server_writes_buffered_entries_within_the_drain_time() {
    let (_flags, mut server, id) =
        start_ready_session("[limits.store]\nbusy_ms_max = 200\n[http]\ndrain_ms_max = 20000\n").await;
    let api = server.backend_client().unwrap();
    let lock = DatabaseLock::acquire(&server).await;
    let ticket = format!("/api/auth/session/{id}/ticket");
    assert_eq!(api.post(&ticket, json!({ "purpose": "desktop" })).await.unwrap().status, 503);
    let release = async {
        sleep(Duration::from_secs(1)).await;
        lock.release().await;
    };
    let (stopped, ()) = tokio::join!(server.stop_server(), release);
    stopped.unwrap();
    server.start_server().await.unwrap();
    let timeline = server.backend_client().unwrap().get_timeline(&id).await.unwrap();
    assert_eq!(entry_of(&timeline, TimelineKind::TicketRejected).data["reason"], "database_unavailable");
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn repeated_rejections_are_recorded_once_with_a_count() {
    let settings = "[limits.sessions]\nviewers_max = 1\nrejection_log_interval_ms = 3000\n";
    let (_flags, server, id) = start_ready_session(settings).await;
    let api = server.backend_client().unwrap();
    let viewer = api.connect_desktop(&id).await.unwrap();
    for _ in 0..4 {
        assert_eq!(wait_close(&mut api.open_view_only_socket(&id).await.unwrap()).await.0, 4429);
    }
    let entries = || async {
        let timeline = api.get_timeline(&id).await.unwrap();
        timeline.into_iter().filter(|entry| entry.kind == TimelineKind::ViewerRejected).collect::<Vec<_>>()
    };
    let both = async {
        while entries().await.len() < 2 {
            sleep(Duration::from_millis(50)).await;
        }
        entries().await
    };
    let entries = timeout(WAIT_MAX, both).await.expect("the count is recorded");
    let counts: Vec<_> = entries.iter().map(|entry| entry.data["count"].as_u64()).collect();
    assert_eq!(counts, [None, Some(3)], "{entries:#?}");
    assert!(
        entries.iter().all(|entry| entry.data["reason"] == "too_many_viewers" && entry.data["socket"] == "desktop")
    );
    drop(viewer);
    api.cancel_session(&id).await.unwrap();
    // A page requests a ticket first: the rejection of the ticket is recorded, too.
    for _ in 0..3 {
        let rejected =
            api.post(&format!("/api/auth/session/{id}/ticket"), json!({ "purpose": "terminal" })).await.unwrap();
        assert_eq!((rejected.status, rejected.problem().unwrap().code.as_str()), (410, "cancelled"));
    }
    let rejected = api.wait_entry(&id, TimelineKind::TicketRejected).await.unwrap();
    assert_eq!(
        (rejected.data["reason"].as_str(), rejected.data["socket"].as_str()),
        (Some("cancelled"), Some("terminal"))
    );
    let found = api.get(&format!("/api/auth/session/{id}/diagnosis")).await.unwrap().text;
    let clause = format!("the viewer's ticket was rejected at {} for that reason", rejected.at);
    assert!(found.contains(&clause), "{clause}: {found}");
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn viewer_rejected_before_the_machine_is_ready_is_on_the_timeline() {
    let settings = "[machines]\nmachines_max = 1\n[sessions]\nsocket_wait_ms_max = 200\n";
    let (_flags, server) = start_idle(settings).await;
    let api = server.backend_client().unwrap();
    let first = api.start_session("scripted").await.unwrap().session.id;
    api.wait_status(&first, SessionStatus::VmStarted).await.unwrap();
    let waits = api.start_session("scripted").await.unwrap().session.id;
    let (code, reason) = wait_close(&mut api.open_desktop_socket(&waits).await.unwrap()).await;
    assert_eq!((code, reason.split(':').next()), (4409, Some("not_ready")));
    let rejected = api.wait_entry(&waits, TimelineKind::ViewerRejected).await.unwrap();
    assert_eq!(rejected.data["reason"], "not_ready");
    assert!(rejected.data["detail"].as_str().unwrap().contains("queued at position 1"), "{rejected:?}");
    let timeline = api.get_timeline(&waits).await.unwrap();
    assert!(
        timeline.iter().all(|entry| entry.kind != TimelineKind::ViewerJoined),
        "no viewer was connected: {timeline:#?}"
    );
    server.stop_and_check_leaks().await.unwrap();
}
