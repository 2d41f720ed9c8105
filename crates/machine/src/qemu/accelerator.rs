//! Which accelerator works here: found by booting a tiny guest with a deadline, never by opening `/dev/kvm`.
//!
//! On nested or paravirtual hosts KVM may be there and not work: `-cpu host` aborts, other models crawl or end in an
//! internal error. Emulation is a way to develop and to run where there is no KVM, not a security boundary.

use super::{Hardware, KernelCommandLine, PROBE_OK, QemuCommandLine, Ram, Start, kernel_command_line::host_tsc_khz};
use crate::{
    keeper::client::KeeperClient,
    receipt::{ExitCause, Receipt},
    run_dir::RunDir,
    spec::{KeeperConfig, SpecError},
};
use anteroom_wire::MachineId;
use serde::{Deserialize, Serialize};
use std::{
    fs::{self, OpenOptions},
    io,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

/// CPU models that are tried with KVM, in this order; the later ones leave out what nested hosts stumble over.
const KVM_CPUS: [&str; 3] = ["host", "host,-arch-capabilities", "host,-arch-capabilities,-pmu,-vmx,-svm"];
/// RAM of a probe, MiB: kernel and initial file system, nothing else.
const PROBE_MIB: u32 = 512;
/// How much of a probe's console is kept, bytes.
const PROBE_CONSOLE_BYTES: usize = 16 * 1024;
/// How much of it goes into an explanation, characters.
const WHY_CHARS_MAX: usize = 240;
/// The cache's file name.
const CACHE_FILE: &str = "accelerator.json";

/// What runs the guest's instructions.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Accelerator {
    /// The processor, through KVM, with this `-cpu` model.
    Kvm {
        /// As QEMU calls it.
        cpu: String,
    },
    /// QEMU's translator (TCG).
    Emulation,
}

impl Accelerator {
    pub(super) fn accel(&self, tcg_cache_mib: u32) -> String {
        match self {
            Self::Kvm { .. } => "kvm".to_owned(),
            Self::Emulation => format!("tcg,tb-size={tcg_cache_mib}"),
        }
    }

    pub(super) fn cpu(&self) -> &str {
        match self {
            Self::Kvm { cpu } => cpu,
            // With cx16, kernel 6.12 panics under QEMU 7.2's emulation in about 15 % of boots.
            Self::Emulation => "max,-cx16",
        }
    }

    /// The host's time stamp counter for the guest's kernel, where it needs to be told. Blocks for 50 ms.
    pub(super) fn tsc_khz(&self) -> Option<u64> {
        match self {
            Self::Kvm { .. } => None,
            Self::Emulation => Some(host_tsc_khz()),
        }
    }
}

/// What was found of KVM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kvm")]
pub enum KvmStatus {
    /// There is no `/dev/kvm`.
    Absent,
    /// There is one that this user may not open.
    NotPermitted,
    /// There is one, but a guest does not boot on it.
    DoesNotBoot {
        /// What each CPU model came to.
        why: String,
    },
    /// A guest booted.
    Works,
}

/// Which accelerator to use, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AcceleratorReport {
    /// The one to use.
    pub chosen: Accelerator,
    /// What was found of KVM.
    pub kvm: KvmStatus,
    /// For people.
    pub explanation: String,
}

/// What a probe needs.
#[derive(Debug, Clone)]
pub struct ProbeSettings {
    /// QEMU.
    pub qemu_program: PathBuf,
    /// As [`crate::Settings::keeper_program`].
    pub keeper_program: PathBuf,
    /// Where the report is kept until QEMU, kernel, image or the host's boot change.
    pub cache_dir: PathBuf,
    /// How long a guest may take to boot on KVM, milliseconds. It needs one second where KVM works.
    pub boot_ms_max: u64,
}

/// Why nothing could be found out.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// QEMU does not run.
    #[error("{program:?} cannot be used")]
    Qemu {
        /// Which.
        program: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The probe's own files cannot be made.
    #[error("{path:?} cannot be used")]
    Directory {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The guest cannot be described.
    #[error("no command line can be made for the probe")]
    QemuCommandLine(#[source] SpecError),
    /// The probe's keeper does not run, or leaves no word.
    #[error("the probe's keeper {program:?} cannot be used")]
    Keeper {
        /// Which.
        program: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

#[derive(Serialize, Deserialize)]
struct Cached {
    key: String,
    report: AcceleratorReport,
}

/// Boots `kernel` with `initramfs` on KVM, if there is one, and reports what works. The answer is kept in the cache
/// directory for `image_hash`, this QEMU, this kernel of the host and this boot of it.
///
/// # Errors
/// When QEMU or the keeper cannot be started at all. KVM that does not work is not an error but a finding.
pub async fn probe(
    kernel: &Path,
    initramfs: &Path,
    image_hash: &str,
    settings: &ProbeSettings,
) -> Result<AcceleratorReport, ProbeError> {
    let program = &settings.qemu_program;
    let version =
        super::version(program).await.map_err(|source| ProbeError::Qemu { program: program.clone(), source })?;
    let key = format!("{version}|{image_hash}|{}|{}|{}", host_kernel(), boot_id(), describe(&openable()));
    if let Some(report) = cached(&settings.cache_dir, &key) {
        return Ok(report);
    }
    let report = match openable() {
        Some(kvm) => emulation(kvm),
        None => try_kvm(kernel, initramfs, settings).await?,
    };
    let text = serde_json::to_vec(&Cached { key, report: report.clone() }).unwrap_or_default();
    let place = settings.cache_dir.join(CACHE_FILE);
    let written = fs::create_dir_all(&settings.cache_dir).and_then(|()| fs::write(&place, text));
    written.map_err(|source| ProbeError::Directory { path: place, source })?;
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

/// Why `/dev/kvm` cannot even be opened; `None`: it can.
fn openable() -> Option<KvmStatus> {
    match OpenOptions::new().read(true).write(true).open("/dev/kvm") {
        Ok(_) => None,
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Some(KvmStatus::NotPermitted),
        Err(_) => Some(KvmStatus::Absent),
    }
}

fn describe(finding: &Option<KvmStatus>) -> &'static str {
    match finding {
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
            format!("/dev/kvm may not be opened by this user (the group is usually `kvm`); {SLOW}")
        }
        KvmStatus::DoesNotBoot { why } => {
            format!("/dev/kvm is there, but a guest does not boot on it ({why}); {SLOW}")
        }
        KvmStatus::Works => SLOW.to_owned(),
    };
    AcceleratorReport { chosen: Accelerator::Emulation, kvm, explanation }
}

async fn try_kvm(kernel: &Path, initramfs: &Path, settings: &ProbeSettings) -> Result<AcceleratorReport, ProbeError> {
    let mut findings = Vec::new();
    for cpu in KVM_CPUS {
        let accelerator = Accelerator::Kvm { cpu: cpu.to_owned() };
        let receipt = boot(kernel, initramfs, &accelerator, settings).await?;
        match verdict(&receipt) {
            None => {
                let explanation = format!("a guest booted on KVM (-cpu {cpu})");
                return Ok(AcceleratorReport { chosen: accelerator, kvm: KvmStatus::Works, explanation });
            }
            Some(why) => findings.push(format!("-cpu {cpu}: {why}")),
        }
    }
    Ok(emulation(KvmStatus::DoesNotBoot { why: findings.join("; ") }))
}

/// Why the probe's guest did not boot; `None`: it did.
fn verdict(receipt: &Receipt) -> Option<String> {
    if receipt.console_tail.contains(PROBE_OK) {
        return None;
    }
    let ended = match &receipt.cause {
        ExitCause::Deadline => "it had not booted when its time was over".to_owned(),
        ExitCause::Stopped { .. }
        | ExitCause::Exited { .. }
        | ExitCause::Killed { .. }
        | ExitCause::OutOfMemory
        | ExitCause::GuestPowerOff
        | ExitCause::GuestPanic
        | ExitCause::VmmError { .. }
        | ExitCause::Saved
        | ExitCause::SaveFailed { .. }
        | ExitCause::NeverStarted { .. }
        | ExitCause::KeeperLost => receipt.reason().to_string(),
    };
    let tail: Vec<char> = receipt.output_tail.trim().chars().rev().take(WHY_CHARS_MAX).collect();
    let tail: String = tail.into_iter().rev().map(|c| if c.is_control() { ' ' } else { c }).collect();
    Some(if tail.is_empty() { ended } else { format!("{ended}: {tail}") })
}

/// Boots the guest once under a keeper of its own and returns how that ended.
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
        ram: Ram::Anonymous,
        rootfs: None,
        start: Start::Boot {
            kernel: kernel.to_owned(),
            initramfs: initramfs.to_owned(),
            line: KernelCommandLine { probe: true, tsc_khz: accelerator.tsc_khz(), ..KernelCommandLine::default() },
        },
    };
    let machine =
        new_machine_id().map_err(|source| ProbeError::Directory { path: settings.cache_dir.clone(), source })?;
    let path = settings.cache_dir.join(machine.as_str());
    let directory = |source| ProbeError::Directory { path: path.clone(), source };
    fs::create_dir_all(&settings.cache_dir).map_err(directory)?;
    let brief = KeeperConfig {
        machine: machine.clone(),
        image_hash: String::new(),
        spec: command_line.spec().map_err(ProbeError::QemuCommandLine)?,
        deadline_ms: settings.boot_ms_max,
        receipts_dir: settings.cache_dir.clone(),
        tied_to_parent: true,
        console_bytes_max: PROBE_CONSOLE_BYTES,
    };
    let run_dir = RunDir::create(path.clone()).map_err(directory)?;
    let receipt = run_to_end(&settings.keeper_program, &run_dir, &brief).await;
    RunDir::remove(&path).map_err(directory)?;
    let place = crate::receipt::path(&settings.cache_dir, &machine);
    match fs::remove_file(&place) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(directory(error)),
        Ok(()) | Err(_) => {}
    }
    receipt.map_err(|source| ProbeError::Keeper { program: settings.keeper_program.clone(), source })
}

async fn run_to_end(program: &Path, run_dir: &RunDir, brief: &KeeperConfig) -> io::Result<Receipt> {
    let mut client = KeeperClient::spawn(program, run_dir, brief)?;
    while client.next().await.is_some() {}
    client.wait_for_exit(None).await;
    Receipt::read(&brief.receipts_dir, &brief.machine)?.ok_or_else(|| io::Error::other("it left no receipt"))
}

/// An id for a machine that no session has.
pub(super) fn new_machine_id() -> io::Result<MachineId> {
    let mut chance = [0u8; 10];
    getrandom::fill(&mut chance).map_err(io::Error::other)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok(MachineId::from_parts(u64::try_from(now.as_millis()).unwrap_or(0), chance))
}
