//! Observers are called before and after every write, with its outcome.

use crate::{
    database,
    fixture::{NOW, StoreFixture, entry, settings},
};
use anteroom_store::{
    ExpectedState, ObservedWrite, SessionChange, Store, StoreSettings, TransitionOutcome, WriteKind, WriteObserver,
    WriteOutcome,
};
use anteroom_wire::TimelineKind;
use sqlx::Executor;
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

/// Records its calls; the outcome is `None` before a write.
#[derive(Default)]
struct Recorder(Mutex<Vec<(ObservedWrite, Option<WriteOutcome>)>>);

impl WriteObserver for Recorder {
    fn before(&self, write: &ObservedWrite) {
        self.0.lock().unwrap().push((*write, None));
    }
    fn after(&self, write: &ObservedWrite, outcome: WriteOutcome, _: Duration) {
        self.0.lock().unwrap().push((*write, Some(outcome)));
    }
}

impl Recorder {
    /// The recorded writes since the last call as `kind: outcome`; panics unless the calls come in pairs.
    fn writes(&self) -> Vec<String> {
        let recorded = std::mem::take(&mut *self.0.lock().unwrap());
        recorded
            .chunks(2)
            .map(|pair| match pair {
                [(before, None), (after, Some(outcome))] if before == after => format!("{after}: {}", outcome.as_str()),
                other => panic!("not a pair: {other:?}"),
            })
            .collect()
    }
}

/// A second store for the same database, with a recorder.
async fn observed(fixture: &StoreFixture, settings: StoreSettings) -> (Store, Arc<Recorder>) {
    let recorder = Arc::new(Recorder::default());
    let store = Store::open_observed(&fixture.address, settings, recorder.clone()).await.unwrap();
    assert_eq!(recorder.writes(), ["health: written"], "opening writes one row");
    (store, recorder)
}

#[tokio::test]
async fn observers_see_every_write_before_and_after_with_its_outcome() {
    let fixture = StoreFixture::new().await;
    let (store, recorder) = observed(&fixture, settings()).await;
    let row = fixture.session().await;
    store
        .transition(&row.id, ExpectedState::Epoch(0), SessionChange::new(), entry(TimelineKind::MethodChosen))
        .await
        .unwrap();
    store.append_entry(&row.id, entry(TimelineKind::CliStarted)).await.unwrap();
    store.record_session_use(&row.id, NOW + 1, None).await.unwrap();
    let late = store
        .transition(&row.id, ExpectedState::Epoch(0), SessionChange::new(), entry(TimelineKind::MachineReplaced))
        .await
        .unwrap();
    assert!(matches!(late, TransitionOutcome::Conflict(_)));
    store.purge_expired(NOW).await.unwrap();
    store.set_key_fingerprint("print").await.unwrap();
    assert_eq!(
        recorder.writes(),
        [
            "transition method_chosen: written",
            "append_event cli_started: written",
            "touch: written",
            "transition machine_replaced: unchanged",
            "purge: written",
            "key_fingerprint: written"
        ]
    );
    // Reading is not a write.
    store.get_session(&row.id).await.unwrap();
    assert_eq!(recorder.writes(), Vec::<String>::new());
}

#[tokio::test]
async fn observers_see_a_failed_write_as_failed() {
    let fixture = StoreFixture::new().await;
    let row = fixture.session().await;
    let (store, recorder) = observed(&fixture, StoreSettings { busy_ms_max: 50, ..settings() }).await;
    let mut sql = fixture.sql().await;
    sql.execute(database::BEGIN_WRITE).await.unwrap();
    store.append_entry(&row.id, entry(TimelineKind::CliStarted)).await.unwrap_err();
    sql.execute("ROLLBACK").await.unwrap();
    let unknown = crate::fixture::session_id();
    store.append_entry(&unknown, entry(TimelineKind::CliExited)).await.unwrap_err();
    assert_eq!(recorder.writes(), ["append_event cli_started: failed", "append_event cli_exited: failed"]);
    let kinds: Vec<&str> = WriteKind::ALL.iter().map(|kind| kind.as_str()).collect();
    let mut unique = kinds.clone();
    unique.sort_unstable();
    unique.dedup();
    assert_eq!(kinds.len(), unique.len(), "the texts of the kinds are unique");
}
