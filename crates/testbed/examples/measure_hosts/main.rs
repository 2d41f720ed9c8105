//! Measures what it costs that a request goes through another host of the cluster, and what more hosts bring.
//!
//! ```text
//! cargo build --release -p anteroom-testbed -p anteroom-agent --bins --examples
//! cargo run --release -p anteroom-testbed --example measure_hosts            # throughput, round trips, 1,000 idle viewers
//! cargo run --release -p anteroom-testbed --example measure_hosts -- 200     # only 200 idle viewers
//! cargo run --release -p anteroom-testbed --example measure_hosts -- throughput  # only as many bytes a second as the processors allow
//! cargo run --release -p anteroom-testbed --example measure_hosts -- starts  # sessions a second on one and on three hosts
//! ```
//!
//! The desktop is a program that sends what it is asked for; the viewers are in this process. PostgreSQL must be installed. The variable
//! `ANTEROOM_MEASURED_PROGRAM` names another build of `anteroom-testbed`, to compare two.

#![allow(clippy::print_stdout, reason = "a program that prints measurements")]

mod desktop;
mod hosts;
#[allow(clippy::unwrap_used, clippy::panic, dead_code, reason = "shared with the tests of the store")]
#[path = "../../../store/tests/store_on_postgres/own_server.rs"]
mod own_server;
mod starts;
mod throughput;
mod viewers;

use anteroom_testbed::stats;
use desktop::Wanted;
use hosts::Hosts;
use throughput::{Transfer, Viewer, raise_open_files, transfer};
use viewers::{IDLE, IdleViewers, idle, latency};

/// Rounds of each kind, direct and through the other host in turns.
const ROUNDS: usize = 5;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let argument = std::env::args().nth(1);
    println!("{}", stats::host_summary());
    if argument.as_deref() == Some("starts") {
        starts::measure().await?;
        println!("{}", stats::host_summary());
        return Ok(());
    }
    raise_open_files()?;
    let hosts = Hosts::start().await?;
    if let Some(count) = argument.as_ref().and_then(|count| count.parse().ok()) {
        measure_idle(&hosts, count).await?;
        return hosts.end().await;
    }
    let kinds = [
        ("as fast as it goes", Wanted::Long, Viewer::Reads),
        ("as fast as it goes, the viewer drops it", Wanted::Long, Viewer::Drops),
        ("at 1 Gbit/s", Wanted::Paced, Viewer::Drops),
    ];
    let only_throughput = argument.as_deref() == Some("throughput");
    for (what, wanted, viewer) in kinds.into_iter().filter(|(_, wanted, _)| !only_throughput || *wanted == Wanted::Long)
    {
        compare(&hosts, what, wanted, viewer).await?;
    }
    if only_throughput {
        return hosts.end().await;
    }
    let (mut direct, mut through) = (stats::DurationStats::default(), stats::DurationStats::default());
    for _ in 0..ROUNDS {
        direct.extend(latency(&hosts.owner, &hosts.session).await?);
        through.extend(latency(&hosts.other, &hosts.session).await?);
    }
    println!("round trip, direct:               {direct}");
    println!("round trip, through another host: {through}");
    measure_idle(&hosts, 1_000).await?;
    println!("{}", stats::host_summary());
    hosts.end().await
}

async fn measure_idle(hosts: &Hosts, count: usize) -> anyhow::Result<()> {
    let IdleViewers { lost, kib: [between, owner] } = idle(hosts, count).await?;
    println!(
        "{count} idle viewers through another host for {} s: {lost} lost; private memory of each, KiB: {between} at the host in between, \
         {owner} at the owner",
        IDLE.as_secs()
    );
    Ok(())
}

/// Transfers directly and through the other host, in turns.
async fn compare(hosts: &Hosts, what: &str, wanted: Wanted, viewer: Viewer) -> anyhow::Result<()> {
    let (mut direct, mut through, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        direct.push(transfer(hosts, &hosts.owner, &hosts.first, wanted, viewer).await?);
        through.push(transfer(hosts, &hosts.other, &hosts.second, wanted, viewer).await?);
        ratios.extend(direct.last().zip(through.last()).map(|(direct, through)| through.megabytes / direct.megabytes));
    }
    println!(
        "throughput {what}: direct {:.0} MB/s, through another host {:.0}, ratio {:.2} (n = {ROUNDS})",
        middle(direct.iter().map(|one| one.megabytes)),
        middle(through.iter().map(|one| one.megabytes)),
        middle(ratios)
    );
    for (way, transfers) in [("direct", direct), ("through another host", through)] {
        let processor = |at: usize| middle(transfers.iter().map(|one: &Transfer| one.processor[at]));
        println!(
            "  processor seconds for a GiB, {way}: owner {:.2}, host in between {:.2}, desktop and viewer {:.2}",
            processor(0),
            processor(1),
            processor(2)
        );
    }
    Ok(())
}

fn middle(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
