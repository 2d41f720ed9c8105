//! What a machine sends is limited, and a granted name cannot be used for another host.

use crate::fixture::{Flags, start_session_with};
use anteroom_testbed::{ApiClient, Script, ScriptedProvider, Step, TestConfig, TestServer};
use anteroom_wire::{SessionId, TimelineKind, api::SessionStatus};
use axum::{Router, routing::get};
use serde_json::Value;
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};
use tokio::{net::TcpListener, task::JoinHandle};

/// Bytes of the answer to each request.
const ANSWER_BYTES: usize = 700_000;

/// A server on loopback that counts requests.
async fn start_outside() -> (SocketAddr, Arc<AtomicU64>, JoinHandle<std::io::Result<()>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, hits) = (listener.local_addr().unwrap(), Arc::new(AtomicU64::new(0)));
    let counted = Arc::clone(&hits);
    let answer = move || {
        counted.fetch_add(1, Relaxed);
        async { "x".repeat(ANSWER_BYTES) }
    };
    let routes = Router::new().route("/hello", get(answer));
    (address, hits, tokio::spawn(async move { axum::serve(listener, routes).await }))
}

/// Runs a tool with these steps, which then writes its credential; returns when the session has completed.
async fn run_tool(
    flags: &Flags,
    steps: Vec<Step>,
    port: u16,
    outside: SocketAddr,
    settings: &str,
) -> (TestServer, ApiClient, SessionId) {
    let write = Step::write(ScriptedProvider::CREDENTIAL_PATH, "{\"token\": \"x\"}");
    let steps: Vec<_> = steps.into_iter().chain([write, flags.wait_step("never")]).collect();
    let provider = ScriptedProvider::new("scripted", Script::new(steps)).with_egress("front.example", port);
    let config = TestConfig::with_provider(provider)
        .with_settings(settings)
        .with_host_override(&format!("front.example:{port}"), outside);
    let (server, api, id) = start_session_with(config).await;
    api.wait_status(&id, SessionStatus::Completed).await.unwrap();
    (server, api, id)
}

/// The reasons and details of the denied connections, in order.
async fn denials(api: &ApiClient, id: &SessionId) -> Vec<(String, String)> {
    let timeline = api.get_timeline(id).await.unwrap();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let denied = timeline.iter().filter(|entry| entry.kind == TimelineKind::EgressDenied);
    denied.map(|entry| (text(&entry.data["reason"]), text(&entry.data["detail"]))).collect()
}

#[tokio::test]
async fn s20_connection_to_port_443_that_is_not_tls_reaches_nothing_and_is_on_the_timeline() {
    let flags = Flags::new();
    let (address, hits, outside) = start_outside().await;
    let steps = vec![Step::HttpGet { url: "http://front.example:443/hello".into() }];
    let (server, api, id) = run_tool(&flags, steps, 443, address, "").await;
    api.wait_entry(&id, TimelineKind::EgressDenied).await.unwrap();
    let denied = denials(&api, &id).await;
    assert!(
        matches!(&denied[..], [(reason, detail)] if reason == "egress_tls_name" && detail.contains("ClientHello")),
        "{denied:?}"
    );
    assert_eq!(hits.load(Relaxed), 0, "nothing reached the host");
    let totals = api.wait_entry(&id, TimelineKind::EgressTotals).await.unwrap();
    assert!(totals.data["bytes_up"].as_u64().unwrap() > 0, "{totals:?}");
    assert_eq!(totals.data["upload_warning"], false);
    outside.abort();
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn s20_session_that_has_used_its_bytes_gets_no_further_connection() {
    let flags = Flags::new();
    let (address, hits, outside) = start_outside().await;
    let request = || Step::HttpGet { url: "http://front.example:8080/hello".into() };
    let steps = vec![request(), request(), request(), request()];
    let settings = "[egress]\nsession_download_mib_max = 1\n";
    let (server, api, id) = run_tool(&flags, steps, 8080, address, settings).await;
    api.wait_entry(&id, TimelineKind::EgressDenied).await.unwrap();
    let denied = denials(&api, &id).await;
    assert!(denied.iter().any(|(reason, _)| reason == "egress_limit"), "{denied:?}");
    assert!((1..4).contains(&hits.load(Relaxed)), "{hits:?}");
    let totals = api.wait_entry(&id, TimelineKind::EgressTotals).await.unwrap();
    let received = totals.data["bytes_down"].as_u64().unwrap();
    assert!((1 << 20..(1 << 20) + (1 << 18)).contains(&received), "{totals:?}");
    outside.abort();
    server.stop_and_check_leaks().await.unwrap();
}
