//! Several servers of a cluster on one database.

use crate::{
    database::OWN_SERVER,
    fixture::{NOW, StoreFixture, entry, random, session_id, settings},
    own_server::OwnServer,
};
use anteroom_store::{CreateSessionOutcome, NewHost, NewSession, NewSessionPlace, Store, StoreSettings};
use anteroom_wire::{HostId, TimelineKind};
use sqlx::AnyConnection;
use std::collections::{BTreeMap, BTreeSet};

fn new_host(name: &str) -> NewHost {
    NewHost {
        id: HostId::from_parts(NOW, random()),
        name: name.to_owned(),
        zone: None,
        labels: BTreeMap::new(),
        certificate: None,
        resumes: None,
        at_ms: NOW,
    }
}

#[tokio::test]
async fn hosts_of_a_cluster_share_a_database_and_a_server_alone_is_refused_meanwhile() {
    let fixture = StoreFixture::new().await;
    let alone = StoreSettings { is_server: true, ..settings() };
    let of_cluster = StoreSettings { is_host_of_cluster: true, ..alone };
    let (a, b) = (
        Store::open(&fixture.address, of_cluster).await.unwrap(),
        Store::open(&fixture.address, of_cluster).await.unwrap(),
    );
    a.check_writable().await.unwrap();
    b.check_writable().await.unwrap();
    let error = Store::open(&fixture.address, alone).await.unwrap_err();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("another server uses this database"), "{cause}");
    a.close().await;
    b.close().await;
    let lone = Store::open(&fixture.address, alone).await.unwrap();
    assert!(Store::open(&fixture.address, of_cluster).await.is_err(), "a server that is alone shares with no other");
    lone.close().await;
}

/// The statements that the server has logged.
fn statements(server: &OwnServer) -> usize {
    let log = std::fs::read_to_string(format!("{}/log", server.directory())).unwrap();
    log.lines().filter(|line| line.contains(" execute sqlx_s_") || line.contains("statement: ")).count()
}

#[tokio::test]
async fn a_start_has_the_same_statements_in_a_cluster_as_alone_and_a_pull_few_more() {
    let server = OwnServer::start(&["-c", "log_min_duration_statement=0"]).await;
    OWN_SERVER.set(server.directory()).unwrap();
    let fixture = StoreFixture::new().await;
    let store = &fixture.store;
    let start = async |place| {
        let before = statements(&server);
        let new = NewSession { id: session_id(), place, ..fixture.new_session() };
        let created = store.create_session(&new, entry(TimelineKind::Accepted)).await.unwrap();
        assert!(matches!(created, CreateSessionOutcome::New(_)));
        statements(&server) - before
    };
    // The first has statements that are prepared and logged otherwise.
    start(NewSessionPlace::ThisHost).await;
    let alone = start(NewSessionPlace::ThisHost).await;
    let joined = store.join_host(&new_host("a")).await.unwrap();
    store.hold_as(Some(joined.holder));
    let here = start(NewSessionPlace::ThisHost).await;
    let waits = start(NewSessionPlace::Waits { placement: None }).await;
    // Beginning and end of the transaction, and four statements.
    assert_eq!((alone, here, waits), (6, 6, 6));
    store.pull_session(None, |_| true).await.unwrap().unwrap();
    start(NewSessionPlace::Waits { placement: None }).await;
    let before = statements(&server);
    store.pull_session(None, |_| true).await.unwrap().unwrap();
    let pull = statements(&server) - before;
    assert!(pull <= 9, "{pull} statements");
}

/// The store of another host.
async fn open(fixture: &StoreFixture) -> Store {
    let store = Store::open(&fixture.address, settings()).await.unwrap();
    store.use_row_macs(fixture.ring.clone());
    store
}

/// Waits until this many connections to the fixture's database wait for a lock.
async fn wait_locked(sql: &mut AnyConnection, wanted: i64) {
    let text = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()";
    loop {
        let locked: i64 = sqlx::query_scalar(text).fetch_one(&mut *sql).await.unwrap();
        if locked == wanted {
            return;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn writes_within_different_sessions_do_not_wait_for_each_other_and_those_within_one_do() {
    let fixture = StoreFixture::new().await;
    let (own, other) = (fixture.session().await.id, fixture.session().await.id);
    let open = async || open(&fixture).await;
    let (a, b, c) = (open().await, open().await, open().await);
    let mut sql = fixture.sql().await;
    // The first write stops in the middle of its transaction.
    sqlx::raw_sql("BEGIN").execute(&mut sql).await.unwrap();
    let row = sqlx::query("SELECT id FROM sessions WHERE id = $1 FOR UPDATE").bind(own.as_str());
    row.fetch_one(&mut sql).await.unwrap();
    let session = own.clone();
    let touch = tokio::spawn(async move { a.record_session_use(&session, NOW + 1, None).await });
    wait_locked(&mut sql, 1).await;
    let session = own.clone();
    let append = tokio::spawn(async move { b.append_entry(&session, entry(TimelineKind::CliStarted)).await });
    wait_locked(&mut sql, 2).await;
    c.append_entry(&other, entry(TimelineKind::CliStarted)).await.unwrap();
    let new = new_host("a");
    let host = c.join_host(&new);
    let released = async {
        wait_locked(&mut sql, 3).await;
        assert!(!touch.is_finished() && !append.is_finished());
        sqlx::raw_sql("COMMIT").execute(&mut sql).await.unwrap();
    };
    let (joined, ()) = tokio::join!(host, released);
    joined.unwrap();
    assert!(touch.await.unwrap().unwrap());
    append.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_heartbeat_waits_for_no_other_write() {
    let fixture = StoreFixture::new().await;
    let session = fixture.session().await.id;
    let of_cluster = StoreSettings { is_server: true, is_host_of_cluster: true, ..settings() };
    let host = Store::open(&fixture.address, of_cluster).await.unwrap();
    host.use_row_macs(fixture.ring.clone());
    let holder = host.join_host(&new_host("a")).await.unwrap().holder;
    host.hold_as(Some(holder.clone()));
    let other = open(&fixture).await;
    let (mut sql, mut watch) = (fixture.sql().await, fixture.sql().await);
    sqlx::raw_sql("BEGIN").execute(&mut sql).await.unwrap();
    let row = sqlx::query("SELECT id FROM sessions WHERE id = $1 FOR UPDATE").bind(session.as_str());
    row.fetch_one(&mut sql).await.unwrap();
    let touch = {
        let (host, session) = (host.clone(), session.clone());
        tokio::spawn(async move { host.record_session_use(&session, NOW + 1, None).await })
    };
    wait_locked(&mut watch, 1).await;
    // This one wants the whole database.
    let join = tokio::spawn(async move { other.join_host(&new_host("b")).await });
    wait_locked(&mut watch, 2).await;
    assert!(host.record_heartbeat(&holder, "{}").await.unwrap());
    assert!(!touch.is_finished());
    sqlx::raw_sql("COMMIT").execute(&mut sql).await.unwrap();
    assert!(touch.await.unwrap().unwrap());
    join.await.unwrap().unwrap();
    host.close().await;
}

#[tokio::test]
async fn hosts_that_pull_at_once_get_every_waiting_session_once() {
    const SESSIONS: usize = 60;
    let fixture = StoreFixture::new().await;
    let mut hosts = Vec::new();
    for name in ["a", "b", "c"] {
        let store = open(&fixture).await;
        let joined = store.join_host(&new_host(name)).await.unwrap();
        store.hold_as(Some(joined.holder));
        hosts.push(store);
    }
    for _ in 0..SESSIONS {
        let place = NewSessionPlace::Waits { placement: None };
        let new = NewSession { id: session_id(), place, ..fixture.new_session() };
        hosts[0].create_session(&new, entry(TimelineKind::Accepted)).await.unwrap();
    }
    let pulls = hosts.iter().map(|host| async move {
        let mut pulled = Vec::new();
        while pulled.len() < SESSIONS {
            match host.pull_session(None, |_| true).await.unwrap() {
                Some(session) => pulled.push(session),
                None if host.list_waiting_sessions(1).await.unwrap().is_empty() => break,
                // Other hosts were about to get those that were listed.
                None => {}
            }
        }
        pulled
    });
    let pulled = futures_util::future::join_all(pulls).await;
    let all: BTreeSet<_> = pulled.iter().flatten().collect();
    assert_eq!((all.len(), pulled.iter().flatten().count()), (SESSIONS, SESSIONS));
    for session in all {
        assert!(fixture.store.get_session(session).await.unwrap().unwrap().holder.is_some());
    }
}
