//! What machines are made of: the current image, an accelerator that really boots, a template to clone.

use super::progress::Work;
use crate::{
    app::ImageFacts,
    config::{Accelerator as Wanted, Config},
    server::MachineEnvironment,
};
use anteroom_machine::{
    image::Image,
    qemu::{
        self, Accelerator, AcceleratorReport, Hardware, KvmStatus, ProbeSettings, Progress, Template, TemplateSettings,
    },
};
use anteroom_wire::agent::Geometry;
use anyhow::Context;
use std::{path::PathBuf, sync::Arc};

/// How long a tiny guest may take to boot on KVM, milliseconds: it takes one second where KVM works.
const PROBE_MS_MAX: u64 = 8_000;

/// Where images lie.
pub(super) fn images_dir(config: &Config) -> PathBuf {
    config.cache_dir.join("images")
}

/// This program: it is its own keeper.
pub(super) fn keeper_program() -> anyhow::Result<PathBuf> {
    std::env::current_exe().context("this program's own path")
}

fn qemu_program() -> anyhow::Result<PathBuf> {
    qemu::find().context("qemu-system-x86_64 is not on the PATH; install it: sudo apt-get install qemu-system-x86")
}

/// Finds out what machines can run on, by booting.
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

fn choose(config: &Config, report: &AcceleratorReport) -> anyhow::Result<Accelerator> {
    match (config.machines.accelerator, &report.chosen) {
        (Wanted::Auto, chosen) => Ok(chosen.clone()),
        (Wanted::Emulation, _) => Ok(Accelerator::Emulation),
        (Wanted::Kvm, chosen @ Accelerator::Kvm { .. }) => Ok(chosen.clone()),
        (Wanted::Kvm, Accelerator::Emulation) => anyhow::bail!(
            "machines.accelerator is \"kvm\", but {}; set it to \"auto\" to run under emulation",
            report.explanation
        ),
    }
}

/// The template for this image: found, or made by booting it once.
pub(super) async fn template(
    config: &Config,
    image: &Image,
    accelerator: &Accelerator,
    work: &Work,
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
        prepare_ms_max: machines.template_boot_s_max.saturating_mul(1_000),
        console_bytes_max: machines.console_bytes_max,
    };
    let show = |progress| match progress {
        Progress::Found => work.at("template found", "", Some(1.0)),
        Progress::Waiting => work.at("another process prepares the template; waiting", "", None),
        Progress::Booting => work.at("booting a machine for the template", "", Some(0.1)),
        Progress::Stage(stage) => work.at(&format!("preparing the template: waiting for {stage:?}"), "", Some(0.4)),
        Progress::Saving => work.at("saving the template", "", Some(0.9)),
        Progress::Done { elapsed_ms } => work.at("template ready", &format!("{elapsed_ms} ms"), Some(1.0)),
    };
    Template::prepare(image, accelerator, &settings, show).await.context("the template could not be prepared")
}

/// Everything a server needs to start machines.
pub(super) async fn lay(config: &Config) -> anyhow::Result<MachineEnvironment> {
    let image = Image::current(&images_dir(config))?;
    let work = Work::new();
    work.at("looking for an accelerator that boots", "", None);
    let report = probe(config, &image).await?;
    let accelerator = choose(config, &report)?;
    let template = template(config, &image, &accelerator, &work).await?;
    let emulated = matches!(accelerator, Accelerator::Emulation);
    if let Err(error) = Template::remove_unused(&config.cache_dir.join("templates"), Some(&template)) {
        tracing::warn!(%error, "old templates could not be removed");
    }
    let explanation = in_short(config, &report, emulated);
    if emulated {
        tracing::warn!(outcome = "emulated", found = report.explanation, "machines run under {explanation}");
    }
    Ok(MachineEnvironment {
        spec_source: Arc::new(template),
        image: ImageFacts {
            hash: image.manifest.hash.clone(),
            clis: image.manifest.clis.clone(),
            accelerator: explanation,
            emulated,
        },
        keeper_program: keeper_program()?,
        ready_ms_max: if emulated { config.machines.ready_emulation_ms_max } else { config.machines.ready_kvm_ms_max },
        write_observer: None,
    })
}

/// What machines run on, to follow "machines run under …".
fn in_short(config: &Config, report: &AcceleratorReport, emulated: bool) -> String {
    if !emulated {
        return "KVM".into();
    }
    let why = match (&config.machines.accelerator, &report.kvm) {
        (Wanted::Emulation, _) => "as the configuration says",
        (_, KvmStatus::Absent) => "there is no /dev/kvm",
        (_, KvmStatus::NotPermitted) => "/dev/kvm may not be opened by this user",
        (_, KvmStatus::DoesNotBoot { .. }) => "/dev/kvm is there, but no guest boots on it",
        (_, KvmStatus::Works) => "KVM was not chosen",
    };
    format!("emulation ({why}; see `anteroom doctor`): slower, and not a security boundary")
}
