//! Machines: kind, accelerator, size, timeouts, and the memory and disk space that must stay free on the host.

use crate::settings::settings;
use anteroom_machine::kind::{RequestedAccelerator, RequestedKind};

settings! {
    /// Machines.
    pub struct Machines {
        /// `auto` (Firecracker where KVM boots Linux and Firecracker 1.12 to 1.16 is in `PATH`, else QEMU), `qemu` or
        /// `firecracker` (where it cannot run, the server does not start). `anteroom doctor` prints the choice and its reason.
        kind: RequestedKind = RequestedKind::Auto;
        /// `auto` (KVM if Linux boots on it, else emulation), `kvm` (without it the server does not start) or `emulation`.
        accelerator: RequestedAccelerator = RequestedAccelerator::Auto;
        /// Guest memory, MiB. The host allocates only touched pages.
        memory_mib: u32 = 1_536, within 512..=65_536;
        /// Virtual processors, a whole number.
        cpus: u32 = 2, within 1..=16;
        /// Machines that run at once; further sessions wait in the queue.
        machines_max: u32 = 10, within 1..=1_000;
        /// Machines that the sessions of one caller use at once, external ones included; further sessions of it wait. Default: no
        /// limit. The next free machine goes to the caller that uses the fewest.
        machines_by_caller_max: Option<u32> = None, within 1..=1_000, example "8";
        /// Machines that are started before a session asks for one, so that it begins at once. They are started while the host starts no
        /// other machine and has room, and count as machines.
        warm_target: u32 = 0, within 0..=1_000;
        /// Timeout from the start of a machine's process until it is ready, milliseconds. Default: 15000 with KVM, 60000 under
        /// emulation.
        ready_ms_max: Option<u64> = None, within 100..=600_000, example "30000";
        /// Width of the desktop, pixels.
        width: u16 = 1_280, within 320..=3_840;
        /// Height of the desktop, pixels.
        height: u16 = 800, within 240..=2_160;
        /// A machine that sent nothing for this long is stopped and replaced, seconds.
        // The minimum is `anteroom_machine::PING_MS_MAX`.
        liveness_timeout_s: u64 = 20, within 6..=3_600;
        /// Host memory that one machine takes at its start, MiB. It may grow to `memory_mib` and what its VMM needs.
        memory_per_machine_mib: u64 = 256, within 0..=1 << 20;
        /// Host memory that machines must leave free, MiB; else new sessions are rejected and queued ones wait. 0: no check of memory.
        memory_free_mib_min: u64 = 256, within 0..=1 << 30;
        /// How much of the remaining host memory all machines together may take if each takes all that it may, percent. Above 100, the
        /// kernel's OOM killer may end machines that use their memory at the same time.
        memory_overcommit_percent: u32 = 100, within 100..=1_000;
        /// Free space that the file systems of the state directory and of the cache directory must have, MiB; else new sessions are
        /// rejected and queued ones wait. 0: no check.
        disk_free_mib_min: u64 = 256, within 0..=1 << 30;
    }
}
