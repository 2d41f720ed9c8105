//! A locked or closed database is reported by kind and in time, and no data is lost.

use crate::{
    database,
    fixture::{StoreFixture, entry, settings},
};
use anteroom_store::{ExpectedState, Reason, SessionChange, StoreErrorKind, StoreSettings};
use anteroom_wire::{EndReason, TimelineKind};
use sqlx::Executor;
use std::{
    fs,
    time::{Duration, Instant},
};

#[tokio::test]
async fn a_locked_database_is_unavailable_after_the_timeout_and_recovers() {
    let fixture = StoreFixture::with(StoreSettings { busy_ms_max: 300, ..settings() }).await;
    let row = fixture.session().await;
    let mut sql = fixture.sql().await;
    sql.execute(database::BEGIN_WRITE).await.unwrap();

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
    sql.execute(database::BEGIN_WRITE).await.unwrap();
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
    sql.execute(database::BEGIN_WRITE).await.unwrap();
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

#[tokio::test]
async fn a_closed_store_is_unavailable() {
    let fixture = StoreFixture::new().await;
    fixture.store.close().await;
    assert_eq!(fixture.store.check_writable().await.unwrap_err().kind(), StoreErrorKind::Unavailable);
    let left: Vec<_> =
        fs::read_dir(fixture.directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    let expected = if database::IS_FILE { 2 } else { 1 };
    assert_eq!(left.len(), expected, "the database, if it is a file, and the key file, no log: {left:?}");
}
