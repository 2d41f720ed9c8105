//! What a start does with a database of another version: the copy before a migration, and newer schemas.

use crate::fixture::settings;
use anteroom_store::{DatabaseFile, SCHEMA_VERSION, Store, StoreError, remove_migration_copies};
use sqlx::{AnyConnection, AssertSqlSafe, Connection, Executor};
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

/// A database of the present version, changed by these statements.
async fn changed(dir: &Path, statements: &[&str]) -> PathBuf {
    let path = dir.join("anteroom.db");
    Store::open(&path, settings()).await.unwrap().close().await;
    let mut sql = AnyConnection::connect(&format!("sqlite://{}", path.display())).await.unwrap();
    for text in statements {
        sql.execute(AssertSqlSafe((*text).to_owned())).await.unwrap();
    }
    sql.close().await.unwrap();
    path
}

/// As version 17 left the tables.
pub(crate) const TO_17: [&str; 14] = [
    "DROP TRIGGER sessions_ended_is_final",
    "DROP INDEX sessions_waiting",
    "DROP INDEX sessions_of_host",
    "ALTER TABLE sessions DROP COLUMN host_id",
    "ALTER TABLE sessions DROP COLUMN host_incarnation",
    "ALTER TABLE sessions DROP COLUMN placement",
    "ALTER TABLE sessions DROP COLUMN queued_at_ms",
    "ALTER TABLE sessions DROP COLUMN fair_class",
    "ALTER TABLE sessions DROP COLUMN fair_rank",
    "DROP TABLE hosts",
    "DROP TABLE cluster_authority",
    "DROP TABLE used_host_invitations",
    "DROP TABLE credential_turns",
    "CREATE TRIGGER sessions_ended_is_final BEFORE UPDATE OF id ON sessions BEGIN SELECT 1; END",
];

/// As version 16 left it.
fn to_16() -> Vec<&'static str> {
    let more = ["ALTER TABLE outbox DROP COLUMN receiver", "UPDATE meta SET value = '16' WHERE key = 'schema_version'"];
    [&TO_17[..], &more].concat()
}

#[tokio::test]
async fn migration_leaves_one_copy_of_the_database_as_it_was_which_an_older_program_can_use() {
    let dir = tempfile::tempdir().unwrap();
    let path = changed(dir.path(), &to_16()).await;
    fs::write(dir.path().join("anteroom.db.before-migration-9"), "of an earlier upgrade").unwrap();
    Store::open(&path, settings()).await.unwrap().close().await;
    let copies: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    let copies: Vec<_> =
        copies.into_iter().filter(|path| path.to_string_lossy().contains("before-migration")).collect();
    let wanted = dir.path().join("anteroom.db.before-migration-16");
    assert_eq!(copies, std::slice::from_ref(&wanted));
    assert_eq!(fs::metadata(&wanted).unwrap().permissions().mode() & 0o777, 0o600);
    let mut copy = DatabaseFile::open(&wanted).await.unwrap();
    assert_eq!(copy.summary().await.unwrap().schema_version, 16);
    assert_eq!(copy.check().await.unwrap(), Vec::<String>::new());
    copy.close().await.unwrap();
    // A start without a migration leaves it; then it is removed by its age.
    Store::open(&path, settings()).await.unwrap().close().await;
    assert_eq!(remove_migration_copies(&path, Duration::from_secs(3_600)).unwrap(), 0);
    assert_eq!(remove_migration_copies(&path, Duration::ZERO).unwrap(), 1);
    assert!(!wanted.exists() && path.exists());
}

#[tokio::test]
async fn migration_without_space_for_the_copy_does_not_happen() {
    let dir = tempfile::tempdir().unwrap();
    let path = changed(dir.path(), &to_16()).await;
    let place = dir.path().join("anteroom.db.before-migration-16");
    fs::create_dir(&place).unwrap();
    Store::open(&path, settings()).await.unwrap_err();
    let mut database = DatabaseFile::open(&path).await.unwrap();
    assert_eq!(database.summary().await.unwrap().schema_version, 16);
    database.close().await.unwrap();
}

#[tokio::test]
async fn newer_database_is_used_if_it_says_that_this_program_can_and_else_refused_with_both_numbers() {
    let newer = format!("UPDATE meta SET value = '{}' WHERE key = 'schema_version'", SCHEMA_VERSION + 1);
    for (readable_from, is_used) in [(SCHEMA_VERSION, true), (SCHEMA_VERSION + 1, false)] {
        let dir = tempfile::tempdir().unwrap();
        let readable = format!("UPDATE meta SET value = '{readable_from}' WHERE key = 'schema_readable_from'");
        let path = changed(dir.path(), &[&newer, &readable]).await;
        match Store::open(&path, settings()).await {
            Ok(store) => {
                assert!(is_used);
                store.check_writable().await.unwrap();
                store.close().await;
            }
            Err(error @ StoreError::NewerSchema { .. }) => {
                assert!(!is_used);
                let (found, known) = ((SCHEMA_VERSION + 1).to_string(), SCHEMA_VERSION.to_string());
                assert!(error.to_string().contains(&found) && error.to_string().contains(&known), "{error}");
            }
            Err(error) => panic!("{error}"),
        }
        let mut database = DatabaseFile::open(&path).await.unwrap();
        assert_eq!(database.summary().await.unwrap().schema_version, SCHEMA_VERSION + 1, "it is not migrated back");
        database.close().await.unwrap();
    }
}
