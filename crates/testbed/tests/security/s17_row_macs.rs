//! The MACs of rows: their first use after an upgrade cannot be repeated, and a rotation of the keys renews them.

use crate::{
    s10_audit::records,
    s17_tampering::execute_sql,
    stored_credentials::{deliver, lease, retire, rotate, start_server},
};
use anteroom_testbed::{TestServer, WAIT_MAX, eventually};
use serde_json::Value;
use sqlx::{AnyConnection, Connection};
use std::fs;

const TABLES: [&str; 8] =
    ["callers", "browsers", "login_tokens", "tickets", "consents", "credentials", "timeline", "timeline_heads"];

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
    assert_eq!(file.as_object_mut().unwrap().remove("row_macs"), Some(Value::Bool(true)));
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
