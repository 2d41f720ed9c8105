//! The kind of machines: Firecracker, or QEMU with KVM or emulation. It is chosen from what the settings request and what the host
//! can do, not from what is installed.

mod firecracker_program;

pub use firecracker_program::{FirecrackerFailure, FirecrackerProgram, find_firecracker};

use crate::{
    kvm::{KvmReport, LinuxNotTried, StepResult},
    qemu::{Accelerator, Hardware},
};
use serde::{Deserialize, Serialize};
use std::fmt;

/// The setting `machines.kind`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RequestedKind {
    /// Firecracker where KVM boots Linux and a supported `firecracker` is in `PATH`, else QEMU.
    Auto,
    /// QEMU.
    Qemu,
    /// Firecracker; where it cannot run, the server does not start.
    Firecracker,
}

/// The setting `machines.accelerator`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RequestedAccelerator {
    /// KVM if Linux boots on it, else emulation.
    Auto,
    /// KVM; without it the server does not start.
    Kvm,
    /// Emulation even where KVM works.
    Emulation,
}

/// An upper estimate of the memory of a QEMU process in addition to the guest's and the translation cache, MiB. The limit of a VMM's cgroup
/// is higher, because it counts page cache, which the kernel takes back.
const QEMU_OVERHEAD_MIB: u64 = 64;
/// The same of Firecracker, MiB.
const FIRECRACKER_OVERHEAD_MIB: u64 = 16;

/// The kind of machines that was chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MachineKind {
    /// Firecracker on KVM.
    Firecracker {
        /// The program.
        firecracker: FirecrackerProgram,
    },
    /// QEMU.
    Qemu {
        /// What executes the guest's instructions.
        accelerator: Accelerator,
    },
}

impl MachineKind {
    /// Whether machines are emulated, which is not a security boundary.
    pub fn is_emulated(&self) -> bool {
        match self {
            Self::Qemu { accelerator: Accelerator::Emulation } => true,
            Self::Firecracker { .. } | Self::Qemu { accelerator: Accelerator::Kvm { .. } } => false,
        }
    }

    /// The host's memory that a clone of this kind may take: the guest's memory, the translation cache under emulation, and the heap, stacks
    /// and devices of the VMM, MiB.
    pub fn host_memory_mib_max(&self, hardware: &Hardware) -> u64 {
        let vmm_mib = match self {
            Self::Firecracker { .. } => FIRECRACKER_OVERHEAD_MIB,
            Self::Qemu { accelerator: Accelerator::Kvm { .. } } => QEMU_OVERHEAD_MIB,
            Self::Qemu { accelerator: Accelerator::Emulation } => QEMU_OVERHEAD_MIB + u64::from(hardware.tcg_cache_mib),
        };
        u64::from(hardware.memory_mib) + vmm_mib
    }
}

impl fmt::Display for MachineKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Firecracker { firecracker } => write!(f, "Firecracker {}", firecracker.version),
            Self::Qemu { accelerator: Accelerator::Kvm { .. } } => f.write_str("QEMU with KVM"),
            Self::Qemu { accelerator: Accelerator::Emulation } => f.write_str("QEMU's emulation"),
        }
    }
}

/// Why no machine can run as the settings request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KindError {
    /// KVM is requested, and cannot be used.
    #[error("{setting} is set, but {report}{cause}")]
    NoKvm {
        /// The setting and its value.
        setting: &'static str,
        /// What KVM can do.
        report: KvmReport,
        /// The cause, after a colon; empty if there is none.
        cause: String,
    },
    /// Firecracker is requested, and cannot be used.
    #[error("machines.kind = \"firecracker\" is set, but Firecracker cannot be used")]
    NoFirecracker(#[source] FirecrackerFailure),
    /// Firecracker is requested together with emulation.
    #[error(
        "machines.kind = \"firecracker\" and machines.accelerator = \"emulation\" are set, but Firecracker needs KVM: \
         set machines.accelerator to \"auto\""
    )]
    FirecrackerEmulated,
}

/// Chooses the kind of machines.
///
/// # Errors
/// The host cannot run what is requested.
pub fn choose(
    requested: RequestedKind,
    accelerator: RequestedAccelerator,
    kvm: &KvmReport,
    firecracker: &Result<FirecrackerProgram, FirecrackerFailure>,
) -> Result<MachineKind, KindError> {
    match (requested, accelerator) {
        (RequestedKind::Firecracker, RequestedAccelerator::Emulation) => Err(KindError::FirecrackerEmulated),
        (RequestedKind::Firecracker, RequestedAccelerator::Auto | RequestedAccelerator::Kvm) => {
            let firecracker = firecracker.clone().map_err(KindError::NoFirecracker)?;
            // Without QEMU, the boot of the template shows whether Linux boots.
            let can_boot =
                matches!(kvm, KvmReport::BootsLinux { .. } | KvmReport::LinuxNotTried { why: LinuxNotTried::NoQemu });
            if can_boot {
                Ok(MachineKind::Firecracker { firecracker })
            } else {
                Err(no_kvm("machines.kind = \"firecracker\"", kvm))
            }
        }
        (RequestedKind::Auto | RequestedKind::Qemu, RequestedAccelerator::Emulation) => {
            Ok(MachineKind::Qemu { accelerator: Accelerator::Emulation })
        }
        (RequestedKind::Auto | RequestedKind::Qemu, RequestedAccelerator::Auto | RequestedAccelerator::Kvm) => {
            let qemu = kvm.qemu_accelerator();
            match (&qemu, requested, firecracker) {
                (Accelerator::Kvm { .. }, RequestedKind::Auto, Ok(firecracker)) => {
                    Ok(MachineKind::Firecracker { firecracker: firecracker.clone() })
                }
                (Accelerator::Emulation, _, _) if accelerator == RequestedAccelerator::Kvm => {
                    Err(no_kvm("machines.accelerator = \"kvm\"", kvm))
                }
                (Accelerator::Kvm { .. } | Accelerator::Emulation, _, _) => Ok(MachineKind::Qemu { accelerator: qemu }),
            }
        }
    }
}

fn no_kvm(setting: &'static str, kvm: &KvmReport) -> KindError {
    let cause = kvm.steps().into_iter().find_map(|(_, result)| match result {
        StepResult::Failed(cause) => Some(format!(": {cause}")),
        StepResult::Ok | StepResult::NotTried(_) => None,
    });
    KindError::NoKvm { setting, report: kvm.clone(), cause: cause.unwrap_or_default() }
}

/// Explains the choice in one sentence.
pub fn explain(choice: &MachineKind, accelerator: RequestedAccelerator, kvm: &KvmReport) -> String {
    let slow = if choice.is_emulated() { ", which is slower and not a security boundary" } else { "" };
    if accelerator == RequestedAccelerator::Emulation {
        return format!("machines.accelerator = \"emulation\" is set, therefore machines run under {choice}{slow}");
    }
    format!("{kvm}, therefore machines run under {choice}{slow}")
}

#[cfg(test)]
mod tests;
