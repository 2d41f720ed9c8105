//! How soon the end of a machine is known to whom it concerns: the viewer, the API's reader, the timeline, and when the
//! viewer has a desktop again. All from outside, with one monotonic clock.

use crate::{ApiClient, processes};
use anteroom_controller::rfb::{RfbClient, ViewerSocket};
use anteroom_wire::{MachineId, SessionId, api::Status};
use anyhow::{Context, ensure};
use std::{
    path::Path,
    time::{Duration, Instant},
};
use tokio::{
    io::AsyncReadExt,
    time::{sleep, timeout},
};

/// Between two questions, milliseconds: a figure is late by at most this and one answer's time.
const ASK_EVERY_MS: u64 = 2;

/// From the signal to what was seen.
#[derive(Debug, Clone, Copy)]
pub struct Seen {
    /// The viewer's WebSocket was closed.
    pub closed: Duration,
    /// With this code.
    pub close_code: u16,
    /// `GET …/session` said that the machine is being replaced, or that the session has ended.
    pub told: Duration,
    /// The timeline had `machine_exited`.
    pub noted: Duration,
    /// A new socket of the viewer showed a whole frame of the next machine; `None`: the session has ended.
    pub frame: Option<Duration>,
}

/// The session's present machine, as its timeline says.
///
/// # Errors
/// The API does not answer, or no machine was asked for.
pub async fn machine_now(api: &ApiClient, id: &SessionId) -> anyhow::Result<MachineId> {
    let timeline = api.timeline(id).await?;
    let asked = timeline.iter().rfind(|entry| entry.kind == "machine_requested");
    let machine = asked.and_then(|entry| entry.data["machine"].as_str()).context("no machine was asked for")?;
    Ok(machine.parse()?)
}

/// Kills the machine of a session under its connected viewer and watches who hears of it, for at most `limit` each.
///
/// # Errors
/// There is no machine, or somebody does not hear of its end in time.
pub async fn kill_under(
    api: &ApiClient,
    state_dir: &Path,
    id: &SessionId,
    viewer: RfbClient<ViewerSocket>,
    limit: Duration,
) -> anyhow::Result<Seen> {
    let machine = machine_now(api, id).await?;
    let generation = api.session(id).await?.generation;
    let noted_before = gone_entries(api, id).await?;
    let process = processes::machine_of(state_dir, &machine).context("the machine has no process")?;
    let mut socket = viewer.into_inner();
    // What the kernel needs to end a process is part of the figure: the clock starts before the signal.
    let began = Instant::now();
    processes::kill(process)?;
    let closed = async {
        let mut chunk = vec![0; 64 * 1024];
        while socket.read(&mut chunk).await? > 0 {}
        let at = began.elapsed();
        let code = socket.closing().context("the socket broke off without a word")?.code;
        anyhow::Ok((at, code))
    };
    let told = async {
        loop {
            let view = api.session(id).await?;
            if view.status == Status::VmStopped || view.generation > generation || view.status.is_terminal() {
                return anyhow::Ok(began.elapsed());
            }
            sleep(Duration::from_millis(ASK_EVERY_MS)).await;
        }
    };
    let noted = async {
        while gone_entries(api, id).await? == noted_before {
            sleep(Duration::from_millis(ASK_EVERY_MS)).await;
        }
        anyhow::Ok(began.elapsed())
    };
    let (closed, told, noted) = tokio::join!(timeout(limit, closed), timeout(limit, told), timeout(limit, noted));
    let (closed, close_code) = closed.context("the viewer was not told")??;
    let told = told.context("the session's status did not change")??;
    let noted = noted.context("the timeline does not say that the machine is gone")??;
    let frame = match close_code {
        4410 => None,
        _ => {
            let mut viewer = api.desktop(id).await?;
            viewer.whole_frame().await?;
            Some(began.elapsed())
        }
    };
    ensure!(api.session(id).await?.generation > generation || frame.is_none(), "the machine was not replaced");
    Ok(Seen { closed, close_code, told, noted, frame })
}

async fn gone_entries(api: &ApiClient, id: &SessionId) -> anyhow::Result<usize> {
    Ok(api.timeline(id).await?.iter().filter(|entry| entry.kind == "machine_exited").count())
}
