//! A record that is moved or whose row is edited in the database is not opened, and the operator learns of it.

use crate::stored_credentials::{content, deliver_for, lease, start_server};
use anteroom_testbed::{TestServer, WAIT_MAX, eventually};
use anteroom_wire::{
    CredentialId,
    api::{Health, HealthCheck, HealthStatus},
};
use serde_json::json;
use sqlx::{AnyConnection, Connection, Executor};

pub(crate) async fn execute_sql(server: &TestServer, text: &str) {
    sqlx::any::install_default_drivers();
    let url = format!("sqlite://{}", server.state_dir().join("anteroom.db").display());
    let mut sql = AnyConnection::connect(&url).await.unwrap();
    sql.execute("PRAGMA busy_timeout = 30000").await.unwrap();
    sql.execute(sqlx::AssertSqlSafe(text.to_owned())).await.unwrap();
    sql.close().await.unwrap();
}

/// Status and code of a lease by the first or the second backend.
async fn try_lease(server: &TestServer, id: &CredentialId, by_other: bool) -> (u16, String) {
    let api = if by_other { server.other_backend_client() } else { server.backend_client() };
    let answer = api.unwrap().post(&format!("/api/credentials/{id}/lease"), json!({})).await.unwrap();
    assert!(!answer.text.contains("token of"), "nothing of the content: {}", answer.text);
    (answer.status, answer.problem().map(|problem| problem.code).unwrap_or_default())
}

async fn wait_alarm(server: &TestServer, id: &CredentialId) {
    let alarm = async || {
        let health: Health = server.operator_client()?.get("/health").await?.parse()?;
        let names_it =
            |check: &HealthCheck| check.status != HealthStatus::Ok && ["vault", "rows"].contains(&check.name.as_str());
        Ok(health.checks.iter().any(names_it).then_some(()))
    };
    eventually("the health names the record", WAIT_MAX, alarm).await.unwrap();
    let log = server.read_log();
    let is_alarm = |line: &str| line.contains("record_unreadable") || line.contains("row_tampered");
    assert!(log.lines().any(|line| is_alarm(line) && line.contains(id.as_str())), "{log}");
}

#[tokio::test]
async fn s17_record_whose_row_was_edited_or_moved_is_not_opened_and_raises_an_alarm() {
    let (_flags, mut server) = start_server("").await;
    let mut stored = Vec::new();
    for user in ["ada", "ben", "cyd", "dan", "eve"] {
        stored.push(deliver_for(&server, &format!("token of {user}"), Some(user)).await);
    }
    let tampered = ("record_tampered", 500);
    let [user, owner, moved, revision, untouched] = &stored[..] else { unreachable!("five") };
    // A program that can write to the database can also drop its triggers.
    execute_sql(&server, "DROP TRIGGER credentials_owner_is_fixed").await;
    execute_sql(&server, "DROP TRIGGER credentials_revision_is_counted").await;
    let edits = [
        format!("UPDATE credentials SET user_id = 'eve' WHERE id = '{user}'"),
        format!(
            "UPDATE credentials SET owner = (SELECT id FROM callers WHERE role = 'backend' AND id <> credentials.owner) WHERE id = '{owner}'"
        ),
        format!(
            "UPDATE credentials SET sealed = (SELECT sealed FROM credentials WHERE id = '{untouched}') WHERE id = '{moved}'"
        ),
        format!("UPDATE credentials SET revision = 7 WHERE id = '{revision}'"),
    ];
    for (edit, (id, by_other)) in edits.iter().zip([(user, false), (owner, true), (moved, false), (revision, false)]) {
        execute_sql(&server, edit).await;
        let (status, code) = try_lease(&server, id, by_other).await;
        assert_eq!((code.as_str(), status), tampered, "{edit}");
        wait_alarm(&server, id).await;
    }
    assert_eq!(lease(&server, untouched).await, content("token of eve"));
    for edit in [
        "policy = 'deliver_once', deliver_until_ms = 9999999999999",
        "expires_at_ms = 9999999999999",
        "health = 'needs_auth'",
        "method = 'other'",
        "files = '[]'",
        "account = 'eve'",
    ] {
        let id = deliver_for(&server, "token of fay", Some("fay")).await;
        execute_sql(&server, &format!("UPDATE credentials SET {edit} WHERE id = '{id}'")).await;
        let (status, code) = try_lease(&server, &id, false).await;
        assert_eq!((code.as_str(), status), tampered, "{edit}");
        wait_alarm(&server, &id).await;
    }
    // The next server finds them without a lease.
    server.stop_server().await.unwrap();
    server.start_server().await.unwrap();
    wait_alarm(&server, user).await;
    server.stop_and_check_leaks().await.unwrap();
}
