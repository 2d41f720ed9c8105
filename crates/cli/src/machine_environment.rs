//! Prepares what machines are started from: the current image, the kind of machines that this host can run, and a template to clone.

use super::progress::ProgressDisplay;
use anteroom_controller::{config::Config, image::ImageInfo};
use anteroom_machine::{
    CONSOLE_BYTES_MAX, PreparationSettings, PrepareProgress, SpecSource,
    firecracker::{self, GuestFiles},
    image::{Image, Manifest},
    kind::{self, KindError, MachineKind},
    kvm::{self, KvmReport},
    probe_layers,
    qemu::{self, Hardware},
    remove_unused, sum_isolation,
};
use anteroom_server::MachineEnvironment;
use anteroom_wire::{
    agent::Geometry,
    api::{ImageFile, IsolationLevel},
};
use anyhow::Context;
use std::{path::PathBuf, sync::Arc};

/// Time for the probe guest to boot on KVM, milliseconds. With working KVM it takes one second.
const PROBE_MS_MAX: u64 = 8_000;
/// Time for the template's cold boot, milliseconds. It starts a browser, which takes minutes under emulation.
const TEMPLATE_BOOT_MS_MAX: u64 = 600_000;
/// Default of `machines.ready_ms_max` with KVM.
const READY_KVM_MS_MAX: u64 = 15_000;
/// Default of `machines.ready_ms_max` under emulation.
const READY_EMULATION_MS_MAX: u64 = 60_000;
/// Size of QEMU's cache of translated code for one machine under emulation, MiB. The host allocates only the used part. With a smaller
/// cache a browser's code is translated repeatedly (docs/decisions/0004).
const TCG_CACHE_MIB: u32 = 256;

/// A template, from which machines are cloned.
pub(super) struct PreparedTemplate {
    /// Its directory.
    dir: PathBuf,
    /// Makes the specs of its clones.
    spec_source: Arc<dyn SpecSource>,
}

/// The directory of machine images.
pub(super) fn images_dir(config: &Config) -> PathBuf {
    config.cache_dir.join("images")
}

/// The keeper program: this executable.
pub(super) fn keeper_program() -> anyhow::Result<PathBuf> {
    std::env::current_exe().context("the path of this executable cannot be read")
}

fn qemu_program() -> anyhow::Result<PathBuf> {
    qemu::find_qemu().context("qemu-system-x86_64 is not on the PATH; install it: sudo apt-get install qemu-system-x86")
}

/// Finds out what KVM can do on this host. Linux is booted only with an image.
pub(super) async fn probe_kvm(config: &Config, image: Option<&Image>) -> anyhow::Result<KvmReport> {
    let settings = kvm::ProbeSettings {
        qemu_program: qemu::find_qemu(),
        keeper_program: keeper_program()?,
        cache_dir: config.cache_dir.clone(),
        boot_ms_max: PROBE_MS_MAX,
    };
    if let Some(image) = image {
        let (image, list_dir) = (image.clone(), config.cache_dir.join("templates"));
        tokio::task::spawn_blocking(move || image.verify_once(&list_dir)).await??;
    }
    Ok(kvm::probe(image, &settings).await?)
}

/// The kind of machines for the settings and the report of this host.
pub(super) async fn choose_kind(config: &Config, kvm: &KvmReport) -> Result<MachineKind, KindError> {
    let firecracker = kind::find_firecracker().await;
    kind::choose(config.machines.kind, config.machines.accelerator, kvm, &firecracker)
}

/// The virtual hardware of machines.
fn hardware(config: &Config) -> Hardware {
    Hardware { memory_mib: config.machines.memory_mib, cpus: config.machines.cpus, tcg_cache_mib: TCG_CACHE_MIB }
}

/// Finds the template for this image and kind of machines, or makes it by booting the image once.
pub(super) async fn prepare_template(
    config: &Config,
    image: &Image,
    kind: &MachineKind,
    display: &ProgressDisplay,
) -> anyhow::Result<PreparedTemplate> {
    let machines = &config.machines;
    let hardware = hardware(config);
    let geometry = Geometry { width: machines.width, height: machines.height };
    let templates_dir = config.cache_dir.join("templates");
    let show = |progress| show_progress(display, &progress);
    let prepared = match kind {
        MachineKind::Qemu { accelerator } => {
            let settings = qemu::TemplateSettings {
                templates_dir,
                qemu_program: qemu_program()?,
                keeper_program: keeper_program()?,
                hardware,
                geometry,
                prepare_ms_max: TEMPLATE_BOOT_MS_MAX,
                console_bytes_max: CONSOLE_BYTES_MAX,
            };
            let template = qemu::Template::find_or_prepare(image, accelerator, &settings, show).await;
            template
                .map(|template| PreparedTemplate { dir: template.dir().to_owned(), spec_source: Arc::new(template) })
        }
        MachineKind::Firecracker { firecracker } => {
            let settings = firecracker::TemplateSettings {
                firecracker_program: firecracker.path.clone(),
                firecracker_version: firecracker.version.to_string(),
                hardware,
                geometry,
                preparation: PreparationSettings {
                    templates_dir,
                    keeper_program: keeper_program()?,
                    prepare_ms_max: TEMPLATE_BOOT_MS_MAX,
                    console_bytes_max: CONSOLE_BYTES_MAX,
                },
            };
            let template = match GuestFiles::of_image(image) {
                Ok(files) => firecracker::Template::find_or_prepare(files, &settings, show).await,
                Err(error) => Err(error),
            };
            template
                .map(|template| PreparedTemplate { dir: template.dir().to_owned(), spec_source: Arc::new(template) })
        }
    };
    prepared.context("the template could not be prepared")
}

fn show_progress(display: &ProgressDisplay, progress: &PrepareProgress) {
    match progress {
        PrepareProgress::Found => display.show("template found", "", Some(1.0)),
        PrepareProgress::Waiting => display.show("waiting for another process that prepares the template", "", None),
        PrepareProgress::Booting => {
            let limit_s = TEMPLATE_BOOT_MS_MAX / 1_000;
            let usual = "seconds with KVM, one to three minutes under emulation";
            display.show(
                &format!("booting a machine for the template, once: {usual}, at most {limit_s} s"),
                "",
                Some(0.1),
            );
        }
        PrepareProgress::Stage(stage) => {
            display.show(&format!("preparing the template: waiting for {stage:?}"), "", Some(0.4));
        }
        PrepareProgress::Saving => display.show("saving the template", "", Some(0.9)),
        PrepareProgress::Done { elapsed_ms } => display.show("template ready", &format!("{elapsed_ms} ms"), Some(1.0)),
    }
}

fn list_files(manifest: &Manifest) -> Vec<ImageFile> {
    let artefacts = [&manifest.kernel, &manifest.initramfs, &manifest.rootfs];
    artefacts.map(|artefact| ImageFile { name: artefact.file.clone(), bytes: artefact.bytes }).into()
}

/// Prepares everything that a server needs to start machines.
pub(super) async fn prepare_machine_environment(config: &Config) -> anyhow::Result<MachineEnvironment> {
    let image = Image::open_current(&images_dir(config))?;
    let display = ProgressDisplay::new();
    display.show("checking what KVM can do on this host", "", None);
    let kvm = probe_kvm(config, Some(&image)).await?;
    let kind = choose_kind(config, &kvm).await?;
    let explanation = kind::explain(&kind, config.machines.accelerator, &kvm);
    let isolation = sum_isolation(&kind, &probe_layers(&keeper_program()?).await?);
    let template = prepare_template(config, &image, &kind, &display).await?;
    if let Err(error) = remove_unused(&config.cache_dir.join("templates"), Some(&template.dir)) {
        tracing::warn!(%error, "unused templates not removed");
    }
    if isolation.level != IsolationLevel::Strong {
        let outcome = if kind.is_emulated() { "emulated" } else { "partly_confined" };
        tracing::warn!(outcome, reason = explanation, "isolation of machines: {}", isolation.detail);
    }
    Ok(MachineEnvironment {
        spec_source: template.spec_source,
        image: ImageInfo {
            hash: image.manifest.hash.clone(),
            built_at_unix_s: Some(image.manifest.built_at_unix_s),
            kernel_version: Some(image.manifest.kernel_version.clone()),
            files: list_files(&image.manifest),
            tool_versions: image.manifest.clis.clone(),
            kind: explanation,
            isolation,
            machine_memory_mib_max: kind.host_memory_mib_max(&hardware(config)),
        },
        keeper_program: keeper_program()?,
        ready_ms_max: config.machines.ready_ms_max.unwrap_or(if kind.is_emulated() {
            READY_EMULATION_MS_MAX
        } else {
            READY_KVM_MS_MAX
        }),
        write_observer: None,
    })
}
