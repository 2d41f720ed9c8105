//! The resource of which this host has too little for another machine.

use anteroom_wire::Problem;
use rustix::io::Errno;
use std::{fmt, path::PathBuf};

/// A resource of which too little is available.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResourceShortage {
    /// Memory for all machines, if each takes all that it may.
    #[error(
        "with another machine, {0}; end sessions, give the host more memory, or raise machines.memory_overcommit_percent"
    )]
    MachineMemory(MachineMemory),
    /// Memory that is available now.
    #[error(
        "{available_mib} MiB of memory are available; the next machines need about {expected_mib} MiB and \
         machines.memory_free_mib_min reserves {min_mib} MiB"
    )]
    Memory {
        /// Available memory as reported by the kernel.
        available_mib: u64,
        /// The expected memory of this machine and of those that are starting.
        expected_mib: u64,
        /// The configured minimum.
        min_mib: u64,
    },
    /// Disk.
    #[error(
        "{free_mib} MiB are free below the {name} directory {}; machines.disk_free_mib_min is {min_mib}", path.display()
    )]
    Disk {
        /// `state` or `cache`.
        name: &'static str,
        /// The directory.
        path: PathBuf,
        /// Free space for this user.
        free_mib: u64,
        /// The configured minimum.
        min_mib: u64,
    },
    /// The free disk space cannot be determined.
    #[error("the free space of the {name} directory cannot be determined")]
    UnknownDisk {
        /// `state` or `cache`.
        name: &'static str,
        /// The cause.
        #[source]
        source: Errno,
    },
}

/// The memory that machines may take, and what the host permits them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MachineMemory {
    /// How many machines.
    pub machines: u64,
    /// What each may take: the guest's memory and that of its VMM, MiB.
    pub machine_mib_max: u64,
    /// What all together may take, MiB.
    pub permitted_mib: u64,
    /// The host's memory, MiB.
    pub host_mib: u64,
    /// `machines.memory_free_mib_min`.
    pub reserved_mib: u64,
    /// `machines.memory_overcommit_percent`.
    pub overcommit_percent: u32,
}

impl MachineMemory {
    /// What all machines together take if each takes all that it may, MiB.
    pub fn mib_max(&self) -> u64 {
        self.machines.saturating_mul(self.machine_mib_max)
    }
}

impl fmt::Display for MachineMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { machines, machine_mib_max, permitted_mib, host_mib, reserved_mib, overcommit_percent } = self;
        write!(
            f,
            "{machines} machine(s) may take {} MiB ({machine_mib_max} MiB each) of {permitted_mib} MiB (the host's {host_mib} MiB without the \
             {reserved_mib} MiB of machines.memory_free_mib_min, times machines.memory_overcommit_percent {overcommit_percent} %)",
            self.mib_max()
        )
    }
}

impl ResourceShortage {
    /// The problem for an API error.
    pub fn to_problem(&self) -> Problem {
        match self {
            Self::MachineMemory(_) | Self::Memory { .. } => Problem::MemoryLow,
            Self::Disk { .. } => Problem::DiskLow,
            Self::UnknownDisk { .. } => Problem::NoCapacity,
        }
    }
}
