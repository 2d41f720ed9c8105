//! A template: a guest that was booted once, became ready, and was saved as a snapshot. Machines are clones of it.
//!
//! ```text
//!  templates/
//!    <key>/            immutable; the key is a hash of everything that the snapshot depends on
//!      memory          the guest's memory, sparse; machines map it copy-on-write
//!      state           processors and devices; locked (shared) by every machine's keeper
//!      template.json
//! ```
//!
//! A template contains no secrets: it is made before any session exists.

use super::{FirecrackerProcess, Snapshot, StartMode, sparse_file};
use crate::{
    hardware::Hardware,
    image::{Image, ImageLock, VERIFIED_FILE},
    qemu::{KernelCommandLine, Vmm},
    spec::{ProcessSpec, SpecError, SpecSource},
    template::{
        self, PreparationSettings, PrepareProgress, STATE_FILE, TemplateError, file_error, host_cpu,
        prepare::{WorkDir, remove_leftovers, save_when_ready, wait_lock},
        saved::SavedTemplate,
    },
    verified_files::VerifiedFiles,
};
use anteroom_wire::{MachineId, agent::Geometry, time::to_millis};
use serde::{Deserialize, Serialize};
use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    time::Instant,
};

/// The version of a template's layout, of the hardware that [`FirecrackerProcess`] describes, and of the kernel's command line.
const FORMAT: u32 = 2;
const MEMORY_FILE: &str = "memory";

/// The files that a guest is booted from.
#[derive(Debug)]
pub struct GuestFiles {
    /// The hash that its agent must report.
    pub image_hash: String,
    /// The kernel, an ELF file.
    pub kernel: PathBuf,
    /// The initial file system.
    pub initramfs: Option<PathBuf>,
    /// The root file system.
    pub rootfs: Option<PathBuf>,
    /// Protects the files, which machines read, from removal.
    pub image_lock: Option<ImageLock>,
}

impl GuestFiles {
    /// The files of an image.
    ///
    /// # Errors
    /// The image cannot be locked.
    pub fn of_image(image: &Image) -> Result<Self, TemplateError> {
        Ok(Self {
            image_hash: image.manifest.hash.clone(),
            kernel: image.kernel_path(),
            initramfs: Some(image.initramfs_path()),
            rootfs: Some(image.rootfs_path()),
            image_lock: Some(image.lock()?),
        })
    }
}

/// Settings of a template.
#[derive(Debug, Clone)]
pub struct TemplateSettings {
    /// Path of Firecracker.
    pub firecracker_program: PathBuf,
    /// Its version. A snapshot is loaded by the version that saved it.
    pub firecracker_version: String,
    /// The machines' hardware.
    pub hardware: Hardware,
    /// The desktop's size until a claim sets another.
    pub geometry: Geometry,
    /// How the template's machine runs.
    pub preparation: PreparationSettings,
}

/// Everything that a snapshot depends on: `template.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    format: u32,
    image_hash: String,
    firecracker_version: String,
    host_cpu: String,
    hardware: Hardware,
    geometry: Geometry,
}

/// A complete template. As a [`SpecSource`] it makes clones.
#[derive(Debug)]
pub struct Template {
    dir: PathBuf,
    program: PathBuf,
    saved: SavedTemplate<Manifest>,
    files: GuestFiles,
    verified: VerifiedFiles,
    /// Protects the template from removal by another process (shared lock).
    _state: File,
}

impl SpecSource for Template {
    fn image_hash(&self) -> &str {
        &self.saved.manifest.image_hash
    }

    fn build_spec(&self, machine: &MachineId) -> Result<ProcessSpec, SpecError> {
        let (program, rootfs) = (self.program.clone(), self.files.rootfs.clone());
        let start = StartMode::Load(snapshot_in(&self.dir));
        let hardware = self.saved.manifest.hardware;
        let mut spec = FirecrackerProcess::new(program, machine.as_str(), hardware, rootfs, start).to_spec()?;
        spec.verified = self.saved.verify(&self.dir, &self.verified)?;
        if let Some(image) = &self.files.image_lock {
            spec.verified.extend([image.verify_rootfs(&self.verified)?]);
        }
        Ok(spec)
    }
}

/// The machine of a preparation.
struct Boot {
    image_hash: String,
    process: FirecrackerProcess,
}

impl SpecSource for Boot {
    fn image_hash(&self) -> &str {
        &self.image_hash
    }

    fn build_spec(&self, _: &MachineId) -> Result<ProcessSpec, SpecError> {
        self.process.to_spec()
    }
}

fn snapshot_in(dir: &Path) -> Snapshot {
    Snapshot { state: dir.join(STATE_FILE), memory: dir.join(MEMORY_FILE) }
}

impl Template {
    /// Finds the template for these files and this hardware, or boots them once and makes it.
    ///
    /// # Errors
    /// See [`TemplateError`]; for a guest that does not become ready, the error contains its stage and console output.
    pub async fn find_or_prepare(
        files: GuestFiles,
        settings: &TemplateSettings,
        progress: impl Fn(PrepareProgress) + Send + Sync,
    ) -> Result<Self, TemplateError> {
        let began = Instant::now();
        settings.hardware.check()?;
        let manifest = Manifest {
            format: FORMAT,
            image_hash: files.image_hash.clone(),
            firecracker_version: settings.firecracker_version.clone(),
            host_cpu: host_cpu(),
            hardware: settings.hardware,
            geometry: settings.geometry,
        };
        let templates_dir = &settings.preparation.templates_dir;
        fs::create_dir_all(templates_dir).map_err(file_error(templates_dir))?;
        let _lock = wait_lock(&settings.preparation, began, &progress).await?;
        remove_leftovers(templates_dir)?;
        let dir = templates_dir.join(template::key(&manifest));
        let verified = VerifiedFiles::open(templates_dir.join(VERIFIED_FILE));
        let saved = if let Some(saved) = SavedTemplate::find(&dir, &manifest, &verified).await {
            progress(PrepareProgress::Found);
            saved
        } else {
            let saved = make(&files, &manifest, settings, &dir, &progress).await?;
            progress(PrepareProgress::Done { elapsed_ms: to_millis(began.elapsed()) });
            saved
        };
        let _state = template::lock_shared(&dir.join(STATE_FILE))?;
        Ok(Self { dir, program: settings.firecracker_program.clone(), saved, files, verified, _state })
    }

    /// Its directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

async fn make(
    files: &GuestFiles,
    manifest: &Manifest,
    settings: &TemplateSettings,
    dir: &Path,
    progress: &(impl Fn(PrepareProgress) + Send + Sync),
) -> Result<SavedTemplate<Manifest>, TemplateError> {
    let work = WorkDir::create(&settings.preparation.templates_dir)?;
    let snapshot = snapshot_in(work.path());
    let line = KernelCommandLine {
        image_hash: Some(manifest.image_hash.clone()),
        geometry: Some(manifest.geometry),
        vmm: Vmm::Firecracker,
        ..KernelCommandLine::default()
    };
    let start = StartMode::Boot {
        kernel: files.kernel.clone(),
        initramfs: files.initramfs.clone(),
        boot_args: line.to_string(),
        snapshot: Some(snapshot.clone()),
    };
    let (program, rootfs) = (settings.firecracker_program.clone(), files.rootfs.clone());
    let process = FirecrackerProcess::new(program, work.machine().as_str(), manifest.hardware, rootfs, start);
    let boot = Boot { image_hash: manifest.image_hash.clone(), process };
    save_when_ready(boot, &work, &snapshot.state, &settings.preparation, progress).await?;
    let memory = snapshot.memory.clone();
    // Firecracker writes every page, also those that the guest has never used.
    let punched = tokio::task::spawn_blocking(move || sparse_file::punch_holes(&memory)).await;
    punched.unwrap_or_else(|error| Err(std::io::Error::other(error))).map_err(file_error(&snapshot.memory))?;
    let saved = SavedTemplate::of_files(work.path(), [MEMORY_FILE, STATE_FILE], manifest).await;
    let saved = saved.map_err(file_error(work.path()))?;
    work.complete(&serde_json::to_vec_pretty(&saved).unwrap_or_default(), dir)?;
    Ok(saved)
}
