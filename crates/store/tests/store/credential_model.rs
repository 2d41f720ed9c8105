//! Property test: any order of operations on a credential has the same results as a small model.

use crate::{
    fixture::{NOW, StoreFixture},
    lifetime::TOKEN,
};
use anteroom_store::{CompleteOutcome, DeletionPolicy, RefreshOutcome, Revisions};
use proptest::prelude::*;

#[derive(Debug, Clone, Copy)]
enum Operation {
    Renew,
    Refresh { of: bool },
    Lease,
    Rotate,
    Delete,
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        3 => Just(Operation::Renew),
        6 => any::<bool>().prop_map(|of| Operation::Refresh { of }),
        3 => Just(Operation::Lease),
        2 => Just(Operation::Rotate),
        1 => Just(Operation::Delete),
    ]
}

/// Compares the store with a model: the last bytes, the number of replacements, and whether the credential was deleted.
async fn run(operations: Vec<Operation>) {
    let fixture = StoreFixture::new().await;
    let (_, id) = fixture.completed(b"0").await;
    let uses = [fixture.using(&id).await, fixture.using(&id).await];
    let (mut revision, mut installed, mut leases) = (1, [1, 1], 0);
    let mut content = Some(b"0".to_vec());
    for (at, operation) in operations.into_iter().enumerate() {
        let new = format!("bytes of operation {at}").into_bytes();
        match operation {
            Operation::Renew => {
                let row = fixture.renewing(&id).await;
                let done = fixture.complete(&row, &id, DeletionPolicy::ByOwner, &new).await;
                assert_eq!(matches!(done, CompleteOutcome::Stored { .. }), content.is_some(), "{done:?}");
                revision += u64::from(content.is_some());
                content = content.map(|_| new);
            }
            Operation::Refresh { of } => match (fixture.refresh(&uses[usize::from(of)], TOKEN, &new).await, &content) {
                (RefreshOutcome::Stored { revisions, .. }, Some(_)) => {
                    let installed = &mut installed[usize::from(of)];
                    let expected = Revisions { installed: *installed, replaced: revision, stored: revision + 1 };
                    assert_eq!(revisions, expected);
                    revision += 1;
                    (*installed, content) = (revision, Some(new));
                }
                (RefreshOutcome::NothingToRefresh, None) => {}
                (other, _) => panic!("{other:?}"),
            },
            Operation::Lease => {
                let leased = fixture.store.lease_credential(&id, &fixture.owner, NOW).await.unwrap();
                leases += u64::from(content.is_some());
                assert_eq!(leased.map(|leased| leased.lease_number), content.as_ref().map(|_| leases));
            }
            Operation::Rotate => {
                for (id, sealed) in
                    fixture.store.list_sealed_with_key(fixture.ring.primary_key_id(), None, 10).await.unwrap()
                {
                    let again = fixture.ring.rewrap(&sealed).unwrap();
                    assert!(fixture.store.replace_sealed_bytes(&id, &sealed, &again).await.unwrap());
                }
            }
            Operation::Delete => {
                fixture.store.delete_credential(&id, NOW).await.unwrap();
                content = None;
            }
        }
        assert_eq!(fixture.plaintext(&id).await, content);
        let row = fixture.store.get_credential(&id).await.unwrap().unwrap();
        assert_eq!((row.revision, row.deleted_at_ms.is_some()), (revision, content.is_none()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_order_of_operations_matches_the_credential_model(operations in prop::collection::vec(operation(), 1..12)) {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(run(operations));
    }
}
