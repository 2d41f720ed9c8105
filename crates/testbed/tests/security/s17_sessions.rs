//! A session whose row was changed in the database is refused, named and ended; the others continue.

use crate::{
    idle_session::Idle,
    s17_rows::wait_named,
    s17_tampering::execute_sql,
    stored_credentials::{deliver, start_server},
};
use anteroom_testbed::{ApiClient, TestServer, WAIT_MAX, eventually};
use anteroom_wire::{
    SessionId, TimelineKind,
    api::{SessionList, SessionStatus},
};
use serde_json::json;

async fn edit(server: &TestServer, session: &SessionId, change: &str) {
    execute_sql(server, &format!("UPDATE sessions SET {change} WHERE id = '{session}'")).await;
}

/// Status and code of an answer about the session.
async fn answer(api: &ApiClient, session: &SessionId) -> (u16, String) {
    let answer = api.get(&format!("/api/auth/session/{session}")).await.unwrap();
    (answer.status, answer.problem().map(|problem| problem.code).unwrap_or_default())
}

fn refused() -> (u16, String) {
    (410, "session_tampered".to_owned())
}

#[tokio::test]
async fn s17_session_that_was_changed_in_the_database_is_refused_and_ended_and_the_others_continue() {
    let idle = Idle::start("").await;
    let (server, api) = (&idle.server, &idle.api);
    let other_backend = server.other_backend_client().unwrap();
    for change in [
        "caller_id = (SELECT id FROM callers WHERE role = 'backend' AND id <> caller_id), user_id = 'eve'",
        "return_url = 'https://evil.example/'",
        "provider = 'other'",
        "deadline_ms = 9999999999999",
        "agent_token_hash = '0000000000000000000000000000000000000000000000000000000000000000'",
    ] {
        let session = api.start_session("scripted").await.unwrap().session.id;
        api.wait_status(&session, SessionStatus::VmStarted).await.unwrap();
        edit(server, &session, change).await;
        for client in [api, &other_backend, &server.operator_client().unwrap()] {
            assert_eq!(answer(client, &session).await, refused(), "{change}");
        }
        let ticket = format!("/api/auth/session/{session}/ticket");
        assert_eq!(api.post(&ticket, json!({ "purpose": "desktop" })).await.unwrap().status, 410, "{change}");
        wait_named(server, "sessions", session.as_str()).await;
        let machine_is_removed = async || Ok((server.list_machines().len() == 1).then_some(()));
        eventually("its machine is removed", WAIT_MAX, machine_is_removed).await.unwrap();
    }
    let view = api.get_session(&idle.session).await.unwrap();
    assert_eq!(view.status, SessionStatus::VmStarted, "the other session continues");
    let listed = api.get("/api/sessions").await.unwrap().text;
    assert!(listed.contains(idle.session.as_str()), "{listed}");
    idle.finish().await;
}

#[tokio::test]
async fn s17_session_that_was_changed_while_no_server_ran_is_not_continued() {
    let mut idle = Idle::start("").await;
    idle.server.kill_server().await.unwrap();
    edit(&idle.server, &idle.session, "return_url = 'https://evil.example/'").await;
    idle.server.start_server().await.unwrap();
    let api = idle.server.backend_client().unwrap();
    assert_eq!(answer(&api, &idle.session).await, refused());
    wait_named(&idle.server, "sessions", idle.session.as_str()).await;
    idle.server.wait_machines_removed().await.unwrap();
    let accepted = async |server: &mut TestServer| {
        server.stop_server().await.unwrap();
        server.run_anteroom(&["keys", "accept-rows"]).await.unwrap();
        server.start_server().await.unwrap();
        server.backend_client().unwrap().get_session(&idle.session).await.unwrap()
    };
    let view = accepted(&mut idle.server).await;
    assert_eq!(view.reason.unwrap().code, "session_tampered", "it was ended before it was accepted");
    let entries = idle.server.backend_client().unwrap().get_timeline(&idle.session).await.unwrap();
    assert!(entries.iter().any(|entry| entry.kind == TimelineKind::Failed), "{entries:?}");
    idle.finish().await;
}

#[tokio::test]
async fn s17_sessions_of_the_first_version_with_macs_get_theirs_once() {
    let (_flags, mut server) = start_server("").await;
    deliver(&server, "one").await;
    server.stop_server().await.unwrap();
    let without_macs = async |server: &TestServer| {
        execute_sql(server, "UPDATE sessions SET mac = NULL").await;
        execute_sql(server, "UPDATE meta SET value = '1' WHERE key = 'row_macs'").await;
    };
    without_macs(&server).await;
    let path = server.state_dir().join("vault.key");
    let file = std::fs::read_to_string(&path).unwrap();
    let mut file: serde_json::Value = serde_json::from_str(&file).unwrap();
    assert_eq!(file.as_object_mut().unwrap().remove("session_macs"), Some(true.into()));
    std::fs::write(&path, file.to_string()).unwrap();
    server.start_server().await.unwrap();
    let listed: SessionList = server.backend_client().unwrap().get("/api/sessions").await.unwrap().parse().unwrap();
    assert_eq!(listed.sessions.len(), 1, "{listed:?}");
    // The same again, by a person who can change the database only.
    server.stop_server().await.unwrap();
    without_macs(&server).await;
    let error = server.start_server().await.unwrap_err();
    assert!(format!("{error:#}").contains("accept-rows"), "{error:#}");
    server.run_anteroom(&["keys", "accept-rows"]).await.unwrap();
    server.start_server().await.unwrap();
    server.stop_and_check_leaks().await.unwrap();
}
