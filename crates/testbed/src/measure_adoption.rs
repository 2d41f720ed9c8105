//! A server dies under many machines: how soon the next one listens, has taken all of them over, and shows each again.

use crate::{ApiClient, DurationStats};
use anteroom_wire::{SessionId, api::Status};
use anyhow::{Context, ensure};
use futures_util::future::{join_all, try_join_all};
use std::{
    collections::BTreeMap,
    fmt,
    time::{Duration, Instant},
};
use tokio::time::{sleep, timeout};

/// Between two questions, milliseconds.
const ASK_EVERY_MS: u64 = 10;
/// Machines that start at once.
const START_AT_ONCE: usize = 10;

/// From the start of the next server's process.
#[derive(Debug)]
pub struct Taken {
    /// It says where it listens.
    pub listening: Duration,
    /// The timeline of each session says `machine_adopted`: the last of them.
    pub adopted: Duration,
    /// A viewer who connects when the server listens has a whole frame of the same machine as before.
    pub frames: DurationStats,
}

impl fmt::Display for Taken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |took: Duration| took.as_secs_f64() * 1_000.0;
        writeln!(f, "from the start of the next server's process to")?;
        writeln!(f, "  it listens                  {:9.1} ms", ms(self.listening))?;
        writeln!(f, "  all machines taken over     {:9.1} ms", ms(self.adopted))?;
        write!(f, "  a viewer's whole frame      {}", self.frames)
    }
}

/// Watches the sessions `before` being taken over by the server behind `api`, whose process was started at `began` and has
/// said that it listens; everything within `limit`.
///
/// # Errors
/// A session is not taken over in time, or its viewer is shown another machine.
pub async fn watch(
    api: &ApiClient,
    before: &BTreeMap<SessionId, String>,
    began: Instant,
    limit: Duration,
) -> anyhow::Result<Taken> {
    let listening = began.elapsed();
    let adopted = async {
        for id in before.keys() {
            while !api.timeline(id).await?.iter().any(|entry| entry.kind == "machine_adopted") {
                sleep(Duration::from_millis(ASK_EVERY_MS)).await;
            }
        }
        anyhow::Ok(began.elapsed())
    };
    let frames = try_join_all(before.iter().map(async |(id, name)| {
        let mut viewer = api.desktop(id).await?;
        viewer.whole_frame().await?;
        let took = began.elapsed();
        ensure!(viewer.name() == name, "{id}: {} instead of {name}", viewer.name());
        Ok(took)
    }));
    let (adopted, frames) = tokio::join!(timeout(limit, adopted), timeout(limit, frames));
    let mut spread = DurationStats::NONE;
    spread.extend(frames.context("a viewer sees nothing")??);
    Ok(Taken { listening, adopted: adopted.context("a machine was not taken over")??, frames: spread })
}

/// Opens so many sessions; their desktops' names.
///
/// # Errors
/// One is not ready.
pub async fn open(api: &ApiClient, provider: &str, count: usize) -> anyhow::Result<BTreeMap<SessionId, String>> {
    let mut names = BTreeMap::new();
    while names.len() < count {
        let some = START_AT_ONCE.min(count - names.len());
        let opened = join_all((0..some).map(async |_| {
            let id = api.start(provider).await?.session.id;
            api.wait_status(&id, Status::VmStarted).await?;
            let name = api.desktop(&id).await?.name().to_owned();
            anyhow::Ok((id, name))
        }));
        for opened in opened.await {
            names.extend([opened?]);
        }
    }
    Ok(names)
}
