//! Machines: accelerator, size, timeouts, and the memory and disk space that must stay free on the host.

use serde::{Deserialize, Serialize};

/// The accelerator of machines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Accelerator {
    /// KVM if a guest boots with it, else emulation.
    Auto,
    /// KVM; without it the server does not start.
    Kvm,
    /// Emulation even where KVM works.
    Emulation,
}

/// Machines.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Machines {
    /// The accelerator.
    pub accelerator: Accelerator,
    /// Guest memory, MiB. The host allocates only touched pages. 512 to 65536.
    pub memory_mib: u32,
    /// Virtual processors, a whole number: 1 to 16.
    pub cpus: u32,
    /// Under emulation, the size of QEMU's TCG cache of translated code for one machine, MiB. The host allocates only the used
    /// part. A browser needs a large cache: with a small one, code is translated repeatedly. 8 to 1024.
    pub tcg_cache_mib: u32,
    /// Machines that run at once; further sessions wait in the queue.
    pub machines_max: u32,
    /// Timeout from the start of a machine's process until it is ready, with KVM, milliseconds.
    pub ready_kvm_ms_max: u64,
    /// Timeout from the start of a machine's process until it is ready, under emulation, milliseconds.
    pub ready_emulation_ms_max: u64,
    /// Timeout for the cold boot of the template until it is ready, seconds. It starts a browser, which is slow under emulation.
    pub template_boot_s_max: u64,
    /// Desktop width in pixels: 320 to 3840.
    pub width: u16,
    /// Desktop height in pixels: 240 to 2160.
    pub height: u16,
    /// The end of the console output that is kept after a machine's exit, bytes.
    pub console_bytes_max: usize,
    /// Interval between pings to a machine that sends nothing else, milliseconds.
    pub ping_every_ms: u64,
    /// A machine that sent nothing for this long is not ready until it sends something, milliseconds.
    pub ping_ms_max: u64,
    /// A machine that sent nothing for this long is stopped and replaced, seconds.
    pub liveness_timeout_s: u64,
    /// Expected host memory of one machine, MiB.
    pub memory_per_machine_mib: u64,
    /// Host memory that must stay available after one more machine is started, MiB; else new sessions are rejected and queued
    /// ones wait. 0: no check.
    pub memory_free_mib_min: u64,
    /// Free space that the file system of the state directory must have, MiB; else new sessions are rejected and queued ones
    /// wait. 0: no check.
    pub disk_free_mib_min: u64,
}

impl Default for Machines {
    fn default() -> Self {
        Self {
            accelerator: Accelerator::Auto,
            memory_mib: 1536,
            cpus: 2,
            tcg_cache_mib: 256,
            machines_max: 10,
            ready_kvm_ms_max: 15_000,
            ready_emulation_ms_max: 60_000,
            template_boot_s_max: 600,
            width: 1280,
            height: 800,
            console_bytes_max: 64 * 1024,
            ping_every_ms: 2_000,
            ping_ms_max: 6_000,
            liveness_timeout_s: 20,
            memory_per_machine_mib: 256,
            memory_free_mib_min: 256,
            disk_free_mib_min: 256,
        }
    }
}

impl Machines {
    /// Calls `check` with the name, value, minimum and maximum of every number.
    pub(super) fn check_ranges(&self, check: &mut impl FnMut(&str, u64, u64, u64)) {
        check("machines.memory_mib", self.memory_mib.into(), 512, 65_536);
        check("machines.cpus", self.cpus.into(), 1, 16);
        check("machines.tcg_cache_mib", self.tcg_cache_mib.into(), 8, 1_024);
        check("machines.machines_max", self.machines_max.into(), 1, 1_000);
        check("machines.ready_kvm_ms_max", self.ready_kvm_ms_max, 100, 600_000);
        check("machines.ready_emulation_ms_max", self.ready_emulation_ms_max, 100, 600_000);
        check("machines.template_boot_s_max", self.template_boot_s_max, 10, 7_200);
        check("machines.width", self.width.into(), 320, 3840);
        check("machines.height", self.height.into(), 240, 2160);
        check("machines.console_bytes_max", self.console_bytes_max as u64, 1024, 1 << 20);
        check("machines.ping_every_ms", self.ping_every_ms, 50, 60_000);
        check("machines.ping_ms_max", self.ping_ms_max, self.ping_every_ms.saturating_mul(2), 600_000);
        check("machines.liveness_timeout_s", self.liveness_timeout_s, self.ping_ms_max.div_ceil(1_000), 3_600);
        check("machines.memory_per_machine_mib", self.memory_per_machine_mib, 0, 1 << 20);
        check("machines.memory_free_mib_min", self.memory_free_mib_min, 0, 1 << 30);
        check("machines.disk_free_mib_min", self.disk_free_mib_min, 0, 1 << 30);
    }
}
