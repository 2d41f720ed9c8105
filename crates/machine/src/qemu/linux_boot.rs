//! Boots the image's kernel once on KVM, with a timeout. On nested or paravirtual hosts KVM may exist and not work: `-cpu host`
//! aborts, other models are very slow or fail with an internal error.

use super::{
    Accelerator, Hardware, KernelCommandLine, PROBE_OK_LINE, QemuCommandLine, RamBackend, StartMode, version_line,
};
use crate::{
    keeper::client::KeeperClient,
    machine_id::new_machine_id,
    receipt::{ExitCause, Receipt},
    run_dir::RunDir,
    spec::{KeeperConfig, SpecError},
};
use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// CPU models that are tried with KVM, in this order; the later ones omit features that fail on nested hosts.
const KVM_CPUS: [&str; 3] = ["host", "host,-arch-capabilities", "host,-arch-capabilities,-pmu,-vmx,-svm"];
/// RAM of the guest, MiB: enough for the kernel and the initial file system.
const MEMORY_MIB: u32 = 512;
/// How many of the last bytes of its console are kept.
const CONSOLE_BYTES: usize = 16 * 1024;
/// How much of QEMU's output is quoted in an explanation, characters.
const QUOTE_CHARS_MAX: usize = 240;

/// Settings of the boot.
#[derive(Debug, Clone)]
pub(crate) struct LinuxBootSettings {
    /// Path of QEMU.
    pub(crate) qemu_program: PathBuf,
    /// As [`crate::MachinesSettings::keeper_program`].
    pub(crate) keeper_program: PathBuf,
    /// Directory in which the machine's run directory and receipt are made and removed.
    pub(crate) run_dirs_dir: PathBuf,
    /// How long a guest may take to boot, milliseconds.
    pub(crate) boot_ms_max: u64,
}

/// Why a boot could not be tried.
#[derive(Debug, thiserror::Error)]
pub enum LinuxBootError {
    /// QEMU does not run.
    #[error("{program:?} does not run")]
    Qemu {
        /// The program.
        program: PathBuf,
        /// The error.
        #[source]
        source: io::Error,
    },
    /// A file of the machine cannot be read or written.
    #[error("{path:?} cannot be read or written")]
    Directory {
        /// The path.
        path: PathBuf,
        /// The error.
        #[source]
        source: io::Error,
    },
    /// QEMU's command line is invalid.
    #[error("QEMU's command line for the boot of Linux on KVM cannot be made")]
    CommandLine(#[source] SpecError),
    /// The keeper does not run, or wrote no receipt.
    #[error("the keeper {program:?} failed")]
    Keeper {
        /// The program.
        program: PathBuf,
        /// The error.
        #[source]
        source: io::Error,
    },
}

/// The version of the QEMU at `program`, its first line of output.
pub(crate) async fn read_qemu_version(program: &Path) -> Result<String, LinuxBootError> {
    version_line(program).await.map_err(|source| LinuxBootError::Qemu { program: program.to_owned(), source })
}

/// Boots `kernel` with `initramfs` on KVM. Returns the CPU model with which it booted, or the failure of each model.
pub(crate) async fn boot_linux_on_kvm(
    kernel: &Path,
    initramfs: &Path,
    settings: &LinuxBootSettings,
) -> Result<Result<String, String>, LinuxBootError> {
    let mut failures = Vec::new();
    for cpu in KVM_CPUS {
        let receipt = boot(kernel, initramfs, Accelerator::Kvm { cpu: cpu.to_owned() }, settings).await?;
        match boot_failure(&receipt) {
            None => return Ok(Ok(cpu.to_owned())),
            Some(why) => failures.push(format!("-cpu {cpu}: {why}")),
        }
    }
    Ok(Err(failures.join("; ")))
}

/// Why the guest did not boot; `None`: it did.
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
        | ExitCause::RenewDeadline
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
    accelerator: Accelerator,
    settings: &LinuxBootSettings,
) -> Result<Receipt, LinuxBootError> {
    let command_line = QemuCommandLine {
        program: settings.qemu_program.clone(),
        name: "probe".into(),
        accelerator,
        hardware: Hardware { memory_mib: MEMORY_MIB, cpus: 1, ..Hardware::default() },
        ram: RamBackend::Anonymous,
        rootfs: None,
        start_mode: StartMode::Boot {
            kernel: kernel.to_owned(),
            initramfs: initramfs.to_owned(),
            line: KernelCommandLine { probe: true, ..KernelCommandLine::default() },
        },
    };
    let machine =
        new_machine_id().map_err(|source| LinuxBootError::Directory { path: settings.run_dirs_dir.clone(), source })?;
    let path = settings.run_dirs_dir.join(machine.as_str());
    let directory = |source| LinuxBootError::Directory { path: path.clone(), source };
    fs::create_dir_all(&settings.run_dirs_dir).map_err(directory)?;
    let config = KeeperConfig {
        machine: machine.clone(),
        image_hash: String::new(),
        spec: command_line.to_spec().map_err(LinuxBootError::CommandLine)?,
        deadline_ms: settings.boot_ms_max,
        renew_deadline_file: None,
        receipts_dir: settings.run_dirs_dir.clone(),
        tied_to_parent: true,
        console_bytes_max: CONSOLE_BYTES,
    };
    let run_dir = RunDir::create(path.clone()).map_err(directory)?;
    let receipt = run_to_end(&settings.keeper_program, &run_dir, &config).await;
    RunDir::remove(&path).map_err(directory)?;
    match fs::remove_file(crate::receipt::receipt_path(&settings.run_dirs_dir, &machine)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(directory(error)),
        Ok(()) | Err(_) => {}
    }
    receipt.map_err(|source| LinuxBootError::Keeper { program: settings.keeper_program.clone(), source })
}

async fn run_to_end(program: &Path, run_dir: &RunDir, config: &KeeperConfig) -> io::Result<Receipt> {
    let mut client = KeeperClient::spawn(program, run_dir, config)?;
    while client.next_report().await.is_some() {}
    client.wait_exited(None).await;
    Receipt::read(&config.receipts_dir, &config.machine)?.ok_or_else(|| io::Error::other("it wrote no receipt"))
}
