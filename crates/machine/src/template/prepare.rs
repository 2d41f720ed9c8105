//! Preparation of a template: one guest is booted, waited for until it is ready, and saved.

use super::{MANIFEST_FILE, PreparationSettings, PrepareProgress, TemplateError, file_error};
use crate::{
    exit_reason::ExitReason,
    machine_id::new_machine_id,
    machines::{Machines, MachinesSettings},
    receipt::{ExitCause, Receipt},
    spec::SpecSource,
    state::State,
};
use anteroom_wire::MachineId;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use std::{
    fs::{self, File, OpenOptions},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

const LOCK_FILE: &str = "lock";
const TEMPORARY: &str = "tmp-";
/// Interval between two attempts to get the lock, milliseconds.
const LOCK_RETRY_MS: u64 = 100;
/// Interval between two requests for the stages of a booting guest, milliseconds: longer than usual, so as not to slow the boot.
const PROBE_INTERVAL_MS: u64 = 200;

/// Waits for the lock that allows one preparation at a time in this directory.
pub(crate) async fn wait_lock(
    settings: &PreparationSettings,
    began: Instant,
    progress: &(impl Fn(PrepareProgress) + Send + Sync),
) -> Result<File, TemplateError> {
    let path = settings.templates_dir.join(LOCK_FILE);
    let file = OpenOptions::new().create(true).append(true).mode(0o600).open(&path).map_err(file_error(&path))?;
    let mut reported = false;
    while let Err(error) = rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        if error != rustix::io::Errno::WOULDBLOCK {
            return Err(file_error(&path)(error.into()));
        }
        if began.elapsed() > Duration::from_millis(settings.prepare_ms_max) {
            return Err(TemplateError::Busy { ms_max: settings.prepare_ms_max });
        }
        if !std::mem::replace(&mut reported, true) {
            progress(PrepareProgress::Waiting);
        }
        tokio::time::sleep(Duration::from_millis(LOCK_RETRY_MS)).await;
    }
    Ok(file)
}

/// Removes the directories of killed preparations. Call with the lock held, so that no other preparation is running.
pub(crate) fn remove_leftovers(templates_dir: &Path) -> Result<(), TemplateError> {
    for entry in fs::read_dir(templates_dir).map_err(file_error(templates_dir))? {
        let path = entry.map_err(file_error(templates_dir))?.path();
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(TEMPORARY)) {
            fs::remove_dir_all(&path).map_err(file_error(&path))?;
        }
    }
    Ok(())
}

/// The directory of a preparation; removed on drop unless it is complete.
pub(crate) struct WorkDir {
    path: PathBuf,
    machine: MachineId,
}

impl Drop for WorkDir {
    fn drop(&mut self) {
        // Fails after a successful preparation, which has renamed it.
        let _ = fs::remove_dir_all(&self.path);
    }
}

impl WorkDir {
    /// Makes an empty directory for the preparation with a new machine.
    pub(crate) fn create(templates_dir: &Path) -> Result<Self, TemplateError> {
        let machine = new_machine_id().map_err(file_error(templates_dir))?;
        let path = templates_dir.join(format!("{TEMPORARY}{machine}"));
        fs::create_dir(&path).map_err(file_error(&path))?;
        Ok(Self { path, machine })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The machine that is saved here.
    pub(crate) fn machine(&self) -> &MachineId {
        &self.machine
    }

    /// Adds the manifest and makes it the template `dir`.
    pub(crate) fn complete(self, manifest: &[u8], dir: &Path) -> Result<(), TemplateError> {
        let path = &self.path;
        fs::write(path.join(MANIFEST_FILE), manifest).map_err(file_error(path))?;
        for rest in ["run", "receipts"] {
            fs::remove_dir_all(path.join(rest)).map_err(file_error(path))?;
        }
        // Replaces an invalid template, for example one that was written to a full disk.
        if dir.exists() {
            fs::remove_dir_all(dir).map_err(file_error(dir))?;
        }
        fs::rename(path, dir).map_err(file_error(dir))
    }
}

/// Runs the machine until it is ready, saves it, with its devices' state in the new file `state`, and waits until it is removed.
pub(crate) async fn save_when_ready(
    boot: impl SpecSource,
    work: &WorkDir,
    state: &Path,
    settings: &PreparationSettings,
    progress: &(impl Fn(PrepareProgress) + Send + Sync),
) -> Result<(), TemplateError> {
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    let _guard = stop.clone().drop_guard();
    let controller_service: crate::ControllerService = Arc::new(|_, _| {
        // An unclaimed agent sends no events; any request gets a 404.
        let body = Full::<Bytes>::default().map_err(|never| match never {}).boxed_unsync();
        let mut response = hyper::Response::new(body);
        *response.status_mut() = hyper::StatusCode::NOT_FOUND;
        Box::pin(std::future::ready(response))
    });
    let mut machine_settings = MachinesSettings::in_state_dir(&work.path, settings.keeper_program.clone());
    machine_settings.ready_ms_max = settings.prepare_ms_max;
    machine_settings.lifetime_s_max = settings.prepare_ms_max.div_ceil(1_000).saturating_mul(2);
    machine_settings.console_bytes_max = settings.console_bytes_max;
    machine_settings.probe_every_ms = PROBE_INTERVAL_MS;
    let machines = Machines::open_tied_to_parent(
        machine_settings,
        Arc::new(boot),
        controller_service,
        tasks.clone(),
        stop.clone(),
    )?;
    progress(PrepareProgress::Booting);
    let mut states = machines.start(work.machine.clone())?;
    let mut reported = None;
    let (reason, receipt) = loop {
        match states.borrow_and_update().clone() {
            State::Waiting { stage, .. } if reported != Some(stage) => {
                reported = Some(stage);
                progress(PrepareProgress::Stage(stage));
            }
            State::Ready { .. } => {
                progress(PrepareProgress::Saving);
                machines.save_device_state_and_stop(&work.machine, state.to_owned());
            }
            State::Removed { reason, receipt } => break (reason, receipt),
            State::Requested
            | State::Cloning
            | State::Waiting { .. }
            | State::Stopping { .. }
            | State::Exited { .. } => {}
        }
        // An error means that the machine task has ended; its last state was `Removed`.
        let _ = states.changed().await;
    };
    stop.cancel();
    tasks.close();
    tasks.wait().await;
    check_saved(reason, receipt)
}

fn check_saved(reason: ExitReason, receipt: Option<Box<Receipt>>) -> Result<(), TemplateError> {
    let Some(receipt) = receipt else {
        let (console_tail, output_tail) = (String::new(), String::new());
        return Err(TemplateError::Machine { reason: Box::new(reason), console_tail, output_tail });
    };
    let Receipt { cause, console_tail, output_tail, .. } = *receipt;
    if cause == ExitCause::Saved {
        return Ok(());
    }
    // A save includes a stop request, so `reason` is `Stopped` even when the save failed; the keeper's cause has the failure.
    let reason =
        if matches!(reason, ExitReason::Stopped { .. }) { cause.to_exit_reason_without_detail() } else { reason };
    Err(TemplateError::Machine { reason: Box::new(reason), console_tail, output_tail })
}
