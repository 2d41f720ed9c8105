//! The turns of a credential over two hosts.

use crate::{
    fixture::{NOW, StoreFixture, random, session_id},
    hosts::{fence, server},
};
use anteroom_store::{Store, StoreError, TurnOutcome, TurnOwner};
use anteroom_wire::{CredentialId, SessionId};
use std::sync::atomic::{AtomicUsize, Ordering};

fn owner(credential: &CredentialId, session: Option<SessionId>, process: u64) -> TurnOwner {
    let id = session.as_ref().map_or_else(|| hex::encode(random()), ToString::to_string);
    TurnOwner { id, credential: credential.clone(), session, process }
}

fn waits(session: Option<&TurnOwner>, position: u32) -> TurnOutcome {
    TurnOutcome::Waits { session: session.and_then(|owner| owner.session.clone()), position }
}

#[tokio::test]
async fn turns_of_two_hosts_come_in_order_and_those_of_a_fenced_host_are_free() {
    let fixture = StoreFixture::new().await;
    let ((a, held_by_a), (b, _)) = (server(&fixture, "a").await, server(&fixture, "b").await);
    let credential = CredentialId::from_parts(NOW, random());
    let [first, second, third] = [1, 2, 2].map(|process| owner(&credential, Some(session_id()), process));
    let lease = owner(&credential, None, 2);
    assert!(!b.is_credential_in_use(&credential).await.unwrap());
    assert_eq!(a.take_credential_turn(&first, Some(0)).await.unwrap(), TurnOutcome::Held);
    assert_eq!(b.take_credential_turn(&second, Some(0)).await.unwrap(), TurnOutcome::Full { waiting: 0 });
    assert_eq!(b.take_credential_turn(&second, Some(1)).await.unwrap(), waits(Some(&first), 1));
    assert_eq!(b.take_credential_turn(&third, Some(1)).await.unwrap(), TurnOutcome::Full { waiting: 1 });
    assert_eq!(b.take_credential_turn(&third, None).await.unwrap(), waits(Some(&first), 2));
    assert_eq!(b.take_credential_turn(&lease, None).await.unwrap(), waits(Some(&first), 1));
    assert!(b.is_credential_in_use(&credential).await.unwrap());
    // An earlier process gives nothing back; the one that holds it does.
    let earlier = TurnOwner { process: 9, ..first.clone() };
    a.release_credential_turn(&earlier).await.unwrap();
    assert_eq!(b.take_credential_turn(&second, None).await.unwrap(), waits(Some(&first), 1));

    // At the fence of its host the turn is free: the lease that waits comes before the sessions.
    b.fence_host(&fence(&held_by_a, 0)).await.unwrap().unwrap();
    assert_eq!(b.take_credential_turn(&second, None).await.unwrap(), waits(None, 1));
    assert_eq!(b.take_credential_turn(&lease, None).await.unwrap(), TurnOutcome::Held);
    b.release_credential_turn(&lease).await.unwrap();
    assert_eq!(b.take_credential_turn(&third, None).await.unwrap(), waits(None, 2));
    assert_eq!(b.take_credential_turn(&second, None).await.unwrap(), TurnOutcome::Held);
    assert!(matches!(a.take_credential_turn(&first, None).await, Err(StoreError::HostFenced(_))));

    // After a restart the host keeps the turns of the machines that it adopts, and no others.
    let adopted = TurnOwner { process: 3, ..second.clone() };
    b.hold_credential_turn(&adopted).await.unwrap();
    b.release_turns_of_earlier_processes(3).await.unwrap();
    let another = owner(&credential, Some(session_id()), 3);
    assert_eq!(b.take_credential_turn(&another, None).await.unwrap(), waits(Some(&second), 1));
    b.release_credential_turn(&adopted).await.unwrap();
    assert_eq!(b.take_credential_turn(&another, None).await.unwrap(), TurnOutcome::Held);
}

/// Uses that have the turn now.
static USING: AtomicUsize = AtomicUsize::new(0);

async fn use_once(store: Store, owner: TurnOwner) {
    while store.take_credential_turn(&owner, None).await.unwrap() != TurnOutcome::Held {
        tokio::task::yield_now().await;
    }
    assert_eq!(USING.fetch_add(1, Ordering::SeqCst), 0);
    tokio::task::yield_now().await;
    USING.fetch_sub(1, Ordering::SeqCst);
    store.release_credential_turn(&owner).await.unwrap();
}

#[tokio::test]
async fn two_hosts_that_take_turns_at_once_never_have_two() {
    let fixture = StoreFixture::new().await;
    let ((a, _), (b, _)) = (server(&fixture, "a").await, server(&fixture, "b").await);
    let credential = CredentialId::from_parts(NOW, random());
    let uses: Vec<_> = (0..30)
        .map(|number| {
            let store = if number % 2 == 0 { a.clone() } else { b.clone() };
            tokio::spawn(use_once(store, owner(&credential, Some(session_id()), number % 2)))
        })
        .collect();
    for used in uses {
        used.await.unwrap();
    }
    assert!(!a.is_credential_in_use(&credential).await.unwrap());
}
