//! Measures how soon everything that is open is closed when its caller's token is revoked, and what the start of a session takes.
//!
//! ```text
//! cargo build -p anteroom-testbed -p anteroom-agent -p anteroom-cli
//! cargo run -p anteroom-testbed --example measure_revocation        # 20 revocations
//! cargo run -p anteroom-testbed --example measure_revocation -- 50
//! ```

#![allow(clippy::print_stdout, reason = "a program that prints measurements")]

use anteroom_rfb::client::ViewerSocket;
use anteroom_testbed::{
    ApiClient, DurationStats, Script, ScriptedProvider, Step, TestConfig, TestServer, WAIT_MAX, stats,
};
use anteroom_wire::{
    Secret, SessionId, TimelineKind,
    api::{SessionStatus, StartResponse},
    api_tokens::CreatedToken,
};
use anyhow::{Context, ensure};
use futures_util::StreamExt;
use serde_json::json;
use std::{collections::BTreeMap, time::Duration};
use tokio::{
    io::AsyncReadExt,
    task::JoinHandle,
    time::{Instant, timeout},
};

const CONTENT: &str = "{\"token\": \"first\"}";
/// The close code of a revoked caller.
const CALLER_REVOKED: u16 = 4411;

/// What was open, and a task that ends when it was closed.
type Open = (&'static str, JoinHandle<anyhow::Result<Instant>>);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let (_, count) = stats::measurement_arguments();
    let write = Step::write(ScriptedProvider::CREDENTIAL_PATH, CONTENT);
    let providers = [ScriptedProvider::idle("idle"), ScriptedProvider::new("signed_in", Script::new([write]))];
    let server = TestServer::start(TestConfig::with_providers(providers)).await?;
    println!("{}", stats::host_summary());
    let (mut closed, mut accepted) = (BTreeMap::new(), DurationStats::default());
    for number in 0..count.unwrap_or(20) {
        for (name, took) in measure(&server, number, &mut accepted).await? {
            closed.entry(name).or_insert_with(DurationStats::default).add(took);
        }
    }
    for (name, times) in closed {
        println!("{name:24} closed after {times}");
    }
    println!("{:24} answered after {accepted}", "start of a session");
    println!("{}", stats::host_summary());
    server.stop_and_check_leaks().await
}

/// One revocation: how long after its request was sent each connection was closed.
async fn measure(
    server: &TestServer,
    number: usize,
    accepted: &mut DurationStats,
) -> anyhow::Result<Vec<(&'static str, Duration)>> {
    let operator = server.operator_client()?.without_response_recording();
    let request = json!({ "name": format!("backend {number}") });
    let created: CreatedToken = operator.post("/api/tokens", request).await?.parse()?;
    let api = server.client_with_token(&Secret::new(created.secret.clone()))?;
    let signed_in = api.start_session("signed_in").await?.session.id;
    let credential = api.wait_status(&signed_in, SessionStatus::Completed).await?.credential.context("a credential")?;
    let start = Instant::now();
    let idle = api.start_session("idle").await?.session.id;
    accepted.add(start.elapsed());
    api.wait_status(&idle, SessionStatus::VmStarted).await?;
    let command = json!({ "purpose": "exec", "argv": ["sh", "-c", "echo running; sleep 3600"] });
    let path = format!("/api/credentials/{}/use", credential.id);
    let exec = api.post(&path, command).await?.parse::<StartResponse>()?.session.id;
    api.wait_entry(&exec, TimelineKind::CliStarted).await?;

    let mut desktop = api.connect_desktop(&idle).await?;
    desktop.request_full_frame().await?;
    let open: Vec<Open> = vec![
        ("desktop", tokio::spawn(closed_socket(desktop.into_inner()))),
        ("terminal", tokio::spawn(closed_socket(open_terminal(&api, &idle).await?))),
        ("event stream", open_events(server, &created.secret, &idle).await?),
        ("terminal of an exec", tokio::spawn(closed_socket(open_terminal(&api, &exec).await?))),
        ("event stream of an exec", open_events(server, &created.secret, &exec).await?),
    ];
    let start = Instant::now();
    let revoke = format!("/api/tokens/{}/revoke", created.token.id);
    let revoked = operator.post(&revoke, json!({})).await?;
    ensure!(revoked.status == 200, "{}", revoked.text);
    let mut took = vec![("answer to the revocation", start.elapsed())];
    for (name, closed) in open {
        let closed = timeout(WAIT_MAX, closed).await.context(name)???;
        took.push((name, closed.saturating_duration_since(start)));
    }
    operator.cancel_all_sessions().await?;
    server.wait_machines_removed().await?;
    Ok(took)
}

async fn open_terminal(api: &ApiClient, id: &SessionId) -> anyhow::Result<ViewerSocket> {
    let mut terminal = api.open_terminal_socket(id).await?;
    terminal.read_u8().await?;
    Ok(terminal)
}

/// When the socket was closed.
async fn closed_socket(mut socket: ViewerSocket) -> anyhow::Result<Instant> {
    let mut rest = Vec::new();
    let _ = socket.read_to_end(&mut rest).await;
    let closed = Instant::now();
    ensure!(socket.close_reason().map(|close| close.code) == Some(CALLER_REVOKED), "{:?}", socket.close_reason());
    Ok(closed)
}

async fn open_events(
    server: &TestServer,
    secret: &str,
    id: &SessionId,
) -> anyhow::Result<JoinHandle<anyhow::Result<Instant>>> {
    let url = format!("http://{}/api/auth/session/{id}/events", server.address()?);
    let client = reqwest::Client::builder().no_proxy().build()?;
    let response = client.get(url).bearer_auth(secret).header("accept", "text/event-stream").send().await?;
    Ok(tokio::spawn(async move {
        let (mut text, mut chunks) = (String::new(), response.bytes_stream());
        while let Some(Ok(chunk)) = chunks.next().await {
            text.push_str(&String::from_utf8_lossy(&chunk));
        }
        ensure!(text.contains("\"code\":\"caller_revoked\""), "{text}");
        Ok(Instant::now())
    }))
}
