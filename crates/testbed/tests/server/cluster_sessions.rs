//! Sessions of two hosts on one database: one host runs each, and another one goes on when it is lost.

use crate::{Flags, cluster::start, postgres::own_server::OwnServer};
use anteroom_testbed::{ApiClient, TestConfig, TestServer, WAIT_MAX, eventually};
use anteroom_wire::{SessionId, TimelineKind, api::SessionStatus};
use std::{
    fs::OpenOptions,
    io::Write,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

const CLUSTER: &str = "liveness = 'database'\nheartbeat_interval_ms = 200\nrenew_deadline_s = 3\nfence_after_s = 5\n";

/// The processes of machines on these servers.
fn machines(servers: &[&TestServer]) -> usize {
    let of = |server: &&TestServer| {
        server.leak_scan().find_processes().into_iter().filter(|found| found.command.contains("agent.json")).count()
    };
    servers.iter().map(of).sum()
}

/// A client of `server` with the token of a backend of `of`: they share the database.
fn client(server: &TestServer, of: &TestServer) -> ApiClient {
    server.client_with_token(&of.backend_tokens()[0]).unwrap()
}

async fn wait_address(api: &ApiClient, id: &SessionId) {
    api.wait_until(id, "showing the address", |view| view.sign_in.url.is_some()).await.unwrap();
}

async fn wait_machines(server: &TestServer, count: usize) {
    let found = async || Ok((server.list_machines().len() == count).then_some(()));
    eventually("machines of the host", WAIT_MAX, found).await.unwrap();
}

#[tokio::test]
async fn session_of_a_killed_host_goes_on_elsewhere_and_never_has_two_machines_on_postgres() {
    let (postgres, keys, flags) = (OwnServer::start(&[]).await, tempfile::tempdir().unwrap(), Flags::new());
    let mut first = start(&postgres, &flags, keys.path(), "first", CLUSTER).await;
    let second = start(&postgres, &flags, keys.path(), "second", CLUSTER).await;
    let id = first.backend_client().unwrap().start_session("scripted").await.unwrap().session.id;
    wait_address(&first.backend_client().unwrap(), &id).await;
    assert_eq!((first.list_machines().len(), second.list_machines().len()), (1, 0));

    first.kill_server().await.unwrap();
    let api = client(&second, &first);
    let most = AtomicUsize::new(0);
    let census = async {
        loop {
            most.fetch_max(machines(&[&first, &second]), Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::select! {
        () = census => {}
        _ = api.wait_entry(&id, TimelineKind::HostLost) => wait_machines(&second, 1).await,
    }
    wait_address(&api, &id).await;
    assert_eq!(most.load(Ordering::Relaxed).max(machines(&[&first, &second])), 1);

    // The host comes back with nothing; the session stays where it is.
    first.start_server().await.unwrap();
    assert_eq!((machines(&[&first]), second.list_machines().len()), (0, 1));
    flags.set("go");
    api.wait_status(&id, SessionStatus::Completed).await.unwrap();
    second.stop_and_check_leaks().await.unwrap();
    first.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn session_without_room_here_is_taken_by_another_host_or_cancelled_by_any_on_postgres() {
    let (postgres, keys, flags) = (OwnServer::start(&[]).await, tempfile::tempdir().unwrap(), Flags::new());
    let settings = format!("{CLUSTER}[machines]\nmachines_max = 1\n");
    let first = start(&postgres, &flags, keys.path(), "first", &settings).await;
    let second = start(&postgres, &flags, keys.path(), "second", &settings).await;
    let (api, other) = (first.backend_client().unwrap(), client(&second, &first));
    let here = api.start_session("scripted").await.unwrap().session.id;
    wait_machines(&first, 1).await;
    let there = api.start_session("scripted").await.unwrap().session.id;
    wait_machines(&second, 1).await;
    let waits = api.start_session("scripted").await.unwrap().session;
    assert_eq!(waits.status, SessionStatus::VmCreating);
    other.cancel_session(&waits.id).await.unwrap();
    api.wait_status(&waits.id, SessionStatus::Cancelled).await.unwrap();
    let last = other.start_session("scripted").await.unwrap().session.id;
    api.cancel_session(&here).await.unwrap();
    wait_address(&api, &last).await;
    assert_eq!((first.list_machines().len(), second.list_machines().len()), (1, 1));
    other.cancel_session(&there).await.unwrap();
    api.cancel_session(&last).await.unwrap();
    second.stop_and_check_leaks().await.unwrap();
    first.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn sessions_of_a_server_that_becomes_a_host_go_on_there_with_another_machine_on_postgres() {
    let (postgres, flags) = (OwnServer::start(&[]).await, Flags::new());
    let settings = format!("[database]\nurl = 'postgresql://anteroom@/postgres?host={}'\n", postgres.directory());
    let config = TestConfig::with_provider(flags.provider("{\"token\": \"t\"}")).with_settings(&settings);
    let mut server = TestServer::start(config).await.unwrap();
    let api = server.backend_client().unwrap();
    let id = api.start_session("scripted").await.unwrap().session.id;
    wait_address(&api, &id).await;
    let machines = server.list_machines();
    server.stop_server().await.unwrap();
    let mut file = OpenOptions::new().append(true).open(server.config_file()).unwrap();
    writeln!(file, "\n[cluster]\nname = 'test'\nhost_name = 'first'\n{CLUSTER}").unwrap();
    server.start_server().await.unwrap();
    let api = server.backend_client().unwrap();
    wait_machines(&server, 1).await;
    // The keeper of a server without a cluster has no deadline, so its machine is ended first.
    assert_ne!(server.list_machines(), machines);
    flags.set("go");
    api.wait_status(&id, SessionStatus::Completed).await.unwrap();
    server.stop_and_check_leaks().await.unwrap();
}
