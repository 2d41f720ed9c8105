//! Whoever observes the store hears of every write, twice, with what became of it.

use crate::fixture::{NOW, StoreFixture, event, settings};
use anteroom_store::{Change, Expect, Settings, Store, Transition, Write, WriteKind, WriteObserver, WriteOutcome};
use sqlx::Executor;
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

/// Remembers what it heard: the outcome is `None` before a write.
#[derive(Default)]
struct Ear(Mutex<Vec<(Write, Option<WriteOutcome>)>>);

impl WriteObserver for Ear {
    fn before(&self, write: &Write) {
        self.0.lock().unwrap().push((write.clone(), None));
    }
    fn after(&self, write: &Write, outcome: WriteOutcome, _: Duration) {
        self.0.lock().unwrap().push((write.clone(), Some(outcome)));
    }
}

impl Ear {
    /// What was heard since the last question, as `kind: outcome`, after a look that every write was told in a pair.
    fn heard(&self) -> Vec<String> {
        let heard = std::mem::take(&mut *self.0.lock().unwrap());
        heard
            .chunks(2)
            .map(|pair| match pair {
                [(before, None), (after, Some(outcome))] if before == after => format!("{after}: {}", outcome.as_str()),
                other => panic!("not a pair: {other:?}"),
            })
            .collect()
    }
}

/// A second store over the same database, with an ear.
async fn observed(fixture: &StoreFixture, settings: Settings) -> (Store, Arc<Ear>) {
    let ear = Arc::new(Ear::default());
    let store = Store::open_observed(&fixture.path(), settings, ear.clone()).await.unwrap();
    assert_eq!(ear.heard(), ["health: written"], "opening ends with a row that is written");
    (store, ear)
}

#[tokio::test]
async fn a_write_is_told_before_and_after_with_what_became_of_it() {
    let fixture = StoreFixture::new().await;
    let (store, ear) = observed(&fixture, settings()).await;
    let row = fixture.session().await;
    store.transition(&row.id, Expect::Epoch(0), Change::new(), event("first")).await.unwrap();
    store.append_event(&row.id, event("second")).await.unwrap();
    store.touch(&row.id, NOW + 1, None).await.unwrap();
    let late = store.transition(&row.id, Expect::Epoch(0), Change::new(), event("late")).await.unwrap();
    assert!(matches!(late, Transition::Conflict(_)));
    store.purge(NOW).await.unwrap();
    store.set_key_fingerprint("print").await.unwrap();
    assert_eq!(
        ear.heard(),
        [
            "transition first: written",
            "append_event second: written",
            "touch: written",
            "transition late: unchanged",
            "purge: written",
            "key_fingerprint: written"
        ]
    );
    // Reading is no write.
    store.session(&row.id).await.unwrap();
    assert_eq!(ear.heard(), Vec::<String>::new());
}

#[tokio::test]
async fn a_write_that_the_database_cannot_do_is_told_as_failed() {
    let fixture = StoreFixture::new().await;
    let row = fixture.session().await;
    let (store, ear) = observed(&fixture, Settings { busy_ms_max: 50, ..settings() }).await;
    let mut sql = fixture.sql().await;
    sql.execute("BEGIN IMMEDIATE").await.unwrap();
    store.append_event(&row.id, event("locked")).await.unwrap_err();
    sql.execute("ROLLBACK").await.unwrap();
    let unknown = crate::fixture::session_id();
    store.append_event(&unknown, event("nowhere")).await.unwrap_err();
    assert_eq!(ear.heard(), ["append_event locked: failed", "append_event nowhere: failed"]);
    let words: Vec<&str> = WriteKind::ALL.iter().map(|kind| kind.as_str()).collect();
    let mut unique = words.clone();
    unique.sort_unstable();
    unique.dedup();
    assert_eq!(words.len(), unique.len(), "each kind has a word of its own");
}
