//! The resource of which this host has too little for another machine.

use anteroom_wire::Problem;
use rustix::io::Errno;

/// A resource of which too little is available.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResourceShortage {
    /// Memory.
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
    #[error("{free_mib} MiB are free below the state directory; machines.disk_free_mib_min is {min_mib}")]
    Disk {
        /// Free space for this user.
        free_mib: u64,
        /// The configured minimum.
        min_mib: u64,
    },
    /// The free disk space cannot be determined.
    #[error("the free space of the state directory cannot be determined")]
    UnknownDisk(#[source] Errno),
}

impl ResourceShortage {
    /// The problem for an API error.
    pub fn to_problem(&self) -> Problem {
        match self {
            Self::Memory { .. } => Problem::MemoryLow,
            Self::Disk { .. } => Problem::DiskLow,
            Self::UnknownDisk(_) => Problem::NoCapacity,
        }
    }
}
