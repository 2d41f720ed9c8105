//! Several hosts on one database: each session has at most one holder, and only the holder writes.

use crate::fixture::{HOUR, NOW, StoreFixture, binding_of, entry, random, retained_credential, session_id, settings};
use anteroom_store::{
    CompleteWithCredential, CreateSessionOutcome, ExpectedState, Fence, Holder, JoinedHost, NewHost, NewSession,
    NewSessionPlace, SessionChange, SessionRow, Sha256Hex, Store, StoreError, TransitionOutcome,
};
use anteroom_wire::{CredentialId, HostId, MachineId, SessionId, TimelineKind};
use std::collections::BTreeMap;

fn host(name: &str) -> NewHost {
    NewHost {
        id: HostId::from_parts(NOW, random()),
        name: name.to_owned(),
        zone: Some("north".to_owned()),
        labels: BTreeMap::from([("disk".to_owned(), "fast".to_owned())]),
        certificate: None,
        resumes: None,
        at_ms: NOW,
    }
}

/// Another server on the fixture's database, which joins with this name.
pub(crate) async fn server(fixture: &StoreFixture, name: &str) -> (Store, Holder) {
    let store = Store::open(&fixture.address, settings()).await.unwrap();
    store.use_row_macs(fixture.ring.clone());
    let JoinedHost { holder, is_resumed } = store.join_host(&host(name)).await.unwrap();
    assert!(!is_resumed && holder.incarnation == 1);
    store.hold_as(Some(holder.clone()));
    (store, holder)
}

async fn start(fixture: &StoreFixture, store: &Store, place: NewSessionPlace) -> SessionRow {
    let new = NewSession { id: session_id(), place, ..fixture.new_session() };
    match store.create_session(&new, entry(TimelineKind::Accepted)).await.unwrap() {
        CreateSessionOutcome::New(row) => row,
        CreateSessionOutcome::Existing(_)
        | CreateSessionOutcome::IdempotencyKeyReused(_)
        | CreateSessionOutcome::MachineInUse(_) => panic!("no key and no external machine was given"),
    }
}

fn waits() -> NewSessionPlace {
    NewSessionPlace::Waits { placement: None }
}

pub(crate) fn fence<'a>(holder: &'a Holder, silent_ms: u64) -> Fence<'a> {
    Fence { host: &holder.host, incarnation: holder.incarnation, silent_ms, by: "b", at_ms: NOW }
}

fn change() -> SessionChange {
    SessionChange::new().with_cli_started(true)
}

async fn kinds(store: &Store, session: &SessionId) -> Vec<TimelineKind> {
    store.list_timeline(session, 0, 100).await.unwrap().into_iter().map(|entry| entry.kind).collect()
}

#[tokio::test]
async fn a_session_is_held_by_the_host_that_started_it_until_that_is_fenced() {
    let fixture = StoreFixture::new().await;
    let ((a, held_by_a), (b, held_by_b)) = (server(&fixture, "a").await, server(&fixture, "b").await);
    let row = start(&fixture, &a, NewSessionPlace::ThisHost).await;
    assert_eq!(row.holder, Some(held_by_a.clone()));
    // Its machine is requested by its holder; another host can neither write nor take it.
    let machine = MachineId::from_parts(NOW, random());
    let token = Sha256Hex::of_bytes(b"token");
    let requested = SessionChange::new().with_machine(Some(machine.clone())).with_agent_token(Some(token.clone()));
    let done = a.transition(&row.id, ExpectedState::Active, requested, entry(TimelineKind::MachineRequested)).await;
    assert!(matches!(done.unwrap(), TransitionOutcome::Done { .. }));
    assert!(!b.take_session(&row.id, None).await.unwrap());
    assert!(b.pull_session(None, |_| true).await.unwrap().is_none());
    require_refused(&fixture, &b, &row, &token).await;
    let refused: Vec<_> = b.next_refused_sessions().await.into_iter().collect();
    assert_eq!(refused, std::slice::from_ref(&row.id));

    // A host that is not silent is not fenced; nor is one in another incarnation.
    assert!(b.fence_host(&fence(&held_by_a, HOUR)).await.unwrap().is_none());
    let other = Holder { incarnation: 2, ..held_by_a.clone() };
    assert!(b.fence_host(&fence(&other, 0)).await.unwrap().is_none());
    assert!(a.record_heartbeat(&held_by_a, "{}").await.unwrap());
    assert_eq!(b.fence_host(&fence(&held_by_a, 0)).await.unwrap(), Some(vec![row.id.clone()]));
    assert!(b.fence_host(&fence(&held_by_a, 0)).await.unwrap().is_none(), "one of several observers fences it");
    assert!(!a.record_heartbeat(&held_by_a, "{}").await.unwrap());

    // Nothing of the fenced host counts any more, before and after another host has taken the session.
    require_refused(&fixture, &a, &row, &token).await;
    assert!(!a.take_session(&row.id, None).await.unwrap() && a.pull_session(None, |_| true).await.unwrap().is_none());
    let new = NewSession { id: session_id(), ..fixture.new_session() };
    let refused = a.create_session(&new, entry(TimelineKind::Accepted)).await;
    assert!(matches!(refused, Err(StoreError::NotHolder(_))));
    assert!(b.get_session(&new.id).await.unwrap().is_none());
    assert_eq!(b.pull_session(None, |_| true).await.unwrap(), Some(row.id.clone()));
    require_refused(&fixture, &a, &row, &token).await;

    let taken = b.get_session(&row.id).await.unwrap().unwrap();
    assert_eq!((taken.holder, taken.machine, taken.generation), (Some(held_by_b), Some(machine), row.generation));
    assert_eq!(
        kinds(&b, &row.id).await,
        [TimelineKind::Accepted, TimelineKind::MachineRequested, TimelineKind::HostLost]
    );
    b.transition(&row.id, ExpectedState::Active, change(), entry(TimelineKind::CliStarted)).await.unwrap();
    assert_eq!(b.check_rows().await.unwrap().tampered, 0, "{:?}", b.tampered_rows());
}

/// Every write of an owner is refused, and changes nothing.
async fn require_refused(fixture: &StoreFixture, store: &Store, row: &SessionRow, token: &Sha256Hex) {
    let before = fixture.store.get_session(&row.id).await.unwrap().unwrap();
    let entries = kinds(store, &row.id).await;
    let credential = CredentialId::from_parts(NOW, random());
    let sealed = fixture.ring.seal(&binding_of(row, &credential), b"secret").unwrap();
    let completion = CompleteWithCredential {
        session: &row.id,
        generation: row.generation,
        agent_token: token,
        credential: retained_credential(&credential, &sealed, &[]),
        webhook_messages: &[],
        at_ms: NOW,
    };
    let active = ExpectedState::Active;
    let refused = [
        store.transition(&row.id, active, change(), entry(TimelineKind::CliStarted)).await.map(drop),
        store.append_entry(&row.id, entry(TimelineKind::CliExited)).await.map(drop),
        store.record_session_use(&row.id, NOW + 1, None).await.map(drop),
        store.complete_with_credential(&completion, entry(TimelineKind::Completed)).await.map(drop),
    ];
    for (number, refused) in refused.into_iter().enumerate() {
        assert!(matches!(&refused, Err(StoreError::NotHolder(id)) if *id == row.id), "{number}: {refused:?}");
    }
    assert_eq!(fixture.store.get_session(&row.id).await.unwrap().unwrap(), before);
    assert_eq!(kinds(store, &row.id).await, entries);
}

#[tokio::test]
async fn hosts_that_pull_at_once_get_each_waiting_session_once_in_fair_order() {
    let fixture = StoreFixture::new().await;
    let ((a, held_by_a), (b, _), (c, _)) =
        (server(&fixture, "a").await, server(&fixture, "b").await, server(&fixture, "c").await);
    let lost = start(&fixture, &a, NewSessionPlace::ThisHost).await;
    let mut first = Vec::new();
    for _ in 0..12 {
        let row = start(&fixture, &b, waits()).await;
        assert!(row.waits_for_host());
        first.push(row.id);
    }
    let other = anteroom_wire::CallerId::from_parts(NOW, random());
    let caller = fixture.new_caller(other.clone(), anteroom_store::Role::Backend, "token-2");
    fixture.store.create_caller(&caller).await.unwrap();
    let new = NewSession { id: session_id(), owner: other, place: waits(), ..fixture.new_session() };
    b.create_session(&new, entry(TimelineKind::Accepted)).await.unwrap();
    c.fence_host(&fence(&held_by_a, 0)).await.unwrap().unwrap();

    let order: Vec<_> = b.list_waiting_sessions(20).await.unwrap().into_iter().map(|it| it.id).collect();
    assert_eq!(order[0], lost.id, "it waits before newcomers");
    assert!(
        order.iter().position(|id| *id == new.id).unwrap() <= 2,
        "many sessions of one caller delay another's by one"
    );
    assert!(!b.set_draining(&HostId::from_parts(1, [0; 10]), true).await.unwrap());

    let mut taken = Vec::new();
    let pulls: Vec<_> = (0..20)
        .map(|number| {
            let store = if number % 2 == 0 { b.clone() } else { c.clone() };
            tokio::spawn(async move { store.pull_session(None, |_| true).await.unwrap() })
        })
        .collect();
    for pull in pulls {
        taken.extend(pull.await.unwrap());
    }
    taken.sort();
    let mut expected: Vec<_> = first.into_iter().chain([lost.id, new.id]).collect();
    expected.sort();
    assert_eq!(taken, expected);
}

#[tokio::test]
async fn a_session_goes_only_to_a_host_that_fits_and_is_not_draining() {
    let fixture = StoreFixture::new().await;
    let ((a, held_by_a), (b, _)) = (server(&fixture, "a").await, server(&fixture, "b").await);
    let placement = Some(r#"{"zone":"north"}"#.to_owned());
    let row = start(&fixture, &a, NewSessionPlace::Waits { placement: placement.clone() }).await;
    assert!(b.pull_session(None, |waiting| waiting.placement.is_none()).await.unwrap().is_none());
    assert!(a.set_draining(&held_by_a.host, true).await.unwrap());
    assert!(a.pull_session(None, |_| true).await.unwrap().is_none() && !a.take_session(&row.id, None).await.unwrap());
    assert!(a.set_draining(&held_by_a.host, false).await.unwrap());
    assert!(a.take_session(&row.id, None).await.unwrap() && !b.take_session(&row.id, None).await.unwrap());
    assert_eq!(a.get_session(&row.id).await.unwrap().unwrap().placement, placement);
    assert!(!b.remove_host(&held_by_a.host, NOW).await.unwrap(), "it holds a session");
    let cancelled = SessionChange::new().end_as_cancelled(reason(), NOW);
    a.transition(&row.id, ExpectedState::Active, cancelled, entry(TimelineKind::Cancelled)).await.unwrap();
    assert!(b.remove_host(&held_by_a.host, NOW).await.unwrap());
    assert!(!a.record_heartbeat(&held_by_a, "{}").await.unwrap());
    let again = NewHost { id: held_by_a.host.clone(), ..host("a") };
    assert!(matches!(a.join_host(&again).await, Err(StoreError::HostFenced(_))));
}

#[tokio::test]
async fn sessions_of_a_caller_count_over_hosts_and_wait_in_one_line() {
    let fixture = StoreFixture::new().await;
    let ((a, _), (b, _)) = (server(&fixture, "a").await, server(&fixture, "b").await);
    let mut rows = Vec::new();
    for store in [&a, &b, &a] {
        let new = NewSession { id: session_id(), machines_by_caller_max: Some(1), ..fixture.new_session() };
        store.create_session(&new, entry(TimelineKind::Accepted)).await.unwrap();
        rows.push(store.get_session(&new.id).await.unwrap().unwrap());
    }
    let waits: Vec<_> = rows.iter().map(SessionRow::waits_for_host).collect();
    assert_eq!(waits, [false, true, true]);
    let (second, third) = (&rows[1].id, &rows[2].id);
    assert_eq!((a.find_place_in_line(second).await.unwrap(), b.find_place_in_line(third).await.unwrap()), (1, 2));
    let counts = a.count_waiting_sessions(&rows[0].owner, rows[0].user_id.as_deref()).await.unwrap();
    assert_eq!((counts.all, counts.of_caller), (2, 2));
    assert!(!b.take_session(second, Some(1)).await.unwrap());
    assert!(b.pull_session(Some(1), |_| true).await.unwrap().is_none());
    assert!(b.take_session(second, Some(2)).await.unwrap() && !a.take_session(second, None).await.unwrap());
    assert_eq!(a.find_place_in_line(third).await.unwrap(), 1);
}

fn reason() -> anteroom_store::Reason {
    anteroom_store::Reason::new(anteroom_wire::EndReason::Cancelled, "")
}

#[tokio::test]
async fn waiting_sessions_are_changed_by_any_host_and_held_ones_are_not() {
    let fixture = StoreFixture::new().await;
    let ((a, _), (b, _)) = (server(&fixture, "a").await, server(&fixture, "b").await);
    let (held, waiting) = (start(&fixture, &a, NewSessionPlace::ThisHost).await, start(&fixture, &a, waits()).await);
    for (row, is_changed) in [(&held, false), (&waiting, true)] {
        let end = SessionChange::new().end_as_cancelled(reason(), NOW);
        let outcome = b.transition(&row.id, ExpectedState::Waiting, end, entry(TimelineKind::Cancelled)).await.unwrap();
        assert_eq!(matches!(outcome, TransitionOutcome::Done { .. }), is_changed);
    }
}

#[tokio::test]
async fn a_host_that_restarts_in_time_keeps_its_sessions_and_a_fenced_one_joins_empty() {
    let fixture = StoreFixture::new().await;
    // It was active before there was a cluster.
    let before = fixture.session_with_machine("token").await;
    let JoinedHost { holder, .. } = fixture.store.join_host(&host("b")).await.unwrap();
    assert_eq!(fixture.store.get_session(&before.id).await.unwrap().unwrap().holder, Some(holder));
    let (a, first) = server(&fixture, "a").await;
    let row = start(&fixture, &a, NewSessionPlace::ThisHost).await;

    let again = NewHost { id: first.host.clone(), resumes: Some(1), ..host("a") };
    assert_eq!(a.join_host(&again).await.unwrap(), JoinedHost { holder: first.clone(), is_resumed: true });
    assert_eq!(a.get_session(&row.id).await.unwrap().unwrap().holder, Some(first.clone()));
    assert!(matches!(a.join_host(&host("a")).await, Err(StoreError::HostNameInUse(id)) if id == first.host));

    // Without its machines, or fenced, it is another incarnation, and its sessions wait.
    let joined = a.join_host(&NewHost { resumes: None, ..again.clone() }).await.unwrap();
    assert_eq!(joined, JoinedHost { holder: Holder { incarnation: 2, ..first.clone() }, is_resumed: false });
    assert!(a.get_session(&row.id).await.unwrap().unwrap().waits_for_host());
    a.fence_host(&fence(&joined.holder, 0)).await.unwrap().unwrap();
    let joined = a.join_host(&NewHost { resumes: Some(2), ..again }).await.unwrap();
    assert_eq!((joined.holder.incarnation, joined.is_resumed), (3, false));
    a.hold_as(Some(joined.holder.clone()));
    assert_eq!(a.pull_session(None, |_| true).await.unwrap(), Some(row.id.clone()));
    assert_eq!(a.get_session(&row.id).await.unwrap().unwrap().holder, Some(joined.holder));
    let hosts = a.list_hosts().await.unwrap();
    let shown: Vec<_> = hosts.iter().map(|it| (it.name.as_str(), it.incarnation, it.is_fenced())).collect();
    assert!(shown.contains(&("a", 3, false)) && shown.contains(&("b", 1, false)), "{shown:?}");
}

/// A host that fences may have been paused between its look and the fence.
#[tokio::test]
async fn a_host_with_a_heartbeat_since_the_look_is_not_fenced() {
    let fixture = StoreFixture::new().await;
    let (b, _) = server(&fixture, "b").await;
    let mut new = host("a");
    let joined = b.join_host(&new).await.unwrap().holder;
    let heartbeats = async || {
        let rows = b.list_hosts().await.unwrap();
        rows.into_iter().find(|row| row.id == joined.host).unwrap().heartbeats
    };
    let before_heartbeat = heartbeats().await;
    assert!(b.record_heartbeat(&joined, "{}").await.unwrap());
    assert_eq!(b.fence_silent_host(&fence(&joined, 0), before_heartbeat).await.unwrap(), None);

    let before_join = heartbeats().await;
    new.resumes = Some(1);
    assert!(b.join_host(&new).await.unwrap().is_resumed);
    assert_eq!(b.fence_silent_host(&fence(&joined, 0), before_join).await.unwrap(), None);
    assert_eq!(b.fence_silent_host(&fence(&joined, HOUR), heartbeats().await).await.unwrap(), None);
    assert_eq!(b.fence_silent_host(&fence(&joined, 0), heartbeats().await).await.unwrap(), Some(vec![]));
}

/// 1,000 sessions with `ANTEROOM_TEST_FULL=1`, else 100.
#[tokio::test]
async fn all_sessions_of_a_fenced_host_are_released_at_once_with_their_entries() {
    let fixture = StoreFixture::new().await;
    let ((a, held_by_a), (b, _)) = (server(&fixture, "a").await, server(&fixture, "b").await);
    let count = if std::env::var_os("ANTEROOM_TEST_FULL").is_some_and(|value| value == "1") { 1_000 } else { 100 };
    let mut started = Vec::new();
    for _ in 0..count {
        started.push(start(&fixture, &a, NewSessionPlace::ThisHost).await.id);
    }
    started.sort();
    let began = std::time::Instant::now();
    let mut released = b.fence_host(&fence(&held_by_a, 0)).await.unwrap().unwrap();
    eprintln!("{count} sessions were released in {:?}", began.elapsed());
    released.sort();
    assert_eq!(released, started);
    for id in &released {
        assert_eq!(kinds(&b, id).await, [TimelineKind::Accepted, TimelineKind::HostLost]);
        // Its MAC is valid, so that another host can take it.
        assert!(b.take_session(id, None).await.unwrap());
    }
}
