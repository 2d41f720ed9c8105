//! Prepares what machines are started from: the current image, an accelerator that boots a guest, and a template to clone.

use super::progress::ProgressDisplay;
use anteroom_controller::{
    config::{Accelerator as ConfiguredAccelerator, Config},
    image::ImageInfo,
};
use anteroom_machine::{
    CONSOLE_BYTES_MAX,
    image::Image,
    qemu::{
        self, Accelerator, AcceleratorReport, Hardware, KvmStatus, PrepareProgress, ProbeSettings, Template,
        TemplateSettings,
    },
};
use anteroom_server::MachineEnvironment;
use anteroom_wire::agent::Geometry;
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

/// Finds out whether machines can use KVM by booting a small guest.
pub(super) async fn probe_accelerator(config: &Config, image: &Image) -> anyhow::Result<AcceleratorReport> {
    let settings = ProbeSettings {
        qemu_program: qemu_program()?,
        keeper_program: keeper_program()?,
        cache_dir: config.cache_dir.clone(),
        boot_ms_max: PROBE_MS_MAX,
    };
    let report =
        qemu::probe_accelerator(&image.kernel_path(), &image.initramfs_path(), &image.manifest.hash, &settings).await?;
    Ok(report)
}

fn choose_accelerator(config: &Config, report: &AcceleratorReport) -> anyhow::Result<Accelerator> {
    match (config.machines.accelerator, &report.chosen) {
        (ConfiguredAccelerator::Auto, chosen) => Ok(chosen.clone()),
        (ConfiguredAccelerator::Emulation, _) => Ok(Accelerator::Emulation),
        (ConfiguredAccelerator::Kvm, chosen @ Accelerator::Kvm { .. }) => Ok(chosen.clone()),
        (ConfiguredAccelerator::Kvm, Accelerator::Emulation) => anyhow::bail!(
            "machines.accelerator is \"kvm\", but {}; set it to \"auto\" to run under emulation",
            report.explanation
        ),
    }
}

/// Finds the template for this image, or makes it by booting the image once.
pub(super) async fn prepare_template(
    config: &Config,
    image: &Image,
    accelerator: &Accelerator,
    display: &ProgressDisplay,
) -> anyhow::Result<Template> {
    let machines = &config.machines;
    let settings = TemplateSettings {
        templates_dir: config.cache_dir.join("templates"),
        qemu_program: qemu_program()?,
        keeper_program: keeper_program()?,
        hardware: Hardware { memory_mib: machines.memory_mib, cpus: machines.cpus, tcg_cache_mib: TCG_CACHE_MIB },
        geometry: Geometry { width: machines.width, height: machines.height },
        prepare_ms_max: TEMPLATE_BOOT_MS_MAX,
        console_bytes_max: CONSOLE_BYTES_MAX,
    };
    let show = |progress| match progress {
        PrepareProgress::Found => display.show("template found", "", Some(1.0)),
        PrepareProgress::Waiting => display.show("waiting for another process that prepares the template", "", None),
        PrepareProgress::Booting => display.show("booting a machine for the template", "", Some(0.1)),
        PrepareProgress::Stage(stage) => {
            display.show(&format!("preparing the template: waiting for {stage:?}"), "", Some(0.4));
        }
        PrepareProgress::Saving => display.show("saving the template", "", Some(0.9)),
        PrepareProgress::Done { elapsed_ms } => display.show("template ready", &format!("{elapsed_ms} ms"), Some(1.0)),
    };
    Template::find_or_prepare(image, accelerator, &settings, show).await.context("the template could not be prepared")
}

/// Prepares everything that a server needs to start machines.
pub(super) async fn prepare_machine_environment(config: &Config) -> anyhow::Result<MachineEnvironment> {
    let image = Image::open_current(&images_dir(config))?;
    let display = ProgressDisplay::new();
    display.show("checking whether KVM boots a guest", "", None);
    let report = probe_accelerator(config, &image).await?;
    let accelerator = choose_accelerator(config, &report)?;
    let template = prepare_template(config, &image, &accelerator, &display).await?;
    let emulated = matches!(accelerator, Accelerator::Emulation);
    if let Err(error) = Template::remove_unused(&config.cache_dir.join("templates"), Some(&template)) {
        tracing::warn!(%error, "unused templates not removed");
    }
    let summary = accelerator_summary(config, &report, emulated);
    if emulated {
        tracing::warn!(outcome = "emulated", reason = report.explanation, "machines run under {summary}");
    }
    Ok(MachineEnvironment {
        spec_source: Arc::new(template),
        image: ImageInfo {
            hash: image.manifest.hash.clone(),
            tool_versions: image.manifest.clis.clone(),
            accelerator: summary,
            is_emulated: emulated,
        },
        keeper_program: keeper_program()?,
        ready_ms_max: config.machines.ready_ms_max.unwrap_or(if emulated {
            READY_EMULATION_MS_MAX
        } else {
            READY_KVM_MS_MAX
        }),
        write_observer: None,
    })
}

/// The accelerator as text that follows "machines run under …".
fn accelerator_summary(config: &Config, report: &AcceleratorReport, emulated: bool) -> String {
    if !emulated {
        return "KVM".into();
    }
    let reason = match (&config.machines.accelerator, &report.kvm) {
        (ConfiguredAccelerator::Emulation, _) => "set in the configuration",
        (_, KvmStatus::Absent) => "there is no /dev/kvm",
        (_, KvmStatus::NotPermitted) => "this user may not open /dev/kvm",
        (_, KvmStatus::DoesNotBoot { .. }) => "/dev/kvm exists, but a guest does not boot on it",
        (_, KvmStatus::Works) => "KVM was not chosen",
    };
    format!("emulation ({reason}; see `anteroom doctor`): slower, and not a security boundary")
}
