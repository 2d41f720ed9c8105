//! A start is rejected with a named cause when the host has too little disk or memory.

use crate::{Flags, start_idle};
use anteroom_testbed::{TestConfig, TestServer, WAIT_MAX, eventually};
use anteroom_wire::{
    TimelineKind,
    api::{Health, HealthCheck, HealthStatus, SessionStatus, StartResponse},
    diagnosis::Verdict,
};
use serde_json::json;
use std::fs;

/// More MiB than any disk or memory has.
const TOO_MUCH: u64 = 1 << 30;

async fn check(server: &TestServer, name: &str) -> (Health, HealthCheck) {
    let answer = server.operator_client().unwrap().get("/health").await.unwrap();
    assert_eq!(answer.status, 200, "a degraded server still answers: {}", answer.text);
    let health: Health = answer.parse().unwrap();
    let found = health.checks.iter().find(|check| check.name == name).expect(name).clone();
    (health, found)
}

#[tokio::test]
async fn start_is_rejected_with_cause_when_disk_or_memory_is_low() {
    for (setting, code, name) in
        [("disk_free_mib_min", "disk_low", "disk"), ("memory_free_mib_min", "memory_low", "memory")]
    {
        let flags = Flags::new();
        let settings = format!("[machines]\n{setting} = {TOO_MUCH}\n");
        let server =
            TestServer::start(TestConfig::with_provider(flags.idle_provider()).with_settings(&settings)).await.unwrap();
        let api = server.backend_client().unwrap();
        let rejected = api.post("/api/auth/start", json!({ "provider": "scripted" })).await.unwrap();
        let problem = rejected.problem().unwrap();
        assert_eq!((rejected.status, problem.code.as_str()), (503, code), "{}", rejected.text);
        assert!(problem.detail.unwrap().contains(setting), "the detail names the setting: {}", rejected.text);
        let (health, found) = check(&server, name).await;
        assert_eq!((health.status, found.status), (HealthStatus::Degraded, HealthStatus::Degraded), "{found:?}");
        assert!(found.detail.contains("rejected"), "{found:?}");
        assert_eq!(server.list_machines(), []);
        server.stop_and_check_leaks().await.unwrap();
    }
}

#[tokio::test]
async fn expected_memory_of_a_machine_counts_for_admission() {
    let settings = format!("[machines]\nmemory_per_machine_mib = {}\nmemory_free_mib_min = 1\n", 1 << 20);
    let (_flags, server) = start_idle(&settings).await;
    let rejected =
        server.backend_client().unwrap().post("/api/auth/start", json!({ "provider": "scripted" })).await.unwrap();
    assert_eq!(rejected.problem().unwrap().code, "memory_low", "a machine needs a terabyte: {}", rejected.text);
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn repeated_start_returns_its_session_when_capacity_is_exhausted() {
    let settings = "[machines]\nmachines_max = 1\n[sessions]\nqueue_max = 0\n";
    let (_flags, server) = start_idle(settings).await;
    let api = server.backend_client().unwrap();
    let start = |key: &str, user: &str| {
        let body = json!({ "provider": "scripted", "idempotency_key": key, "user_id": user });
        let api = &api;
        async move { api.post("/api/auth/start", body).await.unwrap() }
    };
    let first = start("once", "ada").await;
    let id = first.parse::<StartResponse>().unwrap().session.id;
    api.wait_entry(&id, TimelineKind::CliStarted).await.unwrap();
    assert_eq!(start("twice", "ada").await.problem().unwrap().code, "no_capacity", "the queue is full");
    let again = start("once", "ada").await;
    assert_eq!(again.parse::<StartResponse>().expect(&again.text).session.id, id);
    assert_eq!(start("once", "bob").await.problem().unwrap().code, "idempotency_key_reused");
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn queued_session_waits_with_cause_when_disk_runs_low() {
    let settings = "[machines]\nmachines_max = 1\ndisk_free_mib_min = 1\n";
    let (_flags, mut server) = start_idle(settings).await;
    let api = server.backend_client().unwrap();
    let first = api.start_session("scripted").await.unwrap().session.id;
    api.wait_entry(&first, TimelineKind::CliStarted).await.unwrap();
    let second = api.start_session("scripted").await.unwrap().session.id;
    api.wait_until(&second, "first in the queue", |view| view.queue_position == Some(1)).await.unwrap();
    let config = server.path().join("config.toml");
    let enough_disk = fs::read_to_string(&config).unwrap();
    let low_disk = enough_disk.replace("disk_free_mib_min = 1\n", &format!("disk_free_mib_min = {TOO_MUCH}\n"));
    assert_ne!(enough_disk, low_disk);
    server.stop_server().await.unwrap();
    fs::write(&config, low_disk).unwrap();
    server.start_server().await.unwrap();
    let api = server.backend_client().unwrap();
    api.wait_until(&first, "adopted", |view| view.status == SessionStatus::VmStarted).await.unwrap();
    api.cancel_session(&first).await.unwrap();
    let diagnosed = eventually("the diagnosis names the setting", WAIT_MAX, async || {
        let found = api.get_diagnosis(&second).await.unwrap();
        Ok(found.sentence.contains("machines.disk_free_mib_min").then_some(found))
    });
    assert_eq!(diagnosed.await.unwrap().verdict, Verdict::WaitingForCapacity);
    assert_eq!(api.get_session(&second).await.unwrap().queue_position, Some(1));
    let removed = async || Ok(server.list_machines().is_empty().then_some(()));
    eventually("the first session's machine is removed", WAIT_MAX, removed).await.unwrap();
    server.stop_server().await.unwrap();
    fs::write(&config, enough_disk).unwrap();
    server.start_server().await.unwrap();
    server
        .backend_client()
        .unwrap()
        .wait_entry(&second, TimelineKind::CliStarted)
        .await
        .expect("the queued session starts once there is enough disk");
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn health_lists_every_dependency_of_the_server() {
    let (_flags, server) = start_idle("").await;
    for name in ["store", "vault", "image", "isolation", "machines", "disk", "memory", "reconcile"] {
        let (_, found) = check(&server, name).await;
        assert_eq!(found.status, HealthStatus::Ok, "{found:?}");
    }
    let anonymous: Health = server.anonymous_client().unwrap().get("/health").await.unwrap().parse().unwrap();
    assert!(anonymous.checks.is_empty(), "{anonymous:?}");
    server.stop_and_check_leaks().await.unwrap();
}
