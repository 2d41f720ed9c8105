//! What hosts of a cluster do.

use crate::fixture::{HOUR, NOW, StoreFixture, entry, random, session_id};
use anteroom_store::{
    ExternalMachineClaim, Fence, Holder, NewHost, NewSession, NewSessionPlace, Rotation, RowsWithMacs, Sha256Hex,
    Store, StoredAuthority, TurnOutcome, TurnOwner,
};
use anteroom_wire::{CallerId, CredentialId, HostId, SessionId, TimelineKind};
use std::collections::BTreeMap;

/// What hosts do all the time, and for each session.
pub(super) async fn of_hosts(fixture: &StoreFixture) {
    let store = &fixture.store;
    let first = join(store, "first").await;
    store.hold_as(Some(first.clone()));
    assert!(store.record_heartbeat(&first, "{}").await.unwrap());
    store.list_hosts().await.unwrap();
    store.database_time_ms().await.unwrap();
    store.is_first_host().await.unwrap();
    let here = start(fixture, NewSessionPlace::ThisHost).await;
    store.append_entry(&here, entry(TimelineKind::CliExited)).await.unwrap();
    store.record_session_use(&here, NOW + 1, None).await.unwrap();
    let waits = NewSessionPlace::Waits { placement: None };
    start(fixture, waits.clone()).await;
    store.count_waiting_sessions(&fixture.owner, None).await.unwrap();
    store.list_overdue_waiting_sessions(NOW, NOW).await.unwrap();
    store.pull_session(None, |_| true).await.unwrap().unwrap();
    let waiting = start(fixture, waits).await;
    store.find_place_in_line(&waiting).await.unwrap();
    let limited = NewSession { id: session_id(), machines_by_caller_max: Some(9), ..fixture.new_session() };
    fixture.create(&limited).await;
    assert!(store.take_session(&waiting, None).await.unwrap());
    // The host has taken the session that was there before the cluster, too.
    assert_eq!(store.list_held_sessions().await.unwrap().len(), 5);
    store.count_sessions_by_host().await.unwrap();
    turns(store, &waiting).await;
    let fence = Fence { host: &first.host, incarnation: first.incarnation, silent_ms: 0, by: "second", at_ms: NOW };
    assert_eq!(store.fence_host(&fence).await.unwrap().unwrap().len(), 5);
    store.hold_as(None);
}

async fn turns(store: &Store, session: &SessionId) {
    let credential = CredentialId::from_parts(NOW, random());
    let owner = TurnOwner { id: session.to_string(), credential, session: Some(session.clone()), process: 1 };
    assert_eq!(store.take_credential_turn(&owner, None).await.unwrap(), TurnOutcome::Held);
    store.hold_credential_turn(&owner).await.unwrap();
    store.is_credential_in_use(&owner.credential).await.unwrap();
    store.release_turns_of_earlier_processes(1).await.unwrap();
    store.release_credential_turn(&owner).await.unwrap();
}

/// What operators do to hosts and tokens, and a session on an external machine.
pub(super) async fn rest(fixture: &StoreFixture) {
    let store = &fixture.store;
    let claim = ExternalMachineClaim { machine: "desk".to_owned(), agent_token: Sha256Hex::of_bytes(b"desk") };
    fixture.create(&NewSession { id: session_id(), external: Some(claim), ..fixture.new_session() }).await;
    store.has_rows_without_macs(RowsWithMacs::None).await.unwrap();
    let rotation = Rotation {
        id: CallerId::from_parts(NOW, random()),
        secret: Sha256Hex::of_bytes(b"next"),
        now_ms: NOW,
        overlap_ms: HOUR,
    };
    store.rotate_api_token(&fixture.owner, &rotation).await.unwrap();
    store.set_cluster_times("{}", None).await.unwrap();
    store.get_cluster_times().await.unwrap();
    let second = join(store, "second").await;
    store.set_draining(&second.host, true).await.unwrap();
    store.remove_host(&second.host, NOW).await.unwrap();
    let session = fixture.session().await;
    let sealed_key = fixture.seal(&session, &CredentialId::from_parts(NOW, random()), b"key");
    let authority = StoredAuthority { certificate: "certificate".to_owned(), sealed_key: sealed_key.clone() };
    store.create_cluster_authority(&authority).await.unwrap();
    store.get_cluster_authority().await.unwrap();
    store.rewrap_cluster_authority(&sealed_key, &sealed_key).await.unwrap();
    assert!(store.use_host_invitation("invitation", NOW + HOUR, NOW).await.unwrap());
}

async fn join(store: &Store, name: &str) -> Holder {
    let new = NewHost {
        id: HostId::from_parts(NOW, random()),
        name: name.to_owned(),
        zone: None,
        labels: BTreeMap::new(),
        certificate: None,
        resumes: None,
        at_ms: NOW,
    };
    store.join_host(&new).await.unwrap().holder
}

async fn start(fixture: &StoreFixture, place: NewSessionPlace) -> SessionId {
    let new = NewSession { id: session_id(), place, ..fixture.new_session() };
    fixture.create(&new).await.id
}
