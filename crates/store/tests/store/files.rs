//! What only a file of SQLite has: permissions, a log, and rows that break all rules.

use crate::fixture::{NOW, StoreFixture, entry, provider, settings};
use anteroom_store::{DeleteOutcome, Store, StoreError, StoreErrorKind, StoreSettings};
use anteroom_wire::TimelineKind;
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
use sqlx::Executor;
use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::PathBuf,
};

impl StoreFixture {
    /// The file of the database.
    fn path(&self) -> PathBuf {
        self.directory.path().join("anteroom.db")
    }
}

/// Runs without the capability with which root writes read-only files; it also applies to threads started by this one.
fn without_dac_override(task: impl Future<Output = ()> + Send) {
    std::thread::scope(|scope| {
        let run = || {
            let mut sets = capabilities(None).unwrap();
            sets.effective.remove(CapabilitySet::DAC_OVERRIDE);
            set_capabilities(None, sets).unwrap();
            tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(task);
        };
        scope.spawn(run).join().unwrap();
    });
}

#[test]
fn a_file_that_becomes_writable_again_can_be_written() {
    without_dac_override(async {
        let fixture = StoreFixture::new().await;
        let row = fixture.session().await;
        let mode = |mode| {
            for suffix in ["", "-wal"] {
                let file = format!("{}{suffix}", fixture.path().display());
                fs::set_permissions(file, fs::Permissions::from_mode(mode)).unwrap();
            }
        };
        mode(0o400);
        // A write that fails halfway: its connection is replaced, and the next one finds read-only files.
        let unknown = crate::fixture::session_id();
        fixture.store.append_entry(&unknown, entry(TimelineKind::CliExited)).await.unwrap_err();
        let error = fixture.store.append_entry(&row.id, entry(TimelineKind::CliStarted)).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error:?}");
        mode(0o600);
        fixture.store.append_entry(&row.id, entry(TimelineKind::CliExited)).await.unwrap();
        assert_eq!(fixture.kinds(&row.id).await, [TimelineKind::Accepted, TimelineKind::CliExited]);
    });
}

#[test]
fn a_read_only_file_is_unavailable_with_its_cause() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("anteroom.db");
    without_dac_override(async {
        Store::open(&path, settings()).await.unwrap().close().await;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
        let error = Store::open(&path, StoreSettings { busy_ms_max: 500, ..settings() }).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error:?}");
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert!(cause.contains("readonly"), "{error}: {cause}");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        Store::open(&path, settings()).await.unwrap().check_writable().await.unwrap();
    });
}

#[tokio::test]
async fn database_files_are_private_and_wrong_permissions_are_corrected() {
    let fixture = StoreFixture::new().await;
    fixture.session().await;
    for entry in fs::read_dir(fixture.directory.path()).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().mode() & 0o7777, 0o600, "{:?}", entry.path());
    }
    fixture.store.close().await;
    fs::set_permissions(fixture.path(), fs::Permissions::from_mode(0o664)).unwrap();
    Store::open(&fixture.address, settings()).await.unwrap();
    assert_eq!(fs::metadata(fixture.path()).unwrap().mode() & 0o7777, 0o600);
}

#[tokio::test]
async fn special_characters_in_a_path_are_not_url_syntax() {
    let directory = tempfile::tempdir().unwrap();
    for name in ["a?mode=memory.db", "b#c.db", "d%41.db", "é f.db", "g&h=i;.db"] {
        let path = directory.path().join(name);
        Store::open(&path, settings()).await.unwrap().check_writable().await.unwrap();
        assert!(path.exists(), "{name}");
    }
    let error = Store::open(&directory.path().join("no/such/place.db"), settings()).await.unwrap_err();
    assert!(matches!(error, StoreError::File { .. }), "{error:?}");
}

#[tokio::test]
async fn a_file_that_is_not_a_database_is_corrupt() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("anteroom.db");
    fs::write(&path, "this is a text, not a database\n".repeat(40)).unwrap();
    let error = Store::open(&path, settings()).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Corrupt, "{error:?}");
}

#[tokio::test]
async fn corrupt_rows_are_errors() {
    let fixture = StoreFixture::new().await;
    let (row, credential) = fixture.completed(b"secret").await;
    let mut sql = fixture.sql().await;
    // Rows that the program cannot write: constraints and triggers are disabled.
    sql.execute("PRAGMA ignore_check_constraints = ON").await.unwrap();
    sql.execute("PRAGMA foreign_keys = OFF").await.unwrap();
    sql.execute("DROP TRIGGER sessions_ended_is_final").await.unwrap();
    // Without MACs, which would be found first.
    let store = Store::open(&fixture.address, settings()).await.unwrap();
    for (wrong, right, expected) in [
        ("state = 'paused'", "state = 'completed'".to_owned(), "paused"),
        ("reason_code = 'no_such_code'", "reason_code = 'completed'".to_owned(), "no_such_code"),
        ("reason_code = NULL", "reason_code = 'completed'".to_owned(), "time and a reason"),
        ("ended_at_ms = NULL", format!("ended_at_ms = {}", NOW + 5), "time and a reason"),
        ("state = 'failed'", "state = 'completed'".to_owned(), "not completed"),
        ("credential_id = NULL", format!("credential_id = '{credential}'"), "without a credential"),
        ("provider = 'Not A Name'", format!("provider = '{}'", provider()), "provider"),
        ("generation = -1", "generation = 1".to_owned(), "out of range"),
        ("deadline_ms = 'soon'", format!("deadline_ms = {}", row.deadline_ms), "deadline_ms"),
        ("cli_started = 2000", "cli_started = 1".to_owned(), "cli_started"),
    ] {
        sql.execute(sqlx::AssertSqlSafe(format!("UPDATE sessions SET {wrong}"))).await.unwrap();
        let error = store.get_session(&row.id).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Corrupt, "{wrong}: {error:?}");
        let text = error.to_string();
        assert!(text.contains(expected) && text.contains(row.id.as_str()), "{wrong}: {text}");
        sql.execute(sqlx::AssertSqlSafe(format!("UPDATE sessions SET {right}"))).await.unwrap();
        assert_eq!(store.get_session(&row.id).await.unwrap().unwrap(), row, "{right}");
    }
    sql.execute("UPDATE credentials SET sealed = x'0011', files = '[1]'").await.unwrap();
    assert_eq!(fixture.store.get_sealed_bytes(&credential).await.unwrap_err().kind(), StoreErrorKind::Corrupt);
    assert_eq!(fixture.store.get_credential(&credential).await.unwrap_err().kind(), StoreErrorKind::Corrupt);
}

#[tokio::test]
async fn the_next_purge_removes_bytes_that_a_reader_kept_in_the_log() {
    let fixture =
        StoreFixture::with(anteroom_store::StoreSettings { busy_ms_max: 200, ..crate::fixture::settings() }).await;
    let (_, id) = fixture.completed(&[8; 64]).await;
    let tail = fixture.tail(&id).await;
    let mut sql = fixture.sql().await;
    sql.execute("BEGIN").await.unwrap();
    sql.execute("SELECT COUNT(*) FROM credentials").await.unwrap();
    assert_eq!(fixture.store.delete_credential(&id, NOW).await.unwrap(), DeleteOutcome::Deleted);
    assert!(fixture.on_disk(&tail), "the log cannot be emptied while a reader holds it");
    sql.execute("ROLLBACK").await.unwrap();
    fixture.store.purge_expired(NOW).await.unwrap();
    assert!(!fixture.on_disk(&tail));
}
