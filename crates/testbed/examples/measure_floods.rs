//! Measures what one viewer and one machine's agent can take from the others: each floods the server for a while, as another
//! backend reads the status of its session.
//!
//! ```text
//! cargo build -p anteroom-testbed -p anteroom-agent -p anteroom-cli
//! cargo run -p anteroom-testbed --example measure_floods
//! cargo run -p anteroom-testbed --example measure_floods -- 20 PROGRAM   # 20 s for each flood; another build's anteroom-testbed
//! ```

#![allow(clippy::print_stdout, reason = "a program that prints measurements")]

use anteroom_rfb::{
    client::ViewerSocket,
    client_messages::{encode_pointer_event, encode_update_request},
};
use anteroom_testbed::{ApiClient, DurationStats, PlainProcess, ScriptedProvider, TestConfig, TestServer, stats};
use anteroom_wire::{
    SessionId,
    agent::{AgentEvent, CaptureEvent, EVENTS_PATH, EventBatch, NumberedEvent},
    api::{SessionStatus, StartRequest},
};
use anyhow::Context;
use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{Instant, sleep, timeout},
};

/// What a viewer sends, bytes: at most this or for as long as a flood lasts.
const FLOOD_BYTES: usize = 12 * 1024 * 1024;
const CHUNK_BYTES: usize = 48 * 1024;
const TOKEN: &str = "the-token-of-a-hostile-agent";
/// Between two reads of the other backend.
const READ_INTERVAL: Duration = Duration::from_millis(20);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let seconds = arguments.next().map_or(Ok(20), |seconds| seconds.parse()).context("seconds")?;
    let bench = Bench::start(Duration::from_secs(seconds), arguments.next().map(PathBuf::from)).await?;
    println!("{}", stats::host_summary());
    println!("| flood | sent | memory over rest, MiB | after 5 s | status reads |\n|---|--:|--:|--:|---|");
    bench.measure("none", async { Ok(0) }).await?;
    let moves = repeated(|step| encode_pointer_event(step, step, 0).to_vec());
    bench.measure("pointer moves", bench.flood_desktop(moves)).await?;
    let buttons = repeated(|step| encode_pointer_event(step, step, u8::from(step % 2 == 0)).to_vec());
    bench.measure("buttons", bench.flood_desktop(buttons)).await?;
    let text = [&[6, 0, 0, 0, 0, 0, 0, 112][..], &[b'x'; 112]].concat();
    bench.measure("clipboard texts", bench.flood_desktop(repeated(|_| text.clone()))).await?;
    bench
        .measure("update requests", bench.flood_desktop(repeated(|_| encode_update_request(false, 1280, 800))))
        .await?;
    bench.measure("terminal input", bench.flood_terminal_input()).await?;
    bench.measure("terminal sizes", bench.flood_terminal_sizes()).await?;
    bench.measure("an agent's events", bench.flood_events()).await?;
    println!("{}", stats::host_summary());
    bench.server.stop_and_check_leaks().await
}

/// A chunk of messages for consecutive steps. Each message has 6, 10 or 120 bytes.
fn repeated(message: impl Fn(u16) -> Vec<u8>) -> Vec<u8> {
    (0..u16::MAX).flat_map(message).take(CHUNK_BYTES / 120 * 120).collect()
}

struct Bench {
    server: TestServer,
    attacker: ApiClient,
    other: ApiClient,
    attacked: SessionId,
    external: SessionId,
    read: SessionId,
    duration: Duration,
    _dir: tempfile::TempDir,
}

impl Bench {
    async fn start(duration: Duration, program: Option<PathBuf>) -> anyhow::Result<Self> {
        let dir = tempfile::tempdir()?;
        let token_file = dir.path().join("token");
        fs::write(&token_file, TOKEN)?;
        fs::set_permissions(&token_file, fs::Permissions::from_mode(0o600))?;
        let settings =
            format!("[external_machines.desk]\ndesktop = 'vnc://127.0.0.1:1'\nagent_token_file = {token_file:?}\n");
        let providers = vec![ScriptedProvider::idle("idle")];
        let machines = PlainProcess { providers, program, ..PlainProcess::default() };
        let server = TestServer::start(TestConfig::new(machines).with_settings(&settings)).await?;
        let attacker = server.backend_client()?.without_response_recording();
        let other = server.other_backend_client()?.without_response_recording();
        let attacked = attacker.start_session("idle").await?.session.id;
        let request = StartRequest { machine: Some("desk".into()), ..StartRequest::new("idle") };
        let external = attacker.start_session_with(&request).await?.session.id;
        let read = other.start_session("idle").await?.session.id;
        attacker.wait_status(&attacked, SessionStatus::VmStarted).await?;
        attacker.wait_status(&external, SessionStatus::VmStarted).await?;
        other.wait_status(&read, SessionStatus::VmStarted).await?;
        Ok(Self { server, attacker, other, attacked, external, read, duration, _dir: dir })
    }

    /// Prints a row for one flood, which returns how many bytes or events it sent.
    async fn measure(&self, name: &str, flood: impl Future<Output = anyhow::Result<usize>>) -> anyhow::Result<()> {
        let rest = self.memory_mib()?;
        let (mut reads, mut peak, end) = (DurationStats::EMPTY, rest, Instant::now() + self.duration);
        let reading = async {
            while Instant::now() < end {
                let start = Instant::now();
                self.other.get_session(&self.read).await?;
                reads.extend([start.elapsed()]);
                peak = peak.max(self.memory_mib()?);
                sleep(READ_INTERVAL).await;
            }
            anyhow::Ok(())
        };
        let (sent, read) = tokio::join!(flood, reading);
        read?;
        let sent = sent?;
        sleep(Duration::from_secs(5)).await;
        let (over, after) = (peak.saturating_sub(rest), self.memory_mib()?.saturating_sub(rest));
        println!("| {name} | {sent} | {over} | {after} | {reads} |");
        Ok(())
    }

    fn memory_mib(&self) -> anyhow::Result<u64> {
        let pid = self.server.server_pid()?.as_raw_nonzero();
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next());
        let kib: u64 = resident.context("VmRSS")?.parse()?;
        Ok(kib / 1024)
    }

    async fn flood_desktop(&self, chunk: Vec<u8>) -> anyhow::Result<usize> {
        let viewer = self.attacker.connect_desktop(&self.attacked).await?.into_inner();
        self.flood(viewer, chunk).await
    }

    async fn flood_terminal_input(&self) -> anyhow::Result<usize> {
        let terminal = self.attacker.open_terminal_socket(&self.attacked).await?;
        self.flood(terminal, vec![b'x'; CHUNK_BYTES]).await
    }

    /// Sends the chunk again and again, and reads what arrives.
    async fn flood(&self, socket: ViewerSocket, chunk: Vec<u8>) -> anyhow::Result<usize> {
        let (mut reader, mut writer) = tokio::io::split(socket);
        let mut sent = 0;
        let writing = async {
            while sent < FLOOD_BYTES {
                writer.write_all(&chunk).await?;
                writer.flush().await?;
                sent += chunk.len();
            }
            anyhow::Ok(())
        };
        let mut received = vec![0; 64 * 1024];
        let reading = async { while reader.read(&mut received).await.is_ok_and(|count| count > 0) {} };
        let flooding = async {
            tokio::select! {
                written = writing => written,
                () = reading => anyhow::bail!("the connection was closed"),
            }
        };
        // A server that limits the rate has not read everything by then.
        timeout(self.duration, flooding).await.unwrap_or(Ok(()))?;
        Ok(sent)
    }

    async fn flood_terminal_sizes(&self) -> anyhow::Result<usize> {
        let mut terminal = self.attacker.open_terminal_socket(&self.attacked).await?;
        let mut sent = 0;
        let flooding = async {
            while sent < FLOOD_BYTES {
                let text = format!("{{\"type\":\"resize\",\"cols\":{},\"rows\":30}}", 60 + sent % 60);
                terminal.send_text(&text).await?;
                sent += text.len();
            }
            anyhow::Ok(())
        };
        timeout(self.duration, flooding).await.unwrap_or(Ok(()))?;
        Ok(sent)
    }

    async fn flood_events(&self) -> anyhow::Result<usize> {
        let client = reqwest::Client::builder().no_proxy().build()?;
        let (url, end) = (format!("http://{}{EVENTS_PATH}", self.server.address()?), Instant::now() + self.duration);
        let mut number = 0;
        while Instant::now() < end {
            let numbers = number + 1..=number + 64;
            number += 64;
            let report = |number: u64| CaptureEvent::CandidateRejected {
                path: number.to_string().into(),
                why: "y".repeat(500).into(),
            };
            let event = |number| NumberedEvent { number, at_unix_ms: 0, event: AgentEvent::Capture(report(number)) };
            let body = serde_json::to_string(&EventBatch { events: numbers.map(event).collect() })?;
            let request = client.post(&url).bearer_auth(TOKEN).header("content-type", "application/json").body(body);
            let left = end.saturating_duration_since(Instant::now());
            match timeout(left, request.send()).await {
                Ok(response) => anyhow::ensure!(response?.status().is_success()),
                Err(_) => break,
            }
        }
        self.attacker.get_session(&self.external).await?;
        Ok(usize::try_from(number)?)
    }
}
