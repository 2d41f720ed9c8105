//! Transitions: one change per epoch succeeds, and ended sessions are final.

use crate::{
    database,
    fixture::{NOW, StoreFixture, entry, session_id},
};
use anteroom_store::{
    ExpectedState, Reason, RowStatus, SessionChange, SessionOutcome, StoreError, StoreErrorKind, TransitionOutcome,
};
use anteroom_wire::{EndReason, MachineId, TimelineKind};
use sqlx::Executor;

#[tokio::test]
async fn only_one_of_a_hundred_changes_at_one_epoch_succeeds() {
    let fixture = StoreFixture::new().await;
    let row = fixture.session().await;
    let changes: Vec<_> = (0..100)
        .map(|n| {
            let (store, id) = (fixture.store.clone(), row.id.clone());
            let reason = Reason::new(EndReason::MachineFailed, format!("change {n}"));
            tokio::spawn(async move {
                let change = SessionChange::new().with_replacement_reason(Some(reason));
                store.transition(&id, ExpectedState::Epoch(0), change, entry(TimelineKind::MethodChosen)).await.unwrap()
            })
        })
        .collect();
    let (mut done, mut conflicts) = (Vec::new(), 0);
    for change in changes {
        match change.await.unwrap() {
            TransitionOutcome::Done { row, entry } => done.push((row, entry)),
            TransitionOutcome::Conflict(now) => {
                assert_eq!(now.epoch, 1);
                conflicts += 1;
            }
        }
    }
    assert_eq!((done.len(), conflicts), (1, 99));
    let (winner, entry) = &done[0];
    assert_eq!(entry.number, 2);
    assert_eq!(fixture.store.get_session(&row.id).await.unwrap().as_ref(), Some(&**winner));
    assert_eq!(fixture.kinds(&row.id).await, [TimelineKind::Accepted, TimelineKind::MethodChosen]);
}

#[tokio::test]
async fn a_change_writes_only_the_values_it_sets() {
    let fixture = StoreFixture::new().await;
    let before = fixture.session_with_machine("agent").await;
    let machine = MachineId::from_parts(NOW, [4; 10]);
    let reason = Reason::new(EndReason::MachineFailed, "killed");
    let change = SessionChange::new()
        .with_generation(2)
        .with_machine(Some(machine.clone()))
        .with_cli_started(false)
        .with_replacement_reason(Some(reason.clone()));
    let after = fixture.done(&before.id, ExpectedState::Epoch(1), change, TimelineKind::MachineReplaced).await;
    assert_eq!((after.generation, after.machine.as_ref(), after.cli_started), (2, Some(&machine), false));
    assert_eq!((after.epoch, after.reason()), (2, Some(&reason)));
    assert_eq!((&after.agent_token, after.claimed_generation), (&before.agent_token, Some(1)));
    assert_eq!(fixture.store.get_session(&before.id).await.unwrap(), Some(after.clone()));

    let cleared = SessionChange::new()
        .with_replacement_reason(None)
        .with_machine(None)
        .with_agent_token(None)
        .with_claimed_generation(None);
    let after = fixture.done(&before.id, ExpectedState::Active, cleared, TimelineKind::MethodSwitched).await;
    assert_eq!((after.machine, after.agent_token, after.claimed_generation), (None, None, None));
    assert_eq!(after.status, RowStatus::Active { replacement_reason: None });
}

#[tokio::test]
async fn every_reason_of_a_failed_cancelled_or_expired_session_reads_back() {
    let fixture = StoreFixture::new().await;
    for kind in EndReason::ALL {
        let reason = Reason::new(*kind, "in detail");
        for (change, outcome) in [
            (SessionChange::new().end_as_failed(reason.clone(), NOW + 1), SessionOutcome::Failed),
            (SessionChange::new().end_as_cancelled(reason.clone(), NOW + 1), SessionOutcome::Cancelled),
            (SessionChange::new().end_as_expired(reason.clone(), NOW + 1), SessionOutcome::Expired),
        ] {
            let id = fixture.session().await.id;
            fixture.done(&id, ExpectedState::Active, change, TimelineKind::Failed).await;
            let end = fixture.store.get_session(&id).await.unwrap().unwrap().end().cloned().unwrap();
            assert_eq!((end.outcome, &end.reason, end.at_ms), (outcome, &reason, NOW + 1));
        }
    }
    assert_eq!(fixture.store.list_active_sessions().await.unwrap(), []);
}

#[tokio::test]
async fn a_cancelled_session_is_not_overwritten_by_a_late_failure() {
    let fixture = StoreFixture::new().await;
    let row = fixture.session().await;
    fixture.cancel(&row.id).await;
    for expect in [ExpectedState::Active, ExpectedState::Epoch(0), ExpectedState::Epoch(1)] {
        let late = SessionChange::new().end_as_failed(Reason::new(EndReason::ReadyTimeout, ""), NOW + 9);
        let answer =
            fixture.store.transition(&row.id, expect, late, entry(TimelineKind::MachineReplaced)).await.unwrap();
        let TransitionOutcome::Conflict(now) = answer else { panic!("{answer:?}") };
        assert_eq!(now.end().unwrap().outcome, SessionOutcome::Cancelled);
    }
    assert_eq!(fixture.kinds(&row.id).await, [TimelineKind::Accepted, TimelineKind::Cancelled]);
    // A timeline entry about a later event is not a change.
    fixture.store.append_entry(&row.id, entry(TimelineKind::MachineRemoved)).await.unwrap().into_row().unwrap();
}

#[tokio::test]
async fn ended_sessions_and_append_only_rows_resist_direct_sql() {
    let fixture = StoreFixture::new().await;
    let (row, credential) = fixture.completed(b"secret").await;
    fixture.store.lease_credential(&credential, &fixture.owner, NOW).await.unwrap().unwrap();
    fixture.store.delete_credential(&credential, NOW).await.unwrap();
    let mut sql = fixture.sql().await;
    for text in [
        "UPDATE sessions SET state = 'cancelled', credential_id = NULL",
        "UPDATE sessions SET state = 'active', ended_at_ms = NULL, credential_id = NULL",
        "UPDATE sessions SET user_id = 'someone else'",
        "DELETE FROM sessions",
        "UPDATE timeline SET sentence = 'nothing happened'",
        "DELETE FROM timeline",
        "UPDATE leases SET at_ms = 0",
        "DELETE FROM leases",
        &format!("UPDATE credentials SET deleted_at_ms = NULL, sealed = {}", database::ZERO_BYTE),
    ] {
        assert!(sql.execute(sqlx::AssertSqlSafe(text)).await.is_err(), "{text}");
    }
    assert_eq!(fixture.store.get_session(&row.id).await.unwrap().unwrap(), row);
    assert_eq!(
        fixture.kinds(&row.id).await,
        [TimelineKind::Accepted, TimelineKind::MachineReady, TimelineKind::Completed]
    );
}

#[tokio::test]
async fn an_unknown_session_is_an_error() {
    let fixture = StoreFixture::new().await;
    let error = fixture
        .store
        .transition(&session_id(), ExpectedState::Active, SessionChange::new(), entry(TimelineKind::CliStarted))
        .await
        .unwrap_err();
    assert!(matches!(error, StoreError::SessionNotFound(_)), "{error:?}");
    assert_eq!(error.kind(), StoreErrorKind::Conflict);
}

#[tokio::test]
async fn a_change_is_rolled_back_if_its_timeline_entry_fails() {
    let fixture = StoreFixture::new().await;
    let row = fixture.session().await;
    let mut sql = fixture.sql().await;
    sql.execute(database::REJECT_ENTRIES).await.unwrap();
    let change = SessionChange::new().end_as_failed(Reason::new(EndReason::Internal, ""), NOW);
    fixture.store.transition(&row.id, ExpectedState::Active, change, entry(TimelineKind::Failed)).await.unwrap_err();
    assert_eq!(fixture.store.get_session(&row.id).await.unwrap(), Some(row));
}
