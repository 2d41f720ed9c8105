//! Storing, completing, leasing and deleting credentials; no plaintext in the files.

use crate::{
    database,
    fixture::{NOW, StoreFixture, binding_of, entry, retained_credential, session_id},
};
use anteroom_store::{
    CompleteOutcome, DeleteOutcome, ExpectedState, NewCaller, OwnerFilter, RetireOutcome, Role, SessionChange,
    SessionOutcome, Sha256Hex, StoreError, StoreErrorKind,
};
use anteroom_vault::{KeyRing, SealError};
use anteroom_wire::{CallerId, CredentialId, TimelineKind};
use sqlx::Executor;

#[tokio::test]
async fn a_delivery_stores_the_credential_and_completes_the_session() {
    let fixture = StoreFixture::new().await;
    let (row, credential) = fixture.completed(b"the credential").await;
    assert_eq!(row.end().unwrap().outcome, SessionOutcome::Completed(credential.clone()));
    assert_eq!(row.credential(), Some(&credential));
    assert_eq!(fixture.kinds(&row.id).await.last(), Some(&TimelineKind::Completed));

    let sealed = fixture.store.get_sealed_bytes(&credential).await.unwrap().unwrap();
    let binding = binding_of(&row, &credential);
    assert_eq!(&*fixture.ring.unseal(&binding, &sealed).unwrap(), b"the credential");

    let stored = fixture.store.get_credential_of_session(&row.id).await.unwrap().unwrap();
    assert_eq!(fixture.store.get_credential(&credential).await.unwrap().as_ref(), Some(&stored));
    assert_eq!((&stored.owner, &stored.user_id, &stored.provider), (&row.owner, &row.user_id, &row.provider));
    assert_eq!(
        (stored.files[0].path.as_str(), stored.files[0].bytes, stored.files[0].mode),
        (".codex/auth.json", 14, 0o600)
    );
    assert_eq!((stored.stored_at_ms, stored.deleted_at_ms), (NOW + 5, None));
}

#[tokio::test]
async fn a_second_delivery_is_ignored() {
    let fixture = StoreFixture::new().await;
    let (row, credential) = fixture.completed(b"first").await;
    let again = fixture.deliver(&row, "agent", 1, b"second").await;
    assert_eq!(again, CompleteOutcome::Ignored(Box::new(row.clone())));
    assert_eq!(fixture.store.list_credentials(OwnerFilter::All, 10).await.unwrap().len(), 1);
    assert_eq!(fixture.store.get_credential_of_session(&row.id).await.unwrap().unwrap().id, credential);
    assert_eq!(fixture.kinds(&row.id).await.iter().filter(|kind| **kind == TimelineKind::Completed).count(), 1);
}

#[tokio::test]
async fn only_one_of_concurrent_deliveries_is_stored() {
    let fixture = std::sync::Arc::new(StoreFixture::new().await);
    let row = fixture.session_with_machine("agent").await;
    let deliveries: Vec<_> = (0..20)
        .map(|_| {
            let (fixture, row) = (std::sync::Arc::clone(&fixture), row.clone());
            tokio::spawn(async move { fixture.deliver(&row, "agent", 1, b"secret").await })
        })
        .collect();
    let mut stored = 0;
    for delivery in deliveries {
        match delivery.await.unwrap() {
            CompleteOutcome::Stored { .. } => stored += 1,
            CompleteOutcome::Ignored(now) => {
                assert!(matches!(now.end().unwrap().outcome, SessionOutcome::Completed(_)))
            }
            CompleteOutcome::WrongToken | CompleteOutcome::NothingToRenew => panic!("the token is right"),
        }
    }
    assert_eq!(stored, 1);
    assert_eq!(fixture.store.list_credentials(OwnerFilter::All, 10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_delivery_to_a_cancelled_session_is_ignored_and_stores_nothing() {
    let fixture = StoreFixture::new().await;
    let row = fixture.session_with_machine("agent").await;
    fixture.cancel(&row.id).await;
    let CompleteOutcome::Ignored(now) = fixture.deliver(&row, "agent", 1, b"late").await else { panic!() };
    assert_eq!(now.end().unwrap().outcome, SessionOutcome::Cancelled);
    assert_eq!(fixture.store.list_credentials(OwnerFilter::All, 10).await.unwrap(), []);
}

#[tokio::test]
async fn a_delivery_with_a_wrong_token_or_generation_is_rejected() {
    let fixture = StoreFixture::new().await;
    let row = fixture.session_with_machine("agent").await;
    assert_eq!(fixture.deliver(&row, "another", 1, b"x").await, CompleteOutcome::WrongToken);
    assert_eq!(fixture.deliver(&row, "agent", 2, b"x").await, CompleteOutcome::WrongToken);
    let fresh = fixture.session().await;
    assert_eq!(
        fixture.deliver(&fresh, "agent", 1, b"x").await,
        CompleteOutcome::WrongToken,
        "without a machine there is no token"
    );

    let token = Sha256Hex::of_bytes(b"second agent");
    let replaced = fixture
        .done(
            &row.id,
            ExpectedState::Active,
            SessionChange::new().with_generation(2).with_agent_token(Some(token)),
            TimelineKind::MachineReplaced,
        )
        .await;
    assert_eq!(fixture.deliver(&replaced, "agent", 1, b"x").await, CompleteOutcome::WrongToken);
    assert!(fixture.store.get_session(&row.id).await.unwrap().unwrap().is_active());
    assert!(matches!(fixture.deliver(&replaced, "second agent", 2, b"x").await, CompleteOutcome::Stored { .. }));
}

#[tokio::test]
async fn a_completion_that_fails_halfway_stores_nothing() {
    let fixture = StoreFixture::new().await;
    let row = fixture.session_with_machine("agent").await;
    let mut sql = fixture.sql().await;
    sql.execute(database::REJECT_ENTRIES).await.unwrap();
    let (id, token) = (CredentialId::from_parts(NOW, [1; 10]), Sha256Hex::of_bytes(b"agent"));
    let sealed = fixture.seal(&row, &id, b"secret");
    let completion = anteroom_store::CompleteWithCredential {
        session: &row.id,
        generation: 1,
        agent_token: &token,
        credential: retained_credential(&id, &sealed, &[]),
        webhook_messages: &[],
        at_ms: NOW,
    };
    fixture.store.complete_with_credential(&completion, entry(TimelineKind::Completed)).await.unwrap_err();
    assert!(fixture.store.get_session(&row.id).await.unwrap().unwrap().is_active());
    assert_eq!(fixture.store.get_credential(&id).await.unwrap(), None);

    sql.execute(database::ACCEPT_ENTRIES).await.unwrap();
    let again = fixture.store.complete_with_credential(&completion, entry(TimelineKind::Completed)).await.unwrap();
    assert!(
        matches!(again, CompleteOutcome::Stored { .. }),
        "the same delivery succeeds when the database works again"
    );
}

#[tokio::test]
async fn every_lease_is_recorded() {
    let fixture = StoreFixture::new().await;
    let (_, credential) = fixture.completed(b"secret").await;
    for number in 1..=3 {
        let leased = fixture.store.lease_credential(&credential, &fixture.owner, NOW + number).await.unwrap().unwrap();
        assert_eq!(leased.lease_number, number);
    }
    fixture.store.lease_credential(&credential, &CallerId::from_parts(0, [0; 10]), NOW).await.unwrap_err();
    let leases = fixture.store.list_leases(&credential, 10).await.unwrap();
    assert_eq!(
        leases.iter().map(|lease| (lease.number, lease.at_ms)).collect::<Vec<_>>(),
        [(3, NOW + 3), (2, NOW + 2), (1, NOW + 1)]
    );
    assert!(leases.iter().all(|lease| lease.caller == fixture.owner));
}

#[tokio::test]
async fn deletion_erases_the_bytes_keeps_the_row_and_is_idempotent() {
    let fixture = StoreFixture::new().await;
    let (row, credential) = fixture.completed(&[7; 64]).await;
    let sealed = fixture.store.get_sealed_bytes(&credential).await.unwrap().unwrap();
    let tail = &sealed.as_bytes()[140..];
    assert!(!database::IS_FILE || fixture.on_disk(tail));

    assert_eq!(fixture.store.delete_credential(&credential, NOW + 9).await.unwrap(), DeleteOutcome::Deleted);
    assert_eq!(fixture.store.delete_credential(&credential, NOW + 10).await.unwrap(), DeleteOutcome::AlreadyDeleted);
    let unknown = CredentialId::from_parts(0, [0; 10]);
    assert_eq!(fixture.store.delete_credential(&unknown, NOW).await.unwrap(), DeleteOutcome::NotFound);

    assert!(!fixture.on_disk(tail), "the sealed bytes were erased from the files");
    assert_eq!(fixture.store.get_sealed_bytes(&credential).await.unwrap(), None);
    assert_eq!(fixture.store.lease_credential(&credential, &fixture.owner, NOW).await.unwrap(), None);
    assert_eq!(fixture.store.list_credentials(OwnerFilter::All, 10).await.unwrap(), []);
    assert_eq!(fixture.store.get_credential(&credential).await.unwrap().unwrap().deleted_at_ms, Some(NOW + 9));
    let after = fixture.store.get_session(&row.id).await.unwrap().unwrap();
    assert_eq!(after.credential(), Some(&credential), "the session stays completed");
}

#[tokio::test]
async fn an_owner_lists_only_its_credentials() {
    let fixture = StoreFixture::new().await;
    let (_, credential) = fixture.completed(b"secret").await;
    let other = CallerId::from_parts(NOW, [5; 10]);
    let caller = NewCaller { id: other.clone(), ..fixture.new_caller(other.clone(), Role::Backend, "token-2") };
    fixture.store.create_caller(&caller).await.unwrap();
    let mine = fixture.store.list_credentials(OwnerFilter::Owner(&fixture.owner), 10).await.unwrap();
    assert_eq!(mine.iter().map(|row| &row.id).collect::<Vec<_>>(), [&credential]);
    assert_eq!(fixture.store.list_credentials(OwnerFilter::Owner(&other), 10).await.unwrap(), []);
    assert_eq!(fixture.store.get_credential_of_session(&session_id()).await.unwrap(), None);
}

#[tokio::test]
async fn a_sealed_record_moved_to_another_row_cannot_be_unsealed() {
    let fixture = StoreFixture::new().await;
    let ((_, from), (row, to)) = (fixture.completed(b"mine").await, fixture.completed(b"theirs").await);
    let mut sql = fixture.sql().await;
    sqlx::query("UPDATE credentials SET sealed = (SELECT sealed FROM credentials WHERE id = $1) WHERE id = $2")
        .bind(from.as_str())
        .bind(to.as_str())
        .execute(&mut sql)
        .await
        .unwrap();
    let sealed = fixture.store.get_sealed_bytes(&to).await.unwrap().unwrap();
    let binding = binding_of(&row, &to);
    assert_eq!(fixture.ring.unseal(&binding, &sealed).unwrap_err(), SealError::WrongBinding);
}

#[tokio::test]
async fn rotation_rewraps_every_record_and_frees_the_old_key() {
    let fixture = StoreFixture::new().await;
    assert!(!fixture.store.has_sealed_credentials().await.unwrap());
    let (row, credential) = fixture.completed(b"secret").await;
    fixture.completed(b"secret too").await;
    assert!(fixture.store.has_sealed_credentials().await.unwrap());

    let old = fixture.ring.primary_key_id();
    let ring = KeyRing::open(&fixture.directory.path().join("keys.json")).unwrap();
    ring.install(ring.add_key().unwrap());
    assert_eq!(fixture.store.list_keys_in_use().await.unwrap(), [old]);
    for (id, sealed) in fixture.store.list_sealed_with_key(old, None, 10).await.unwrap() {
        let again = ring.rewrap(&sealed).unwrap();
        assert!(fixture.store.replace_sealed_bytes(&id, &sealed, &again).await.unwrap());
        assert!(
            !fixture.store.replace_sealed_bytes(&id, &sealed, &again).await.unwrap(),
            "the old bytes were already replaced"
        );
    }
    assert_eq!(fixture.store.list_keys_in_use().await.unwrap(), [ring.primary_key_id()]);
    assert_eq!(fixture.store.list_sealed_with_key(old, None, 10).await.unwrap(), []);
    let sealed = fixture.store.get_sealed_bytes(&credential).await.unwrap().unwrap();
    let binding = binding_of(&row, &credential);
    assert_eq!(&*ring.unseal(&binding, &sealed).unwrap(), b"secret");
}

#[tokio::test]
async fn key_is_retired_only_when_no_record_uses_it_and_no_record_is_stored_under_it_afterwards() {
    let fixture = StoreFixture::new().await;
    fixture.completed(b"secret").await;
    let (old, row) = (fixture.ring.primary_key_id(), fixture.session_with_machine("late").await);
    let (id, token) = (CredentialId::from_parts(NOW, [1; 10]), Sha256Hex::of_bytes(b"late"));
    let sealed_before = fixture.seal(&row, &id, b"late");
    let ring = fixture.ring.clone();
    ring.install(ring.add_key().unwrap());
    fixture.store.set_key_fingerprint(&ring.fingerprint()).await.unwrap();
    let without_old = ring.fingerprint_without(old);
    let in_use = fixture.store.retire_key(old, &without_old).await.unwrap();
    assert!(matches!(in_use, RetireOutcome::InUse { records } if records > 5), "rows have MACs by it: {in_use:?}");
    fixture.store.check_rows().await.unwrap();
    let in_use = fixture.store.retire_key(old, &without_old).await.unwrap();
    assert_eq!(in_use, RetireOutcome::InUse { records: 1 }, "the credential");
    for (id, sealed) in fixture.store.list_sealed_with_key(old, None, 10).await.unwrap() {
        assert!(fixture.store.replace_sealed_bytes(&id, &sealed, &ring.rewrap(&sealed).unwrap()).await.unwrap());
    }
    assert_eq!(fixture.store.retire_key(old, &without_old).await.unwrap(), RetireOutcome::Retired);

    let sealed_again = ring.seal(&binding_of(&row, &id), b"late").unwrap();
    let completion = |sealed| anteroom_store::CompleteWithCredential {
        session: &row.id,
        generation: 1,
        agent_token: &token,
        credential: retained_credential(&id, sealed, &[]),
        webhook_messages: &[],
        at_ms: NOW,
    };
    let complete = async |sealed| {
        fixture.store.complete_with_credential(&completion(sealed), entry(TimelineKind::Completed)).await
    };
    let error = complete(&sealed_before).await.unwrap_err();
    assert!(matches!(error, StoreError::KeyRetired(key) if key == old), "{error:?}");
    assert_eq!(error.kind(), StoreErrorKind::Unavailable, "the agent delivers again");
    let stored = complete(&sealed_again).await.unwrap();
    assert!(matches!(stored, CompleteOutcome::Stored { .. }), "{stored:?}");
}

#[tokio::test]
async fn the_database_files_contain_no_plaintext_and_no_token() {
    let fixture = StoreFixture::new().await;
    let canary = b"CANARY-7f3a-plaintext-of-a-credential";
    let (row, credential) = fixture.completed(canary).await;
    fixture.store.lease_credential(&credential, &fixture.owner, NOW).await.unwrap().unwrap();
    let login_token = anteroom_store::NewLoginToken {
        creator: None,
        hash: Sha256Hex::of_bytes(b"CANARY-token"),
        scope: anteroom_store::LoginScope::Session { session: row.id.clone() },
        expires_at_ms: NOW + 1,
    };
    fixture.store.create_login_token(&login_token).await.unwrap();
    assert!(!database::IS_FILE || fixture.on_disk(row.id.as_str().as_bytes()), "the search works");
    for secret in [&canary[..], b"CANARY", b"token-1", b"agent\0"] {
        assert!(!fixture.on_disk(secret));
    }
    fixture.store.close().await;
    assert!(!fixture.on_disk(b"CANARY"));
}
