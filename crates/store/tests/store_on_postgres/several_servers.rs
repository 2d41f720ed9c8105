//! Several servers of a cluster on one database.

use crate::{
    database::OWN_SERVER,
    fixture::{NOW, StoreFixture, entry, random, session_id, settings},
    own_server::OwnServer,
};
use anteroom_store::{CreateSessionOutcome, NewHost, NewSession, NewSessionPlace, Store, StoreSettings};
use anteroom_wire::{HostId, TimelineKind};
use std::collections::BTreeMap;

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
    store.pull_session(|_| true).await.unwrap().unwrap();
    start(NewSessionPlace::Waits { placement: None }).await;
    let before = statements(&server);
    store.pull_session(|_| true).await.unwrap().unwrap();
    let pull = statements(&server) - before;
    assert!(pull <= 9, "{pull} statements");
}
