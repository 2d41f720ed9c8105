//! Property test: any order of calls on one session has the same results as a small model.

use crate::fixture::{HOUR, NOW, StoreFixture, entry};
use anteroom_store::{
    CompleteOutcome, ExpectedState, Reason, SessionChange, SessionOutcome, SessionRow, TransitionOutcome,
};
use anteroom_wire::{EndReason, TimelineKind};
use proptest::prelude::*;

#[derive(Debug, Clone, Copy)]
enum Call {
    /// A change that does not end the session, at the epoch this many transitions ago.
    Change {
        epochs_ago: u64,
    },
    /// An end, at any epoch.
    End(EndKind),
    Deliver {
        right_token: bool,
    },
    Touch,
    AppendEntry,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum EndKind {
    Fail,
    Cancel,
    Expire,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    No,
    By(EndKind),
    Completed,
}

fn call() -> impl Strategy<Value = Call> {
    let kind = prop_oneof![Just(EndKind::Fail), Just(EndKind::Cancel), Just(EndKind::Expire)];
    prop_oneof![
        4 => (0u64..3).prop_map(|epochs_ago| Call::Change { epochs_ago }),
        1 => kind.prop_map(Call::End),
        1 => any::<bool>().prop_map(|right_token| Call::Deliver { right_token }),
        1 => Just(Call::Touch),
        1 => Just(Call::AppendEntry),
    ]
}

fn ended_of(row: &SessionRow) -> Ended {
    match row.end().map(|end| &end.outcome) {
        None => Ended::No,
        Some(SessionOutcome::Completed(_)) => Ended::Completed,
        Some(SessionOutcome::Failed) => Ended::By(EndKind::Fail),
        Some(SessionOutcome::Cancelled) => Ended::By(EndKind::Cancel),
        Some(SessionOutcome::Expired) => Ended::By(EndKind::Expire),
    }
}

async fn run(calls: Vec<Call>) {
    let fixture = StoreFixture::new().await;
    let first = fixture.session_with_machine("agent").await;
    let (id, mut epoch, mut entries, mut ended) = (first.id.clone(), 1u64, 2u64, Ended::No);
    for call in calls {
        let active = ended == Ended::No;
        match call {
            Call::Change { epochs_ago } => {
                let expect = ExpectedState::Epoch(epoch.saturating_sub(epochs_ago));
                let answer = fixture
                    .store
                    .transition(&id, expect, SessionChange::new(), entry(TimelineKind::MethodChosen))
                    .await
                    .unwrap();
                let counts = active && epochs_ago == 0;
                assert_eq!(matches!(answer, TransitionOutcome::Done { .. }), counts);
                epoch += u64::from(counts);
                entries += u64::from(counts);
            }
            Call::End(kind) => {
                let reason = Reason::new(EndReason::Cancelled, "");
                let change = match kind {
                    EndKind::Fail => SessionChange::new().end_as_failed(reason, NOW),
                    EndKind::Cancel => SessionChange::new().end_as_cancelled(reason, NOW),
                    EndKind::Expire => SessionChange::new().end_as_expired(reason, NOW),
                };
                let answer = fixture
                    .store
                    .transition(&id, ExpectedState::Active, change, entry(TimelineKind::Failed))
                    .await
                    .unwrap();
                assert_eq!(matches!(answer, TransitionOutcome::Done { .. }), active);
                if active {
                    (epoch, entries, ended) = (epoch + 1, entries + 1, Ended::By(kind));
                }
            }
            Call::Deliver { right_token } => {
                let token = if right_token { "agent" } else { "guess" };
                match fixture.deliver(&first, token, 1, b"secret").await {
                    CompleteOutcome::Stored { .. } => {
                        assert!(active && right_token);
                        (epoch, entries, ended) = (epoch + 1, entries + 1, Ended::Completed);
                    }
                    CompleteOutcome::Ignored(_) => assert!(!active && right_token),
                    CompleteOutcome::WrongToken => assert!(!right_token),
                    CompleteOutcome::NothingToRenew => panic!("it renews nothing"),
                }
            }
            Call::Touch => {
                assert_eq!(fixture.store.record_session_use(&id, NOW, Some(NOW + HOUR)).await.unwrap(), active)
            }
            Call::AppendEntry => {
                let appended = fixture.store.append_entry(&id, entry(TimelineKind::CliStarted)).await.unwrap();
                entries = appended.into_row().unwrap().number;
            }
        }
        let row = fixture.store.get_session(&id).await.unwrap().unwrap();
        assert_eq!((row.epoch, ended_of(&row)), (epoch, ended));
        let timeline = fixture.store.list_timeline(&id, 0, 1000).await.unwrap();
        let numbers: Vec<u64> = timeline.iter().map(|entry| entry.number).collect();
        assert_eq!(numbers, (1..=entries).collect::<Vec<u64>>());
        let stored = fixture.store.get_credential_of_session(&id).await.unwrap().is_some();
        assert_eq!(stored, ended == Ended::Completed, "a credential is stored exactly when the session completed");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_order_of_calls_matches_the_model(calls in prop::collection::vec(call(), 1..14)) {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(run(calls));
    }
}
