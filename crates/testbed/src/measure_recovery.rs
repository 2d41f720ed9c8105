//! Measures the recovery from a machine's crash, from outside and with one monotonic clock: when the viewer is disconnected, when
//! the API and the timeline report the exit, and when the viewer sees a desktop again.

use crate::{ApiClient, processes};
use anteroom_rfb::client::{RfbClient, ViewerSocket};
use anteroom_wire::{MachineId, SessionId, TimelineKind, api::SessionStatus};
use anyhow::{Context, ensure};
use std::{
    path::Path,
    time::{Duration, Instant},
};
use tokio::{
    io::AsyncReadExt,
    time::{sleep, timeout},
};

/// Time between two requests, milliseconds. A measurement is late by at most this and the duration of one request.
const POLL_EVERY_MS: u64 = 2;

/// Durations, each counted from SIGKILL of the machine's process.
#[derive(Debug, Clone, Copy)]
pub struct RecoveryTimes {
    /// Until the viewer's WebSocket was closed.
    pub closed: Duration,
    /// The close code of the viewer's WebSocket.
    pub close_code: u16,
    /// Until `GET …/session` reported that the machine is being replaced, or that the session has ended.
    pub status_changed: Duration,
    /// Until the timeline had another entry `machine_exited`.
    pub timeline_entry: Duration,
    /// Until a new connection of the viewer received a whole frame of the next machine; `None`: the session has ended.
    pub frame: Option<Duration>,
}

/// The session's current machine, by its timeline.
///
/// # Errors
/// The API does not answer, or no machine was requested.
pub async fn current_machine(api: &ApiClient, id: &SessionId) -> anyhow::Result<MachineId> {
    let timeline = api.get_timeline(id).await?;
    let requested = timeline.iter().rfind(|entry| entry.kind == TimelineKind::MachineRequested);
    let machine = requested.and_then(|entry| entry.data["machine"].as_str()).context("no machine was requested")?;
    Ok(machine.parse()?)
}

/// Kills the machine of a session while `viewer` is connected, and measures the recovery. Each step may take `limit`.
///
/// # Errors
/// There is no machine, or a step takes longer.
pub async fn kill_and_measure(
    api: &ApiClient,
    state_dir: &Path,
    id: &SessionId,
    viewer: RfbClient<ViewerSocket>,
    limit: Duration,
) -> anyhow::Result<RecoveryTimes> {
    let machine = current_machine(api, id).await?;
    let generation = api.get_session(id).await?.generation;
    let exits_before = exit_entries(api, id).await?;
    let process = processes::find_machine_pid(state_dir, &machine).context("the machine has no process")?;
    let mut socket = viewer.into_inner();
    // The time that the kernel needs to end the process counts too.
    let began = Instant::now();
    processes::kill_process(process)?;
    let closed = async {
        let mut chunk = vec![0; 64 * 1024];
        while socket.read(&mut chunk).await? > 0 {}
        let at = began.elapsed();
        let code = socket.close_reason().context("the connection ended without a close frame")?.code;
        anyhow::Ok((at, code))
    };
    let status_changed = async {
        loop {
            let view = api.get_session(id).await?;
            if view.status == SessionStatus::VmStopped || view.generation > generation || view.status.is_ended() {
                return anyhow::Ok(began.elapsed());
            }
            sleep(Duration::from_millis(POLL_EVERY_MS)).await;
        }
    };
    let timeline_entry = async {
        while exit_entries(api, id).await? == exits_before {
            sleep(Duration::from_millis(POLL_EVERY_MS)).await;
        }
        anyhow::Ok(began.elapsed())
    };
    let (closed, status_changed, timeline_entry) =
        tokio::join!(timeout(limit, closed), timeout(limit, status_changed), timeout(limit, timeline_entry));
    let (closed, close_code) = closed.context("the viewer's connection was not closed")??;
    let status_changed = status_changed.context("the session's status did not change")??;
    let timeline_entry = timeline_entry.context("the timeline has no entry about the machine's exit")??;
    let frame = match close_code {
        4410 => None,
        _ => {
            let mut viewer = api.connect_desktop(id).await?;
            viewer.request_full_frame().await?;
            Some(began.elapsed())
        }
    };
    ensure!(api.get_session(id).await?.generation > generation || frame.is_none(), "the machine was not replaced");
    Ok(RecoveryTimes { closed, close_code, status_changed, timeline_entry, frame })
}

async fn exit_entries(api: &ApiClient, id: &SessionId) -> anyhow::Result<usize> {
    Ok(api.get_timeline(id).await?.iter().filter(|entry| entry.kind == TimelineKind::MachineExited).count())
}
