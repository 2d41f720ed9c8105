//! A template: a guest that was booted once, became ready, and was saved. Machines are clones of it.
//!
//! ```text
//!  templates/
//!    lock              locked by the running preparation
//!    <key>/            immutable; the key is a hash of everything that the saved state depends on
//!      ram             the guest's RAM, sparse; machines map it copy-on-write
//!      state           the devices' state, some ten kilobytes; locked (shared) by every machine's keeper
//!      template.json
//!    tmp-<machine>/    a preparation in progress; the next preparation removes leftovers
//! ```
//!
//! A template contains no secrets: it is made before any session exists.

mod prepare;

use super::{Accelerator, Hardware, HardwareOutOfRange, QemuCommandLine, RamBackend, StartMode};
use crate::{
    exit_reason::ExitReason,
    image::{Image, ImageError},
    machines::{MachineStartError, MachinesOpenError},
    spec::{ProcessSpec, SpecError, SpecSource},
};
use anteroom_wire::{
    MachineId,
    agent::{Geometry, Stage},
    time::to_millis,
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

/// Settings of a template.
#[derive(Debug, Clone)]
pub struct TemplateSettings {
    /// Directory of the templates, on a local file system with sparse files; RAM files are as large as the machines' memory.
    pub templates_dir: PathBuf,
    /// Path of QEMU.
    pub qemu_program: PathBuf,
    /// As [`crate::Settings::keeper_program`].
    pub keeper_program: PathBuf,
    /// The machines' hardware.
    pub hardware: Hardware,
    /// The desktop's size until a claim sets another.
    pub geometry: Geometry,
    /// How long a preparation may take, including the wait for another one, milliseconds.
    pub prepare_ms_max: u64,
    /// How many of the last bytes of the console are kept for an error.
    pub console_bytes_max: usize,
}

/// The progress of a preparation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PrepareProgress {
    /// A matching template exists.
    Found,
    /// Another process is preparing a template.
    Waiting,
    /// The guest is booting.
    Booting,
    /// The guest has not reached this stage yet.
    Stage(Stage),
    /// The guest's state is being saved.
    Saving,
    /// The template is complete.
    Done {
        /// The duration of the preparation, milliseconds.
        elapsed_ms: u64,
    },
}

/// Why no template could be prepared.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    /// A file or directory cannot be read or written.
    #[error("{path:?} cannot be read or written")]
    File {
        /// The path.
        path: PathBuf,
        /// The error.
        #[source]
        source: io::Error,
    },
    /// QEMU does not run.
    #[error("{program:?} does not run")]
    Qemu {
        /// The program.
        program: PathBuf,
        /// The error.
        #[source]
        source: io::Error,
    },
    /// A value of the hardware is out of its range.
    #[error("the machines' hardware is out of range")]
    Hardware(#[from] HardwareOutOfRange),
    /// The image cannot be locked.
    #[error("the image cannot be locked")]
    Image(#[from] ImageError),
    /// QEMU's command line for the template is invalid.
    #[error("QEMU's command line for the template cannot be made")]
    CommandLine(#[from] SpecError),
    /// The directories for the template's machine cannot be opened.
    #[error("the directories of the template's machine cannot be used")]
    Open(#[from] MachinesOpenError),
    /// The template's machine cannot be started.
    #[error("the template's machine cannot be started")]
    Start(#[from] MachineStartError),
    /// Another preparation took too long.
    #[error("another process has been preparing a template for {ms_max} ms")]
    Busy {
        /// The timeout, milliseconds.
        ms_max: u64,
    },
    /// The guest did not become ready, or could not be saved.
    #[error(
        "the template's machine exited before it was saved: {reason}; console: {console_tail:?}; output: {output_tail:?}"
    )]
    Machine {
        /// The reason, with stage, last error and attempts.
        reason: Box<ExitReason>,
        /// The end of the console output (untrusted).
        console_tail: String,
        /// The end of QEMU's output.
        output_tail: String,
    },
}

/// Everything that a template's saved state depends on: `template.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TemplateManifest {
    /// The version of the layout.
    pub format: u32,
    /// The image's hash.
    pub image_hash: String,
    /// The accelerator on which it was booted and must be resumed.
    pub accelerator: Accelerator,
    /// The output of `qemu --version`.
    pub qemu_version: String,
    /// The host's processor model.
    pub host_cpu: String,
    /// The machine's hardware.
    pub hardware: Hardware,
    /// The desktop's size.
    pub geometry: Geometry,
}

impl TemplateManifest {
    /// The directory's name: a hash of the manifest.
    fn key(&self) -> String {
        let text = serde_json::to_vec(self).unwrap_or_default();
        hex::encode(&Sha256::digest(text)[..12])
    }
}

/// A complete template. As a [`SpecSource`] it makes clones.
#[derive(Debug)]
pub struct Template {
    dir: PathBuf,
    manifest: TemplateManifest,
    program: PathBuf,
    rootfs: PathBuf,
    /// Protects the image's files, which machines read, from removal.
    _image: crate::image::ImageLock,
    /// Protects the template from removal by another process (shared lock).
    _state: File,
}

impl SpecSource for Template {
    fn image_hash(&self) -> &str {
        &self.manifest.image_hash
    }

    fn build_spec(&self, machine: &MachineId) -> Result<ProcessSpec, SpecError> {
        let start = StartMode::Resume { state: self.dir.join(STATE_FILE) };
        self.command_line(machine, start, RamBackend::CopyOnWrite(self.dir.join(RAM_FILE))).to_spec()
    }
}

impl Template {
    /// Finds the template for this image and hardware, or boots the image once and makes it.
    ///
    /// # Errors
    /// See [`TemplateError`]; for a guest that does not become ready, the error contains its stage and console output.
    pub async fn find_or_prepare(
        image: &Image,
        accelerator: &Accelerator,
        settings: &TemplateSettings,
        progress: impl Fn(PrepareProgress) + Send + Sync,
    ) -> Result<Self, TemplateError> {
        let began = Instant::now();
        settings.hardware.check()?;
        let program = &settings.qemu_program;
        let qemu_version = super::version_line(program)
            .await
            .map_err(|source| TemplateError::Qemu { program: program.clone(), source })?;
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
        let _lock = prepare::wait_lock(settings, began, &progress).await?;
        prepare::remove_leftovers(&settings.templates_dir)?;
        let dir = settings.templates_dir.join(manifest.key());
        if is_valid(&dir, &manifest) {
            progress(PrepareProgress::Found);
        } else {
            prepare::make_template(image, &manifest, settings, &dir, &progress).await?;
            let elapsed_ms = to_millis(began.elapsed());
            progress(PrepareProgress::Done { elapsed_ms });
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
        let locked = File::open(&state).map_err(at(&state))?;
        rustix::fs::flock(&locked, rustix::fs::FlockOperation::NonBlockingLockShared)
            .map_err(|error| at(&state)(error.into()))?;
        let program = settings.qemu_program.clone();
        Ok(Self { dir, manifest, program, rootfs: image.rootfs_path(), _image: image.lock()?, _state: locked })
    }

    /// Its directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Its manifest.
    pub fn manifest(&self) -> &TemplateManifest {
        &self.manifest
    }

    /// The disk space of its RAM file, bytes: less than the machines' memory, because the file is sparse.
    ///
    /// # Errors
    /// The file cannot be inspected.
    pub fn ram_disk_usage_bytes(&self) -> io::Result<u64> {
        // In units of 512 bytes, whatever the file system's block size (stat(2)).
        Ok(fs::metadata(self.dir.join(RAM_FILE))?.blocks().saturating_mul(512))
    }

    /// Removes the templates that no machine or process has locked, except `kept`; returns how many.
    ///
    /// # Errors
    /// The directory cannot be read, or a template cannot be removed.
    pub fn remove_unused(templates_dir: &Path, kept: Option<&Template>) -> Result<usize, TemplateError> {
        let mut removed = 0;
        for entry in fs::read_dir(templates_dir).map_err(at(templates_dir))? {
            let path = entry.map_err(at(templates_dir))?.path();
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            let Ok(state) = File::open(path.join(STATE_FILE)) else { continue };
            let is_unlocked =
                || rustix::fs::flock(&state, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_ok();
            let is_key = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_hexdigit());
            if is_key && kept.is_none_or(|kept| kept.dir != path) && is_unlocked() {
                fs::remove_dir_all(&path).map_err(at(&path))?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    fn command_line(&self, machine: &MachineId, start: StartMode, ram: RamBackend) -> QemuCommandLine {
        QemuCommandLine {
            program: self.program.clone(),
            name: machine.to_string(),
            accelerator: self.manifest.accelerator.clone(),
            hardware: self.manifest.hardware,
            ram,
            rootfs: Some(self.rootfs.clone()),
            start_mode: start,
        }
    }
}

fn at(path: &Path) -> impl Fn(io::Error) -> TemplateError {
    let path = path.to_owned();
    move |source| TemplateError::File { path: path.clone(), source }
}

/// The processor's model name: a state saved on one model may not load on another.
fn host_cpu() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name =
        text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':').map(|(_, name)| name.trim()));
    name.unwrap_or("unknown").to_owned()
}

fn is_valid(dir: &Path, manifest: &TemplateManifest) -> bool {
    let read = || -> Option<bool> {
        let found: TemplateManifest = serde_json::from_slice(&fs::read(dir.join(MANIFEST_FILE)).ok()?).ok()?;
        let ram_bytes = fs::metadata(dir.join(RAM_FILE)).ok()?.len();
        let state_bytes = fs::metadata(dir.join(STATE_FILE)).ok()?.len();
        let memory_bytes = u64::from(manifest.hardware.memory_mib) * 1024 * 1024;
        Some(found == *manifest && ram_bytes == memory_bytes && state_bytes > 0)
    };
    read().unwrap_or(false)
}
