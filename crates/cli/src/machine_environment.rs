//! Prepares what machines are started from: the current image, an accelerator that boots a guest, and a template to clone.

use super::progress::ProgressDisplay;
use anteroom_controller::{
    config::{Accelerator as ConfiguredAccelerator, Config},
    image::ImageFacts,
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

/// The directory of machine images.
pub(super) fn images_dir(config: &Config) -> PathBuf {
    config.cache_dir.join("images")
}

/// The keeper program: this executable.
pub(super) fn keeper_program() -> anyhow::Result<PathBuf> {
    std::env::current_exe().context("the path of this executable cannot be read")
}

fn qemu_program() -> anyhow::Result<PathBuf> {
    qemu::find().context("qemu-system-x86_64 is not on the PATH; install it: sudo apt-get install qemu-system-x86")
}

/// Finds out whether machines can use KVM by booting a small guest.
pub(super) async fn probe(config: &Config, image: &Image) -> anyhow::Result<AcceleratorReport> {
    let settings = ProbeSettings {
        qemu_program: qemu_program()?,
        keeper_program: keeper_program()?,
        cache_dir: config.cache_dir.clone(),
        boot_ms_max: PROBE_MS_MAX,
    };
    let report = qemu::probe(&image.kernel(), &image.initramfs(), &image.manifest.hash, &settings).await?;
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
        hardware: Hardware {
            memory_mib: machines.memory_mib,
            cpus: machines.cpus,
            tcg_cache_mib: machines.tcg_cache_mib,
        },
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
    Template::prepare(image, accelerator, &settings, show).await.context("the template could not be prepared")
}

/// Prepares everything that a server needs to start machines.
pub(super) async fn prepare(config: &Config) -> anyhow::Result<MachineEnvironment> {
    let image = Image::open_current(&images_dir(config))?;
    let display = ProgressDisplay::new();
    display.show("checking whether KVM boots a guest", "", None);
    let report = probe(config, &image).await?;
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
        image: ImageFacts {
            hash: image.manifest.hash.clone(),
            clis: image.manifest.clis.clone(),
            accelerator: summary,
            emulated,
        },
        keeper_program: keeper_program()?,
        ready_ms_max: if emulated { config.machines.ready_emulation_ms_max } else { config.machines.ready_kvm_ms_max },
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
