//! What KVM can do on this host. An open `/dev/kvm` is not enough: on nested or paravirtual hosts KVM may run a few
//! instructions and fail on a kernel, or never return from `KVM_RUN`.
//!
//! ```text
//!  device      /dev/kvm can be opened
//!  tiny guest  a guest of a few instructions runs, in a separate process with a timeout
//!  Linux       the image's kernel boots, under QEMU with a timeout
//! ```
//!
//! Each step runs only after the one before it has succeeded. The report is cached until QEMU, the image, the host's kernel or
//! the access to `/dev/kvm` changes, or the host reboots.

mod device;
mod report;
mod tiny_guest;
pub(crate) mod tiny_guest_process;

pub use device::{DeviceFailure, GroupAccess};
pub use report::{KvmReport, KvmStep, LinuxNotTried, StepResult};
pub use tiny_guest::TinyGuestFailure;

use crate::{
    image::Image,
    qemu::{self, LinuxBootError, LinuxBootSettings},
};
use serde::{Deserialize, Serialize};
use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// How long the tiny guest may take, milliseconds. It takes a few; a busy host is slower.
const TINY_GUEST_MS_MAX: u64 = 5_000;
/// File name of the cached report.
const CACHE_FILE: &str = "kvm.json";

/// Settings of a probe.
#[derive(Debug, Clone)]
pub struct ProbeSettings {
    /// Path of QEMU, which boots Linux; `None`: it is not installed.
    pub qemu_program: Option<PathBuf>,
    /// As [`crate::MachinesSettings::keeper_program`]; it also runs the tiny guest.
    pub keeper_program: PathBuf,
    /// Directory of the cached report.
    pub cache_dir: PathBuf,
    /// How long Linux may take to boot on KVM, milliseconds. With working KVM it takes about one second.
    pub boot_ms_max: u64,
}

/// Why the probe could not run.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// Linux could not be started.
    #[error(transparent)]
    Boot(#[from] LinuxBootError),
    /// The report cannot be cached.
    #[error("{path:?} cannot be written")]
    Cache {
        /// The path.
        path: PathBuf,
        /// The error.
        #[source]
        source: io::Error,
    },
}

#[derive(Serialize, Deserialize)]
struct Cached {
    key: String,
    report: KvmReport,
}

/// Finds out what KVM can do on this host. Without an image Linux is not booted, and nothing is cached.
///
/// # Errors
/// QEMU or the keeper cannot be started at all, or the report cannot be cached. KVM that does not work is a result, not an error.
pub async fn probe(image: Option<&Image>, settings: &ProbeSettings) -> Result<KvmReport, ProbeError> {
    let device = device::open();
    let (Some(image), Some(qemu_program)) = (image, &settings.qemu_program) else {
        return Ok(match check_until_linux(device, settings).await {
            Some(failed) => failed,
            None if image.is_none() => KvmReport::LinuxNotTried { why: LinuxNotTried::NoImage },
            None => KvmReport::LinuxNotTried { why: LinuxNotTried::NoQemu },
        });
    };
    let boot = LinuxBootSettings {
        qemu_program: qemu_program.clone(),
        keeper_program: settings.keeper_program.clone(),
        run_dirs_dir: settings.cache_dir.clone(),
        boot_ms_max: settings.boot_ms_max,
    };
    let version = qemu::read_qemu_version(qemu_program).await?;
    let access = device.as_ref().map_or_else(ToString::to_string, |()| "openable".into());
    let key = format!("{version}|{}|{}|{}|{access}", image.manifest.hash, host_kernel(), boot_id());
    if let Some(report) = cached(&settings.cache_dir, &key) {
        return Ok(report);
    }
    let report = match check_until_linux(device, settings).await {
        Some(failed) => failed,
        None => match qemu::boot_linux_on_kvm(&image.kernel_path(), &image.initramfs_path(), &boot).await? {
            Ok(cpu) => KvmReport::BootsLinux { cpu },
            Err(why) => KvmReport::LinuxFails { why },
        },
    };
    let text = serde_json::to_vec(&Cached { key, report: report.clone() }).unwrap_or_default();
    let path = settings.cache_dir.join(CACHE_FILE);
    let written = fs::create_dir_all(&settings.cache_dir).and_then(|()| fs::write(&path, text));
    written.map_err(|source| ProbeError::Cache { path, source })?;
    Ok(report)
}

/// The report, if KVM fails before Linux could be booted.
async fn check_until_linux(device: Result<(), DeviceFailure>, settings: &ProbeSettings) -> Option<KvmReport> {
    if let Err(cause) = device {
        return Some(KvmReport::DeviceFails { cause });
    }
    let result = tiny_guest_process::run(&settings.keeper_program, TINY_GUEST_MS_MAX).await;
    result.err().map(|cause| KvmReport::TinyGuestFails { cause })
}

fn cached(cache_dir: &Path, key: &str) -> Option<KvmReport> {
    let cached: Cached = serde_json::from_slice(&fs::read(cache_dir.join(CACHE_FILE)).ok()?).ok()?;
    (cached.key == key).then_some(cached.report)
}

fn host_kernel() -> String {
    fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned()
}

fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}
