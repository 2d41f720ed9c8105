//! The machines of this host with their sessions, and the image of new ones.

use crate::{image::ImageInfo, session::server_context::ServerContext, unix_time::format_rfc3339};
use anteroom_machine::{Machines, State};
use anteroom_store::{SessionRow, StoreError};
use anteroom_wire::{
    MachineId,
    agent::Stage,
    api::{ImageView, MachineList, MachineState, MachineView},
};
use std::collections::HashMap;

const MIB: u64 = 1_024 * 1_024;

/// The machines that are not removed, the oldest first. Reads the memory of each from `/proc`.
///
/// # Errors
/// The database cannot be read.
pub async fn list_machines(server_context: &ServerContext) -> Result<MachineList, StoreError> {
    let rows = server_context.store.list_active_sessions().await?;
    let mut sessions: HashMap<MachineId, SessionRow> =
        rows.into_iter().filter_map(|row| Some((row.machine.clone()?, row))).collect();
    let mut list = MachineList { image: to_image_view(&server_context.image), machines: Vec::new() };
    for (id, state) in server_context.machines.list() {
        let Some((state, stage)) = to_machine_state(&state) else { continue };
        let row = sessions.remove(&id);
        list.machines.push(MachineView {
            state,
            stage,
            requested_at: format_rfc3339(id.unix_ms()),
            memory_mib: read_memory_mib(&server_context.machines, &id).await,
            provider: row.as_ref().map(|row| row.provider.clone()),
            is_warm: row.is_none() && server_context.warm_machines.contains(&id),
            session: row.map(|row| row.id),
            id,
        });
    }
    Ok(list)
}

/// `None`: it was removed.
fn to_machine_state(state: &State) -> Option<(MachineState, Option<Stage>)> {
    match state {
        State::Requested | State::Cloning => Some((MachineState::Starting, Some(Stage::Process))),
        State::Waiting { stage, .. } => Some((MachineState::Starting, Some(*stage))),
        State::Ready { .. } => Some((MachineState::Ready, None)),
        State::Stopping { .. } | State::Exited { .. } => Some((MachineState::Stopping, None)),
        State::Removed { .. } => None,
    }
}

async fn read_memory_mib(machines: &Machines, id: &MachineId) -> Option<u64> {
    let (machines, id) = (machines.clone(), id.clone());
    let usage = tokio::task::spawn_blocking(move || machines.memory_usage(&id)).await.ok()??;
    Some(usage.pss_bytes / MIB)
}

fn to_image_view(image: &ImageInfo) -> ImageView {
    ImageView {
        digest: image.hash.clone(),
        built_at: image.built_at_unix_s.map(|at_s| format_rfc3339(at_s.saturating_mul(1_000))),
        kernel_version: image.kernel_version.clone(),
        files: image.files.clone(),
        kind: image.kind.clone(),
    }
}
