//! The schema: created, kept over restarts, rejected if it is newer, strict about values.

use crate::{
    database,
    fixture::{NOW, StoreFixture, settings},
};
use anteroom_store::{SCHEMA_VERSION, Store, StoreError, StoreErrorKind};
use sqlx::Executor;

#[tokio::test]
async fn all_data_survives_a_restart() {
    let fixture = StoreFixture::new().await;
    let (row, credential) = fixture.completed(b"secret").await;
    fixture.store.set_key_fingerprint(&fixture.ring.fingerprint()).await.unwrap();
    fixture.store.close().await;

    let store = Store::open(&fixture.address, settings()).await.unwrap();
    assert_eq!(store.get_session(&row.id).await.unwrap(), Some(row));
    assert!(store.get_sealed_bytes(&credential).await.unwrap().is_some());
    let fingerprint = store.get_key_fingerprint().await.unwrap().unwrap();
    fixture.ring.check_fingerprint(&fingerprint).unwrap();
}

#[tokio::test]
async fn concurrent_first_starts_create_one_schema() {
    let directory = tempfile::tempdir().unwrap();
    let address = database::empty_database(directory.path()).await;
    let starts: Vec<_> = (0..5)
        .map(|_| {
            let address = address.clone();
            tokio::spawn(async move { Store::open(&address, settings()).await.unwrap() })
        })
        .collect();
    for start in starts {
        start.await.unwrap().check_writable().await.unwrap();
    }
}

#[tokio::test]
async fn a_newer_schema_is_rejected_with_both_versions() {
    let fixture = StoreFixture::new().await;
    fixture.store.close().await;
    let newer = SCHEMA_VERSION + 6;
    let mut sql = fixture.sql().await;
    let set = format!("UPDATE meta SET value = '{newer}' WHERE key = 'schema_version'");
    sql.execute(sqlx::AssertSqlSafe(set)).await.unwrap();
    let set = format!("UPDATE meta SET value = '{newer}' WHERE key = 'schema_readable_from'");
    sql.execute(sqlx::AssertSqlSafe(set)).await.unwrap();
    let error = Store::open(&fixture.address, settings()).await.unwrap_err();
    assert!(matches!(error, StoreError::NewerSchema { found, known } if found == newer && known == SCHEMA_VERSION));
    let text = error.to_string();
    assert!(text.contains(&newer.to_string()) && text.contains(&SCHEMA_VERSION.to_string()), "{text}");

    sql.execute("UPDATE meta SET value = 'one' WHERE key = 'schema_version'").await.unwrap();
    assert_eq!(Store::open(&fixture.address, settings()).await.unwrap_err().kind(), StoreErrorKind::Corrupt);
}

#[tokio::test]
async fn constraints_reject_unknown_values_and_incomplete_rows() {
    let fixture = StoreFixture::new().await;
    let row = fixture.session().await;
    let id = &row.id;
    let mut sql = fixture.sql().await;
    for text in [
        "UPDATE sessions SET state = 'paused'".to_owned(),
        "UPDATE sessions SET state = 'failed'".to_owned(),
        format!("UPDATE sessions SET state = 'completed', reason_code = 'completed', ended_at_ms = {NOW}"),
        format!("UPDATE sessions SET ended_at_ms = {NOW}"),
        "UPDATE sessions SET cli_started = 2".to_owned(),
        "UPDATE sessions SET generation = 0".to_owned(),
        "UPDATE sessions SET idempotency_key = 'k'".to_owned(),
        "UPDATE callers SET role = 'root'".to_owned(),
        "UPDATE callers SET role = 'viewer'".to_owned(),
        format!("INSERT INTO login_tokens (hash, kind, expires_at_ms) VALUES ('h', 'operator', {NOW})"),
        format!("INSERT INTO login_tokens (hash, kind, name, expires_at_ms) VALUES ('h', 'exit', 'n', {NOW})"),
        format!(
            "INSERT INTO tickets (hash, session_id, caller_id, purpose, expires_at_ms) \
             VALUES ('h', '{id}', '{}', 'sound', {NOW})",
            row.owner
        ),
        "INSERT INTO timeline (session_id, number, at_ms, kind, sentence, data) VALUES ('ses_none', 1, 0, 'k', 's', '{}')".to_owned(),
    ] {
        assert!(sql.execute(sqlx::AssertSqlSafe(text.clone())).await.is_err(), "{text}");
    }
    assert_eq!(fixture.store.get_session(id).await.unwrap(), Some(row));
}
