//! A template: a guest that was booted once, became ready, and was saved. Machines are its copies.
//!
//! ```text
//!  templates/
//!    lock              held by the one preparation that may run here
//!    <key>/            never changed again; its name says everything that makes a saved state loadable
//!      ram             the guest's RAM, sparse; machines map it copy-on-write
//!      state           the devices' state, some ten kilobytes; locked (shared) by every machine's keeper
//!      template.json
//!    tmp-<machine>/    a preparation in progress; a leftover goes with the next one
//! ```
//!
//! No secret is ever in a template: it is made before any session exists.

use super::{Accelerator, CommandLine, Hardware, KernelLine, OutOfRange, Ram, Start, accelerator::new_machine_id};
use crate::{
    image::{Image, ImageError},
    machines::{Machines, OpenError, Refused, Settings},
    receipt::{End, Receipt},
    spec::{Recipe, RecipeError, Spec},
    state::{GoneReason, State},
};
use anteroom_wire::{
    MachineId,
    agent::{Geometry, Stage},
};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// The version of a template's layout and of the hardware that [`CommandLine`] describes.
const FORMAT: u32 = 1;
const RAM_FILE: &str = "ram";
const STATE_FILE: &str = "state";
const MANIFEST_FILE: &str = "template.json";
const LOCK_FILE: &str = "lock";
const TEMPORARY: &str = "tmp-";
/// Between two tries to get the lock, milliseconds.
const LOCK_EVERY_MS: u64 = 100;
/// Between two looks at the stages of a booting guest, milliseconds: it has better to do than to answer.
const PROBE_EVERY_MS: u64 = 200;

/// What an operator may set.
#[derive(Debug, Clone)]
pub struct TemplateSettings {
    /// Where templates lie. A local file system with sparse files; RAM files are as large as machines' memory.
    pub templates_dir: PathBuf,
    /// QEMU.
    pub qemu_program: PathBuf,
    /// As [`Settings::keeper_program`].
    pub keeper_program: PathBuf,
    /// The machines' hardware.
    pub hardware: Hardware,
    /// The desktop's size before a claim says another.
    pub geometry: Geometry,
    /// How long a preparation may take, waiting for another one included, milliseconds.
    pub prepare_ms_max: u64,
    /// How much of the console is kept for an error, bytes.
    pub console_bytes_max: usize,
}

/// How far a preparation is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// A template that fits is there.
    Found,
    /// Another process prepares one.
    Waiting,
    /// The guest boots.
    Booting,
    /// It waits for this stage.
    Stage(Stage),
    /// It is being saved.
    Saving,
    /// It is there.
    Done {
        /// How long it took, milliseconds.
        elapsed_ms: u64,
    },
}

/// Why there is no template.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    /// A file or directory cannot be used.
    #[error("{path:?} cannot be used")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// QEMU does not run.
    #[error("{program:?} cannot be used")]
    Qemu {
        /// Which.
        program: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The hardware cannot be.
    #[error("the machines' hardware is not possible")]
    Hardware(#[from] OutOfRange),
    /// The image cannot be kept from being removed.
    #[error("the image cannot be used")]
    Image(#[from] ImageError),
    /// The guest cannot be described.
    #[error("no command line can be made for the template")]
    CommandLine(#[from] RecipeError),
    /// The place for the one machine cannot be opened.
    #[error("the template's machine cannot be looked after")]
    Open(#[from] OpenError),
    /// The one machine cannot be started.
    #[error("the template's machine cannot be started")]
    Start(#[from] Refused),
    /// Another preparation took too long.
    #[error("another process has been preparing a template for {ms_max} ms")]
    Busy {
        /// The limit.
        ms_max: u64,
    },
    /// The guest did not become ready, or could not be saved.
    #[error(
        "the template's machine ended before it was saved: {why}; console: {console_tail:?}; output: {output_tail:?}"
    )]
    Machine {
        /// Why; names the stage, the last error, the attempts.
        why: Box<GoneReason>,
        /// The guest's last lines (not trusted).
        console_tail: String,
        /// QEMU's last lines.
        output_tail: String,
    },
}

/// What a template was made of: `template.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TemplateManifest {
    /// The layout.
    pub format: u32,
    /// The image.
    pub image_hash: String,
    /// What it was booted on and must be resumed on.
    pub accelerator: Accelerator,
    /// `qemu --version`.
    pub qemu_version: String,
    /// The host's processor.
    pub host_cpu: String,
    /// The hardware.
    pub hardware: Hardware,
    /// The desktop's size.
    pub geometry: Geometry,
}

impl TemplateManifest {
    /// The directory's name: a saved state is loadable exactly by what this names.
    fn key(&self) -> String {
        let text = serde_json::to_vec(self).unwrap_or_default();
        Sha256::digest(text).iter().take(12).map(|byte| format!("{byte:02x}")).collect()
    }
}

/// A template that is there. As a [`Recipe`] it makes machines.
#[derive(Debug)]
pub struct Template {
    dir: PathBuf,
    manifest: TemplateManifest,
    program: PathBuf,
    rootfs: PathBuf,
    /// Keeps the image's files, which machines read.
    _image: crate::image::Hold,
    /// Keeps the template from being removed by another process.
    _held: File,
}

impl Recipe for Template {
    fn image_hash(&self) -> &str {
        &self.manifest.image_hash
    }

    fn spec(&self, machine: &MachineId) -> Result<Spec, RecipeError> {
        let start = Start::Resume { state: self.dir.join(STATE_FILE) };
        self.command_line(machine, start, Ram::CopyOnWrite(self.dir.join(RAM_FILE))).spec()
    }
}

impl Template {
    /// Finds the template for this image and hardware, or boots the image once and makes it.
    ///
    /// # Errors
    /// See [`TemplateError`]; a guest that does not become ready is told with its stage and the console's tail.
    pub async fn prepare(
        image: &Image,
        accelerator: &Accelerator,
        settings: &TemplateSettings,
        progress: impl Fn(Progress) + Send + Sync,
    ) -> Result<Self, TemplateError> {
        let began = Instant::now();
        settings.hardware.check()?;
        let program = &settings.qemu_program;
        let qemu_version =
            super::version(program).await.map_err(|source| TemplateError::Qemu { program: program.clone(), source })?;
        let manifest = TemplateManifest {
            format: FORMAT,
            image_hash: image.manifest.hash.clone(),
            accelerator: accelerator.clone(),
            qemu_version,
            host_cpu: host_cpu(),
            hardware: settings.hardware,
            geometry: settings.geometry,
        };
        fs::create_dir_all(&settings.templates_dir).map_err(at(&settings.templates_dir))?;
        let _lock = lock(settings, began, &progress).await?;
        remove_leftovers(&settings.templates_dir)?;
        let dir = settings.templates_dir.join(manifest.key());
        if valid(&dir, &manifest) {
            progress(Progress::Found);
        } else {
            make(image, &manifest, settings, &dir, &progress).await?;
            let elapsed_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
            progress(Progress::Done { elapsed_ms });
        }
        Self::open(dir, manifest, image, settings)
    }

    fn open(
        dir: PathBuf,
        manifest: TemplateManifest,
        image: &Image,
        settings: &TemplateSettings,
    ) -> Result<Self, TemplateError> {
        let state = dir.join(STATE_FILE);
        let held = File::open(&state).map_err(at(&state))?;
        rustix::fs::flock(&held, rustix::fs::FlockOperation::NonBlockingLockShared)
            .map_err(|error| at(&state)(error.into()))?;
        let program = settings.qemu_program.clone();
        Ok(Self { dir, manifest, program, rootfs: image.rootfs(), _image: image.hold()?, _held: held })
    }

    /// Where it lies.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What it was made of.
    pub fn manifest(&self) -> &TemplateManifest {
        &self.manifest
    }

    /// How much of the disk its RAM file takes, bytes: less than the machines' memory, since what the guest never touched
    /// is not there.
    ///
    /// # Errors
    /// When the file cannot be looked at.
    pub fn ram_bytes(&self) -> io::Result<u64> {
        // Blocks of 512 bytes, whatever the file system's own (stat(2)).
        Ok(fs::metadata(self.dir.join(RAM_FILE))?.blocks().saturating_mul(512))
    }

    /// Removes the templates that no machine maps and no process holds, and that are not `kept`; returns how many.
    ///
    /// # Errors
    /// When the directory cannot be read or a template not be removed.
    pub fn remove_unused(templates_dir: &Path, kept: Option<&Template>) -> Result<usize, TemplateError> {
        let mut removed = 0;
        for entry in fs::read_dir(templates_dir).map_err(at(templates_dir))? {
            let path = entry.map_err(at(templates_dir))?.path();
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            let Ok(state) = File::open(path.join(STATE_FILE)) else { continue };
            let free = || rustix::fs::flock(&state, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_ok();
            let named = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_hexdigit());
            if named && kept.is_none_or(|kept| kept.dir != path) && free() {
                fs::remove_dir_all(&path).map_err(at(&path))?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    fn command_line(&self, machine: &MachineId, start: Start, ram: Ram) -> CommandLine {
        CommandLine {
            program: self.program.clone(),
            name: machine.to_string(),
            accelerator: self.manifest.accelerator.clone(),
            hardware: self.manifest.hardware,
            ram,
            rootfs: Some(self.rootfs.clone()),
            start,
        }
    }
}

fn at(path: &Path) -> impl Fn(io::Error) -> TemplateError {
    let path = path.to_owned();
    move |source| TemplateError::File { path: path.clone(), source }
}

/// The processor's name: a state saved on one model may not load on another.
fn host_cpu() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name =
        text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':').map(|(_, name)| name.trim()));
    name.unwrap_or("unknown").to_owned()
}

fn valid(dir: &Path, manifest: &TemplateManifest) -> bool {
    let read = || -> Option<bool> {
        let found: TemplateManifest = serde_json::from_slice(&fs::read(dir.join(MANIFEST_FILE)).ok()?).ok()?;
        let ram_bytes = fs::metadata(dir.join(RAM_FILE)).ok()?.len();
        let state_bytes = fs::metadata(dir.join(STATE_FILE)).ok()?.len();
        let memory_bytes = u64::from(manifest.hardware.memory_mib) * 1024 * 1024;
        Some(found == *manifest && ram_bytes == memory_bytes && state_bytes > 0)
    };
    read().unwrap_or(false)
}

/// One preparation at a time, on this host.
async fn lock(
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
fn remove_leftovers(templates_dir: &Path) -> Result<(), TemplateError> {
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
    command_line: CommandLine,
}

impl Recipe for Boot {
    fn image_hash(&self) -> &str {
        &self.image_hash
    }

    fn spec(&self, _: &MachineId) -> Result<Spec, RecipeError> {
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

async fn make(
    image: &Image,
    manifest: &TemplateManifest,
    settings: &TemplateSettings,
    dir: &Path,
    progress: &(impl Fn(Progress) + Send + Sync),
) -> Result<(), TemplateError> {
    let _image = image.hold()?;
    let machine = new_machine_id().map_err(at(&settings.templates_dir))?;
    let path = settings.templates_dir.join(format!("{TEMPORARY}{machine}"));
    fs::create_dir(&path).map_err(at(&path))?;
    let work = Work(path);
    let ram = work.0.join(RAM_FILE);
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&ram).map_err(at(&ram))?;
    file.set_len(u64::from(manifest.hardware.memory_mib) * 1024 * 1024).map_err(at(&ram))?;
    let accelerator = &manifest.accelerator;
    let line = KernelLine {
        image_hash: Some(manifest.image_hash.clone()),
        geometry: Some(manifest.geometry),
        probe: false,
        tsc_khz: accelerator.tsc_khz(),
    };
    let command_line = CommandLine {
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
    place.machine_s_max = settings.prepare_ms_max.div_ceil(1_000).saturating_mul(2);
    place.console_bytes_max = settings.console_bytes_max;
    place.probe_every_ms = PROBE_EVERY_MS;
    let machines = Machines::leashed(place, Arc::new(boot), host, tasks.clone(), stop.clone())?;
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
            State::Gone { why, receipt } => break (why, receipt),
            State::Requested | State::Cloning | State::Waiting { .. } | State::Stopping { .. } => {}
        }
        // An error: the driver is gone, and Gone was its last word.
        let _ = states.changed().await;
    };
    stop.cancel();
    tasks.close();
    tasks.wait().await;
    saved(why, receipt)
}

fn saved(why: GoneReason, receipt: Option<Box<Receipt>>) -> Result<(), TemplateError> {
    let Some(receipt) = receipt else {
        let (console_tail, output_tail) = (String::new(), String::new());
        return Err(TemplateError::Machine { why: Box::new(why), console_tail, output_tail });
    };
    let Receipt { how, console_tail, output_tail, .. } = *receipt;
    if how == End::Saved {
        return Ok(());
    }
    // We asked for the end ourselves, by asking for the save: then the keeper's word says what went wrong.
    let why = if matches!(why, GoneReason::Stopped { .. }) { how.reason() } else { why };
    Err(TemplateError::Machine { why: Box::new(why), console_tail, output_tail })
}
