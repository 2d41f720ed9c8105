//! Measures what strangers' connections and bodies cost the server, and how they delay another caller's status reads.
//!
//! ```text
//! cargo build --release -p anteroom-testbed -p anteroom-agent -p anteroom-cli
//! cargo run --release -p anteroom-testbed --example measure_strangers
//! ```
//!
//! It opens 1,000 connections: raise the limit of open files first (`ulimit -n 4096`).

#![allow(clippy::print_stdout, reason = "a program that prints measurements")]

use anteroom_testbed::{DurationStats, ScriptedProvider, TestConfig, TestServer, stats};
use anteroom_wire::{SessionId, api::SessionStatus};
use anyhow::{Context, ensure};
use std::fs;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::Instant,
};

/// Status reads during each flood.
const READS: usize = 200;
const MIB: usize = 1 << 20;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    println!("{}", stats::host_summary());
    let server = TestServer::start(TestConfig::with_provider(ScriptedProvider::idle("idle"))).await?;
    let api = server.backend_client()?.without_response_recording();
    let session = api.start_session("idle").await?.session.id;
    api.wait_status(&session, SessionStatus::VmStarted).await?;
    let host = server.address()?;
    let head = |line: &str, length: usize| {
        format!("{line} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n")
    };
    let body = head("POST /api/auth/credentials/store", MIB).into_bytes().into_iter().chain(vec![b'x'; MIB - 1]);
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
    report("at rest", &server, &session).await?;
    for (name, count, bytes) in [
        ("1,000 silent connections", 1_000, Vec::new()),
        ("1,000 halves of a head", 1_000, format!("GET / HTTP/1.1\r\nHost: {host}\r\n").into_bytes()),
        ("400 half bodies of 1 MiB", 400, body.collect()),
        ("1,000 HTTP/2 prefaces", 1_000, preface),
        ("1,000 half bodies of a login", 1_000, (head("POST /api/login", 4_000) + &"x".repeat(3_000)).into_bytes()),
    ] {
        let connections = flood(&server, count, &bytes).await?;
        report(name, &server, &session).await?;
        drop(connections);
    }
    report("afterwards", &server, &session).await?;
    println!("{}", stats::host_summary());
    server.stop_and_check_leaks().await
}

/// Opens connections and sends these bytes on each, as far as the server accepts them.
async fn flood(server: &TestServer, count: usize, bytes: &[u8]) -> anyhow::Result<Vec<TcpStream>> {
    let mut connections = Vec::with_capacity(count);
    for _ in 0..count {
        let mut connection = TcpStream::connect(server.address()?).await.context("raise the limit of open files")?;
        // The server may have closed it already.
        let _ = connection.write_all(bytes).await;
        connections.push(connection);
    }
    Ok(connections)
}

/// Prints the server's memory and how long a caller's status reads take, each on a new connection.
async fn report(name: &str, server: &TestServer, session: &SessionId) -> anyhow::Result<()> {
    let request = format!(
        "GET /api/auth/session/{session} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\nConnection: close\r\n\r\n",
        server.address()?,
        server.operator_token().expose()
    );
    let mut reads = DurationStats::default();
    for _ in 0..READS {
        let started = Instant::now();
        let mut connection = TcpStream::connect(server.address()?).await?;
        connection.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        connection.read_to_string(&mut answer).await?;
        ensure!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        reads.add(started.elapsed());
    }
    let pid = server.server_pid()?.as_raw_nonzero();
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let memory = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
    let files = fs::read_dir(format!("/proc/{pid}/fd"))?.count();
    println!("{name:30} memory {:>12}, {files:4} files, status reads {reads}", memory.trim());
    Ok(())
}
