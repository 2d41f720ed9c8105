//! Guests and strangers that write as much as they can.

use crate::hostile_agent::HostileAgent;
use anteroom_testbed::{ApiClient, TestServer};
use anteroom_wire::{SessionId, TimelineKind, agent::STORE_CREDENTIAL_PATH};
use serde_json::json;
use std::path::Path;

/// The most bytes that one session adds to the log.
const SESSION_LOG_BYTES_MAX: u64 = 1024 * 1024;
/// The most bytes that one session adds to the database.
const SESSION_DATABASE_BYTES_MAX: usize = 1024 * 1024;

fn bytes_of_dir(dir: &Path) -> u64 {
    std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum()
}

async fn timeline_bytes(api: &ApiClient, id: &SessionId) -> usize {
    let mut bytes = 0;
    let mut after = 0;
    loop {
        let answer = api.get(&format!("/api/auth/session/{id}/events?after={after}")).await.unwrap();
        let timeline: anteroom_wire::api::Timeline = answer.parse().unwrap();
        let Some(last) = timeline.entries.last() else { return bytes };
        after = last.number;
        bytes += answer.text.len();
    }
}

fn log_lines(server: &TestServer, file: &str, outcome: &str) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(server.state_dir().join("log").join(file)).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    lines.filter(|line| line["outcome"] == outcome).collect()
}

#[tokio::test]
async fn s07_a_guest_that_floods_events_fills_neither_the_log_nor_the_database() {
    let (agent, id) = HostileAgent::start("[log]\nlevel = 'info'\n").await;
    let log = agent.server.state_dir().join("log");
    let before = bytes_of_dir(&log);
    let big = "x".repeat(900_000);
    for _ in 0..5 {
        agent.send(vec![json!({ "kind": "candidate_rejected", "path": big, "why": "y" })]).await;
    }
    // A machine may send 512 events at once; further ones wait.
    let event = json!({ "kind": "candidate_rejected", "path": "p".repeat(3000), "why": "y".repeat(500) });
    agent.send(vec![event; 250]).await;
    agent.send(vec![json!({ "kind": "cli_started" }); 250]).await;
    agent.send(vec![json!({ "kind": "cli_exited", "code": 3, "last_lines": ["the last line"] })]).await;
    let exited = agent.api.wait_entry(&id, TimelineKind::CliExited).await.unwrap();
    assert_eq!(exited.data["last_lines"][0], "the last line", "a flood of one kind does not hide another");
    agent.api.cancel_session(&id).await.unwrap();
    let dropped = agent.api.wait_entry(&id, TimelineKind::ReportsDropped).await.unwrap();
    assert_eq!(dropped.data["reports"]["cli_started"], 250 - 64, "{}", dropped.data);
    let written = bytes_of_dir(&log) - before;
    assert!(written < SESSION_LOG_BYTES_MAX, "{written} bytes of log");
    let stored = timeline_bytes(&agent.api, &id).await;
    assert!(stored < SESSION_DATABASE_BYTES_MAX, "{stored} bytes of timeline");
    agent.end().await;
}

#[tokio::test]
async fn s07_refused_deliveries_of_strangers_are_counted_and_cannot_turn_the_security_log_over() {
    let agent = HostileAgent::start_server("[log]\nlevel = 'info'\n").await;
    let stranger = agent.server.anonymous_client().unwrap();
    for _ in 0..500 {
        stranger.post(STORE_CREDENTIAL_PATH, json!({ "session": "ses_00000000000000000000000000" })).await.unwrap();
    }
    for file in ["anteroom.jsonl", "security.jsonl"] {
        let lines = log_lines(&agent.server, file, "delivery_rejected");
        assert!((1..100).contains(&lines.len()), "{file}: {} lines for 500 requests", lines.len());
    }
    agent.end().await;
}
