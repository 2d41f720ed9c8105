//! Sessions that wait for a host: whose turn it is, and any host ends those that waited too long.

use crate::{Flags, cluster::start, hosts, postgres::own_server::OwnServer};
use anteroom_cluster::PULL_AFTER_MS;
use anteroom_controller::limits::PeerLimits;
use anteroom_testbed::{ApiClient, TestServer, WAIT_MAX, eventually};
use anteroom_wire::{MachineId, SessionId, TimelineKind, api::SessionStatus, hosts::HostState};
use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

const CLUSTER: &str = "liveness = 'database'\nheartbeat_interval_ms = 300\nrenew_deadline_s = 20\nfence_after_s = 30\n";
/// Time until any host has ended a session that waited too long: it looks once a second.
const ENDED_MAX: Duration = Duration::from_secs(10);

/// A client of `server` with the token of a backend of `of`: they share the database.
fn client(server: &TestServer, of: &TestServer) -> ApiClient {
    server.client_with_token(&of.backend_tokens()[0]).unwrap()
}

fn machines(servers: &[TestServer]) -> BTreeSet<MachineId> {
    servers.iter().flat_map(|server| server.list_machines()).collect()
}

/// Lets all sessions end by themselves, each on its host, and stops the servers.
async fn finish(flags: &Flags, servers: Vec<TestServer>) {
    flags.set("go");
    let none = async || Ok(machines(&servers).is_empty().then_some(()));
    eventually("the end of all sessions", WAIT_MAX, none).await.unwrap();
    for server in servers {
        server.stop_and_check_leaks().await.unwrap();
    }
}

async fn start_and_run(api: &ApiClient, servers: &[TestServer], count: usize) -> SessionId {
    let id = api.start_session("scripted").await.unwrap().session.id;
    let runs = async || Ok((machines(servers).len() == count).then_some(()));
    eventually("a machine of the session", WAIT_MAX, runs).await.unwrap();
    id
}

#[tokio::test]
async fn session_that_waited_too_long_is_ended_by_another_host_than_the_one_that_accepted_it_on_postgres() {
    let (postgres, keys, flags) = (OwnServer::start(&[]).await, tempfile::tempdir().unwrap(), Flags::new());
    let settings = format!("{CLUSTER}[machines]\nmachines_max = 1\n[sessions]\nqueue_s_max = 5\n");
    let mut servers = Vec::new();
    for name in ["first", "second"] {
        servers.push(start(&postgres, &flags, keys.path(), name, &settings).await);
    }
    let (api, other) = (servers[0].backend_client().unwrap(), client(&servers[1], &servers[0]));
    start_and_run(&api, &servers, 1).await;
    start_and_run(&other, &servers, 2).await;
    let waits = api.start_session("scripted").await.unwrap().session.id;
    servers[0].kill_server().await.unwrap();
    let ended = async || {
        let view = other.get_session(&waits).await?;
        Ok((view.status == SessionStatus::Failed).then_some(view))
    };
    let view = eventually("the end of the session that waits", ENDED_MAX, ended).await.unwrap();
    assert_eq!(view.reason.unwrap().code, "no_capacity");
    servers[0].start_server().await.unwrap();
    finish(&flags, servers).await;
}

/// An owner has all machines of three hosts, and so many sessions that wait. When machines become free, another owner's first session gets
/// one after at most one of the waiting ones for each host.
async fn another_owner_waits_behind_at_most_one_of_each_host(waiting: usize) {
    const HOSTS: usize = 3;
    const MACHINES: usize = 2 * HOSTS;
    const SETTINGS: &str = "[machines]\nmachines_max = 2\n[sessions]\nqueue_max = 5000\nqueue_by_caller_max = 5000\n\
        [limits.rates]\nstart = { per_s = 5000, burst = 5000 }\nchange = { per_s = 5000, burst = 5000 }\n";
    let (postgres, keys, flags) = (OwnServer::start(&[]).await, tempfile::tempdir().unwrap(), Flags::new());
    let mut servers = Vec::new();
    for name in ["first", "second", "third"] {
        let limits = PeerLimits::default();
        servers.push(hosts::start_with(&postgres, &flags, keys.path(), name, SETTINGS, limits).await.0);
    }
    let operator = servers[0].operator_client().unwrap();
    for server in &mut servers[1..] {
        hosts::join(&operator, server).await;
    }
    hosts::wait_hosts(&operator, HostState::Answers, HOSTS).await;
    let many = servers[0].backend_client().unwrap().without_response_recording();
    let mut running = Vec::new();
    for number in 0..MACHINES {
        running.push(start_and_run(&many, &servers, number + 1).await);
    }
    let mut in_line = Vec::new();
    for _ in 0..waiting {
        in_line.push(many.start_session("scripted").await.unwrap().session.id);
    }
    let other = servers[1].other_backend_client().unwrap();
    let first = other.start_session("scripted").await.unwrap().session.id;
    // Until then it is offered to other hosts, and none takes it from the line.
    let (started, offered) = (Instant::now(), Duration::from_millis(2 * PULL_AFTER_MS));
    let is_in_line = async || Ok((started.elapsed() > offered).then_some(()));
    eventually("any host may take it", WAIT_MAX, is_in_line).await.unwrap();
    let mut before = 0;
    for id in &running {
        let at_first = machines(&servers);
        many.cancel_session(id).await.unwrap();
        let next = async || {
            let now = machines(&servers);
            Ok((now.len() == MACHINES && now != at_first).then_some(()))
        };
        eventually("the next session has the machine", WAIT_MAX, next).await.unwrap();
        let entries = other.get_timeline(&first).await.unwrap();
        if entries.iter().any(|entry| entry.kind == TimelineKind::MachineRequested) {
            break;
        }
        before += 1;
    }
    assert!(before <= HOSTS, "{before} sessions of the other owner came first");
    // From the end of the line, so that none of them gets a machine.
    for id in in_line.iter().rev() {
        many.cancel_session(id).await.unwrap();
    }
    finish(&flags, servers).await;
}

#[tokio::test]
async fn owner_with_many_waiting_sessions_delays_anothers_first_by_one_place_a_host_on_postgres() {
    another_owner_waits_behind_at_most_one_of_each_host(30).await;
}

#[tokio::test]
async fn full_owner_with_a_thousand_waiting_sessions_delays_anothers_first_by_one_place_a_host_on_postgres() {
    another_owner_waits_behind_at_most_one_of_each_host(1_000).await;
}
