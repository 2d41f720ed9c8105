//! What is stored about a user can be deleted, and old sessions are.

use crate::{
    fixture::Flags,
    stored_credentials::{deliver_for, lease, start_server},
};
use anteroom_testbed::{
    TestConfig, TestServer, WAIT_MAX, eventually,
    serve::crash_point::{CrashPoint, CrashTiming},
};
use anteroom_wire::{
    SessionId,
    api::{SessionStatus, StartRequest},
    operator_reports::EraseReport,
};
use serde_json::json;
use std::fs;

/// A user's id that is found wherever it is stored.
const USER: &str = "user-4f1c77a2-ada";

async fn start_session(server: &TestServer, user_id: &str) -> SessionId {
    let request = StartRequest { user_id: Some(user_id.to_owned()), ..StartRequest::new("scripted") };
    let api = server.backend_client().unwrap();
    let id = api.start_session_with(&request).await.unwrap().session.id;
    api.wait_status(&id, SessionStatus::VmStarted).await.unwrap();
    id
}

async fn erase(server: &TestServer, user_id: &str) -> EraseReport {
    let answer = server.operator_client().unwrap().post("/api/erase", json!({ "user_id": user_id })).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.parse().unwrap()
}

/// Whether a file of the state directory contains the text. The log and the audit trail stay by design.
fn is_stored(server: &TestServer, text: &str) -> bool {
    let files = server.leak_scan().list_files("state").into_iter().filter(|path| path.is_file());
    let mut erased =
        files.filter(|path| !["/log/", "/audit/"].iter().any(|kept| path.to_string_lossy().contains(kept)));
    erased.any(|path| {
        let content = fs::read(&path).unwrap_or_default();
        content.windows(text.len()).any(|window| window == text.as_bytes())
    })
}

#[tokio::test]
async fn s17_erasure_deletes_everything_about_a_user_and_nothing_of_others() {
    let (_flags, server) = start_server("").await;
    let credential = deliver_for(&server, "one", Some(USER)).await;
    let other = deliver_for(&server, "two", Some("other")).await;
    lease(&server, &credential).await;
    let session = start_session(&server, USER).await;
    server.backend_client().unwrap().create_ticket(&session, "desktop").await.unwrap();
    server
        .run_anteroom(&["bundle", session.as_str(), "--out", server.path().join("b").to_str().unwrap()])
        .await
        .unwrap();
    assert!(is_stored(&server, USER) && is_stored(&server, session.as_str()), "the search finds what is there");
    assert_eq!(
        server.backend_client().unwrap().post("/api/erase", json!({ "user_id": USER })).await.unwrap().status,
        403
    );
    let report = erase(&server, USER).await;
    assert_eq!((report.sessions, report.credentials, report.leases), (2, 1, 1), "{report:?}");
    assert_eq!(report.tickets, 3, "one for the desktop, and the login link of each session");
    assert!(report.timeline_entries > 4 && report.receipts == 2, "{report:?}");
    assert!(!report.stays.is_empty());
    let erased = async || Ok((!is_stored(&server, USER) && !is_stored(&server, session.as_str())).then_some(()));
    eventually("nothing is left in the state directory", WAIT_MAX, erased).await.unwrap();
    let api = server.operator_client().unwrap();
    for path in [format!("/api/auth/session/{session}"), format!("/api/credentials/{credential}")] {
        assert_eq!(api.get(&path).await.unwrap().status, 404, "{path}");
    }
    lease(&server, &other).await;
    let again = erase(&server, USER).await;
    assert_eq!((again.sessions, again.timeline_entries, again.credentials), (0, 0, 0), "idempotent");
    let printed = server.run_anteroom(&["erase", "--user", "other", "--yes"]).await.unwrap();
    assert!(printed.contains("credentials") && printed.contains("Not deleted:"), "{printed}");
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn s17_erasure_interrupted_by_a_crash_deletes_all_or_nothing() {
    let (_flags, mut server) = start_server("").await;
    for (timing, left) in [(CrashTiming::Before, 1), (CrashTiming::After, 0)] {
        deliver_for(&server, "one", Some(USER)).await;
        server.wait_machines_removed().await.unwrap();
        server.crash_at(&CrashPoint { timing, write_kind: "erase".into(), nth: 1 }).unwrap();
        let api = server.operator_client().unwrap();
        assert!(api.post("/api/erase", json!({ "user_id": USER })).await.is_err(), "it crashed");
        server.kill_server().await.unwrap();
        server.start_server().await.unwrap();
        assert_eq!(erase(&server, USER).await.credentials, left, "{timing:?}");
        assert!(!is_stored(&server, USER));
    }
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn s17_sessions_that_ended_long_ago_are_deleted_and_those_of_stored_credentials_are_kept() {
    let flags = Flags::new();
    let settings = "[retention]\nsessions_s_max = 1\n";
    let mut server = TestServer::start(TestConfig::with_provider(flags.idle_provider())).await.unwrap();
    let credential = deliver_for(&server, "one", Some(USER)).await;
    let ended = start_session(&server, "other").await;
    let api = server.backend_client().unwrap();
    api.cancel_session(&ended).await.unwrap();
    server.wait_machines_removed().await.unwrap();
    server.stop_server().await.unwrap();
    let config = server.path().join("config.toml");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, format!("{text}\n{settings}")).unwrap();
    // The job runs at the start; it may need another start until the session is old enough.
    let deleted = async || {
        server.start_server().await?;
        let answer = server.operator_client()?.get(&format!("/api/auth/session/{ended}")).await?;
        if answer.status != 404 {
            server.stop_server().await?;
            return Ok(None);
        }
        Ok(Some(()))
    };
    eventually("the old session is deleted", WAIT_MAX, deleted).await.unwrap();
    lease(&server, &credential).await;
    server.stop_and_check_leaks().await.unwrap();
}
