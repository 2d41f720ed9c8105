//! Databases of a cluster that fail for longer, with the default times, and the load of hundreds of sessions. All take minutes.

use crate::{
    Flags, URL,
    cluster::{self, etcd_cluster::EtcdCluster, start_session, wait_health},
    postgres::own_server::OwnServer,
};
use anteroom_testbed::{
    ApiClient, DurationStats, MachineProcesses, Script, ScriptedProvider, Step, TestConfig, TestServer, WAIT_MAX,
    eventually, stats,
};
use anteroom_wire::{SessionId, api::SessionStatus};
use rustix::process::Signal;
use std::time::{Duration, Instant};

/// How soon starts succeed after the database is back.
const RESUME_MAX: Duration = Duration::from_secs(3);
const CREDENTIAL: &str = "{\"token\": \"t\"}";

/// Two hosts with the default times, their databases, and a session with a machine on each.
struct Hosts {
    postgres: OwnServer,
    etcd: EtcdCluster,
    flags: Flags,
    servers: Vec<TestServer>,
    sessions: Vec<(SessionId, MachineProcesses)>,
    _keys: tempfile::TempDir,
}

impl Hosts {
    async fn start() -> Self {
        let (postgres, keys, flags) = (OwnServer::start(&[]).await, tempfile::tempdir().unwrap(), Flags::new());
        let etcd = EtcdCluster::start(3).await;
        let cluster = format!("[cluster.etcd]\nendpoints = {:?}\n[sessions]\nidle_s_max = 3600\n", etcd.endpoints());
        let (mut servers, mut sessions) = (Vec::new(), Vec::new());
        for name in ["first", "second"] {
            // Longer than the longest outage.
            let waits = Step::WaitForFile { path: flags.path("go"), ms_max: 1_800_000 };
            let write = Step::write(ScriptedProvider::CREDENTIAL_PATH, CREDENTIAL);
            let provider = flags.provider_with_steps([Step::OpenUrlWithBrowser { url: URL.to_owned() }, waits, write]);
            let config = TestConfig::with_provider(provider);
            let server = cluster::start_with(&postgres, config, keys.path(), name, &cluster).await;
            wait_health(&server.operator_client().unwrap(), "acknowledged by etcd").await;
            sessions.push(start_session(&server).await);
            servers.push(server);
        }
        Self { postgres, etcd, flags, servers, sessions, _keys: keys }
    }

    fn require_alive(&self, when: &str) {
        for (session, processes) in &self.sessions {
            assert!(processes.process.is_alive(), "the machine of {session}: {when}");
        }
    }

    /// Both sign-ins end with their credential, none was fenced, and nothing is left.
    async fn finish(self) {
        self.flags.set("go");
        for (server, (session, _)) in self.servers.iter().zip(&self.sessions) {
            require_credential(&server.backend_client().unwrap(), session).await;
        }
        for server in self.servers {
            let log = server.read_log() + &cluster::log_of(&server);
            assert!(!log.contains("silent host fenced") && !log.contains("cluster_contact_lost"), "{log}");
            server.stop_and_check_leaks().await.unwrap();
        }
    }
}

async fn require_credential(api: &ApiClient, session: &SessionId) {
    let view = api.wait_status(session, SessionStatus::Completed).await.unwrap();
    let lease = api.lease_credential(&view.credential.unwrap().id).await.unwrap();
    assert_eq!(lease.files[0].content.expose(), CREDENTIAL.as_bytes());
}

/// Starts a session as soon as that succeeds.
async fn start_when_possible(api: &ApiClient) -> SessionId {
    let started = async || Ok(api.start_session("scripted").await.ok().map(|started| started.session.id));
    eventually("a start", WAIT_MAX, started).await.unwrap()
}

#[tokio::test]
async fn full_leader_of_etcd_frozen_twenty_times_ends_no_machine_on_postgres() {
    let hosts = Hosts::start().await;
    for number in 1..=20 {
        let leader = hosts.etcd.leader();
        hosts.etcd.signal(leader, Signal::STOP);
        tokio::time::sleep(Duration::from_secs(12)).await;
        hosts.etcd.signal(leader, Signal::CONT);
        hosts.require_alive(&format!("leader {leader} frozen for the {number}. time"));
        for server in &hosts.servers {
            wait_health(&server.operator_client().unwrap(), "acknowledged by etcd").await;
        }
    }
    hosts.require_alive("at the end");
    hosts.finish().await;
}

#[tokio::test]
async fn full_database_away_for_a_minute_loses_no_machine_and_no_delivery_on_postgres() {
    let mut hosts = Hosts::start().await;
    let delivers = hosts.servers[0].backend_client().unwrap();
    hosts.postgres.stop();
    // The tools write their credentials now: the agents keep them.
    hosts.flags.set("go");
    tokio::time::sleep(Duration::from_secs(60)).await;
    hosts.require_alive("the database is away");
    hosts.postgres.start_again(&[]).await;
    let back = Instant::now();
    let session = start_when_possible(&delivers).await;
    let took = back.elapsed();
    println!("a start succeeded {took:?} after the database was back");
    assert!(took <= RESUME_MAX, "{took:?}");
    require_credential(&delivers, &session).await;
    hosts.finish().await;
}

#[tokio::test]
async fn full_etcd_away_for_ten_minutes_ends_no_machine_and_sessions_go_on_on_postgres() {
    let hosts = Hosts::start().await;
    (0..3).for_each(|member| hosts.etcd.signal(member, Signal::KILL));
    let (away, mut started) = (Instant::now(), Vec::new());
    for server in &hosts.servers {
        wait_health(&server.operator_client().unwrap(), "heartbeats go to the database").await;
    }
    while away.elapsed() < Duration::from_secs(600) {
        tokio::time::sleep(Duration::from_secs(60)).await;
        hosts.require_alive(&format!("etcd is away for {:?}", away.elapsed()));
        for server in &hosts.servers {
            let api = server.backend_client().unwrap();
            started.push((api.clone(), api.start_session("scripted").await.unwrap().session.id));
        }
    }
    hosts.flags.set("go");
    for (api, session) in started {
        require_credential(&api, &session).await;
    }
    hosts.finish().await;
}

#[tokio::test]
async fn full_five_hundred_starts_over_three_hosts_are_none_lost_none_twice_and_spread_on_postgres() {
    const STARTS: usize = 500;
    const CLUSTER: &str = "liveness = 'database'\nheartbeat_interval_ms = 300\nrenew_deadline_s = 60\nfence_after_s = 75\n\
        [machines]\nmachines_max = 8\n[sessions]\nqueue_max = 5000\nqueue_by_caller_max = 5000\n\
        [limits.rates]\nstart = { per_s = 5000, burst = 5000 }\n";
    let (postgres, keys) = (OwnServer::start(&[]).await, tempfile::tempdir().unwrap());
    let write = Step::write(ScriptedProvider::CREDENTIAL_PATH, CREDENTIAL);
    let provider = || ScriptedProvider::new("scripted", Script::new([write.clone()]));
    let mut servers = Vec::new();
    for name in ["first", "second", "third"] {
        let config = TestConfig::with_provider(provider());
        servers.push(cluster::start_with(&postgres, config, keys.path(), name, CLUSTER).await);
    }
    wait_health(&servers[0].operator_client().unwrap(), "of 3 hosts").await;
    let tokens = servers[0].backend_tokens().to_vec();
    let began = Instant::now();
    let (mut sessions, mut answered) = (Vec::new(), DurationStats::default());
    for number in 0..STARTS {
        let api = servers[number % 3].client_with_token(&tokens[0]).unwrap().without_response_recording();
        let asked = Instant::now();
        let id = api.start_session("scripted").await.unwrap().session.id;
        answered.add(asked.elapsed());
        sessions.push((api, id));
    }
    for (api, id) in &sessions {
        let view = api.wait_status(id, SessionStatus::Completed).await.unwrap();
        assert_eq!(view.generation, 1, "{id}: one machine for each session");
    }
    let took = began.elapsed();
    for server in &servers {
        server.wait_machines_removed().await.unwrap();
    }
    let counts: Vec<_> = servers.iter().map(|server| server.receipts().len()).collect();
    println!("{STARTS} sessions in {took:?}, machines {counts:?}; answers {answered}; {}", stats::host_summary());
    assert_eq!(counts.iter().sum::<usize>(), STARTS, "one machine for each session: {counts:?}");
    let even = STARTS / 3;
    assert!(counts.iter().all(|count| count.abs_diff(even) * 5 <= even), "within 20 % of even: {counts:?}");
    for server in servers {
        server.stop_and_check_leaks().await.unwrap();
    }
}
