//! Viewers of the session, direct or through the other host.

use super::{
    desktop::{PICTURE_BYTES, PIXEL_BYTES, Wanted, request},
    hosts::Hosts,
};
use anteroom_rfb::client::ViewerSocket;
use anteroom_testbed::ApiClient;
use anteroom_wire::SessionId;
use anyhow::Context;
use std::{
    fs,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::watch,
    time::{sleep, timeout},
};

/// Round trips of one round, and the time between two: a viewer may not ask oftener.
const ROUND_TRIPS: usize = 150;
const PAUSE: Duration = Duration::from_millis(20);
/// How long idle viewers stay.
pub(super) const IDLE: Duration = Duration::from_secs(120);
const ANSWER_MAX: Duration = Duration::from_secs(30);
/// A session gives out two tickets a second.
const TICKET_EVERY: Duration = Duration::from_millis(500);

async fn open(api: &ApiClient, session: &SessionId) -> anyhow::Result<ViewerSocket> {
    let mut viewer = api.connect_desktop(session).await?.into_inner();
    // The first picture is there.
    ask(&mut viewer, Wanted::Picture, PICTURE_BYTES).await?;
    Ok(viewer)
}

async fn ask(viewer: &mut ViewerSocket, wanted: Wanted, bytes: usize) -> anyhow::Result<()> {
    viewer.write_all(&request(wanted)).await?;
    viewer.flush().await?;
    let mut answer = vec![0; bytes];
    timeout(ANSWER_MAX, viewer.read_exact(&mut answer)).await.context("no answer")??;
    Ok(())
}

pub(super) async fn latency(api: &ApiClient, session: &SessionId) -> anyhow::Result<Vec<Duration>> {
    let mut viewer = open(api, session).await?;
    let mut took = Vec::new();
    for _ in 0..ROUND_TRIPS {
        sleep(PAUSE).await;
        let began = Instant::now();
        ask(&mut viewer, Wanted::Pixel, PIXEL_BYTES).await?;
        took.push(began.elapsed());
    }
    Ok(took)
}

/// What idle viewers through another host cost.
pub(super) struct IdleViewers {
    /// Viewers that were closed.
    pub(super) lost: usize,
    /// Private memory for each viewer, KiB: at the host in between, and at the session's host.
    pub(super) kib: [u64; 2],
}

/// Many viewers through the other host, which get a large picture and then do nothing.
pub(super) async fn idle(hosts: &Hosts, count: usize) -> anyhow::Result<IdleViewers> {
    let before = private_kib(hosts)?;
    let (ask_now, asked) = watch::channel(false);
    let mut viewers = Vec::new();
    while viewers.len() < count {
        let session = &hosts.more_sessions[viewers.len() % hosts.more_sessions.len()];
        let Ok(viewer) = open(&hosts.other, session).await else {
            sleep(TICKET_EVERY).await;
            continue;
        };
        let mut asked = asked.clone();
        viewers.push(tokio::spawn(async move { stay(viewer, &mut asked).await }));
    }
    sleep(IDLE).await;
    let after = private_kib(hosts)?;
    ask_now.send_replace(true);
    let mut lost = 0;
    for viewer in viewers {
        lost += usize::from(viewer.await?.is_err());
    }
    let count = u64::try_from(count)?.max(1);
    Ok(IdleViewers { lost, kib: [0, 1].map(|at| after[at].saturating_sub(before[at]) / count) })
}

/// Answers pings until it is told to ask for a pixel.
async fn stay(mut viewer: ViewerSocket, asked: &mut watch::Receiver<bool>) -> anyhow::Result<()> {
    let mut byte = [0];
    tokio::select! {
        read = viewer.read(&mut byte) => anyhow::bail!("{read:?}: {:?}", viewer.close_reason()),
        now = asked.wait_for(|now| *now) => drop(now?),
    }
    ask(&mut viewer, Wanted::Pixel, PIXEL_BYTES).await
}

/// The private memory of the host in between and of the session's host, KiB.
fn private_kib(hosts: &Hosts) -> anyhow::Result<[u64; 2]> {
    let mut private = [0; 2];
    for (private, server) in private.iter_mut().zip([&hosts.second, &hosts.first]) {
        let rollup = fs::read_to_string(format!("/proc/{}/smaps_rollup", server.server_pid()?.as_raw_nonzero()))?;
        let lines = rollup.lines().filter(|line| line.starts_with("Private_"));
        *private = lines.filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok()).sum();
    }
    Ok(private)
}
