//! A `deliver_once` credential is delivered by one message or one lease; a newer revision is neither lost nor delivered twice.

use crate::fixture::{NOW, StoreFixture};
use anteroom_store::{
    CompleteOutcome, DeletionPolicy, ExpectedState, NewMessage, NewSession, Regarding, SessionChange,
    WebhookDeliveryOutcome,
};
use anteroom_wire::{CredentialId, MessageId, TimelineKind, provider::MethodName};
use sqlx::Executor;
use std::sync::Arc;

const UNTIL: u64 = NOW + 1_000;

impl StoreFixture {
    /// Enqueues messages about the credential.
    async fn enqueued<const N: usize>(&self, credential: &CredentialId) -> [MessageId; N] {
        let ids: [MessageId; N] = std::array::from_fn(|_| MessageId::from_parts(NOW, crate::fixture::random()));
        for id in &ids {
            let (kind, regarding) = ("credential.stored".to_owned(), Regarding::Credential(credential.clone()));
            let message = NewMessage {
                id: id.clone(),
                kind,
                receiver: "default".into(),
                regarding,
                created_at_ms: NOW,
                due_at_ms: NOW,
            };
            self.store.enqueue_messages(&[message]).await.unwrap();
        }
        ids
    }

    /// The revision that the message claims, and whether the claim is new.
    async fn claims(&self, message: &MessageId, credential: &CredentialId) -> Option<(u64, bool)> {
        let claimed = self.store.claim_credential_for_webhook(message, credential, NOW + 1).await.unwrap()?;
        Some((claimed.record.credential.revision, claimed.is_new))
    }

    async fn leased(&self, credential: &CredentialId) -> bool {
        self.store.lease_credential(credential, &self.owner, NOW + 1).await.unwrap().is_some()
    }

    async fn delivered(&self, message: &MessageId) -> WebhookDeliveryOutcome {
        self.store.record_credential_delivered(message, &self.owner, NOW + 2).await.unwrap()
    }
}

#[tokio::test]
async fn only_one_of_concurrent_leases_and_messages_gets_a_deliver_once_credential() {
    let fixture = Arc::new(StoreFixture::new().await);
    for _ in 0..8 {
        let id = fixture.once(UNTIL, &[7; 64]).await;
        let messages: [MessageId; 3] = fixture.enqueued(&id).await;
        let attempts: Vec<_> = (0..6)
            .map(|at| {
                let (fixture, id, message) = (Arc::clone(&fixture), id.clone(), messages.get(at).cloned());
                tokio::spawn(async move {
                    match message {
                        Some(message) => fixture.claims(&message, &id).await.is_some(),
                        None => fixture.leased(&id).await,
                    }
                })
            })
            .collect();
        let mut given = 0;
        for attempt in attempts {
            given += usize::from(attempt.await.unwrap());
        }
        assert_eq!(given, 1);
    }
}

#[tokio::test]
async fn a_claim_is_exclusive_until_the_message_is_rejected_or_abandoned() {
    let fixture = StoreFixture::new().await;
    let id = fixture.once(UNTIL, &[1; 64]).await;
    let [first, second] = fixture.enqueued(&id).await;
    assert_eq!(fixture.claims(&first, &id).await, Some((1, true)));
    assert_eq!((fixture.leased(&id).await, fixture.claims(&second, &id).await), (false, None));
    assert_eq!(fixture.store.list_leases(&id, 9).await.unwrap(), [], "a rejected lease is not recorded");
    // The result of the attempt is unknown: the message keeps its claim.
    assert!(fixture.store.record_message_failed(&first, "no answer", NOW + 1).await.unwrap());
    assert!(!fixture.leased(&id).await);
    assert_eq!(fixture.claims(&first, &id).await, Some((1, false)));
    assert!(fixture.store.record_message_abandoned(&first, "no answer", NOW + 2).await.unwrap());
    assert_eq!(fixture.claims(&first, &id).await, None, "it is done");
    // The receiver certainly did not process this attempt.
    assert_eq!(fixture.claims(&second, &id).await, Some((1, true)));
    assert!(fixture.store.record_message_rejected(&second, "503", NOW + 1).await.unwrap());
    assert!(fixture.leased(&id).await);
    assert_eq!(fixture.claims(&second, &id).await, None, "it was leased");
}

#[tokio::test]
async fn a_delivered_message_records_a_lease_and_erases_the_bytes() {
    let fixture = StoreFixture::new().await;
    let id = fixture.once(UNTIL, &[9; 64]).await;
    let tail = fixture.tail(&id).await;
    let [message, other] = fixture.enqueued(&id).await;
    assert_eq!(fixture.delivered(&message).await, WebhookDeliveryOutcome::NotClaimed, "it has no claim");
    assert!(fixture.claims(&message, &id).await.is_some());
    assert_eq!(fixture.delivered(&message).await, WebhookDeliveryOutcome::Deleted);
    assert!(!fixture.on_disk(&tail));
    assert_eq!(fixture.store.list_leases(&id, 9).await.unwrap().len(), 1);
    assert_eq!(fixture.delivered(&message).await, WebhookDeliveryOutcome::NotClaimed, "once");
    assert_eq!((fixture.leased(&id).await, fixture.claims(&other, &id).await), (false, None));
    let waiting = fixture.store.list_due_messages(NOW, None, 9).await.unwrap();
    assert_eq!(waiting.into_iter().map(|row| row.id).collect::<Vec<_>>(), [other]);
    // Its deadline passed while the message was being sent.
    let late = fixture.once(NOW + 5, &[2; 64]).await;
    let [message] = fixture.enqueued(&late).await;
    assert!(fixture.claims(&message, &late).await.is_some());
    assert_eq!(fixture.store.delete_expired_credentials(NOW + 5, 9, |_| Vec::new()).await.unwrap().len(), 1);
    assert_eq!(fixture.delivered(&message).await, WebhookDeliveryOutcome::AlreadyDeleted);
    assert_eq!(fixture.store.list_leases(&late, 9).await.unwrap().len(), 1, "it was delivered all the same");
    // A credential past its deadline cannot be claimed.
    let over = fixture.once(NOW + 1, &[3; 64]).await;
    let [message] = fixture.enqueued(&over).await;
    assert_eq!(fixture.claims(&message, &over).await, None);
}

#[tokio::test]
async fn newer_revision_replaces_pending_webhook_credential() {
    let fixture = StoreFixture::new().await;
    let id = fixture.once(UNTIL, b"first").await;
    let [first, second] = fixture.enqueued(&id).await;
    assert_eq!(fixture.claims(&first, &id).await, Some((1, true)));
    let renewing = fixture.renewing(&id).await;
    let renewed = fixture.complete(&renewing, &id, DeletionPolicy::AfterDelivery { until_ms: UNTIL }, b"second").await;
    assert!(matches!(renewed, CompleteOutcome::Stored { .. }));
    assert_eq!(fixture.delivered(&first).await, WebhookDeliveryOutcome::Replaced);
    assert_eq!(fixture.plaintext(&id).await.unwrap(), b"second");
    assert_eq!(fixture.claims(&second, &id).await, Some((2, true)));
    assert_eq!(fixture.delivered(&second).await, WebhookDeliveryOutcome::Deleted);
    assert_eq!(fixture.store.list_leases(&id, 9).await.unwrap().len(), 2, "each is recorded");
}

#[tokio::test]
async fn a_message_with_an_unknown_result_never_claims_another_revision() {
    let fixture = StoreFixture::new().await;
    let id = fixture.once(UNTIL, b"first").await;
    let [first, second] = fixture.enqueued(&id).await;
    assert!(fixture.claims(&first, &id).await.is_some());
    assert!(fixture.store.record_message_failed(&first, "no answer", NOW).await.unwrap());
    let using = fixture.using(&id).await;
    assert_eq!(fixture.refreshed(&using, b"second").await.stored, 2);
    assert_eq!(fixture.claims(&first, &id).await, None, "a receiver ignores a message id that it already processed");
    assert_eq!(fixture.claims(&second, &id).await, Some((2, true)));
    assert!(!fixture.leased(&id).await);
    // Messages are sent without files from now on.
    assert!(fixture.store.release_webhook_claims(&id).await.unwrap());
    assert!(!fixture.store.release_webhook_claims(&id).await.unwrap());
    assert_eq!(fixture.claims(&second, &id).await, None);
    assert!(fixture.leased(&id).await);
}

#[tokio::test]
async fn constraints_allow_only_one_claim_per_revision() {
    let fixture = StoreFixture::new().await;
    let id = fixture.once(UNTIL, b"first").await;
    let [first, second] = fixture.enqueued(&id).await;
    assert!(fixture.claims(&first, &id).await.is_some());
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
async fn a_refresh_keeps_the_method_of_the_installed_credential() {
    let fixture = StoreFixture::new().await;
    let method = |name: &str| MethodName::try_from(name.to_owned()).unwrap();
    let (_, id) = fixture.completed(b"first").await;
    let using = fixture.using(&id).await;
    let installed = SessionChange::new().with_method(method("usual"));
    fixture.done(&using.id, ExpectedState::Active, installed, TimelineKind::CredentialUnsealed).await;
    let purpose = anteroom_store::SessionPurpose::SignIn { renews: Some(id.clone()) };
    let new = NewSession { purpose, method: Some(method("other")), ..fixture.new_session() };
    let renewing = fixture.started_with_machine(new).await;
    fixture.complete(&renewing, &id, DeletionPolicy::ByOwner, b"second").await;
    assert_eq!(fixture.store.get_credential(&id).await.unwrap().unwrap().method, Some(method("other")));
    fixture.refreshed(&using, b"third").await;
    assert_eq!(fixture.store.get_credential(&id).await.unwrap().unwrap().method, Some(method("usual")));
}
