//! Creating, listing and touching sessions.

use crate::fixture::{HOUR, NOW, StoreFixture, entry, random, session_id, settings};
use anteroom_store::{
    AppendOutcome, CreateSessionOutcome, ExpectedState, IdempotencyKey, NewSession, NewTimelineEntry, OwnerFilter,
    Reason, RowStatus, SessionChange, SessionFilter, SessionStates, Sha256Hex, Store, StoreErrorKind, StoreSettings,
};
use anteroom_vault::RowContent;
use anteroom_wire::{CallerId, EndReason, SessionId, TimelineKind};
use serde_json::json;
use sqlx::Executor;

fn keyed(fixture: &StoreFixture, key: &str, request: &str) -> NewSession {
    let idempotency = Some(IdempotencyKey { key: key.to_owned(), request: Sha256Hex::of_bytes(request.as_bytes()) });
    NewSession { id: session_id(), idempotency, ..fixture.new_session() }
}

#[tokio::test]
async fn a_created_session_reads_back_unchanged() {
    let fixture = StoreFixture::new().await;
    let new = fixture.new_session();
    let row = fixture.create(&new).await;
    assert_eq!(fixture.store.get_session(&new.id).await.unwrap().as_ref(), Some(&row));
    assert_eq!((&row.id, &row.owner, &row.provider), (&new.id, &new.owner, &new.provider));
    assert_eq!((row.user_id, row.return_url), (new.user_id, new.return_url));
    assert_eq!((row.epoch, row.generation, row.cli_started), (0, 1, false));
    assert_eq!((row.created_at_ms, row.idle_deadline_ms, row.deadline_ms), (NOW, Some(NOW + HOUR), NOW + 4 * HOUR));
    assert_eq!(row.status, RowStatus::Active { replacement_reason: None });
    assert_eq!(fixture.kinds(&row.id).await, [TimelineKind::Accepted]);
}

#[tokio::test]
async fn concurrent_starts_with_one_key_create_one_session_in_the_store() {
    let fixture = StoreFixture::new().await;
    let (mut new, mut existing) = (Vec::new(), Vec::new());
    for outcome in fixture.create_twenty(|| keyed(&fixture, "click", "codex")).await {
        match outcome {
            CreateSessionOutcome::New(row) => new.push(row.id),
            CreateSessionOutcome::Existing(row) => existing.push(row.id),
            CreateSessionOutcome::IdempotencyKeyReused(_) | CreateSessionOutcome::MachineInUse(_) => {
                panic!("the same request")
            }
        }
    }
    assert_eq!((new.len(), existing.len()), (1, 19));
    assert!(existing.iter().all(|id| *id == new[0]));
    assert_eq!(fixture.store.list_sessions(OwnerFilter::All, 100, None).await.unwrap().len(), 1);
    assert_eq!(fixture.kinds(&new[0]).await, [TimelineKind::Accepted]);
}

#[tokio::test]
async fn two_processes_with_one_idempotency_key_create_one_session() {
    let fixture = StoreFixture::new().await;
    let other = Store::open(&fixture.address, settings()).await.unwrap();
    other.use_row_macs(fixture.ring.clone());
    let (a, b) = (keyed(&fixture, "click", "codex"), keyed(&fixture, "click", "codex"));
    let (a, b) = tokio::join!(
        fixture.store.create_session(&a, entry(TimelineKind::CliStarted)),
        other.create_session(&b, entry(TimelineKind::CliExited))
    );
    let new_count =
        [a.unwrap(), b.unwrap()].iter().filter(|created| matches!(created, CreateSessionOutcome::New(_))).count();
    assert_eq!(new_count, 1);
    assert_eq!(other.list_sessions(OwnerFilter::All, 100, None).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_reused_idempotency_key_is_reported_and_keys_are_per_owner() {
    let fixture = StoreFixture::new().await;
    fixture.store.create_session(&keyed(&fixture, "k", "codex"), entry(TimelineKind::Accepted)).await.unwrap();
    let other =
        fixture.store.create_session(&keyed(&fixture, "k", "gemini"), entry(TimelineKind::Accepted)).await.unwrap();
    assert!(matches!(other, CreateSessionOutcome::IdempotencyKeyReused(_)), "{other:?}");

    let other_owner = CallerId::from_parts(NOW, [9; 10]);
    let caller = fixture.new_caller(other_owner.clone(), anteroom_store::Role::Backend, "token-2");
    fixture.store.create_caller(&caller).await.unwrap();
    let theirs = NewSession { owner: other_owner.clone(), ..keyed(&fixture, "k", "gemini") };
    assert!(matches!(
        fixture.store.create_session(&theirs, entry(TimelineKind::Accepted)).await.unwrap(),
        CreateSessionOutcome::New(_)
    ));
    assert_eq!(fixture.store.list_sessions(OwnerFilter::Owner(&other_owner), 10, None).await.unwrap().len(), 1);
    assert_eq!(fixture.store.list_sessions(OwnerFilter::All, 10, None).await.unwrap().len(), 2);
}

#[tokio::test]
async fn an_unknown_owner_or_an_existing_id_is_a_conflict_without_effect() {
    let fixture = StoreFixture::new().await;
    let orphan = NewSession { owner: CallerId::from_parts(1, [0; 10]), ..fixture.new_session() };
    let error = fixture.store.create_session(&orphan, entry(TimelineKind::Accepted)).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Conflict, "{error:?}");
    assert_eq!(fixture.store.get_session(&orphan.id).await.unwrap(), None);

    let taken = NewSession { id: fixture.session().await.id, ..fixture.new_session() };
    let error = fixture.store.create_session(&taken, entry(TimelineKind::Accepted)).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Conflict, "{error:?}");
    assert_eq!(fixture.kinds(&taken.id).await, [TimelineKind::Accepted]);
}

#[tokio::test]
async fn pages_of_sessions_are_newest_first_without_gaps() {
    let fixture = StoreFixture::new().await;
    let mut ids = Vec::new();
    for _ in 0..7 {
        ids.push(fixture.session().await.id);
    }
    ids.sort();
    ids.reverse();
    let (mut seen, mut before) = (Vec::new(), None);
    loop {
        let page = fixture.store.list_sessions(OwnerFilter::Owner(&fixture.owner), 3, before.as_ref()).await.unwrap();
        let Some(last) = page.last() else { break };
        before = Some(last.id.clone());
        seen.extend(page.into_iter().map(|row| row.id));
    }
    assert_eq!(seen, ids);
}

#[tokio::test]
async fn only_active_sessions_past_a_deadline_are_listed() {
    let fixture = StoreFixture::new().await;
    let (idle, used, capped, ended) =
        (fixture.session().await, fixture.session().await, fixture.session().await, fixture.session().await);
    assert!(fixture.store.record_session_use(&used.id, NOW + HOUR, Some(NOW + 2 * HOUR)).await.unwrap());
    fixture
        .done(
            &capped.id,
            ExpectedState::Active,
            SessionChange::new().with_idle_deadline(None).with_deadline(NOW + 10),
            TimelineKind::MethodChosen,
        )
        .await;
    fixture.cancel(&ended.id).await;

    let mut overdue: Vec<_> =
        fixture.store.list_sessions_past_deadline(NOW + HOUR).await.unwrap().into_iter().map(|row| row.id).collect();
    overdue.sort();
    let mut expected = vec![idle.id, capped.id];
    expected.sort();
    assert_eq!(overdue, expected);
    assert_eq!(fixture.store.list_sessions_past_deadline(NOW).await.unwrap(), []);
    assert_eq!(fixture.store.list_active_sessions().await.unwrap().len(), 3);
}

#[tokio::test]
async fn an_older_use_or_a_use_after_the_end_changes_nothing() {
    let fixture = StoreFixture::new().await;
    let row = fixture.session().await;
    assert!(fixture.store.record_session_use(&row.id, NOW + 20, Some(NOW + 2 * HOUR)).await.unwrap());
    assert!(fixture.store.record_session_use(&row.id, NOW + 10, Some(NOW + HOUR)).await.unwrap());
    let after = fixture.store.get_session(&row.id).await.unwrap().unwrap();
    assert_eq!((after.last_used_at_ms, after.idle_deadline_ms, after.epoch), (NOW + 20, Some(NOW + 2 * HOUR), 0));

    fixture
        .done(
            &row.id,
            ExpectedState::Active,
            SessionChange::new().end_as_expired(Reason::new(EndReason::IdleExpired, ""), NOW),
            TimelineKind::Expired,
        )
        .await;
    assert!(!fixture.store.record_session_use(&row.id, NOW + 30, Some(NOW + 3 * HOUR)).await.unwrap());
    assert!(!fixture.store.record_session_use(&session_id(), NOW, None).await.unwrap());
}

#[tokio::test]
async fn the_timeline_is_ordered_resumable_and_bounded() {
    let limits =
        StoreSettings { timeline_entries_max: 4, sentence_bytes_max: 10, event_data_bytes_max: 20, ..settings() };
    let fixture = StoreFixture::with(limits).await;
    let row = fixture.session().await;
    let long =
        NewTimelineEntry::new(NOW, TimelineKind::SignInUrl, "äöüäöüäöü").with_data(json!({ "text": "x".repeat(100) }));
    fixture.store.append_entry(&row.id, long).await.unwrap().into_row().unwrap();
    fixture
        .store
        .append_entry(&row.id, entry(TimelineKind::CliStarted).with_data(json!({ "n": 3 })))
        .await
        .unwrap()
        .into_row()
        .unwrap();
    assert_eq!(
        fixture.store.append_entry(&row.id, entry(TimelineKind::CliExited)).await.unwrap().into_row().unwrap().number,
        4
    );
    assert_eq!(
        fixture.store.append_entry(&row.id, entry(TimelineKind::DeviceCode)).await.unwrap(),
        AppendOutcome::TimelineFull
    );
    // The entry that ends a session is appended even then.
    let reason = Reason::new(EndReason::MachineFailed, "signal 9");
    fixture
        .done(&row.id, ExpectedState::Active, SessionChange::new().end_as_failed(reason, NOW), TimelineKind::Failed)
        .await;

    let entries = fixture.store.list_timeline(&row.id, 1, 100).await.unwrap();
    assert_eq!(entries.iter().map(|entry| entry.number).collect::<Vec<_>>(), [2, 3, 4, 5]);
    assert_eq!(entries[0].sentence, "äöüäö…");
    assert_eq!(entries[0].data, json!({ "left_out_bytes": 111 }));
    assert_eq!(entries[1].data, json!({ "n": 3 }));
    assert_eq!(entries[3].kind, TimelineKind::Failed);
    assert_eq!(fixture.store.list_timeline(&row.id, 1, 2).await.unwrap().len(), 2);
    let error = fixture.store.append_entry(&session_id(), entry(TimelineKind::CliStarted)).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Conflict);
}

#[tokio::test]
async fn an_entry_of_a_newer_version_keeps_its_sentence_and_does_not_hide_the_others() {
    let fixture = StoreFixture::new().await;
    let row = fixture.session().await;
    let content = RowContent::new("timeline").text(Some(row.id.as_str())).number(Some(2)).number(Some(0));
    let content = content.text(Some("machine_teleported")).text(Some("The machine was teleported."));
    let mac = fixture.ring.row_mac(&content.text(Some("{\"to\":\"a\"}")));
    let head = fixture.ring.row_mac(&RowContent::new("timeline_heads").text(Some(row.id.as_str())).number(Some(2)));
    for text in [
        format!(
            "INSERT INTO timeline (session_id, number, at_ms, kind, sentence, data, mac) \
             VALUES ('{}', 2, 0, 'machine_teleported', 'The machine was teleported.', '{{\"to\":\"a\"}}', '{mac}')",
            row.id
        ),
        format!("UPDATE timeline_heads SET entries = 2, mac = '{head}'"),
    ] {
        fixture.sql().await.execute(sqlx::AssertSqlSafe(text)).await.unwrap();
    }
    fixture.store.append_entry(&row.id, entry(TimelineKind::CliStarted)).await.unwrap().into_row().unwrap();
    let entries = fixture.store.list_timeline(&row.id, 0, 10).await.unwrap();
    let kinds: Vec<_> = entries.iter().map(|entry| entry.kind).collect();
    assert_eq!(kinds, [TimelineKind::Accepted, TimelineKind::Unknown, TimelineKind::CliStarted]);
    assert_eq!(entries[1].sentence, "The machine was teleported.");
    assert_eq!(entries[1].data, json!({ "to": "a" }));
}

#[tokio::test]
async fn concurrent_timeline_entries_get_numbers_without_gaps() {
    let fixture = StoreFixture::new().await;
    let row = fixture.session().await;
    let adding: Vec<_> = (0..50)
        .map(|_| {
            let (store, id) = (fixture.store.clone(), row.id.clone());
            tokio::spawn(async move {
                store.append_entry(&id, entry(TimelineKind::CliStarted)).await.unwrap().into_row().unwrap().number
            })
        })
        .collect();
    let mut numbers = Vec::new();
    for task in adding {
        numbers.push(task.await.unwrap());
    }
    numbers.sort_unstable();
    assert_eq!(numbers, (2..=51).collect::<Vec<u64>>());
}

#[tokio::test]
async fn a_thousand_sessions_are_listed_once_and_in_order_while_others_start_and_end() {
    let fixture = StoreFixture::new().await;
    let mut ids = Vec::new();
    for number in 0..1_000 {
        // Several of one millisecond.
        let id = SessionId::from_parts(NOW + number / 7, random());
        ids.push(fixture.create(&NewSession { id, ..fixture.new_session() }).await.id);
    }
    ids.sort();
    ids.reverse();
    let (mut seen, mut cursor, mut started) = (Vec::new(), None, NOW + 1_000);
    let filter = SessionFilter { user_id: Some("ada@example.org"), ..SessionFilter::of(OwnerFilter::All) };
    loop {
        let page = fixture.store.find_sessions(&filter, 37, cursor.as_ref()).await.unwrap();
        let Some(last) = page.last() else { break };
        cursor = Some(last.id.clone());
        // One of this page, one of a later page and a new one change before the next page is read.
        fixture.cancel(&page[0].id).await;
        if let Some(later) = ids.get(seen.len() + 60) {
            fixture.cancel(later).await;
        }
        started += 1;
        let id = SessionId::from_parts(started, random());
        fixture.create(&NewSession { id, ..fixture.new_session() }).await;
        seen.extend(page.into_iter().map(|row| row.id));
    }
    assert_eq!(seen.len(), 1_000);
    assert_eq!(seen, ids);
    assert_eq!(fixture.store.count_sessions(&filter).await.unwrap(), 1_000 + seen.len().div_ceil(37) as u64);
    let active = SessionFilter { states: SessionStates::Active, ..filter };
    let ended = SessionFilter { states: SessionStates::Ended, ..filter };
    let sum =
        fixture.store.count_sessions(&active).await.unwrap() + fixture.store.count_sessions(&ended).await.unwrap();
    assert_eq!(sum, fixture.store.count_sessions(&filter).await.unwrap());
}
