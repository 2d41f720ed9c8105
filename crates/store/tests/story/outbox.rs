//! Messages to somebody outside: written exactly if that happened of which they tell, tried until they are taken or given up.

use crate::world::{NOW, World, event};
use anteroom_store::{
    MessageSubject, Change, Completed, Completion, Expect, Retention, NewCredential, NewMessage, Reason, Sha256Hex, Transition,
};
use anteroom_wire::{CredentialId, MessageId, Problem, SessionId};
use sqlx::Executor;

fn message(number: u8, subject: MessageSubject) -> NewMessage {
    let id = MessageId::from_parts(NOW, [number; 10]);
    NewMessage { id, kind: "something.happened".to_owned(), subject, created_at_ms: NOW, due_at_ms: NOW }
}

async fn due(world: &World, now: u64) -> Vec<MessageId> {
    world.store.due_messages(now, 10).await.unwrap().into_iter().map(|row| row.id).collect()
}

#[tokio::test]
async fn a_completion_and_its_messages_are_written_together_or_not_at_all() {
    let world = World::new().await;
    let row = world.session_with_machine("agent").await;
    let (id, token) = (CredentialId::from_parts(NOW, [1; 10]), Sha256Hex::of(b"agent"));
    let sealed = world.seal(&row, &id, b"secret");
    let stored = message(1, MessageSubject::Both(row.id.clone(), id.clone()));
    // The second is about a session that there is not.
    let impossible = message(2, MessageSubject::Session(SessionId::from_parts(NOW, [0; 10])));
    let complete = async |messages: &[NewMessage]| {
        let credential =
            NewCredential { id: &id, sealed: &sealed, files: &[], retention: Retention::UntilDeleted, expires_at_ms: None };
        let completion =
            Completion { session: &row.id, generation: 1, agent_token: &token, credential, messages, at_ms: NOW };
        world.store.complete_with_credential(&completion, event("completed")).await
    };
    complete(&[stored.clone(), impossible]).await.unwrap_err();
    assert_eq!(due(&world, NOW).await, []);
    assert!(world.store.session(&row.id).await.unwrap().unwrap().is_active());
    assert!(matches!(complete(std::slice::from_ref(&stored)).await.unwrap(), Completed::Stored { .. }));
    let [waiting] = &world.store.due_messages(NOW, 10).await.unwrap()[..] else { panic!() };
    assert_eq!((&waiting.id, &waiting.kind, &waiting.subject), (&stored.id, &stored.kind, &stored.subject));
    let late = message(3, MessageSubject::Session(row.id.clone()));
    assert!(matches!(complete(&[late]).await.unwrap(), Completed::Ignored(_)));
    assert_eq!(due(&world, NOW).await.len(), 1, "what was ignored is told to nobody");
}

#[tokio::test]
async fn a_change_that_does_not_happen_tells_nobody() {
    let world = World::new().await;
    let row = world.session().await;
    let told = |number| {
        let end = Change::new().fail(Reason::new(Problem::Internal, ""), NOW);
        end.tell(message(number, MessageSubject::Session(row.id.clone())))
    };
    world.done(&row.id, Expect::Active, told(1), "failed").await;
    let late = world.store.transition(&row.id, Expect::Active, told(2), event("late")).await.unwrap();
    assert!(matches!(late, Transition::Conflict(_)));
    assert_eq!(due(&world, NOW).await, [MessageId::from_parts(NOW, [1; 10])]);
}

#[tokio::test]
async fn a_message_is_tried_until_it_is_taken_or_given_up_and_then_stays_as_it_was() {
    let world = World::new().await;
    let session = world.session().await.id;
    let [taken, given_up] = [1, 2].map(|number| message(number, MessageSubject::Session(session.clone())));
    for message in [&taken, &given_up] {
        world.store.enqueue_message(message).await.unwrap();
    }
    assert_eq!(due(&world, NOW - 1).await, []);
    assert_eq!(due(&world, NOW).await, [taken.id.clone(), given_up.id.clone()]);
    let long = "e".repeat(5_000);
    assert!(world.store.message_failed(&taken.id, &long, NOW + 10).await.unwrap());
    assert_eq!(due(&world, NOW + 9).await, std::slice::from_ref(&given_up.id));
    let rows = world.store.due_messages(NOW + 10, 10).await.unwrap();
    let again = rows.iter().find(|row| row.id == taken.id).unwrap();
    assert_eq!((again.attempts, again.last_error.as_ref().unwrap().len()), (1, 1_000));

    assert!(world.store.message_delivered(&taken.id, NOW + 11).await.unwrap());
    assert!(world.store.message_abandoned(&given_up.id, "410", NOW + 12).await.unwrap());
    assert_eq!(due(&world, u64::MAX).await, []);
    for id in [&taken.id, &given_up.id] {
        assert!(!world.store.message_delivered(id, NOW + 20).await.unwrap(), "it is done");
        assert!(!world.store.message_failed(id, "late", NOW).await.unwrap());
    }
    let mut hand = world.hand().await;
    assert!(hand.execute("UPDATE outbox SET done_at_ms = NULL").await.is_err());
    assert_eq!(world.store.delete_messages_before(NOW + 12).await.unwrap(), 1);
    assert_eq!(world.store.delete_messages_before(NOW + 13).await.unwrap(), 1);
}
