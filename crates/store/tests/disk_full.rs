//! A disk that takes no more. In a program of its own: the limit that stands for the full disk holds for the whole process.
#![allow(clippy::unwrap_used, reason = "a test says what went wrong by failing")]

use anteroom_store::{NewCaller, Role, Settings, Sha256Hex, Store, StoreErrorKind};
use anteroom_wire::CallerId;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};

/// `SIGXFSZ` on Linux: sent with the refused write, deadly unless somebody listens (setrlimit(2)).
const SIGXFSZ: i32 = 25;

#[tokio::test]
async fn a_disk_that_takes_no_more_is_unavailable_and_nothing_is_lost() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("anteroom.db");
    let store = Store::open(&path, Settings::default()).await.unwrap();
    let caller = |number: u8| NewCaller {
        id: CallerId::from_parts(1, [number; 10]),
        role: Role::Operator,
        name: "n".repeat(20_000),
        token: Sha256Hex::of(&[number]),
        created_at_ms: 1,
        expires_at_ms: None,
    };
    store.create_caller(&caller(1)).await.unwrap();

    let _heard = signal(SignalKind::from_raw(SIGXFSZ)).unwrap();
    let before = getrlimit(Resource::Fsize);
    let log = std::fs::metadata(directory.path().join("anteroom.db-wal")).unwrap().len();
    setrlimit(Resource::Fsize, Rlimit { current: Some(log + 4096), ..before }).unwrap();
    let error = store.create_caller(&caller(2)).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error:?}");
    // And again: the failed transaction must not spoil the connection for those that follow.
    let error = store.create_caller(&caller(3)).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error:?}");
    setrlimit(Resource::Fsize, before).unwrap();

    store.check().await.unwrap();
    assert!(store.caller(&caller(1).id).await.unwrap().is_some());
    assert_eq!(store.caller(&caller(2).id).await.unwrap(), None, "half a write is none");
    store.create_caller(&caller(2)).await.unwrap();
}
