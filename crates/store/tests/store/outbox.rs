//! Webhook messages: enqueued exactly if their change is committed, retried until they are delivered or abandoned.

use crate::fixture::{NOW, StoreFixture, entry, retained_credential};
use anteroom_store::{
    CompleteOutcome, CompleteWithCredential, ExpectedState, NewMessage, Reason, Regarding, Resend, SessionChange,
    Sha256Hex, TransitionOutcome,
};
use anteroom_wire::{CredentialId, EndReason, MessageId, SessionId, TimelineKind};
use sqlx::Executor;

fn message(number: u8, regarding: Regarding) -> NewMessage {
    let id = MessageId::from_parts(NOW, [number; 10]);
    NewMessage {
        id,
        kind: "something.happened".to_owned(),
        receiver: "default".to_owned(),
        regarding,
        created_at_ms: NOW,
        due_at_ms: NOW,
    }
}

async fn due(fixture: &StoreFixture, now: u64) -> Vec<MessageId> {
    fixture.store.list_due_messages(now, None, 10).await.unwrap().into_iter().map(|row| row.id).collect()
}

#[tokio::test]
async fn a_completion_and_its_messages_are_written_together_or_not_at_all() {
    let fixture = StoreFixture::new().await;
    let row = fixture.session_with_machine("agent").await;
    let (id, token) = (CredentialId::from_parts(NOW, [1; 10]), Sha256Hex::of_bytes(b"agent"));
    let sealed = fixture.seal(&row, &id, b"secret");
    let stored = message(1, Regarding::Both(row.id.clone(), id.clone()));
    // The second refers to a session that does not exist.
    let impossible = message(2, Regarding::Session(SessionId::from_parts(NOW, [0; 10])));
    let complete = async |webhook_messages: &[NewMessage]| {
        let credential = retained_credential(&id, &sealed, &[]);
        let completion = CompleteWithCredential {
            session: &row.id,
            generation: 1,
            agent_token: &token,
            credential,
            webhook_messages,
            at_ms: NOW,
        };
        fixture.store.complete_with_credential(&completion, entry(TimelineKind::Completed)).await
    };
    complete(&[stored.clone(), impossible]).await.unwrap_err();
    assert_eq!(due(&fixture, NOW).await, []);
    assert!(fixture.store.get_session(&row.id).await.unwrap().unwrap().is_active());
    assert!(matches!(complete(std::slice::from_ref(&stored)).await.unwrap(), CompleteOutcome::Stored { .. }));
    let [waiting] = &fixture.store.list_due_messages(NOW, None, 10).await.unwrap()[..] else { panic!() };
    assert_eq!((&waiting.id, &waiting.kind, &waiting.regarding), (&stored.id, &stored.kind, &stored.regarding));
    let late = message(3, Regarding::Session(row.id.clone()));
    assert!(matches!(complete(&[late]).await.unwrap(), CompleteOutcome::Ignored(_)));
    assert_eq!(due(&fixture, NOW).await.len(), 1, "an ignored delivery enqueues no message");
}

#[tokio::test]
async fn a_rejected_change_enqueues_no_message() {
    let fixture = StoreFixture::new().await;
    let row = fixture.session().await;
    let change = |number| {
        let end = SessionChange::new().end_as_failed(Reason::new(EndReason::Internal, ""), NOW);
        end.with_webhook_message(message(number, Regarding::Session(row.id.clone())))
    };
    fixture.done(&row.id, ExpectedState::Active, change(1), TimelineKind::Failed).await;
    let late = fixture
        .store
        .transition(&row.id, ExpectedState::Active, change(2), entry(TimelineKind::MachineReplaced))
        .await
        .unwrap();
    assert!(matches!(late, TransitionOutcome::Conflict(_)));
    assert_eq!(due(&fixture, NOW).await, [MessageId::from_parts(NOW, [1; 10])]);
}

#[tokio::test]
async fn a_message_is_retried_until_delivered_or_abandoned_and_is_then_final() {
    let fixture = StoreFixture::new().await;
    let session = fixture.session().await.id;
    let [delivered, abandoned] = [1, 2].map(|number| message(number, Regarding::Session(session.clone())));
    for message in [&delivered, &abandoned] {
        fixture.store.enqueue_messages(std::slice::from_ref(message)).await.unwrap();
    }
    assert_eq!(due(&fixture, NOW - 1).await, []);
    assert_eq!(due(&fixture, NOW).await, [delivered.id.clone(), abandoned.id.clone()]);
    let long = "e".repeat(5_000);
    assert!(fixture.store.record_message_failed(&delivered.id, &long, NOW + 10).await.unwrap());
    assert_eq!(due(&fixture, NOW + 9).await, std::slice::from_ref(&abandoned.id));
    let rows = fixture.store.list_due_messages(NOW + 10, None, 10).await.unwrap();
    let again = rows.iter().find(|row| row.id == delivered.id).unwrap();
    assert_eq!((again.attempts, again.last_error.as_ref().unwrap().len()), (1, 1_000));

    assert!(fixture.store.record_message_delivered(&delivered.id, NOW + 11).await.unwrap());
    assert!(fixture.store.record_message_abandoned(&abandoned.id, "410", NOW + 12).await.unwrap());
    assert_eq!(due(&fixture, u64::MAX).await, []);
    for id in [&delivered.id, &abandoned.id] {
        assert!(!fixture.store.record_message_delivered(id, NOW + 20).await.unwrap(), "it is done");
        assert!(!fixture.store.record_message_failed(id, "late", NOW).await.unwrap());
    }
    let mut sql = fixture.sql().await;
    assert!(sql.execute("UPDATE outbox SET done_at_ms = NULL").await.is_err());
    for expected in [Resend::Done, Resend::Pending] {
        assert_eq!(fixture.store.resend_message(&abandoned.id, NOW + 21).await.unwrap(), expected);
    }
    let unknown = "msg_00000000000000000000000000".parse().unwrap();
    assert_eq!(fixture.store.resend_message(&unknown, NOW + 21).await.unwrap(), Resend::Unknown);
    assert_eq!(due(&fixture, NOW + 21).await, std::slice::from_ref(&abandoned.id));
    assert_eq!(fixture.store.list_due_messages(NOW + 21, Some("other"), 10).await.unwrap(), []);
    assert!(fixture.store.record_message_abandoned(&abandoned.id, "410", NOW + 12).await.unwrap());
    assert_eq!(fixture.store.delete_messages_before(NOW + 12).await.unwrap(), 1);
    assert_eq!(fixture.store.delete_messages_before(NOW + 13).await.unwrap(), 1);
}
