//! Machines whose agent repeats requests without end.

use anteroom_testbed::{ScriptedProvider, TestConfig, TestServer, WAIT_MAX};
use anteroom_wire::{
    TimelineKind,
    agent::{AgentEvent, EVENTS_PATH, EventBatch, NumberedEvent, SignInEvent, SignInUrl, UrlSource},
    api::{SessionStatus, StartRequest},
};
use std::{fs, os::unix::fs::PermissionsExt, time::Duration};
use tokio::time::Instant;

const TOKEN: &str = "the-token-of-a-hostile-agent";
const BATCHES: u64 = 12;
const EVENTS_OF_A_BATCH: u64 = 64;

/// A batch of sign-in addresses, each of which replaces the one before.
fn batch(number: u64) -> String {
    let numbers = (number * EVENTS_OF_A_BATCH + 1)..=((number + 1) * EVENTS_OF_A_BATCH);
    let url = |number: u64| SignInUrl { source: UrlSource::Screen, url: format!("https://id.example/{number}") };
    let event =
        |number| NumberedEvent { number, at_unix_ms: 0, event: AgentEvent::SignIn(SignInEvent::Url(url(number))) };
    serde_json::to_string(&EventBatch { events: numbers.map(event).collect() }).unwrap()
}

#[tokio::test]
async fn guest_that_floods_events_waits_and_of_reports_that_replace_each_other_one_a_batch_is_recorded() {
    let dir = tempfile::tempdir().unwrap();
    let token_file = dir.path().join("token");
    fs::write(&token_file, TOKEN).unwrap();
    fs::set_permissions(&token_file, fs::Permissions::from_mode(0o600)).unwrap();
    let settings =
        format!("[external_machines.desk]\ndesktop = 'vnc://127.0.0.1:1'\nagent_token_file = {token_file:?}\n");
    let config = TestConfig::with_provider(ScriptedProvider::idle("scripted")).with_settings(&settings);
    let server = TestServer::start(config).await.unwrap();
    let api = server.backend_client().unwrap();
    let request = StartRequest { machine: Some("desk".into()), ..StartRequest::new("scripted") };
    let id = api.start_session_with(&request).await.unwrap().session.id;
    api.wait_status(&id, SessionStatus::VmStarted).await.unwrap();

    let client = reqwest::Client::builder().no_proxy().timeout(WAIT_MAX).build().unwrap();
    let (url, start) = (format!("http://{}{EVENTS_PATH}", server.address().unwrap()), Instant::now());
    for number in 0..BATCHES {
        let request = client.post(&url).bearer_auth(TOKEN).header("content-type", "application/json");
        let response = request.body(batch(number)).send().await.unwrap();
        assert_eq!(response.status().as_u16(), 204);
    }
    // 512 at once, and twenty a second of the others before the last batch.
    assert!(start.elapsed() > Duration::from_secs(5), "{:?}", start.elapsed());
    let view = api.get_session(&id).await.unwrap();
    let newest = format!("https://id.example/{}", BATCHES * EVENTS_OF_A_BATCH);
    assert_eq!(view.sign_in.url, Some(newest), "the newest counts");
    let timeline = api.get_timeline(&id).await.unwrap();
    let recorded = timeline.iter().filter(|entry| entry.kind == TimelineKind::SignInUrl).count();
    assert!(recorded <= usize::try_from(BATCHES).unwrap(), "{recorded} entries");
    api.cancel_session(&id).await.unwrap();
    server.stop_and_check_leaks().await.unwrap();
}
