//! The configuration of external machines: invalid entries, and the removal of a machine that is in use.

use crate::{Fixture, TOKEN, closing, start, verdict};
use anteroom_testbed::{TestConfig, TestServer};
use anteroom_wire::api::SessionStatus;

#[tokio::test]
async fn invalid_external_machines_prevent_start_and_every_fault_is_listed() {
    let fixture = Fixture::new();
    let token = fixture.token_file("token", TOKEN);
    let settings = format!(
        "[external_machines.a]\ndesktop = 'http://x/'\nagent_token_file = '/nonexistent'\n\
         [external_machines.b]\ndesktop = 'vnc://127.0.0.1'\nagent_token_file = {token:?}\ngreeting_ms_max = 60000\n"
    );
    let error = TestServer::start(TestConfig::with_providers([]).with_settings(&settings)).await.unwrap_err();
    let text = format!("{error:#}");
    assert!(text.contains("external_machines.a.desktop has the scheme"), "{text}");
    assert!(text.contains("external_machines.a.agent_token_file"), "{text}");
    assert!(!text.contains(TOKEN), "{text}");
}

#[tokio::test]
async fn removed_external_machine_is_reported_to_its_session() {
    let fixture = Fixture::new();
    let mut server = fixture.start_server("vnc://127.0.0.1:1", "").await;
    let id = start(&server.backend_client().unwrap()).await.session.id;
    server.stop_server().await.unwrap();
    let config = server.path().join("config.toml");
    let mut settings: toml::Table = std::fs::read_to_string(&config).unwrap().parse().unwrap();
    settings.remove("external_machines").unwrap();
    std::fs::write(&config, toml::to_string(&settings).unwrap()).unwrap();
    server.start_server().await.unwrap();
    let api = server.backend_client().unwrap();
    api.wait_status(&id, SessionStatus::VmStarted).await.unwrap();
    let (code, reason) = closing(&mut api.open_desktop_socket(&id).await.unwrap()).await;
    assert_eq!(code, 4404);
    assert!(reason.starts_with("unknown_machine: "), "{reason}");
    assert_eq!(verdict(&api, &id).await.0, "external_removed");
    api.cancel_session(&id).await.unwrap();
    server.stop_and_check_leaks().await.unwrap();
}
