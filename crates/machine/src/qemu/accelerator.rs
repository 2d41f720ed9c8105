//! Detects which accelerator works on this host by booting a tiny guest with a deadline; opening `/dev/kvm` is not enough.
//!
//! On nested or paravirtual hosts KVM may exist and not work: `-cpu host` aborts, other models are very slow or fail with an
//! internal error. Emulation allows development and operation without KVM; it is not a security boundary.

use super::{
    Hardware, KernelCommandLine, PROBE_OK_LINE, QemuCommandLine, RamBackend, StartMode,
    kernel_command_line::host_tsc_khz,
};
use crate::{
    keeper::client::KeeperClient,
    receipt::{ExitCause, Receipt},
    run_dir::RunDir,
    spec::{KeeperConfig, SpecError},
};
use anteroom_wire::{MachineId, time::to_unix_ms};
use serde::{Deserialize, Serialize};
use std::{
    fs::{self, OpenOptions},
    io,
    path::{Path, PathBuf},
    time::SystemTime,
};

/// CPU models that are tried with KVM, in this order; the later ones omit features that fail on nested hosts.
const KVM_CPUS: [&str; 3] = ["host", "host,-arch-capabilities", "host,-arch-capabilities,-pmu,-vmx,-svm"];
/// RAM of a probe, MiB: enough for the kernel and the initial file system.
const PROBE_MIB: u32 = 512;
/// How many of the last bytes of a probe's console are kept.
const PROBE_CONSOLE_BYTES: usize = 16 * 1024;
/// How much of QEMU's output is quoted in an explanation, characters.
const QUOTE_CHARS_MAX: usize = 240;
/// File name of the cached report.
const CACHE_FILE: &str = "accelerator.json";

/// What executes the guest's instructions.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Accelerator {
    /// The processor, through KVM, with this `-cpu` model.
    Kvm {
        /// QEMU's name of the model.
        cpu: String,
    },
    /// QEMU's translator (TCG).
    Emulation,
}

impl Accelerator {
    pub(super) fn accel_option(&self, tcg_cache_mib: u32) -> String {
        match self {
            Self::Kvm { .. } => "kvm".to_owned(),
            Self::Emulation => format!("tcg,tb-size={tcg_cache_mib}"),
        }
    }

    pub(super) fn cpu_option(&self) -> &str {
        match self {
            Self::Kvm { cpu } => cpu,
            // With cx16, kernel 6.12 panics under QEMU 7.2's emulation in about 15 % of boots.
            Self::Emulation => "max,-cx16",
        }
    }

    /// Measures the frequency of the host's time stamp counter, which the guest's kernel needs as a parameter under emulation. `None` with
    /// KVM. Blocks for 50 ms.
    pub(super) fn measure_tsc_khz_for_emulation(&self) -> Option<u64> {
        match self {
            Self::Kvm { .. } => None,
            Self::Emulation => Some(host_tsc_khz()),
        }
    }
}

/// Whether KVM can be used on this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kvm")]
pub enum KvmStatus {
    /// There is no `/dev/kvm`.
    Absent,
    /// This user may not open `/dev/kvm`.
    NotPermitted,
    /// `/dev/kvm` can be opened, but no guest boots.
    DoesNotBoot {
        /// The failure of each CPU model.
        why: String,
    },
    /// A guest booted on KVM.
    Works,
}

/// The result of a probe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AcceleratorReport {
    /// The accelerator to use.
    pub chosen: Accelerator,
    /// Whether KVM can be used.
    pub kvm: KvmStatus,
    /// One sentence for operators.
    pub explanation: String,
}

/// Settings of a probe.
#[derive(Debug, Clone)]
pub struct ProbeSettings {
    /// Path of QEMU.
    pub qemu_program: PathBuf,
    /// As [`crate::Settings::keeper_program`].
    pub keeper_program: PathBuf,
    /// Directory of the cached report, which is valid until QEMU, kernel or image change or the host reboots.
    pub cache_dir: PathBuf,
    /// How long a guest may take to boot on KVM, milliseconds. With working KVM it takes about one second.
    pub boot_ms_max: u64,
}

/// Why the probe could not run.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// QEMU does not run.
    #[error("{program:?} does not run")]
    Qemu {
        /// The program.
        program: PathBuf,
        /// The error.
        #[source]
        source: io::Error,
    },
    /// A file of the probe cannot be read or written.
    #[error("{path:?} cannot be read or written")]
    Directory {
        /// The path.
        path: PathBuf,
        /// The error.
        #[source]
        source: io::Error,
    },
    /// QEMU's command line for the probe is invalid.
    #[error("QEMU's command line for the probe cannot be made")]
    CommandLine(#[source] SpecError),
    /// The probe's keeper does not run, or wrote no receipt.
    #[error("the probe's keeper {program:?} failed")]
    Keeper {
        /// The program.
        program: PathBuf,
        /// The error.
        #[source]
        source: io::Error,
    },
}

#[derive(Serialize, Deserialize)]
struct Cached {
    key: String,
    report: AcceleratorReport,
}

/// Boots `kernel` with `initramfs` on KVM, if it exists, and reports what works. The report is cached for `image_hash`, the
/// QEMU version, the host's kernel and the host's boot.
///
/// # Errors
/// QEMU or the keeper cannot be started at all. KVM that does not work is a result, not an error.
pub async fn probe_accelerator(
    kernel: &Path,
    initramfs: &Path,
    image_hash: &str,
    settings: &ProbeSettings,
) -> Result<AcceleratorReport, ProbeError> {
    let program = &settings.qemu_program;
    let version =
        super::version_line(program).await.map_err(|source| ProbeError::Qemu { program: program.clone(), source })?;
    let key = format!("{version}|{image_hash}|{}|{}|{}", host_kernel(), boot_id(), describe(&cannot_open_kvm()));
    if let Some(report) = cached(&settings.cache_dir, &key) {
        return Ok(report);
    }
    let report = match cannot_open_kvm() {
        Some(kvm) => emulation(kvm),
        None => try_kvm(kernel, initramfs, settings).await?,
    };
    let text = serde_json::to_vec(&Cached { key, report: report.clone() }).unwrap_or_default();
    let path = settings.cache_dir.join(CACHE_FILE);
    let written = fs::create_dir_all(&settings.cache_dir).and_then(|()| fs::write(&path, text));
    written.map_err(|source| ProbeError::Directory { path, source })?;
    Ok(report)
}

fn cached(cache_dir: &Path, key: &str) -> Option<AcceleratorReport> {
    let cached: Cached = serde_json::from_slice(&fs::read(cache_dir.join(CACHE_FILE)).ok()?).ok()?;
    (cached.key == key).then_some(cached.report)
}

fn host_kernel() -> String {
    fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned()
}

fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

/// Why `/dev/kvm` cannot be opened; `None`: it can.
fn cannot_open_kvm() -> Option<KvmStatus> {
    match OpenOptions::new().read(true).write(true).open("/dev/kvm") {
        Ok(_) => None,
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Some(KvmStatus::NotPermitted),
        Err(_) => Some(KvmStatus::Absent),
    }
}

fn describe(status: &Option<KvmStatus>) -> &'static str {
    match status {
        None => "openable",
        Some(KvmStatus::Absent) => "absent",
        Some(KvmStatus::NotPermitted) => "not permitted",
        Some(KvmStatus::DoesNotBoot { .. }) => "does not boot",
        Some(KvmStatus::Works) => "works",
    }
}

fn emulation(kvm: KvmStatus) -> AcceleratorReport {
    const SLOW: &str = "machines are emulated: slower, and not a security boundary";
    let explanation = match &kvm {
        KvmStatus::Absent => format!("there is no /dev/kvm; {SLOW}"),
        KvmStatus::NotPermitted => {
            format!(
                "this user may not open /dev/kvm (usually: `sudo usermod -aG kvm $USER`, then log in again); {SLOW}"
            )
        }
        KvmStatus::DoesNotBoot { why } => {
            format!("/dev/kvm exists, but no guest boots on it ({why}); {SLOW}")
        }
        KvmStatus::Works => SLOW.to_owned(),
    };
    AcceleratorReport { chosen: Accelerator::Emulation, kvm, explanation }
}

async fn try_kvm(kernel: &Path, initramfs: &Path, settings: &ProbeSettings) -> Result<AcceleratorReport, ProbeError> {
    let mut failures = Vec::new();
    for cpu in KVM_CPUS {
        let accelerator = Accelerator::Kvm { cpu: cpu.to_owned() };
        let receipt = boot(kernel, initramfs, &accelerator, settings).await?;
        match boot_failure(&receipt) {
            None => {
                let explanation = format!("a guest booted on KVM (-cpu {cpu})");
                return Ok(AcceleratorReport { chosen: accelerator, kvm: KvmStatus::Works, explanation });
            }
            Some(why) => failures.push(format!("-cpu {cpu}: {why}")),
        }
    }
    Ok(emulation(KvmStatus::DoesNotBoot { why: failures.join("; ") }))
}

/// Why the probe's guest did not boot; `None`: it did.
fn boot_failure(receipt: &Receipt) -> Option<String> {
    if receipt.console_tail.contains(PROBE_OK_LINE) {
        return None;
    }
    let ended = match &receipt.cause {
        ExitCause::Deadline => "it did not boot in time".to_owned(),
        ExitCause::Stopped { .. }
        | ExitCause::Exited { .. }
        | ExitCause::Killed { .. }
        | ExitCause::OutOfMemory
        | ExitCause::GuestPowerOff
        | ExitCause::GuestPanic
        | ExitCause::VmmError { .. }
        | ExitCause::ForbiddenSystemCall { .. }
        | ExitCause::Saved
        | ExitCause::SaveFailed { .. }
        | ExitCause::NeverStarted { .. }
        | ExitCause::KeeperLost => receipt.exit_reason().to_string(),
    };
    let tail: Vec<char> = receipt.output_tail.trim().chars().rev().take(QUOTE_CHARS_MAX).collect();
    let tail: String = tail.into_iter().rev().map(|c| if c.is_control() { ' ' } else { c }).collect();
    Some(if tail.is_empty() { ended } else { format!("{ended}: {tail}") })
}

/// Boots the guest once under a separate keeper and returns the receipt.
async fn boot(
    kernel: &Path,
    initramfs: &Path,
    accelerator: &Accelerator,
    settings: &ProbeSettings,
) -> Result<Receipt, ProbeError> {
    let command_line = QemuCommandLine {
        program: settings.qemu_program.clone(),
        name: "probe".into(),
        accelerator: accelerator.clone(),
        hardware: Hardware { memory_mib: PROBE_MIB, cpus: 1, ..Hardware::default() },
        ram: RamBackend::Anonymous,
        rootfs: None,
        start_mode: StartMode::Boot {
            kernel: kernel.to_owned(),
            initramfs: initramfs.to_owned(),
            line: KernelCommandLine {
                probe: true,
                tsc_khz: accelerator.measure_tsc_khz_for_emulation(),
                ..KernelCommandLine::default()
            },
        },
    };
    let machine =
        new_machine_id().map_err(|source| ProbeError::Directory { path: settings.cache_dir.clone(), source })?;
    let path = settings.cache_dir.join(machine.as_str());
    let directory = |source| ProbeError::Directory { path: path.clone(), source };
    fs::create_dir_all(&settings.cache_dir).map_err(directory)?;
    let config = KeeperConfig {
        machine: machine.clone(),
        image_hash: String::new(),
        spec: command_line.to_spec().map_err(ProbeError::CommandLine)?,
        deadline_ms: settings.boot_ms_max,
        receipts_dir: settings.cache_dir.clone(),
        tied_to_parent: true,
        console_bytes_max: PROBE_CONSOLE_BYTES,
    };
    let run_dir = RunDir::create(path.clone()).map_err(directory)?;
    let receipt = run_to_end(&settings.keeper_program, &run_dir, &config).await;
    RunDir::remove(&path).map_err(directory)?;
    match fs::remove_file(crate::receipt::receipt_path(&settings.cache_dir, &machine)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(directory(error)),
        Ok(()) | Err(_) => {}
    }
    receipt.map_err(|source| ProbeError::Keeper { program: settings.keeper_program.clone(), source })
}

async fn run_to_end(program: &Path, run_dir: &RunDir, config: &KeeperConfig) -> io::Result<Receipt> {
    let mut client = KeeperClient::spawn(program, run_dir, config)?;
    while client.next_report().await.is_some() {}
    client.wait_exited(None).await;
    Receipt::read(&config.receipts_dir, &config.machine)?.ok_or_else(|| io::Error::other("it wrote no receipt"))
}

/// The id of a machine that belongs to no session.
pub(crate) fn new_machine_id() -> io::Result<MachineId> {
    let mut random = [0u8; 10];
    getrandom::fill(&mut random).map_err(io::Error::other)?;
    Ok(MachineId::from_parts(to_unix_ms(SystemTime::now()), random))
}
