//! A template: a guest that was booted once, became ready, and was saved. Machines are clones of it.
//!
//! ```text
//!  templates/<key>/
//!      ram             the guest's RAM, sparse; machines map it copy-on-write
//!      state           the devices' state, some ten kilobytes
//!      template.json
//! ```
//!
//! A template contains no secrets: it is made before any session exists.

use super::{Accelerator, Hardware, KernelCommandLine, QemuCommandLine, RamBackend, StartMode};
use crate::{
    image::{Image, ImageLock, VERIFIED_FILE},
    spec::{ProcessSpec, SpecError, SpecSource},
    template::{
        self, PreparationSettings, PrepareProgress, STATE_FILE, TemplateError, file_error, host_cpu,
        prepare::{WorkDir, remove_leftovers, save_when_ready, wait_lock},
        saved::{SavedTemplate, blocking},
    },
    verified_files::VerifiedFiles,
};
use anteroom_wire::{MachineId, agent::Geometry, time::to_millis};
use serde::{Deserialize, Serialize};
use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::Instant,
};

/// The version of a template's layout, of the hardware that [`QemuCommandLine`] describes, and of the kernel's command line.
const FORMAT: u32 = 3;
const RAM_FILE: &str = "ram";

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

impl TemplateSettings {
    fn preparation(&self) -> PreparationSettings {
        PreparationSettings {
            templates_dir: self.templates_dir.clone(),
            keeper_program: self.keeper_program.clone(),
            prepare_ms_max: self.prepare_ms_max,
            console_bytes_max: self.console_bytes_max,
        }
    }
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

/// A complete template. As a [`SpecSource`] it makes clones.
#[derive(Debug)]
pub struct Template {
    dir: PathBuf,
    saved: SavedTemplate<TemplateManifest>,
    program: PathBuf,
    rootfs: PathBuf,
    verified: VerifiedFiles,
    /// Protects the image's files, which machines read, from removal.
    image: ImageLock,
    /// Protects the template from removal by another process (shared lock).
    _state: File,
}

impl SpecSource for Template {
    fn image_hash(&self) -> &str {
        &self.saved.manifest.image_hash
    }

    fn build_spec(&self, machine: &MachineId) -> Result<ProcessSpec, SpecError> {
        let start = StartMode::Resume { state: self.dir.join(STATE_FILE) };
        let mut spec = self.command_line(machine, start, RamBackend::CopyOnWrite(self.dir.join(RAM_FILE))).to_spec()?;
        spec.verified = self.saved.verify(&self.dir, &self.verified)?;
        spec.verified.extend([self.image.verify_rootfs(&self.verified)?]);
        Ok(spec)
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
        fs::create_dir_all(&settings.templates_dir).map_err(file_error(&settings.templates_dir))?;
        let verified = VerifiedFiles::open(settings.templates_dir.join(VERIFIED_FILE));
        let (checked, list_dir) = (image.clone(), settings.templates_dir.clone());
        blocking(move || checked.verify_once(&list_dir)).await?;
        let _lock = wait_lock(&settings.preparation(), began, &progress).await?;
        remove_leftovers(&settings.templates_dir)?;
        let dir = settings.templates_dir.join(template::key(&manifest));
        let saved = if let Some(saved) = SavedTemplate::find(&dir, &manifest, &verified).await {
            progress(PrepareProgress::Found);
            saved
        } else {
            let saved = make_template(image, &manifest, settings, &dir, &progress).await?;
            let elapsed_ms = to_millis(began.elapsed());
            progress(PrepareProgress::Done { elapsed_ms });
            saved
        };
        let (program, rootfs, image) = (settings.qemu_program.clone(), image.rootfs_path(), image.lock()?);
        let _state = template::lock_shared(&dir.join(STATE_FILE))?;
        Ok(Self { dir, saved, program, rootfs, verified, image, _state })
    }

    /// Its directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Its manifest.
    pub fn manifest(&self) -> &TemplateManifest {
        &self.saved.manifest
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
        template::remove_unused(templates_dir, kept.map(|kept| kept.dir.as_path()))
    }

    fn command_line(&self, machine: &MachineId, start: StartMode, ram: RamBackend) -> QemuCommandLine {
        QemuCommandLine {
            program: self.program.clone(),
            name: machine.to_string(),
            accelerator: self.saved.manifest.accelerator.clone(),
            hardware: self.saved.manifest.hardware,
            ram,
            rootfs: Some(self.rootfs.clone()),
            start_mode: start,
        }
    }
}

/// The machine of a preparation.
struct Boot {
    image_hash: String,
    command_line: QemuCommandLine,
}

impl SpecSource for Boot {
    fn image_hash(&self) -> &str {
        &self.image_hash
    }

    fn build_spec(&self, _: &MachineId) -> Result<ProcessSpec, SpecError> {
        self.command_line.to_spec()
    }
}

async fn make_template(
    image: &Image,
    manifest: &TemplateManifest,
    settings: &TemplateSettings,
    dir: &Path,
    progress: &(impl Fn(PrepareProgress) + Send + Sync),
) -> Result<SavedTemplate<TemplateManifest>, TemplateError> {
    let _image = image.lock()?;
    let work = WorkDir::create(&settings.templates_dir)?;
    let ram = work.path().join(RAM_FILE);
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&ram).map_err(file_error(&ram))?;
    file.set_len(u64::from(manifest.hardware.memory_mib) * 1024 * 1024).map_err(file_error(&ram))?;
    let accelerator = &manifest.accelerator;
    let line = KernelCommandLine {
        image_hash: Some(manifest.image_hash.clone()),
        geometry: Some(manifest.geometry),
        tsc_khz: accelerator.measure_tsc_khz_for_emulation(),
        ..KernelCommandLine::default()
    };
    let command_line = QemuCommandLine {
        program: settings.qemu_program.clone(),
        name: work.machine().to_string(),
        accelerator: accelerator.clone(),
        hardware: manifest.hardware,
        ram: RamBackend::Shared(ram),
        rootfs: Some(image.rootfs_path()),
        start_mode: StartMode::Boot { kernel: image.kernel_path(), initramfs: image.initramfs_path(), line },
    };
    let boot = Boot { image_hash: manifest.image_hash.clone(), command_line };
    let state = work.path().join(STATE_FILE);
    save_when_ready(boot, &work, &state, &settings.preparation(), progress).await?;
    let saved = SavedTemplate::of_files(work.path(), [RAM_FILE, STATE_FILE], manifest).await;
    let saved = saved.map_err(file_error(work.path()))?;
    work.complete(&serde_json::to_vec_pretty(&saved).unwrap_or_default(), dir)?;
    Ok(saved)
}
