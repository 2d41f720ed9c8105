//! A server whose database is PostgreSQL.

#[path = "../../../store/tests/store_on_postgres/own_server.rs"]
pub(crate) mod own_server;

use crate::Flags;
use anteroom_testbed::{ApiClient, TestConfig, TestServer, eventually};
use anteroom_wire::api::{Health, HealthStatus, SessionStatus};
use own_server::OwnServer;
use rustix::process::Signal;
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
};

const PASSWORD: &str = "canary-of-the-database-password";

/// The server's check of its database; `None`: the server is down.
async fn database(api: &ApiClient) -> Option<(HealthStatus, String)> {
    let health: Health = api.get("/health").await.unwrap().parse().ok()?;
    let store = health.checks.into_iter().find(|check| check.name == "store").unwrap();
    Some((store.status, store.detail))
}

/// How soon `/health` must answer.
const HEALTH_MAX: Duration = Duration::from_secs(2);

/// The health report of the operator's socket, and how long it took.
async fn local_health(server: &TestServer) -> (Health, Duration) {
    let asked = Instant::now();
    let mut socket = UnixStream::connect(server.state_dir().join("anteroom.sock")).await.unwrap();
    socket.write_all(b"GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    let took = asked.elapsed();
    let body = &answer[answer.find('{').unwrap()..=answer.rfind('}').unwrap()];
    (serde_json::from_str(body).unwrap(), took)
}

/// Waits until the operator is told that the database does not answer, and since when; each report comes in time.
async fn wait_reported_away(server: &TestServer) {
    let (mut longest, mut last) = (Duration::ZERO, None);
    let reported = async || {
        let (health, took) = local_health(server).await;
        longest = longest.max(took);
        let store = health.checks.into_iter().find(|check| check.name == "store").unwrap();
        let is_away = store.status == HealthStatus::Down && store.detail.contains("; it answered last at 20");
        last = Some(store);
        Ok(is_away.then_some(()))
    };
    let reported = eventually("a database that is away", Duration::from_secs(30), reported).await;
    assert!(reported.is_ok(), "{last:?}");
    assert!(longest < HEALTH_MAX, "{longest:?}");
}

#[tokio::test]
async fn health_says_in_time_since_when_the_database_does_not_answer_on_postgres() {
    let mut postgres = OwnServer::start(&[]).await;
    let settings = format!("[database]\nurl = 'postgresql://anteroom@/postgres?host={}'\n", postgres.directory());
    let config = TestConfig::with_provider(Flags::new().idle_provider()).with_settings(&settings);
    let server = TestServer::start(config).await.unwrap();
    let anyone = server.anonymous_client().unwrap();
    postgres.signal_all(Signal::STOP);
    wait_reported_away(&server).await;
    let asked = Instant::now();
    assert_eq!(anyone.get("/health").await.unwrap().status, 503);
    assert!(asked.elapsed() < HEALTH_MAX, "{:?}", asked.elapsed());
    postgres.signal_all(Signal::CONT);
    let is_well = async || Ok((anyone.get("/health").await?.status == 200).then_some(()));
    eventually("a database that answers again", Duration::from_secs(30), is_well).await.unwrap();
    postgres.stop();
    wait_reported_away(&server).await;
    postgres.start_again(&[]).await;
    eventually("a database that is back", Duration::from_secs(30), is_well).await.unwrap();
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn sign_in_restart_lease_and_an_outage_on_postgres() {
    let mut postgres = OwnServer::start(&[]).await;
    let secrets = tempfile::tempdir().unwrap();
    let password = secrets.path().join("password");
    fs::write(&password, PASSWORD).unwrap();
    fs::set_permissions(&password, fs::Permissions::from_mode(0o600)).unwrap();
    let settings = format!(
        "[database]\nurl = 'postgresql://anteroom@/postgres?host={}'\npassword_file = '{}'\n",
        postgres.directory(),
        password.display()
    );
    let flags = Flags::new();
    let config = TestConfig::with_provider(flags.provider("{\"token\": \"in postgres\"}")).with_settings(&settings);
    let mut server = TestServer::start(config).await.unwrap();
    let (api, operator) = (server.backend_client().unwrap(), server.operator_client().unwrap());
    let (status, detail) = database(&operator).await.unwrap();
    assert!(status == HealthStatus::Ok && detail.starts_with("PostgreSQL 1"), "{detail}");
    assert!(detail.contains("synchronous_commit = on"), "{detail}");
    assert!(!server.state_dir().join("anteroom.db").exists(), "there is no file");

    let id = api.start_session("scripted").await.unwrap().session.id;
    api.wait_until(&id, "showing the address", |view| view.sign_in.url.is_some()).await.unwrap();
    let machines = server.list_machines();
    server.kill_server().await.unwrap();
    server.start_server().await.unwrap();
    let (api, operator) = (server.backend_client().unwrap(), server.operator_client().unwrap());
    assert_eq!(server.list_machines(), machines, "the machine was adopted");

    // Without its database a server refuses starts with the cause; desktops go on.
    let mut viewer = api.connect_desktop(&id).await.unwrap();
    postgres.stop();
    viewer.request_full_frame().await.unwrap();
    let refused = api.start_session("scripted").await.unwrap_err().to_string();
    assert!(refused.contains("503") || refused.contains("database_unavailable"), "{refused}");
    let health = server.anonymous_client().unwrap().get("/health").await.unwrap();
    assert!(health.status == 503 && health.text.contains("\"down\""), "{health:?}");
    flags.set("go");
    viewer.request_full_frame().await.unwrap();
    postgres.start_again(&[]).await;
    // The delivery waited in the machine.
    let view = api.wait_status(&id, SessionStatus::Completed).await.unwrap();
    let lease = api.lease_credential(&view.credential.unwrap().id).await.unwrap();
    assert_eq!(lease.files[0].content.expose(), b"{\"token\": \"in postgres\"}");
    let is_well = async || {
        let found = database(&operator).await.filter(|(status, _)| *status == HealthStatus::Ok);
        Ok(found.map(drop))
    };
    eventually("a database that works again", Duration::from_secs(30), is_well).await.unwrap();

    let log = server.read_log() + &fs::read_to_string(server.state_dir().join("log/anteroom.jsonl")).unwrap();
    for part in ["database_opened", "database_unavailable", "does not answer", "database_connected"] {
        assert!(log.contains(part), "{part}");
    }
    assert!(!log.contains(PASSWORD));
    server.stop_and_check_leaks().await.unwrap();
}
