//! The flood of one machine's agent.

use crate::bench::{AGENT_TOKEN, Bench, left_until};
use anteroom_wire::agent::EVENTS_PATH;
use anyhow::Context;
use reqwest::Client;
use serde_json::{Value, json};
use std::time::Instant;
use tokio::time::timeout;

/// Events of one request; every second request has one large event instead.
const EVENTS_OF_A_REQUEST: u64 = 256;
const LARGE_EVENT_BYTES: usize = 900_000;
/// Connections that repeat a large body besides.
const FURTHER_CONNECTIONS: usize = 3;

impl Bench {
    /// Reports events as fast as the server accepts them, and repeats old large ones on further connections.
    pub(crate) async fn flood_events(&self) -> anyhow::Result<String> {
        let url = format!("http://{}{EVENTS_PATH}", self.server.address()?);
        let end = Instant::now() + self.duration;
        let large = json!({ "kind": "candidate_rejected", "path": "x".repeat(LARGE_EVENT_BYTES), "why": "y" });
        let client = Client::builder().no_proxy().build()?;
        let repeating = (0..FURTHER_CONNECTIONS).map(|_| {
            let (client, url, body) = (client.clone(), url.clone(), batch(1, vec![large.clone()]));
            async move { while send(&client, &url, &body, end).await == Sent::Accepted {} }
        });
        let repeating: Vec<_> = repeating.map(tokio::spawn).collect();
        let (mut number, mut requests, mut refused) = (1, 0, 0);
        while Instant::now() < end {
            let small = |number: u64| json!({ "kind": "candidate_rejected", "path": format!("{number}{}", "p".repeat(3_000)), "why": "y".repeat(500) });
            let events: Vec<Value> = match requests % 2 {
                0 => vec![large.clone()],
                _ => (number..number + EVENTS_OF_A_REQUEST).map(small).collect(),
            };
            let count = u64::try_from(events.len())?;
            match send(&client, &url, &batch(number, events), end).await {
                Sent::Accepted => number += count,
                Sent::Refused => refused += 1,
                Sent::NoTime => {}
            }
            requests += 1;
        }
        for task in repeating {
            task.await?;
        }
        let status = self.attacker.get(&format!("/api/auth/session/{}", self.attacked)).await?;
        anyhow::ensure!(status.status == 200, "{}", status.text);
        Ok(format!("{} events accepted, {refused} requests refused", number - 1))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sent {
    Accepted,
    Refused,
    NoTime,
}

fn batch(first: u64, events: Vec<Value>) -> String {
    let numbered = (first..).zip(events).map(|(number, mut event)| {
        event["number"] = number.into();
        event["at_unix_ms"] = 1.into();
        event
    });
    json!({ "events": numbered.collect::<Vec<_>>() }).to_string()
}

async fn send(client: &Client, url: &str, body: &str, end: Instant) -> Sent {
    let request = client.post(url).bearer_auth(AGENT_TOKEN).header("content-type", "application/json");
    let answer = timeout(left_until(end), request.body(body.to_owned()).send()).await;
    match answer.context("no time is left") {
        Ok(Ok(answer)) if answer.status().is_success() => Sent::Accepted,
        Ok(_) => Sent::Refused,
        Err(_) => Sent::NoTime,
    }
}
