//! What both registers do, and what etcd does on top of that.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod etcd_cluster;

use anteroom_cluster::{
    Capacity, DatabaseRegister, EtcdRegister, EtcdSettings, Heartbeat, HostLabels, Register, Written,
};
use anteroom_store::{Address, NewHost, Store, StoreSettings};
use anteroom_wire::{HostId, Secret};
use etcd_cluster::EtcdCluster;
use rustix::process::Signal;
use rustls::{ClientConfig, RootCertStore, crypto::ring};
use serde_json::json;
use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

/// A heartbeat of a host; `process` distinguishes processes with the same host id.
fn heartbeat(host: u8, process: u64) -> Heartbeat {
    Heartbeat {
        host: HostId::from_parts(1, [host; 10]),
        incarnation: 1,
        process,
        number: 1,
        capacity: Capacity { machines_max: 4, machines: 1, waiting: 0 },
        draining: false,
        labels: HostLabels { zone: Some("a".to_owned()), labels: BTreeMap::new() },
        providers: vec!["codex".to_owned()],
        image: "00".to_owned(),
        peer_protocol: 1,
        version: "0.1.0".to_owned(),
        peer_url: None,
        direct_url: None,
    }
}

/// A register in this etcd, as another process would open it.
fn in_etcd(etcd: &EtcdCluster, user: Option<(&str, &str)>) -> Register {
    let tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    Register::Etcd(EtcdRegister::new(EtcdSettings {
        cluster: "test".to_owned(),
        endpoints: etcd.endpoints().iter().map(|endpoint| endpoint.parse().unwrap()).collect(),
        tls: Arc::new(tls),
        user: user.map(|(name, password)| (name.to_owned(), Secret::new(password.to_owned()))),
    }))
}

/// The contract of a register. `fence` makes incarnation 2 of a host the present one.
async fn contract(open: impl Fn() -> Register, fence: impl AsyncFn(&Heartbeat)) {
    let (writer, reader) = (open(), open());
    let first = heartbeat(1, 7);
    assert_eq!(writer.write(&first).await, Ok(Written::Acknowledged));
    let read = reader.read().await.unwrap();
    let mine = read.iter().find(|observed| observed.heartbeat.host == first.host).unwrap();
    assert_eq!(mine.heartbeat, first);

    let second = Heartbeat { number: 2, draining: true, ..first.clone() };
    assert_eq!(writer.write(&second).await, Ok(Written::Acknowledged));
    let again = reader.read().await.unwrap();
    let changed = again.iter().find(|observed| observed.heartbeat.host == first.host).unwrap();
    assert_eq!(changed.heartbeat, second);
    assert_ne!(changed.mark, mine.mark, "each heartbeat has a mark of its own");
    assert_eq!(reader.read().await.unwrap(), again, "and it stays until the next one");

    // The next process of the same host goes on.
    let restarted = Heartbeat { process: 8, ..second.clone() };
    assert_eq!(open().write(&restarted).await, Ok(Written::Acknowledged));
    fence(&restarted).await;
    assert_eq!(writer.write(&second).await, Ok(Written::Replaced), "an earlier incarnation");
}

#[tokio::test]
async fn contract_holds_for_etcd() {
    let etcd = EtcdCluster::start(1).await;
    let next = async |heartbeat: &Heartbeat| {
        let next = Heartbeat { incarnation: 2, process: 9, ..heartbeat.clone() };
        assert_eq!(in_etcd(&etcd, None).write(&next).await, Ok(Written::Acknowledged));
    };
    contract(|| in_etcd(&etcd, None), next).await;
}

#[tokio::test]
async fn contract_holds_for_the_database() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&Address::File(dir.path().join("a.db")), StoreSettings::default()).await.unwrap();
    let join = async |heartbeat: &Heartbeat| {
        let new = NewHost {
            id: heartbeat.host.clone(),
            name: "a".to_owned(),
            zone: None,
            labels: BTreeMap::new(),
            certificate: None,
            resumes: None,
            at_ms: 1,
        };
        store.join_host(&new).await.unwrap();
    };
    join(&heartbeat(1, 7)).await;
    contract(|| Register::Database(DatabaseRegister::new(store.clone())), join).await;
    let skew_ms = store
        .database_time_ms()
        .await
        .unwrap()
        .abs_diff(u64::try_from(std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis()).unwrap());
    assert!(skew_ms < 60_000, "{skew_ms}");
}

#[tokio::test]
async fn second_process_with_the_id_of_a_host_is_noticed_by_the_first() {
    let etcd = EtcdCluster::start(1).await;
    let (first, second) = (in_etcd(&etcd, None), in_etcd(&etcd, None));
    assert_eq!(first.write(&heartbeat(1, 7)).await, Ok(Written::Acknowledged));
    assert_eq!(second.write(&heartbeat(1, 8)).await, Ok(Written::Acknowledged));
    assert_eq!(first.write(&heartbeat(1, 7)).await, Ok(Written::Replaced));
    assert_eq!(second.write(&heartbeat(1, 8)).await, Ok(Written::Acknowledged));

    // An etcd that lost the key, such as one that was restored, is written again.
    let key = "L2FudGVyb29tLw==";
    etcd.post("/v3/kv/deleterange", &json!({ "key": key, "range_end": "L2FudGVyb29tMA==" })).unwrap();
    assert!(second.read().await.unwrap().is_empty());
    assert_eq!(second.write(&heartbeat(1, 8)).await, Ok(Written::Acknowledged));
    assert_eq!(second.read().await.unwrap().len(), 1);
}

#[tokio::test]
async fn heartbeats_go_on_while_the_leader_is_frozen() {
    let etcd = EtcdCluster::start(3).await;
    let register = in_etcd(&etcd, None);
    assert_eq!(register.write(&heartbeat(1, 7)).await, Ok(Written::Acknowledged));
    let leader = etcd.leader();
    etcd.signal(leader, Signal::STOP);
    let (frozen, mut number) = (Instant::now(), 1);
    let mut acknowledged = Instant::now();
    while frozen.elapsed() < Duration::from_secs(6) {
        number += 1;
        match register.write(&Heartbeat { number, ..heartbeat(1, 7) }).await {
            Ok(written) => {
                assert_eq!(written, Written::Acknowledged);
                acknowledged = Instant::now();
            }
            Err(error) => assert!(error.to_string().contains("no answer in 800 ms"), "{error}"),
        }
        assert!(acknowledged.elapsed() < Duration::from_secs(10), "no heartbeat for 10 s");
    }
    etcd.signal(leader, Signal::CONT);
    assert!(number > 2 && acknowledged > frozen, "{number}");
    number += 1;
    assert_eq!(register.write(&Heartbeat { number, ..heartbeat(1, 7) }).await, Ok(Written::Acknowledged));
    assert_eq!(register.read().await.unwrap()[0].heartbeat.number, number);
}

#[tokio::test]
async fn etcd_with_users_wants_the_configured_one() {
    const PASSWORD: &str = "canary-of-the-password";
    let etcd = EtcdCluster::start(1).await;
    for (path, body) in [
        ("/v3/auth/user/add", json!({ "name": "root", "password": PASSWORD })),
        ("/v3/auth/role/add", json!({ "name": "root" })),
        ("/v3/auth/user/grant", json!({ "user": "root", "role": "root" })),
        ("/v3/auth/enable", json!({})),
    ] {
        let answer = etcd.post(path, &body).unwrap();
        assert!(answer.get("error").is_none(), "{path}: {answer}");
    }
    let error = in_etcd(&etcd, None).write(&heartbeat(1, 7)).await.unwrap_err().to_string();
    assert!(error.contains("cluster.etcd.username"), "{error}");
    let error = in_etcd(&etcd, Some(("root", "wrong"))).write(&heartbeat(1, 7)).await.unwrap_err().to_string();
    assert!(error.contains("authentication failed") && !error.contains("wrong"), "{error}");
    let register = in_etcd(&etcd, Some(("root", PASSWORD)));
    assert_eq!(register.write(&heartbeat(1, 7)).await, Ok(Written::Acknowledged));
    assert!(!format!("{:?} {register:?}", register.read().await.unwrap()).contains(PASSWORD));
}
