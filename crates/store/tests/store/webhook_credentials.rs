//! What is handed out once goes by one way: with one message or to one caller; and what took its place meanwhile is neither lost nor
//! handed out twice.

use crate::fixture::{NOW, StoreFixture};
use anteroom_store::{
    Change, Completed, CredentialDelivery, Expect, MessageSubject, NewMessage, NewSession, Retention,
};
use anteroom_wire::{CredentialId, MessageId, provider::MethodName};
use sqlx::Executor;
use std::sync::Arc;

const UNTIL: u64 = NOW + 1_000;

impl StoreFixture {
    /// Messages about the credential that wait.
    async fn told<const N: usize>(&self, credential: &CredentialId) -> [MessageId; N] {
        let ids: [MessageId; N] = std::array::from_fn(|_| MessageId::from_parts(NOW, crate::fixture::random()));
        for id in &ids {
            let (kind, subject) = ("credential.stored".to_owned(), MessageSubject::Credential(credential.clone()));
            let message = NewMessage { id: id.clone(), kind, subject, created_at_ms: NOW, due_at_ms: NOW };
            self.store.enqueue_message(&message).await.unwrap();
        }
        ids
    }

    /// The revision that the message takes along, and whether anew.
    async fn carries(&self, message: &MessageId, credential: &CredentialId) -> Option<(u64, bool)> {
        let carried = self.store.claim_for_webhook(message, credential, NOW + 1).await.unwrap()?;
        Some((carried.record.credential.revision, carried.is_new))
    }

    async fn leased(&self, credential: &CredentialId) -> bool {
        self.store.lease(credential, &self.owner, NOW + 1).await.unwrap().is_some()
    }

    async fn handed_over(&self, message: &MessageId) -> CredentialDelivery {
        self.store.message_delivered_credential(message, &self.owner, NOW + 2).await.unwrap()
    }
}

#[tokio::test]
async fn of_leases_and_messages_at_once_exactly_one_gets_what_is_handed_out_once() {
    let fixture = Arc::new(StoreFixture::new().await);
    for _ in 0..8 {
        let id = fixture.once(UNTIL, &[7; 64]).await;
        let messages: [MessageId; 3] = fixture.told(&id).await;
        let ways: Vec<_> = (0..6)
            .map(|at| {
                let (fixture, id, message) = (Arc::clone(&fixture), id.clone(), messages.get(at).cloned());
                tokio::spawn(async move {
                    match message {
                        Some(message) => fixture.carries(&message, &id).await.is_some(),
                        None => fixture.leased(&id).await,
                    }
                })
            })
            .collect();
        let mut given = 0;
        for way in ways {
            given += usize::from(way.await.unwrap());
        }
        assert_eq!(given, 1);
    }
}

#[tokio::test]
async fn what_a_message_carries_is_nobody_elses_until_it_bounced_or_was_given_up() {
    let fixture = StoreFixture::new().await;
    let id = fixture.once(UNTIL, &[1; 64]).await;
    let [first, second] = fixture.told(&id).await;
    assert_eq!(fixture.carries(&first, &id).await, Some((1, true)));
    assert_eq!((fixture.leased(&id).await, fixture.carries(&second, &id).await), (false, None));
    assert_eq!(fixture.store.leases(&id, 9).await.unwrap(), [], "a lease that is refused is not on the record");
    // Nobody knows whether it was taken: it stays with this message.
    assert!(fixture.store.message_failed(&first, "no answer", NOW + 1).await.unwrap());
    assert!(!fixture.leased(&id).await);
    assert_eq!(fixture.carries(&first, &id).await, Some((1, false)));
    assert!(fixture.store.message_abandoned(&first, "no answer", NOW + 2).await.unwrap());
    assert_eq!(fixture.carries(&first, &id).await, None, "it is done");
    // It certainly was not.
    assert_eq!(fixture.carries(&second, &id).await, Some((1, true)));
    assert!(fixture.store.message_rejected(&second, "503", NOW + 1).await.unwrap());
    assert!(fixture.leased(&id).await);
    assert_eq!(fixture.carries(&second, &id).await, None, "somebody fetched it");
}

#[tokio::test]
async fn a_message_that_is_taken_is_done_on_the_record_and_its_bytes_are_gone() {
    let fixture = StoreFixture::new().await;
    let id = fixture.once(UNTIL, &[9; 64]).await;
    let tail = fixture.tail(&id).await;
    let [message, other] = fixture.told(&id).await;
    assert_eq!(fixture.handed_over(&message).await, CredentialDelivery::NotClaimed, "it carried nothing");
    assert!(fixture.carries(&message, &id).await.is_some());
    assert_eq!(fixture.handed_over(&message).await, CredentialDelivery::Deleted);
    assert!(!fixture.on_disk(&tail));
    assert_eq!(fixture.store.leases(&id, 9).await.unwrap().len(), 1);
    assert_eq!(fixture.handed_over(&message).await, CredentialDelivery::NotClaimed, "once");
    assert_eq!((fixture.leased(&id).await, fixture.carries(&other, &id).await), (false, None));
    let waiting = fixture.store.due_messages(NOW, 9).await.unwrap();
    assert_eq!(waiting.into_iter().map(|row| row.id).collect::<Vec<_>>(), [other]);
    // Its time was over while it was on its way.
    let late = fixture.once(NOW + 5, &[2; 64]).await;
    let [message] = fixture.told(&late).await;
    assert!(fixture.carries(&message, &late).await.is_some());
    assert_eq!(fixture.store.delete_expired(NOW + 5, 9).await.unwrap().len(), 1);
    assert_eq!(fixture.handed_over(&message).await, CredentialDelivery::AlreadyDeleted);
    assert_eq!(fixture.store.leases(&late, 9).await.unwrap().len(), 1, "it was handed out even so");
    // What is over is taken along by nobody.
    let over = fixture.once(NOW + 1, &[3; 64]).await;
    let [message] = fixture.told(&over).await;
    assert_eq!(fixture.carries(&message, &over).await, None);
}

#[tokio::test]
async fn bytes_that_take_the_place_of_those_on_their_way_are_handed_out_once_by_another_message() {
    let fixture = StoreFixture::new().await;
    let id = fixture.once(UNTIL, b"first").await;
    let [first, second] = fixture.told(&id).await;
    assert_eq!(fixture.carries(&first, &id).await, Some((1, true)));
    let renewing = fixture.renewing(&id).await;
    let renewed = fixture.complete(&renewing, &id, Retention::UntilDelivered { until_ms: UNTIL }, b"second").await;
    assert!(matches!(renewed, Completed::Stored { .. }));
    assert_eq!(fixture.handed_over(&first).await, CredentialDelivery::Replaced);
    assert_eq!(fixture.plaintext(&id).await.unwrap(), b"second");
    assert_eq!(fixture.carries(&second, &id).await, Some((2, true)));
    assert_eq!(fixture.handed_over(&second).await, CredentialDelivery::Deleted);
    assert_eq!(fixture.store.leases(&id, 9).await.unwrap().len(), 2, "each on the record");
}

#[tokio::test]
async fn a_message_that_may_have_been_taken_carries_nothing_else_under_its_id() {
    let fixture = StoreFixture::new().await;
    let id = fixture.once(UNTIL, b"first").await;
    let [first, second] = fixture.told(&id).await;
    assert!(fixture.carries(&first, &id).await.is_some());
    assert!(fixture.store.message_failed(&first, "no answer", NOW).await.unwrap());
    let using = fixture.using(&id).await;
    assert_eq!(fixture.refreshed(&using, b"second").await.stored, 2);
    assert_eq!(fixture.carries(&first, &id).await, None, "a receiver that has the first does not look at it again");
    assert_eq!(fixture.carries(&second, &id).await, Some((2, true)));
    assert!(!fixture.leased(&id).await);
    // No message is sent with files any more.
    assert!(fixture.store.release_webhook_claims(&id).await.unwrap());
    assert!(!fixture.store.release_webhook_claims(&id).await.unwrap());
    assert_eq!(fixture.carries(&second, &id).await, None);
    assert!(fixture.leased(&id).await);
}

#[tokio::test]
async fn the_database_itself_lets_one_message_carry_and_nothing_else() {
    let fixture = StoreFixture::new().await;
    let id = fixture.once(UNTIL, b"first").await;
    let [first, second] = fixture.told(&id).await;
    assert!(fixture.carries(&first, &id).await.is_some());
    let mut sql = fixture.sql().await;
    for text in [
        format!("UPDATE outbox SET claimed_revision = 1 WHERE id = '{second}'"),
        format!("UPDATE outbox SET claimed_revision = 2 WHERE id = '{first}'"),
        format!("UPDATE outbox SET claimed_revision = -1 WHERE id = '{second}'"),
    ] {
        assert!(sql.execute(sqlx::AssertSqlSafe(text.clone())).await.is_err(), "{text}");
    }
}

#[tokio::test]
async fn a_refresh_came_by_the_method_of_what_lay_in_its_machine() {
    let fixture = StoreFixture::new().await;
    let method = |name: &str| MethodName::try_from(name.to_owned()).unwrap();
    let (_, id) = fixture.completed(b"first").await;
    let using = fixture.using(&id).await;
    let installed = Change::new().method(method("usual"));
    fixture.done(&using.id, Expect::Active, installed, "credential_unsealed").await;
    let purpose = anteroom_store::SessionPurpose::SignIn { renews: Some(id.clone()) };
    let new = NewSession { purpose, method: Some(method("other")), ..fixture.new_session() };
    let renewing = fixture.aimed_as(new).await;
    fixture.complete(&renewing, &id, Retention::UntilDeleted, b"second").await;
    assert_eq!(fixture.store.credential(&id).await.unwrap().unwrap().method, Some(method("other")));
    fixture.refreshed(&using, b"third").await;
    assert_eq!(fixture.store.credential(&id).await.unwrap().unwrap().method, Some(method("usual")));
}
