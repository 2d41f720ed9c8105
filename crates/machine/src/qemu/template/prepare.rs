//! Making a template: one guest is booted, watched until it is ready, and saved.

use super::{
    Image, LOCK_FILE, MANIFEST_FILE, Progress, RAM_FILE, STATE_FILE, TEMPORARY, TemplateError, TemplateManifest,
    TemplateSettings, at,
};
use crate::{
    exit_reason::ExitReason,
    machines::{Machines, Settings},
    qemu::{KernelCommandLine, QemuCommandLine, Ram, Start, accelerator::new_machine_id},
    receipt::{ExitCause, Receipt},
    spec::{Spec, SpecError, SpecSource},
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

/// Between two tries to get the lock, milliseconds.
const LOCK_EVERY_MS: u64 = 100;
/// Between two looks at the stages of a booting guest, milliseconds: it has better to do than to answer.
const PROBE_EVERY_MS: u64 = 200;

/// One preparation at a time, on this host.
pub(super) async fn lock(
    settings: &TemplateSettings,
    began: Instant,
    progress: &(impl Fn(Progress) + Send + Sync),
) -> Result<File, TemplateError> {
    let path = settings.templates_dir.join(LOCK_FILE);
    let file = OpenOptions::new().create(true).append(true).mode(0o600).open(&path).map_err(at(&path))?;
    let mut told = false;
    while let Err(error) = rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        if error != rustix::io::Errno::WOULDBLOCK {
            return Err(at(&path)(error.into()));
        }
        if began.elapsed() > Duration::from_millis(settings.prepare_ms_max) {
            return Err(TemplateError::Busy { ms_max: settings.prepare_ms_max });
        }
        if !std::mem::replace(&mut told, true) {
            progress(Progress::Waiting);
        }
        tokio::time::sleep(Duration::from_millis(LOCK_EVERY_MS)).await;
    }
    Ok(file)
}

/// What a preparation that was killed left behind. (Whoever holds the lock is the only one who prepares.)
pub(super) fn remove_leftovers(templates_dir: &Path) -> Result<(), TemplateError> {
    for entry in fs::read_dir(templates_dir).map_err(at(templates_dir))? {
        let path = entry.map_err(at(templates_dir))?.path();
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(TEMPORARY)) {
            fs::remove_dir_all(&path).map_err(at(&path))?;
        }
    }
    Ok(())
}

/// The one machine of a preparation.
struct Boot {
    image_hash: String,
    command_line: QemuCommandLine,
}

impl SpecSource for Boot {
    fn image_hash(&self) -> &str {
        &self.image_hash
    }

    fn spec(&self, _: &MachineId) -> Result<Spec, SpecError> {
        self.command_line.spec()
    }
}

/// Removes a preparation's directory unless it became a template.
struct Work(PathBuf);

impl Drop for Work {
    fn drop(&mut self) {
        // Renamed by now, if all went well.
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub(super) async fn make(
    image: &Image,
    manifest: &TemplateManifest,
    settings: &TemplateSettings,
    dir: &Path,
    progress: &(impl Fn(Progress) + Send + Sync),
) -> Result<(), TemplateError> {
    let _image = image.lock()?;
    let machine = new_machine_id().map_err(at(&settings.templates_dir))?;
    let path = settings.templates_dir.join(format!("{TEMPORARY}{machine}"));
    fs::create_dir(&path).map_err(at(&path))?;
    let work = Work(path);
    let ram = work.0.join(RAM_FILE);
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&ram).map_err(at(&ram))?;
    file.set_len(u64::from(manifest.hardware.memory_mib) * 1024 * 1024).map_err(at(&ram))?;
    let accelerator = &manifest.accelerator;
    let line = KernelCommandLine {
        image_hash: Some(manifest.image_hash.clone()),
        geometry: Some(manifest.geometry),
        probe: false,
        tsc_khz: accelerator.tsc_khz(),
    };
    let command_line = QemuCommandLine {
        program: settings.qemu_program.clone(),
        name: machine.to_string(),
        accelerator: accelerator.clone(),
        hardware: manifest.hardware,
        ram: Ram::Shared(ram),
        rootfs: Some(image.rootfs()),
        start: Start::Boot { kernel: image.kernel(), initramfs: image.initramfs(), line },
    };
    let boot = Boot { image_hash: manifest.image_hash.clone(), command_line };
    let state = work.0.join(STATE_FILE);
    save_when_ready(boot, machine, &work.0, &state, settings, progress).await?;
    let text = serde_json::to_vec_pretty(manifest).unwrap_or_default();
    fs::write(work.0.join(MANIFEST_FILE), text).map_err(at(&work.0))?;
    for rest in ["run", "receipts"] {
        fs::remove_dir_all(work.0.join(rest)).map_err(at(&work.0))?;
    }
    // An invalid template in its place (half a disk was full, say) makes room.
    if dir.exists() {
        fs::remove_dir_all(dir).map_err(at(dir))?;
    }
    fs::rename(&work.0, dir).map_err(at(dir))
}

/// Runs the one machine until it is ready, has it saved, and waits for its end.
async fn save_when_ready(
    boot: Boot,
    machine: MachineId,
    work: &Path,
    state: &Path,
    settings: &TemplateSettings,
    progress: &(impl Fn(Progress) + Send + Sync),
) -> Result<(), TemplateError> {
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    let _ends = stop.clone().drop_guard();
    let host: crate::HostService = Arc::new(|_, _| {
        // An agent that nobody has claimed has nothing to say; whatever it asks is answered like a missing page.
        let body = Full::<Bytes>::default().map_err(|never| match never {}).boxed_unsync();
        let mut answer = hyper::Response::new(body);
        *answer.status_mut() = hyper::StatusCode::NOT_FOUND;
        Box::pin(std::future::ready(answer))
    });
    let mut place = Settings::under(work, settings.keeper_program.clone());
    place.ready_ms_max = settings.prepare_ms_max;
    place.lifetime_s_max = settings.prepare_ms_max.div_ceil(1_000).saturating_mul(2);
    place.console_bytes_max = settings.console_bytes_max;
    place.probe_every_ms = PROBE_EVERY_MS;
    let machines = Machines::tied_to_parent(place, Arc::new(boot), host, tasks.clone(), stop.clone())?;
    progress(Progress::Booting);
    let mut states = machines.start(machine.clone())?;
    let mut told = None;
    let (why, receipt) = loop {
        match states.borrow_and_update().clone() {
            State::Waiting { stage, .. } if told != Some(stage) => {
                told = Some(stage);
                progress(Progress::Stage(stage));
            }
            State::Ready { .. } => {
                progress(Progress::Saving);
                machines.save(&machine, state.to_owned());
            }
            State::Removed { why, receipt } => break (why, receipt),
            State::Requested
            | State::Cloning
            | State::Waiting { .. }
            | State::Stopping { .. }
            | State::Exited { .. } => {}
        }
        // An error: the driver is gone, and Gone was its last word.
        let _ = states.changed().await;
    };
    stop.cancel();
    tasks.close();
    tasks.wait().await;
    saved(why, receipt)
}

fn saved(why: ExitReason, receipt: Option<Box<Receipt>>) -> Result<(), TemplateError> {
    let Some(receipt) = receipt else {
        let (console_tail, output_tail) = (String::new(), String::new());
        return Err(TemplateError::Machine { why: Box::new(why), console_tail, output_tail });
    };
    let Receipt { cause, console_tail, output_tail, .. } = *receipt;
    if cause == ExitCause::Saved {
        return Ok(());
    }
    // We asked for the end ourselves, by asking for the save: then the keeper's word says what went wrong.
    let why = if matches!(why, ExitReason::Stopped { .. }) { cause.reason_by_name() } else { why };
    Err(TemplateError::Machine { why: Box::new(why), console_tail, output_tail })
}
