//! A host of a cluster that loses contact: its keepers end its machines in time, and what it wanted to write is refused.

#[path = "../../../cluster/tests/registers/etcd_cluster.rs"]
pub(crate) mod etcd_cluster;

use crate::{Flags, hosts, postgres::own_server::OwnServer};
use anteroom_controller::limits::PeerLimits;
use anteroom_machine::ExitReason;
use anteroom_testbed::{ApiClient, MachineProcesses, TestConfig, TestServer, eventually};
use anteroom_wire::{
    SessionId,
    api::{Health, HealthStatus},
    hosts::HostState,
};
use etcd_cluster::EtcdCluster;
use rustix::process::{Signal, kill_process};
use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

/// How long anything may take on a busy host.
const WAIT_MAX: Duration = Duration::from_secs(30);
/// How much later than its deadline a machine may end.
const LATE_MAX: Duration = Duration::from_secs(1);

/// A server of a cluster. All servers of a cluster have the same keys.
pub(crate) async fn start(postgres: &OwnServer, flags: &Flags, keys: &Path, host: &str, cluster: &str) -> TestServer {
    let config = TestConfig::with_provider(flags.provider("{\"token\": \"t\"}"));
    start_with(postgres, config, keys, host, cluster).await
}

/// As [`start`], with this configuration in addition.
pub(crate) async fn start_with(
    postgres: &OwnServer,
    config: TestConfig,
    keys: &Path,
    host: &str,
    cluster: &str,
) -> TestServer {
    let settings = format!(
        "[database]\nurl = 'postgresql://anteroom@/postgres?host={}'\n[vault]\nkey_file = '{}'\n\
         [cluster]\nname = 'test'\nhost_name = '{host}'\npeer_listen = '127.0.0.1:0'\n{cluster}",
        postgres.directory(),
        keys.join("vault.key").display()
    );
    TestServer::start(config.with_settings(&settings)).await.unwrap()
}

/// The line of a host's health; `None`: the server does not answer.
pub(crate) async fn health(operator: &ApiClient) -> Option<(HealthStatus, String)> {
    // A host that does nothing is down: its answer has the status 503.
    let health: Health = serde_json::from_str(&operator.get("/health").await.ok()?.text).ok()?;
    health.checks.into_iter().find(|check| check.name == "cluster").map(|check| (check.status, check.detail))
}

pub(crate) async fn wait_health(operator: &ApiClient, part: &str) {
    let mut last = None;
    let found = eventually("the host's health", WAIT_MAX, async || {
        last = health(operator).await;
        Ok(last.as_ref().is_some_and(|(_, detail)| detail.contains(part)).then_some(()))
    });
    let found = found.await;
    assert!(found.is_ok(), "{part}: {last:?}");
}

pub(crate) async fn start_session(server: &TestServer) -> (SessionId, MachineProcesses) {
    let api = server.backend_client().unwrap();
    let id = api.start_session("scripted").await.unwrap().session.id;
    api.wait_until(&id, "showing the address", |view| view.sign_in.url.is_some()).await.unwrap();
    (id, server.only_machine().unwrap().1)
}

/// Waits until the machine has ended; it may take until `limit`, counted from `since`.
async fn ends_within(processes: &MachineProcesses, since: Instant, limit: Duration) {
    let ended = async || Ok((!processes.process.is_alive()).then(|| since.elapsed()));
    let after = eventually("the machine has ended", WAIT_MAX, ended).await.unwrap();
    assert!(after <= limit, "it ended after {after:?}");
}

/// The server's log.
pub(crate) fn log_of(server: &TestServer) -> String {
    fs::read_to_string(server.state_dir().join("log/anteroom.jsonl")).unwrap()
}

/// The time in which a fault lasts.
async fn lasts(fault: Duration) {
    tokio::time::sleep(fault).await;
}

#[tokio::test]
async fn stopped_host_loses_its_machine_and_its_writes_are_refused_on_postgres() {
    const CLUSTER: &str =
        "liveness = 'database'\nheartbeat_interval_ms = 200\nrenew_deadline_s = 3\nfence_after_s = 5\n";
    let (postgres, keys, flags) = (OwnServer::start(&[]).await, tempfile::tempdir().unwrap(), Flags::new());
    let first = start(&postgres, &flags, keys.path(), "first", CLUSTER).await;
    let second = start(&postgres, &flags, keys.path(), "second", CLUSTER).await;
    let (operator, other) = (first.operator_client().unwrap(), second.operator_client().unwrap());
    wait_health(&other, "of 2 hosts").await;
    let (_, processes) = start_session(&first).await;

    let pid = first.server_pid().unwrap();
    kill_process(pid, Signal::STOP).unwrap();
    ends_within(&processes, Instant::now(), Duration::from_secs(3) + LATE_MAX).await;
    wait_health(&other, "of 1 hosts").await;
    assert!(second.read_log().contains("silent host fenced"));
    kill_process(pid, Signal::CONT).unwrap();

    wait_health(&operator, "incarnation 2").await;
    let log = first.read_log();
    assert!(log.contains("cluster_contact_lost"), "{log}");
    let refused = async || {
        let metrics = operator.get("/metrics").await?.text;
        let is_refused = |line: &str| line.contains("outcome=\"refused\"") && !line.ends_with(" 0");
        Ok(metrics.lines().any(is_refused).then_some(()))
    };
    eventually("a write that was refused", WAIT_MAX, refused).await.unwrap();
    let reasons: Vec<_> = first.receipts().iter().map(|receipt| receipt.exit_reason()).collect();
    assert_eq!(reasons, [ExitReason::RenewDeadline]);
    second.stop_and_check_leaks().await.unwrap();
    first.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn no_outage_of_one_register_ends_a_machine_and_one_of_both_does_on_postgres() {
    const RENEW_S: u64 = 5;
    let (mut postgres, keys, flags) = (OwnServer::start(&[]).await, tempfile::tempdir().unwrap(), Flags::new());
    let etcd = EtcdCluster::start(3).await;
    let cluster = format!(
        "heartbeat_interval_ms = 500\nrenew_deadline_s = {RENEW_S}\nfence_after_s = 8\n[cluster.etcd]\nendpoints = {:?}\n",
        etcd.endpoints()
    );
    let server = start(&postgres, &flags, keys.path(), "only", &cluster).await;
    let operator = server.operator_client().unwrap();
    wait_health(&operator, "acknowledged by etcd").await;
    let (id, processes) = start_session(&server).await;

    let leader = etcd.leader();
    etcd.signal(leader, Signal::STOP);
    lasts(Duration::from_secs(RENEW_S + 2)).await;
    etcd.signal(leader, Signal::CONT);
    wait_health(&operator, "acknowledged by etcd").await;
    assert!(processes.process.is_alive(), "a frozen leader");

    (0..3).for_each(|member| etcd.signal(member, Signal::KILL));
    wait_health(&operator, "heartbeats go to the database").await;
    lasts(Duration::from_secs(RENEW_S + 1)).await;
    assert!(processes.process.is_alive(), "etcd is away");

    let since = Instant::now();
    postgres.stop();
    ends_within(&processes, since, Duration::from_secs(RENEW_S) + LATE_MAX).await;
    // Without the database no caller is known, so that only the log can tell.
    let stopped = async || Ok(log_of(&server).contains("cluster_contact_lost").then_some(()));
    eventually("the host does nothing", WAIT_MAX, stopped).await.unwrap();
    let api = server.backend_client().unwrap();
    assert!(api.get_session(&id).await.is_err());
    postgres.start_again(&[]).await;
    let other = async || {
        let found = server.only_machine().ok();
        Ok(found.filter(|(_, found)| found.process != processes.process).map(drop))
    };
    eventually("another machine of the session", WAIT_MAX, other).await.unwrap();
    assert!(!health(&operator).await.unwrap().1.contains("does nothing"));
    let log = log_of(&server);
    assert!(log.contains("acts again"), "{log}");
    server.stop_and_check_leaks().await.unwrap();
}

/// How many machines each server runs.
fn machine_counts(servers: &[&TestServer]) -> Vec<usize> {
    servers.iter().map(|server| server.list_machines().len()).collect()
}

#[tokio::test]
async fn sessions_started_at_one_host_are_spread_over_all_on_postgres() {
    const MACHINES: &str = "[machines]\nmachines_max = 8\n";
    let (postgres, keys, flags) = (OwnServer::start(&[]).await, tempfile::tempdir().unwrap(), Flags::new());
    let start =
        async |name| hosts::start_with(&postgres, &flags, keys.path(), name, MACHINES, PeerLimits::default()).await.0;
    let (first, mut second, mut third) = (start("first").await, start("second").await, start("third").await);
    let operator = first.operator_client().unwrap();
    hosts::join(&operator, &mut second).await;
    hosts::join(&operator, &mut third).await;
    hosts::wait_hosts(&operator, HostState::Answers, 3).await;
    let (api, servers) = (first.backend_client().unwrap(), [&first, &second, &third]);
    for _ in 0..12 {
        api.start_session("scripted").await.unwrap();
    }
    let all_run = async || Ok((machine_counts(&servers).iter().sum::<usize>() == 12).then_some(()));
    eventually("a machine for each session", WAIT_MAX, all_run).await.unwrap();
    let counts = machine_counts(&servers);
    assert!(counts.iter().all(|count| (3..=5).contains(count)), "{counts:?}");
    flags.set("go");
    let none_runs = async || Ok((machine_counts(&servers).iter().sum::<usize>() == 0).then_some(()));
    eventually("each session's end", WAIT_MAX, none_runs).await.unwrap();
    for server in [first, second, third] {
        server.stop_and_check_leaks().await.unwrap();
    }
}
