//! Any order of calls on one session gives what a ten-line model gives.

use crate::fixture::{HOUR, NOW, StoreFixture, event};
use anteroom_store::{Change, Completed, Expect, Reason, SessionOutcome, Transition};
use anteroom_wire::Problem;
use proptest::prelude::*;

#[derive(Debug, Clone, Copy)]
enum Call {
    /// A change that is not an end, at the epoch so many transitions ago.
    Change {
        epochs_ago: u64,
    },
    /// An end, whatever the epoch.
    End(Way),
    Deliver {
        right_token: bool,
    },
    Touch,
    Note,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Fail,
    Cancel,
    Expire,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    No,
    By(Way),
    Completed,
}

fn call() -> impl Strategy<Value = Call> {
    let way = prop_oneof![Just(Way::Fail), Just(Way::Cancel), Just(Way::Expire)];
    prop_oneof![
        4 => (0u64..3).prop_map(|epochs_ago| Call::Change { epochs_ago }),
        1 => way.prop_map(Call::End),
        1 => any::<bool>().prop_map(|right_token| Call::Deliver { right_token }),
        1 => Just(Call::Touch),
        1 => Just(Call::Note),
    ]
}

async fn run(calls: Vec<Call>) {
    let fixture = StoreFixture::new().await;
    let first = fixture.session_with_machine("agent").await;
    let (id, mut epoch, mut entries, mut ended) = (first.id.clone(), 1u64, 2u64, Ended::No);
    for call in calls {
        let active = ended == Ended::No;
        match call {
            Call::Change { epochs_ago } => {
                let expect = Expect::Epoch(epoch.saturating_sub(epochs_ago));
                let answer = fixture.store.transition(&id, expect, Change::new(), event("changed")).await.unwrap();
                let counts = active && epochs_ago == 0;
                assert_eq!(matches!(answer, Transition::Done { .. }), counts);
                epoch += u64::from(counts);
                entries += u64::from(counts);
            }
            Call::End(way) => {
                let reason = Reason::new(Problem::Cancelled, "");
                let change = match way {
                    Way::Fail => Change::new().fail(reason, NOW),
                    Way::Cancel => Change::new().cancel(reason, NOW),
                    Way::Expire => Change::new().expire(reason, NOW),
                };
                let answer = fixture.store.transition(&id, Expect::Active, change, event("ended")).await.unwrap();
                assert_eq!(matches!(answer, Transition::Done { .. }), active);
                if active {
                    (epoch, entries, ended) = (epoch + 1, entries + 1, Ended::By(way));
                }
            }
            Call::Deliver { right_token } => {
                let token = if right_token { "agent" } else { "guess" };
                match fixture.deliver(&first, token, 1, b"secret").await {
                    Completed::Stored { .. } => {
                        assert!(active && right_token);
                        (epoch, entries, ended) = (epoch + 1, entries + 1, Ended::Completed);
                    }
                    Completed::Ignored(_) => assert!(!active && right_token),
                    Completed::WrongToken => assert!(!right_token),
                    Completed::NothingToRenew => panic!("it renews nothing"),
                }
            }
            Call::Touch => assert_eq!(fixture.store.touch(&id, NOW, Some(NOW + HOUR)).await.unwrap(), active),
            Call::Note => entries = fixture.store.append_event(&id, event("note")).await.unwrap().unwrap().number,
        }
        let row = fixture.store.session(&id).await.unwrap().unwrap();
        let seen = match row.end().map(|end| &end.outcome) {
            None => Ended::No,
            Some(SessionOutcome::Completed(_)) => Ended::Completed,
            Some(SessionOutcome::Failed) => Ended::By(Way::Fail),
            Some(SessionOutcome::Cancelled) => Ended::By(Way::Cancel),
            Some(SessionOutcome::Expired) => Ended::By(Way::Expire),
        };
        assert_eq!((row.epoch, seen), (epoch, ended));
        let timeline = fixture.store.timeline(&id, 0, 1000).await.unwrap();
        let numbers: Vec<u64> = timeline.iter().map(|entry| entry.number).collect();
        assert_eq!(numbers, (1..=entries).collect::<Vec<u64>>());
        let stored = fixture.store.credential_of_session(&id).await.unwrap().is_some();
        assert_eq!(stored, ended == Ended::Completed, "a credential is stored exactly when the session completed");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_order_of_calls_keeps_the_promises(calls in prop::collection::vec(call(), 1..14)) {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(run(calls));
    }
}
