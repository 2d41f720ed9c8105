//! Measures what strangers, one viewer and one machine's agent can take from the others: each floods the server for a while, as
//! another backend reads the status of its session, each time on a new connection.
//!
//! ```text
//! cargo build -p anteroom-testbed -p anteroom-agent -p anteroom-cli
//! cargo run -p anteroom-testbed --example measure_floods
//! cargo run -p anteroom-testbed --example measure_floods -- 20 PROGRAM   # 20 s for each flood; another build's anteroom-testbed
//! ```
//!
//! An agent's flood lasts three times as long. It raises its limit of open files: the hard limit must be 4,096 or more.

#![allow(clippy::print_stdout, reason = "a program that prints measurements")]

mod bench;
mod guests;
mod observer;
mod strangers;
mod viewers;

use anteroom_rfb::client_messages::{encode_key_event, encode_pointer_event, encode_update_request};
use anteroom_testbed::stats;
use anyhow::Context;
use bench::Bench;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::{path::PathBuf, time::Duration};
use viewers::{MESSAGE_BYTES, repeated};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let seconds = arguments.next().map_or(Ok(20), |seconds| seconds.parse()).context("seconds")?;
    let hard = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: hard, maximum: hard })?;
    let duration = Duration::from_secs(seconds);
    let mut bench = Bench::start(duration, arguments.next().map(PathBuf::from)).await?;
    println!("{}", stats::host_summary());
    println!(
        "| flood | the client | memory over rest, MiB | 10 s after | status reads, ms | failed | database, KiB | log |"
    );
    println!("|---|---|--:|--:|---|--:|--:|---|");
    bench.measure("none", bench.rest()).await?;
    measure_strangers(&bench).await?;
    measure_viewers(&bench).await?;
    bench.duration = 3 * duration;
    bench.measure("an agent's events", bench.flood_events()).await?;
    bench.duration = duration;
    bench.measure("none, afterwards", bench.rest()).await?;
    println!("{}", stats::host_summary());
    bench.end().await
}

async fn measure_strangers(bench: &Bench) -> anyhow::Result<()> {
    let host = bench.server.address()?;
    let post = |path: &str, lines: &str, length: usize| {
        let head = format!("POST {path} HTTP/1.1\r\nHost: {host}\r\n{lines}Content-Type: application/json\r\n");
        format!("{head}Content-Length: {length}\r\n\r\n{}", "x".repeat(length - 1)).into_bytes()
    };
    let delivery = post("/api/auth/credentials/store", "", 1 << 20);
    let of_caller = post("/api/auth/start", &bench.attacker_line(), 64 << 10);
    let login = post("/api/login", "", 4 << 10);
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
    for (name, count, bytes) in [
        ("silent connections", 1_000, Vec::new()),
        ("halves of a head", 1_000, format!("GET / HTTP/1.1\r\nHost: {host}\r\n").into_bytes()),
        ("HTTP/2 prefaces", 1_000, preface),
        ("deliveries of 1 MiB without the last byte", 400, delivery),
        ("logins without the last byte", 1_000, login),
        ("requests of 64 KiB of a caller, without the last byte", 400, of_caller),
    ] {
        bench.measure(&format!("{count} {name}"), bench.flood_connections(count, bytes)).await?;
    }
    bench.measure("200 HTTP/2 requests of 1 MiB on one connection", bench.flood_http2()).await
}

async fn measure_viewers(bench: &Bench) -> anyhow::Result<()> {
    let text = [&[6, 0, 0, 0, 0, 0, 0, 112][..], &[b'x'; MESSAGE_BYTES - 8]].concat();
    for (name, chunk) in [
        ("pointer moves", repeated(|step| encode_pointer_event(step, step, 0).to_vec())),
        ("buttons", repeated(|step| encode_pointer_event(step, step, u8::from(step % 2 == 0)).to_vec())),
        ("keys", repeated(|step| encode_key_event(step % 2 == 0, 0x61).to_vec())),
        ("clipboard texts", repeated(|_| text.clone())),
        ("update requests", repeated(|_| encode_update_request(false, 1280, 800))),
    ] {
        bench.measure(name, bench.flood_desktop(chunk)).await?;
    }
    bench.measure("terminal input", bench.flood_terminal_input()).await?;
    bench.measure("terminal sizes", bench.flood_terminal_sizes()).await
}
