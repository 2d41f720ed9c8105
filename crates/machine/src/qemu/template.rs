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

mod prepare;

use super::{Accelerator, Hardware, OutOfRange, QemuCommandLine, Ram, Start};
use crate::{
    exit_reason::ExitReason,
    image::{Image, ImageError},
    machines::{OpenError, StartError},
    spec::{Spec, SpecError, SpecSource},
};
use anteroom_wire::{
    MachineId,
    agent::{Geometry, Stage},
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::{
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Instant,
};

/// The version of a template's layout, of the hardware that [`QemuCommandLine`] describes, and of the kernel's command line.
const FORMAT: u32 = 2;
const RAM_FILE: &str = "ram";
const STATE_FILE: &str = "state";
const MANIFEST_FILE: &str = "template.json";
const LOCK_FILE: &str = "lock";
const TEMPORARY: &str = "tmp-";

/// What an operator may set.
#[derive(Debug, Clone)]
pub struct TemplateSettings {
    /// Where templates lie. A local file system with sparse files; RAM files are as large as machines' memory.
    pub templates_dir: PathBuf,
    /// QEMU.
    pub qemu_program: PathBuf,
    /// As [`crate::Settings::keeper_program`].
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
    QemuCommandLine(#[from] SpecError),
    /// The place for the one machine cannot be opened.
    #[error("the template's machine cannot be looked after")]
    Open(#[from] OpenError),
    /// The one machine cannot be started.
    #[error("the template's machine cannot be started")]
    Start(#[from] StartError),
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
        why: Box<ExitReason>,
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

/// A template that is there. As a [`SpecSource`] it makes machines.
#[derive(Debug)]
pub struct Template {
    dir: PathBuf,
    manifest: TemplateManifest,
    program: PathBuf,
    rootfs: PathBuf,
    /// Keeps the image's files, which machines read.
    _image: crate::image::ImageLock,
    /// Keeps the template from being removed by another process.
    _held: File,
}

impl SpecSource for Template {
    fn image_hash(&self) -> &str {
        &self.manifest.image_hash
    }

    fn spec(&self, machine: &MachineId) -> Result<Spec, SpecError> {
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
        let _lock = prepare::lock(settings, began, &progress).await?;
        prepare::remove_leftovers(&settings.templates_dir)?;
        let dir = settings.templates_dir.join(manifest.key());
        if valid(&dir, &manifest) {
            progress(Progress::Found);
        } else {
            prepare::make(image, &manifest, settings, &dir, &progress).await?;
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
        Ok(Self { dir, manifest, program, rootfs: image.rootfs(), _image: image.lock()?, _held: held })
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

    fn command_line(&self, machine: &MachineId, start: Start, ram: Ram) -> QemuCommandLine {
        QemuCommandLine {
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
