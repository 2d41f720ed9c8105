//! A server whose database is PostgreSQL.

#[path = "../../../store/tests/store_on_postgres/own_server.rs"]
pub(crate) mod own_server;

use crate::Flags;
use anteroom_testbed::{ApiClient, TestConfig, TestServer, eventually};
use anteroom_wire::api::{Health, HealthStatus, SessionStatus};
use own_server::OwnServer;
use std::{fs, os::unix::fs::PermissionsExt, time::Duration};

const PASSWORD: &str = "canary-of-the-database-password";

/// The server's check of its database; `None`: the server is down.
async fn database(api: &ApiClient) -> Option<(HealthStatus, String)> {
    let health: Health = api.get("/health").await.unwrap().parse().ok()?;
    let store = health.checks.into_iter().find(|check| check.name == "store").unwrap();
    Some((store.status, store.detail))
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
