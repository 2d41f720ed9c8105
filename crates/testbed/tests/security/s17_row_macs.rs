//! The MACs of rows: their first use after an upgrade cannot be repeated, and a rotation of the keys renews them.

use crate::{
    idle_session::Idle,
    s10_audit::records,
    s17_tampering::execute_sql,
    stored_credentials::{deliver, lease, retire, rotate, start_server},
};
use anteroom_testbed::{TestServer, WAIT_MAX, eventually};
use anteroom_wire::{
    TimelineKind,
    api::{Health, HealthStatus},
};
use serde_json::Value;
use sqlx::{AnyConnection, Connection};
use std::fs;

const TABLES: [&str; 9] = [
    "callers",
    "browsers",
    "login_tokens",
    "tickets",
    "consents",
    "credentials",
    "sessions",
    "timeline",
    "timeline_heads",
];

/// Removes all MACs, as if an earlier version had written the database.
async fn remove_macs(server: &TestServer) {
    for table in TABLES {
        execute_sql(server, &format!("UPDATE {table} SET mac = NULL")).await;
    }
    execute_sql(server, "DELETE FROM timeline_heads").await;
    execute_sql(server, "DELETE FROM meta WHERE key = 'row_macs'").await;
}

/// Removes the mark in the key file, as if an earlier version had written it.
fn unmark_key_file(server: &TestServer) {
    let path = server.state_dir().join("vault.key");
    let mut file: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    for mark in ["row_macs", "session_macs"] {
        assert_eq!(file.as_object_mut().unwrap().remove(mark), Some(Value::Bool(true)));
    }
    fs::write(&path, file.to_string()).unwrap();
}

async fn count(server: &TestServer, table: &str, condition: &str) -> i64 {
    let url = format!("sqlite://{}", server.state_dir().join("anteroom.db").display());
    let mut sql = AnyConnection::connect(&url).await.unwrap();
    let text = format!("SELECT COUNT(*) FROM {table} WHERE {condition}");
    sqlx::query_scalar(sqlx::AssertSqlSafe(text)).fetch_one(&mut sql).await.unwrap()
}

#[tokio::test]
async fn s17_rows_of_an_earlier_version_get_macs_once_and_the_database_cannot_ask_for_it_again() {
    let (_flags, mut server) = start_server("").await;
    let credential = deliver(&server, "one").await;
    server.stop_server().await.unwrap();
    remove_macs(&server).await;
    unmark_key_file(&server);
    server.start_server().await.unwrap();
    assert_eq!(lease(&server, &credential).await, "{\"token\": \"one\"}");
    let recorded = async || Ok(records(&server).iter().any(|record| record["action"] == "rows.accept").then_some(()));
    eventually("it is recorded", WAIT_MAX, recorded).await.unwrap();
    assert_eq!(count(&server, "callers", "mac IS NULL").await, 0);

    // The same again, by a person who can change the database only: a token of theirs must not get a MAC.
    server.stop_server().await.unwrap();
    remove_macs(&server).await;
    execute_sql(&server, "UPDATE callers SET role = 'operator', scopes = 'operate' WHERE role = 'backend'").await;
    let error = server.start_server().await.unwrap_err();
    assert!(format!("{error:#}").contains("accept-rows"), "{error:#}");
    assert_eq!(count(&server, "callers", "mac IS NOT NULL").await, 0);

    // The operator decides, with the server stopped.
    execute_sql(&server, "UPDATE callers SET role = 'backend', scopes = 'start read lease' WHERE scopes = 'operate'")
        .await;
    let printed = server.run_anteroom(&["keys", "accept-rows"]).await.unwrap();
    assert!(printed.contains("rows are accepted as they are"), "{printed}");
    server.start_server().await.unwrap();
    assert_eq!(lease(&server, &credential).await, "{\"token\": \"one\"}");
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn s17_rotation_renews_the_macs_of_all_rows_and_nothing_is_left_under_a_retired_key() {
    let (_flags, mut server) = start_server("").await;
    let credential = deliver(&server, "one").await;
    let of_first = async |server: &TestServer| {
        let mut rows = 0;
        for table in TABLES {
            rows += count(server, table, "mac LIKE '1:%'").await;
        }
        rows
    };
    assert!(of_first(&server).await > 10);
    assert_eq!(rotate(&server).await, 2);
    let retired = async || Ok((retire(&server, 1).await.0 == 200).then_some(()));
    eventually("the old key is retired", WAIT_MAX, retired).await.unwrap();
    assert_eq!(of_first(&server).await, 0);
    assert_eq!(lease(&server, &credential).await, "{\"token\": \"one\"}", "the token of the backend is still valid");
    server.stop_server().await.unwrap();
    // Without a server.
    let printed = server.run_anteroom(&["keys", "rotate"]).await.unwrap();
    assert!(printed.contains('3'), "{printed}");
    server.run_anteroom(&["keys", "retire", "2"]).await.unwrap();
    server.start_server().await.unwrap();
    assert_eq!(lease(&server, &credential).await, "{\"token\": \"one\"}");
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn s17_entries_that_were_changed_or_removed_are_shown_and_the_session_continues_to_its_end() {
    let idle = Idle::start("").await;
    let (server, api, session) = (&idle.server, &idle.api, &idle.session);
    let before = api.get_timeline(session).await.unwrap();
    assert!(before.len() >= 3, "{before:?}");
    for trigger in ["timeline_is_append_only", "timeline_is_kept"] {
        execute_sql(server, &format!("DROP TRIGGER {trigger}")).await;
    }
    let (changed, removed) = (before[1].number, before[2].number);
    let edit = |text: &str, number: u64| format!("{text} WHERE session_id = '{session}' AND number = {number}");
    execute_sql(server, &edit("UPDATE timeline SET sentence = 'Nothing happened.'", changed)).await;
    execute_sql(server, &edit("DELETE FROM timeline", removed)).await;
    let kinds = async || {
        let entries = api.get_timeline(session).await.unwrap();
        entries.into_iter().map(|entry| (entry.number, entry.kind)).collect::<Vec<_>>()
    };
    let found = kinds().await;
    assert!(found.contains(&(changed, TimelineKind::EntryTampered)), "{found:?}");
    assert!(found.contains(&(removed, TimelineKind::EntryRemoved)), "{found:?}");
    assert_eq!(found[0], (before[0].number, before[0].kind), "the others are as they were");

    api.cancel_session(session).await.unwrap();
    let has_ended = async || {
        let entries = kinds().await;
        Ok(entries.iter().any(|(_, kind)| *kind == TimelineKind::MachineExited).then_some(()))
    };
    eventually("the end of the machine is recorded", WAIT_MAX, has_ended).await.unwrap();
    // The end is removed, too.
    let last = kinds().await.last().unwrap().0;
    execute_sql(server, &edit("DELETE FROM timeline", last)).await;
    assert_eq!(kinds().await.last(), Some(&(last, TimelineKind::EntryRemoved)));
    let named = async || {
        let health: Health = server.operator_client()?.get("/health").await?.parse()?;
        let rows = health.checks.into_iter().find(|check| check.name == "rows").unwrap();
        Ok((rows.status != HealthStatus::Ok).then_some(()))
    };
    eventually("the health report names it", WAIT_MAX, named).await.unwrap();
    idle.finish().await;
}
