//! A locked, read-only or corrupt database is reported by kind and in time, and no data is lost.

use crate::fixture::{NOW, StoreFixture, entry, provider, settings};
use anteroom_store::{ExpectedState, Reason, SessionChange, Store, StoreError, StoreErrorKind, StoreSettings};
use anteroom_wire::{EndReason, TimelineKind};
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
use sqlx::Executor;
use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    time::{Duration, Instant},
};

#[tokio::test]
async fn a_locked_database_is_unavailable_after_the_timeout_and_recovers() {
    let fixture = StoreFixture::with(StoreSettings { busy_ms_max: 300, ..settings() }).await;
    let row = fixture.session().await;
    let mut sql = fixture.sql().await;
    sql.execute("BEGIN IMMEDIATE").await.unwrap();

    let asked = Instant::now();
    let (a, b) = tokio::join!(
        fixture.store.transition(&row.id, ExpectedState::Active, SessionChange::new(), entry(TimelineKind::CliStarted)),
        fixture.store.append_entry(&row.id, entry(TimelineKind::CliExited)),
    );
    let waited = asked.elapsed();
    assert_eq!(a.unwrap_err().kind(), StoreErrorKind::Unavailable);
    assert_eq!(b.unwrap_err().kind(), StoreErrorKind::Unavailable);
    assert!(waited >= Duration::from_millis(250), "{waited:?}: it must wait for the lock");
    assert!(waited < Duration::from_secs(20), "{waited:?}: at most twice 300 ms plus delays of a busy machine");
    assert_eq!(fixture.store.check_writable().await.unwrap_err().kind(), StoreErrorKind::Unavailable);
    assert_eq!(fixture.store.get_session(&row.id).await.unwrap(), Some(row.clone()), "reading needs no lock");

    sql.execute("ROLLBACK").await.unwrap();
    fixture.store.check_writable().await.unwrap();
    fixture.done(&row.id, ExpectedState::Epoch(0), SessionChange::new(), TimelineKind::CliStarted).await;
    assert_eq!(fixture.kinds(&row.id).await, [TimelineKind::Accepted, TimelineKind::CliStarted]);
}

#[tokio::test]
async fn a_call_succeeds_if_the_lock_is_released_in_time() {
    let fixture = StoreFixture::new().await;
    let row = fixture.session().await;
    let mut sql = fixture.sql().await;
    sql.execute("BEGIN IMMEDIATE").await.unwrap();
    let store = fixture.store.clone();
    let waiting = tokio::spawn(async move { store.append_entry(&row.id, entry(TimelineKind::CliStarted)).await });
    // The task waits for the lock now or later: both orders must succeed.
    tokio::task::yield_now().await;
    sql.execute("ROLLBACK").await.unwrap();
    waiting.await.unwrap().unwrap().into_row().unwrap();
}

#[tokio::test]
async fn a_call_cancelled_while_waiting_for_the_lock_has_no_effect() {
    let fixture = StoreFixture::new().await;
    let row = fixture.session().await;
    let mut sql = fixture.sql().await;
    sql.execute("BEGIN IMMEDIATE").await.unwrap();
    let store = fixture.store.clone();
    let id = row.id.clone();
    let cancelled = tokio::spawn(async move { store.append_entry(&id, entry(TimelineKind::Cancelled)).await });
    tokio::task::yield_now().await;
    cancelled.abort();
    assert!(cancelled.await.unwrap_err().is_cancelled());
    sql.execute("ROLLBACK").await.unwrap();
    fixture.store.append_entry(&row.id, entry(TimelineKind::CliExited)).await.unwrap().into_row().unwrap();
    assert_eq!(fixture.kinds(&row.id).await, [TimelineKind::Accepted, TimelineKind::CliExited]);
}

#[tokio::test]
async fn cancelled_calls_are_atomic_and_block_no_other_call() {
    let fixture = StoreFixture::new().await;
    let row = fixture.session().await;
    for polls in 0..60 {
        let (store, id) = (fixture.store.clone(), row.id.clone());
        let reason = Reason::new(EndReason::MachineFailed, format!("{polls}"));
        let call = async move {
            store
                .transition(
                    &id,
                    ExpectedState::Active,
                    SessionChange::new().with_replacement_reason(Some(reason)),
                    entry(TimelineKind::MethodChosen),
                )
                .await
        };
        // Polled this often, then dropped, as when a client disconnects during its request.
        let mut call = Box::pin(call);
        for _ in 0..polls {
            if polled_once(&mut call).await {
                break;
            }
        }
        drop(call);
        let now = fixture.store.get_session(&row.id).await.unwrap().unwrap();
        let entries = fixture.store.list_timeline(&row.id, 0, 1000).await.unwrap().len() as u64;
        // The dropped call may have committed or still be rolling back, but row and timeline must match in every moment after it.
        fixture.done(&row.id, ExpectedState::Active, SessionChange::new(), TimelineKind::CliExited).await;
        let after = fixture.store.get_session(&row.id).await.unwrap().unwrap();
        let entries_after = fixture.store.list_timeline(&row.id, 0, 1000).await.unwrap().len() as u64;
        assert_eq!(after.epoch + 1, entries_after, "{polls} polls: row and timeline differ");
        assert!(after.epoch - now.epoch <= 2 && entries_after - entries <= 2);
    }
}

/// Polls once, after yielding to other tasks; returns whether the call is done.
async fn polled_once<T>(call: &mut (impl Future<Output = T> + Unpin)) -> bool {
    tokio::task::yield_now().await;
    std::future::poll_fn(|context| {
        let done = std::pin::Pin::new(&mut *call).poll(context).is_ready();
        std::task::Poll::Ready(done)
    })
    .await
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
    Store::open(&fixture.path(), settings()).await.unwrap();
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
    let store = Store::open(&fixture.path(), settings()).await.unwrap();
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
async fn a_closed_store_is_unavailable() {
    let fixture = StoreFixture::new().await;
    fixture.store.close().await;
    assert_eq!(fixture.store.check_writable().await.unwrap_err().kind(), StoreErrorKind::Unavailable);
    let left: Vec<_> =
        fs::read_dir(fixture.directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "the database and the key file, no log: {left:?}");
}
