//! Measures what it costs that a request goes through another host of the cluster, and what more hosts bring.
//!
//! ```text
//! cargo build --release -p anteroom-testbed -p anteroom-agent --bins --examples
//! cargo run --release -p anteroom-testbed --example measure_hosts            # throughput, round trips, 1,000 idle viewers
//! cargo run --release -p anteroom-testbed --example measure_hosts -- 200     # 200 idle viewers
//! cargo run --release -p anteroom-testbed --example measure_hosts -- starts  # sessions a second on one and on three hosts
//! ```
//!
//! The desktop is a program that sends what it is asked for; the viewers are in this process. PostgreSQL must be installed.

#![allow(clippy::print_stdout, reason = "a program that prints measurements")]

mod desktop;
mod hosts;
#[allow(clippy::unwrap_used, clippy::panic, dead_code, reason = "shared with the tests of the store")]
#[path = "../../../store/tests/store_on_postgres/own_server.rs"]
mod own_server;
mod starts;
mod viewers;

use anteroom_testbed::stats;
use hosts::Hosts;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use viewers::{idle, latency, throughput};

/// Rounds of each kind, direct and through the other host in turns.
const ROUNDS: usize = 7;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let argument = std::env::args().nth(1);
    println!("{}", stats::host_summary());
    if argument.as_deref() == Some("starts") {
        starts::measure().await?;
        println!("{}", stats::host_summary());
        return Ok(());
    }
    let hard = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: hard, maximum: hard })?;
    let hosts = Hosts::start().await?;
    let (mut direct, mut through, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let pair = (throughput(&hosts.owner, &hosts.session).await?, throughput(&hosts.other, &hosts.session).await?);
        direct.push(pair.0);
        through.push(pair.1);
        ratios.push(pair.1 / pair.0);
    }
    let middle = |values: &mut Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    println!(
        "throughput, MB/s: direct {:.0}, through another host {:.0}, ratio {:.2} (least {:.2}; n = {ROUNDS})",
        middle(&mut direct),
        middle(&mut through),
        middle(&mut ratios),
        ratios[0]
    );
    let (mut direct, mut through) = (stats::DurationStats::default(), stats::DurationStats::default());
    for _ in 0..ROUNDS {
        direct.extend(latency(&hosts.owner, &hosts.session).await?);
        through.extend(latency(&hosts.other, &hosts.session).await?);
    }
    println!("round trip, direct:               {direct}");
    println!("round trip, through another host: {through}");
    let count = argument.and_then(|count| count.parse().ok()).unwrap_or(1_000);
    idle(&hosts, count).await?;
    println!("{}", stats::host_summary());
    hosts.end().await
}
