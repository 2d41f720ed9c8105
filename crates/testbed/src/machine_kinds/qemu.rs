//! Machines in QEMU, cloned from the template that the servers of the tests use too.

use super::kind::{self, Capability, GuestAction, Kind, Preparation};
use crate::{MachineProcesses, QEMU_WAIT_TIMEOUT, plain_process::built_program, qemu_monitor, test_server};
use anteroom_machine::{
    CONSOLE_BYTES_MAX, FdSource, ProcessSpec,
    image::Image,
    kvm,
    qemu::{self, Accelerator, Hardware, Template, TemplateSettings},
};
use anteroom_wire::agent::Geometry;
use anyhow::Context;
use futures_util::{FutureExt, future::BoxFuture};
use std::{path::Path, sync::Arc, time::Duration};

/// Time for the guest of the probe to boot, milliseconds, as in a server.
const PROBE_MS_MAX: u64 = 8_000;
/// The longest preparation of a template, milliseconds.
const PREPARE_MS_MAX: u64 = 600_000;
/// The hardware and geometry of a server with default settings, so that both use one template.
const HARDWARE: Hardware = Hardware { memory_mib: 1_536, cpus: 2, tcg_cache_mib: 256 };
const GEOMETRY: Geometry = Geometry { width: 1_280, height: 800 };

/// See [`super::QEMU`].
pub(super) struct Qemu;

/// How QEMU runs guests on this host.
async fn accelerator(image: &Image, cache_dir: &Path) -> anyhow::Result<Accelerator> {
    let settings = kvm::ProbeSettings {
        qemu_program: qemu::find_qemu(),
        keeper_program: built_program("anteroom-testbed")?,
        cache_dir: cache_dir.to_owned(),
        boot_ms_max: PROBE_MS_MAX,
    };
    let report = kvm::probe(Some(image), &settings).await?;
    let accelerator = report.qemu_accelerator();
    anyhow::ensure!(
        !kind::is_kvm_test() || accelerator != Accelerator::Emulation,
        "KVM is tested, but it does not boot Linux: {report:?}"
    );
    Ok(accelerator)
}

async fn template() -> anyhow::Result<Template> {
    let cache_dir = test_server::Qemu::test_cache_dir()?;
    let image = Image::open_current(&cache_dir.join("images"))?;
    let accelerator = accelerator(&image, &cache_dir).await?;
    let settings = TemplateSettings {
        templates_dir: cache_dir.join("templates"),
        qemu_program: qemu::find_qemu().context("qemu-system-x86_64 is not in PATH")?,
        keeper_program: built_program("anteroom-testbed")?,
        hardware: HARDWARE,
        geometry: GEOMETRY,
        prepare_ms_max: PREPARE_MS_MAX,
        console_bytes_max: CONSOLE_BYTES_MAX,
    };
    Ok(Template::find_or_prepare(&image, &accelerator, &settings, |_| {}).await?)
}

impl Kind for Qemu {
    fn name(&self) -> &'static str {
        "qemu"
    }

    fn title(&self) -> &'static str {
        "QEMU"
    }

    fn description(&self) -> &'static str {
        "QEMU's `microvm` machine with the image's Debian guest, cloned from a template. It runs on every host: with KVM, or under \
         emulation. With KVM the guest is separated from the host by the processor, and its VMM by the confinement of docs/confinement.md; \
         under emulation it is separated by the confinement alone, since emulation is not a security boundary."
    }

    fn missing_capability(&self, capability: Capability) -> Option<&'static str> {
        match capability {
            Capability::Tools
            | Capability::GuestPanic
            | Capability::GuestPowerOff
            | Capability::Sigterm
            | Capability::SavedState
            | Capability::Confinement => None,
        }
    }

    fn missing_permission(&self, capability: Capability) -> Option<&'static str> {
        let injects_faults = matches!(capability, Capability::GuestPanic | Capability::GuestPowerOff);
        qemu_monitor::missing_permission().filter(|_| injects_faults)
    }

    fn prepare(&self) -> BoxFuture<'static, anyhow::Result<Preparation>> {
        async { Ok(Preparation::Ready(Arc::new(template().await?))) }.boxed()
    }

    fn wait_max(&self) -> Duration {
        QEMU_WAIT_TIMEOUT
    }

    fn act<'a>(
        &'a self,
        processes: &'a MachineProcesses,
        _: &'a Path,
        action: GuestAction,
    ) -> BoxFuture<'a, anyhow::Result<()>> {
        let done = match action {
            GuestAction::Panic => qemu_monitor::inject_machine_check(processes),
            GuestAction::PowerOff => qemu_monitor::power_off_guest(processes),
        };
        std::future::ready(done).boxed()
    }

    fn damage_saved_state(&self, spec: &mut ProcessSpec, dir: &Path) -> anyhow::Result<()> {
        let damaged = dir.join("damaged-state");
        std::fs::write(&damaged, "not a saved state")?;
        for inherited in &mut spec.fds {
            if let FdSource::Read { path } = &mut inherited.source {
                path.clone_from(&damaged);
            }
        }
        Ok(())
    }
}
