//! Measures the adoption of machines by the next server process after a crash: when it listens, when it has adopted all machines,
//! and when a viewer of each sees its desktop.

use crate::{ApiClient, DurationStats};
use anteroom_wire::{SessionId, TimelineKind, api::SessionStatus};
use anyhow::{Context, ensure};
use futures_util::future::{join_all, try_join_all};
use std::{
    collections::BTreeMap,
    fmt,
    time::{Duration, Instant},
};
use tokio::time::{sleep, timeout};

/// Time between two requests, milliseconds.
const POLL_EVERY_MS: u64 = 10;
/// Machines that start at once.
const START_AT_ONCE: usize = 10;

/// Durations, each counted from the start of the next server process.
#[derive(Debug)]
pub struct AdoptionTimes {
    /// Until it has printed its address.
    pub listening: Duration,
    /// Until every session's timeline has the entry `machine_adopted`.
    pub adopted: Duration,
    /// Until a viewer, which connects as soon as the server listens, has a whole frame of the same machine as before.
    pub frames: DurationStats,
}

impl fmt::Display for AdoptionTimes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |took: Duration| took.as_secs_f64() * 1_000.0;
        writeln!(f, "from the start of the next server process to")?;
        writeln!(f, "  the server listens          {:9.1} ms", ms(self.listening))?;
        writeln!(f, "  all machines adopted        {:9.1} ms", ms(self.adopted))?;
        write!(f, "  a viewer's whole frame      {}", self.frames)
    }
}

/// Measures the adoption of the sessions `before` (with the names of their desktops) by the server behind `api`, whose process was
/// started at `began` and listens by now.
///
/// # Errors
/// A session's machine is not adopted within `limit`, or its viewer sees another machine.
pub async fn measure_adoption(
    api: &ApiClient,
    before: &BTreeMap<SessionId, String>,
    began: Instant,
    limit: Duration,
) -> anyhow::Result<AdoptionTimes> {
    let listening = began.elapsed();
    let adopted = async {
        for id in before.keys() {
            while !api.get_timeline(id).await?.iter().any(|entry| entry.kind == TimelineKind::MachineAdopted) {
                sleep(Duration::from_millis(POLL_EVERY_MS)).await;
            }
        }
        anyhow::Ok(began.elapsed())
    };
    let frames = try_join_all(before.iter().map(async |(id, name)| {
        let mut viewer = api.connect_desktop(id).await?;
        viewer.request_full_frame().await?;
        let took = began.elapsed();
        ensure!(viewer.desktop_name() == name, "{id}: {} instead of {name}", viewer.desktop_name());
        Ok(took)
    }));
    let (adopted, frames) = tokio::join!(timeout(limit, adopted), timeout(limit, frames));
    let mut stats = DurationStats::EMPTY;
    stats.extend(frames.context("a viewer received no frame")??);
    Ok(AdoptionTimes { listening, adopted: adopted.context("a machine was not adopted")??, frames: stats })
}

/// Starts `count` sessions and waits until their machines are ready; returns the names of their desktops.
///
/// # Errors
/// A session does not start, or its machine does not become ready.
pub async fn start_sessions(
    api: &ApiClient,
    provider: &str,
    count: usize,
) -> anyhow::Result<BTreeMap<SessionId, String>> {
    let mut names = BTreeMap::new();
    while names.len() < count {
        let some = START_AT_ONCE.min(count - names.len());
        let opened = join_all((0..some).map(async |_| {
            let id = api.start_session(provider).await?.session.id;
            api.wait_status(&id, SessionStatus::VmStarted).await?;
            let name = api.connect_desktop(&id).await?.desktop_name().to_owned();
            anyhow::Ok((id, name))
        }));
        for opened in opened.await {
            names.extend([opened?]);
        }
    }
    Ok(names)
}
