//! External machines: only one active session at a time uses one.

use crate::fixture::{StoreFixture, entry, session_id};
use anteroom_store::{
    CompleteOutcome, CreateSessionOutcome, ExternalMachineClaim, IdempotencyKey, NewSession, Sha256Hex,
};
use anteroom_wire::TimelineKind;
use sqlx::Executor;

fn on(fixture: &StoreFixture, machine: &str) -> NewSession {
    let external =
        Some(ExternalMachineClaim { machine: machine.to_owned(), agent_token: Sha256Hex::of_bytes(b"token") });
    NewSession { id: session_id(), external, ..fixture.new_session() }
}

#[tokio::test]
async fn a_session_on_an_external_machine_has_its_name_and_token_from_the_start() {
    let fixture = StoreFixture::new().await;
    let row = fixture.create(&on(&fixture, "desk")).await;
    assert_eq!(row.external_machine.as_deref(), Some("desk"));
    assert_eq!((row.agent_token, row.machine), (Some(Sha256Hex::of_bytes(b"token")), None));
    assert_eq!(fixture.session().await.external_machine, None, "others have none");
}

#[tokio::test]
async fn only_one_of_twenty_concurrent_starts_gets_the_external_machine() {
    let fixture = StoreFixture::new().await;
    let (mut new, mut in_use) = (Vec::new(), Vec::new());
    for outcome in fixture.create_twenty(|| on(&fixture, "desk")).await {
        match outcome {
            CreateSessionOutcome::New(row) => new.push(row.id),
            CreateSessionOutcome::MachineInUse(row) => in_use.push(row.id),
            other @ (CreateSessionOutcome::Existing(_) | CreateSessionOutcome::IdempotencyKeyReused(_)) => {
                panic!("{other:?}")
            }
        }
    }
    assert_eq!((new.len(), in_use.len()), (1, 19));
    assert!(in_use.iter().all(|id| *id == new[0]), "the conflict names the session that uses it");
    let other = fixture.store.create_session(&on(&fixture, "another"), entry(TimelineKind::Accepted)).await.unwrap();
    assert!(matches!(other, CreateSessionOutcome::New(_)), "another machine is free");
}

#[tokio::test]
async fn an_external_machine_is_available_after_its_session_ended() {
    let fixture = StoreFixture::new().await;
    let row = fixture.create(&on(&fixture, "desk")).await;
    fixture.cancel(&row.id).await;
    let next = fixture.store.create_session(&on(&fixture, "desk"), entry(TimelineKind::Accepted)).await.unwrap();
    assert!(matches!(next, CreateSessionOutcome::New(_)), "{next:?}");
}

#[tokio::test]
async fn a_repeated_start_finds_its_session_even_if_another_uses_the_machine() {
    let fixture = StoreFixture::new().await;
    let key = IdempotencyKey { key: "click".to_owned(), request: Sha256Hex::of_bytes(b"desk") };
    let again = || NewSession { idempotency: Some(key.clone()), ..on(&fixture, "desk") };
    let first = fixture.create(&again()).await;
    let found = fixture.store.create_session(&again(), entry(TimelineKind::Accepted)).await.unwrap();
    assert!(matches!(found, CreateSessionOutcome::Existing(row) if row.id == first.id), "while it is active");
    fixture.cancel(&first.id).await;
    fixture.store.create_session(&on(&fixture, "desk"), entry(TimelineKind::Accepted)).await.unwrap();
    let found = fixture.store.create_session(&again(), entry(TimelineKind::Accepted)).await.unwrap();
    assert!(matches!(found, CreateSessionOutcome::Existing(row) if row.id == first.id), "after its end");
}

#[tokio::test]
async fn constraints_allow_only_one_active_session_per_external_machine() {
    let fixture = StoreFixture::new().await;
    fixture.store.create_session(&on(&fixture, "desk"), entry(TimelineKind::Accepted)).await.unwrap();
    let other = fixture.session().await;
    let mut sql = fixture.sql().await;
    let set = format!("UPDATE sessions SET external_machine = 'desk' WHERE id = '{}'", other.id);
    assert!(sql.execute(sqlx::AssertSqlSafe(set)).await.is_err());
}

#[tokio::test]
async fn only_the_agent_token_of_the_external_machine_completes_the_session() {
    let fixture = StoreFixture::new().await;
    let row = fixture.create(&on(&fixture, "desk")).await;
    let done = fixture.deliver(&row, "guess", 1, b"secret").await;
    assert!(matches!(done, CompleteOutcome::WrongToken), "{done:?}");
    let done = fixture.deliver(&row, "token", 1, b"secret").await;
    assert!(matches!(done, CompleteOutcome::Stored { .. }), "{done:?}");
}
