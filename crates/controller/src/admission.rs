//! Checks whether this host has memory and disk for another machine. (The queue limits the number of machines.)
//!
//! A session that is rejected with a named cause is better than a machine killed by the kernel's OOM killer or a database write
//! that fails on a full disk.
//!
//! A machine counts with all the memory that it may take, from its request to its removal, as OpenStack's scheduler counts guests: its
//! memory grows after the start, when it is too late to reject it. Whatever other programs take at the moment counts, too.

mod host_memory;
pub mod shortage;

use crate::{
    api_error::{ApiError, chain},
    config::Config,
    image::ImageInfo,
    session::server_context::ServerContext,
    warm_machines::WarmMachines,
};
use anteroom_machine::{Machines, State};
pub use host_memory::{HostMemory, parse_available_mib};
use rustix::io::Errno;
use shortage::{MachineMemory, ResourceShortage};
use std::{path::Path, sync::Arc};

/// Machines that hold memory or are about to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MachineCounts {
    /// Machines whose memory is not in use yet: those that are starting, and those that admitted sessions are about to request.
    pub pending: u64,
    /// All other machines, until they are removed.
    pub running: u64,
}

impl MachineCounts {
    /// The machines of this server. `permits_in_use`: those of the queue.
    pub fn of(machines: &Machines, permits_in_use: u32) -> Self {
        Self::count(permits_in_use, machines.list().iter().map(|(_, state)| state))
    }

    fn count<'a>(permits_in_use: u32, states: impl Iterator<Item = &'a State>) -> Self {
        let (mut starting, mut running) = (0_u64, 0_u64);
        for state in states {
            match state {
                State::Requested | State::Cloning | State::Waiting { .. } => starting += 1,
                State::Ready { .. } | State::Stopping { .. } | State::Exited { .. } | State::Removed { .. } => {
                    running += 1;
                }
            }
        }
        Self { pending: u64::from(permits_in_use).saturating_sub(running).max(starting), running }
    }

    /// The same with another machine that is about to start.
    #[must_use]
    pub fn with_another(self) -> Self {
        Self { pending: self.pending + 1, ..self }
    }
}

/// Checks that another session may get a machine now, in addition to those of the permits in use: a warm one, or a new one.
///
/// # Errors
/// The resource of which too little is available.
pub fn check_capacity(
    config: &Config,
    image: &ImageInfo,
    (machines, warm): (&Machines, &WarmMachines),
    permits_in_use: u32,
) -> Result<(), ResourceShortage> {
    let waiting = warm.count();
    let without_machine = (permits_in_use as usize).saturating_sub(machines.count().saturating_sub(waiting));
    if waiting > without_machine {
        check_disk(config)?;
        check_memory(config, image, MachineCounts::of(machines, permits_in_use))?;
        return Ok(());
    }
    check_capacity_of_another(config, image, machines, permits_in_use)
}

/// Checks that another machine may be started now, in addition to those of the permits in use.
///
/// # Errors
/// The resource of which too little is available.
pub fn check_capacity_of_another(
    config: &Config,
    image: &ImageInfo,
    machines: &Machines,
    permits_in_use: u32,
) -> Result<(), ResourceShortage> {
    check_disk(config)?;
    check_memory(config, image, MachineCounts::of(machines, permits_in_use).with_another())?;
    Ok(())
}

/// Checks that another session may be started now.
///
/// # Errors
/// `disk_low`, `memory_low` or `no_capacity`.
pub fn require_capacity(server_context: &ServerContext) -> Result<(), ApiError> {
    let permits_in_use = server_context.queue.permits_in_use();
    let machines = (&server_context.machines, &server_context.warm_machines);
    check_capacity(&server_context.config(), &server_context.image, machines, permits_in_use).map_err(|shortage| {
        let error = ApiError::new(shortage.to_problem(), chain(&shortage));
        tracing::warn!(
            outcome = "not_admitted",
            reason = error.problem.code(),
            detail = error.detail,
            "new session rejected"
        );
        error
    })
}

/// Installs the check in the queue: accepted sessions wait while capacity is missing.
pub fn install_admission_check(server_context: &ServerContext) {
    let (config, machines) = (server_context.live_config.clone(), server_context.machines.clone());
    let warm = server_context.warm_machines.clone();
    let image = Arc::clone(&server_context.image);
    server_context.queue.set_admission_check(move |permits_in_use| {
        check_capacity(&config.get(), &image, (&machines, &warm), permits_in_use)
    });
}

/// The free space below the state directory and the cache directory, as a sentence. The database and receipts are in the first; machines
/// map the template's memory from the second.
///
/// # Errors
/// Too little, or it cannot be determined.
pub fn check_disk(config: &Config) -> Result<String, ResourceShortage> {
    let min_mib = config.machines.disk_free_mib_min;
    let mut sentence = String::new();
    for (name, path) in [("state", &config.state_dir), ("cache", &config.cache_dir)] {
        let free_mib = read_disk_free_mib(path).map_err(|source| ResourceShortage::UnknownDisk { name, source })?;
        if free_mib < min_mib {
            return Err(ResourceShortage::Disk { name, path: path.clone(), free_mib, min_mib });
        }
        let separator = if sentence.is_empty() { "" } else { ", " };
        sentence.push_str(&format!("{separator}{free_mib} MiB free below the {name} directory"));
    }
    Ok(sentence)
}

/// The memory that machines take and may take, as a sentence.
///
/// # Errors
/// Too little.
pub fn check_memory(config: &Config, image: &ImageInfo, counts: MachineCounts) -> Result<String, ResourceShortage> {
    // An unknown amount is not treated as a shortage.
    HostMemory::read().map_or_else(
        || Ok("the host's memory is unknown".to_owned()),
        |host| assess_memory(config, host, image.machine_memory_mib_max, counts),
    )
}

fn assess_memory(
    config: &Config,
    host: HostMemory,
    machine_mib_max: u64,
    counts: MachineCounts,
) -> Result<String, ResourceShortage> {
    let settings = &config.machines;
    let reserved_mib = settings.memory_free_mib_min;
    let percent = settings.memory_overcommit_percent;
    let machine_memory = MachineMemory {
        machines: counts.pending.saturating_add(counts.running),
        machine_mib_max,
        permitted_mib: host.total_mib.saturating_sub(reserved_mib).saturating_mul(u64::from(percent)) / 100,
        host_mib: host.total_mib,
        reserved_mib,
        overcommit_percent: percent,
    };
    if reserved_mib > 0 && machine_memory.mib_max() > machine_memory.permitted_mib {
        return Err(ResourceShortage::MachineMemory(machine_memory));
    }
    let available_mib = host.available_mib;
    let expected_mib = settings.memory_per_machine_mib.saturating_mul(counts.pending);
    if reserved_mib > 0 && available_mib.saturating_sub(expected_mib) < reserved_mib {
        return Err(ResourceShortage::Memory { available_mib, expected_mib, min_mib: reserved_mib });
    }
    Ok(format!("{machine_memory}; {available_mib} MiB are available now"))
}

/// The free space of the file system of a directory, or of the nearest directory above that exists, for this user, MiB.
///
/// # Errors
/// The file system cannot be queried.
pub fn read_disk_free_mib(dir: &Path) -> rustix::io::Result<u64> {
    let found = dir.ancestors().map(|dir| if dir.as_os_str().is_empty() { Path::new(".") } else { dir });
    let disk = found.map(rustix::fs::statvfs).find(|found| !matches!(found, Err(Errno::NOENT)));
    let disk = disk.unwrap_or(Err(Errno::NOENT))?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize) >> 20)
}

#[cfg(test)]
mod tests;
