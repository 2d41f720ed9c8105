//! Viewers of the session, direct or through the other host.

use crate::{
    desktop::{LONG_BYTES, PIXEL_BYTES, request},
    hosts::Hosts,
};
use anteroom_rfb::client::ViewerSocket;
use anteroom_testbed::{ApiClient, TestServer};
use anteroom_wire::SessionId;
use anyhow::Context;
use std::time::{Duration, Instant};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::watch,
    time::{sleep, timeout},
};

/// Round trips of one round, and the time between two: a viewer may not ask oftener.
const ROUND_TRIPS: usize = 150;
const PAUSE: Duration = Duration::from_millis(20);
/// How long idle viewers stay.
const IDLE: Duration = Duration::from_secs(60);
const ANSWER_MAX: Duration = Duration::from_secs(30);
/// A session gives out two tickets a second.
const TICKET_EVERY: Duration = Duration::from_millis(500);

async fn open(api: &ApiClient, session: &SessionId) -> anyhow::Result<ViewerSocket> {
    let mut viewer = api.connect_desktop(session).await?.into_inner();
    // The first picture is there.
    ask(&mut viewer).await?;
    Ok(viewer)
}

async fn ask(viewer: &mut ViewerSocket) -> anyhow::Result<()> {
    viewer.write_all(&request(false)).await?;
    viewer.flush().await?;
    let mut pixel = [0; PIXEL_BYTES];
    timeout(ANSWER_MAX, viewer.read_exact(&mut pixel)).await.context("no answer")??;
    Ok(())
}

/// Megabytes a second from the desktop.
pub(super) async fn throughput(api: &ApiClient, session: &SessionId) -> anyhow::Result<f64> {
    let mut viewer = open(api, session).await?;
    let began = Instant::now();
    viewer.write_all(&request(true)).await?;
    viewer.flush().await?;
    let (mut left, mut buffer) = (LONG_BYTES, vec![0; 256 << 10]);
    while left > 0 {
        let read = viewer.read(&mut buffer).await?;
        anyhow::ensure!(read > 0, "closed: {:?}", viewer.close_reason());
        left -= read.min(left);
    }
    let megabytes = f64::from(u32::try_from(LONG_BYTES / 1_000_000)?);
    Ok(megabytes / began.elapsed().as_secs_f64())
}

pub(super) async fn latency(api: &ApiClient, session: &SessionId) -> anyhow::Result<Vec<Duration>> {
    let mut viewer = open(api, session).await?;
    let mut took = Vec::new();
    for _ in 0..ROUND_TRIPS {
        sleep(PAUSE).await;
        let began = Instant::now();
        ask(&mut viewer).await?;
        took.push(began.elapsed());
    }
    Ok(took)
}

/// Many viewers through the other host that do nothing: memory of both hosts, and how many are left.
pub(super) async fn idle(hosts: &Hosts, count: usize) -> anyhow::Result<()> {
    let before = (private_kib(&hosts.first)?, private_kib(&hosts.second)?);
    let (ask_now, asked) = watch::channel(false);
    let mut viewers = Vec::new();
    while viewers.len() < count {
        let Ok(viewer) = open(&hosts.other, &hosts.session).await else {
            sleep(TICKET_EVERY).await;
            continue;
        };
        let mut asked = asked.clone();
        viewers.push(tokio::spawn(async move { stay(viewer, &mut asked).await }));
    }
    sleep(IDLE).await;
    let after = (private_kib(&hosts.first)?, private_kib(&hosts.second)?);
    ask_now.send_replace(true);
    let mut lost = 0;
    for viewer in viewers {
        lost += usize::from(viewer.await?.is_err());
    }
    let each = |before: u64, after: u64| after.saturating_sub(before) / u64::try_from(count).unwrap_or(1);
    println!(
        "{count} idle viewers through another host for {} s: {lost} lost; private memory of each, KiB: {} at the host in between, {} at the owner",
        IDLE.as_secs(),
        each(before.1, after.1),
        each(before.0, after.0)
    );
    Ok(())
}

/// Answers pings until it is told to ask for a pixel.
async fn stay(mut viewer: ViewerSocket, asked: &mut watch::Receiver<bool>) -> anyhow::Result<()> {
    let mut byte = [0];
    tokio::select! {
        read = viewer.read(&mut byte) => anyhow::bail!("{read:?}: {:?}", viewer.close_reason()),
        now = asked.wait_for(|now| *now) => drop(now?),
    }
    ask(&mut viewer).await
}

/// The private memory of a server, KiB.
fn private_kib(server: &TestServer) -> anyhow::Result<u64> {
    let rollup = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", server.server_pid()?.as_raw_nonzero()))?;
    let lines = rollup.lines().filter(|line| line.starts_with("Private_"));
    let kib = lines.filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
    Ok(kib.sum())
}
