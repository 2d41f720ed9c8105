//! A full disk. In a separate program, because the file size limit that simulates it applies to the whole process.
#![allow(clippy::unwrap_used, reason = "a test reports errors by failing")]

use anteroom_store::{NewCaller, Role, Store, StoreErrorKind, StoreSettings};
use anteroom_wire::{CallerId, Secret};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};

/// `SIGXFSZ` on Linux: sent with the failed write, ends the process unless it is handled (setrlimit(2)).
const SIGXFSZ: i32 = 25;

#[tokio::test]
async fn a_full_disk_is_unavailable_and_loses_no_data() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("anteroom.db");
    let store = Store::open(&path, StoreSettings::default()).await.unwrap();
    let caller = |number: u8| {
        let (id, secret) = (CallerId::from_parts(1, [number; 10]), Secret::new(number.to_string()));
        NewCaller::api_token(id, Role::Operator, "n".repeat(20_000), &secret, 1)
    };
    store.create_caller(&caller(1)).await.unwrap();

    let _handler = signal(SignalKind::from_raw(SIGXFSZ)).unwrap();
    let before = getrlimit(Resource::Fsize);
    let log = std::fs::metadata(directory.path().join("anteroom.db-wal")).unwrap().len();
    setrlimit(Resource::Fsize, Rlimit { current: Some(log + 4096), ..before }).unwrap();
    let error = store.create_caller(&caller(2)).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error:?}");
    // And again: the failed transaction must not break the connection for later ones.
    let error = store.create_caller(&caller(3)).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error:?}");
    setrlimit(Resource::Fsize, before).unwrap();

    store.check_writable().await.unwrap();
    assert!(store.get_caller(&caller(1).id).await.unwrap().is_some());
    assert_eq!(store.get_caller(&caller(2).id).await.unwrap(), None, "the failed write has no effect");
    store.create_caller(&caller(2)).await.unwrap();
}
