//! Metrics for Prometheus.

use crate::start_idle;
use anteroom_wire::TimelineKind;
use std::collections::BTreeMap;

/// The samples: name with labels → value.
pub(crate) fn samples(text: &str) -> BTreeMap<String, f64> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| line.rsplit_once(' ').unwrap())
        .map(|(name, value)| (name.to_owned(), value.parse().unwrap()))
        .collect()
}

#[tokio::test]
async fn metrics_reflect_sessions_and_require_an_operator() {
    let settings = "[machines]\nmachines_max = 1\n[limits.sessions]\nreconcile_every_ms = 50\n";
    let (_flags, server) = start_idle(settings).await;
    let (api, operator) = (server.backend_client().unwrap(), server.operator_client().unwrap());
    assert_eq!(api.get("/metrics").await.unwrap().status, 403);
    assert_eq!(server.anonymous_client().unwrap().get("/metrics").await.unwrap().status, 401);
    let first = api.start_session("scripted").await.unwrap().session.id;
    api.wait_entry(&first, TimelineKind::CliStarted).await.unwrap();
    let second = api.start_session("scripted").await.unwrap().session.id;
    api.wait_until(&second, "queued", |view| view.queue_position == Some(1)).await.unwrap();
    let _viewer = api.connect_desktop(&first).await.unwrap();
    let text = operator.get("/metrics").await.unwrap().text;
    assert!(text.ends_with("# EOF\n"), "{text}");
    let found = samples(&text);
    for (name, expected) in [
        ("anteroom_sessions{status=\"vm_started\"}", 1.0),
        ("anteroom_sessions{status=\"vm_creating\"}", 1.0),
        ("anteroom_sessions{status=\"failed\"}", 0.0),
        ("anteroom_viewers", 1.0),
        ("anteroom_supervisor_tasks", 2.0),
        ("anteroom_queue_waiting", 1.0),
        ("anteroom_queue_blocked", 0.0),
        ("anteroom_machines{state=\"ready\",stage=\"\"}", 1.0),
        ("anteroom_machines_max", 1.0),
        ("anteroom_reconcile_failures_total", 0.0),
        ("anteroom_store_writes_total{kind=\"create_session\",outcome=\"written\"}", 2.0),
    ] {
        assert_eq!(found.get(name), Some(&expected), "{name}:\n{text}");
    }
    assert!(found["anteroom_reconcile_last_success_timestamp_seconds"] > 1.7e9);
    for id in [&first, &second] {
        api.cancel_session(id).await.unwrap();
    }
    let found = samples(&operator.get("/metrics").await.unwrap().text);
    assert_eq!(found["anteroom_sessions{status=\"cancelled\"}"], 2.0);
    server.stop_and_check_leaks().await.unwrap();
}
