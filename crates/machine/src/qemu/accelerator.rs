//! What executes a guest's instructions. KVM is used only where Linux boots on it, see [`crate::kvm`]. Emulation allows development
//! and operation without KVM; it is not a security boundary.

use super::kernel_command_line::host_tsc_khz;
use serde::{Deserialize, Serialize};

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
