//! Checks whether this host has memory and disk for another machine. (The queue limits the number of machines.)
//!
//! A session that is rejected with a named cause is better than a machine killed by the kernel's OOM killer or a database write
//! that fails on a full disk.

pub mod shortage;

use crate::{
    api_error::{ApiError, chain},
    config::Config,
    session::server_context::ServerContext,
};
use anteroom_machine::{Machines, State};
use shortage::ResourceShortage;
use std::{path::Path, sync::Arc};

/// Checks that another machine may be started now, in addition to those of the permits in use.
///
/// # Errors
/// The resource of which too little is available.
pub fn check_capacity(config: &Config, machines: &Machines, permits_in_use: u32) -> Result<(), ResourceShortage> {
    check_disk(config)?;
    check_memory(config, count_pending_machines(machines, permits_in_use) + 1)?;
    Ok(())
}

/// Checks that another session may be started now.
///
/// # Errors
/// `disk_low`, `memory_low` or `no_capacity`.
pub fn require_capacity(server_context: &ServerContext) -> Result<(), ApiError> {
    check_capacity(&server_context.config, &server_context.machines, server_context.queue.permits_in_use()).map_err(
        |shortage| {
            let error = ApiError::new(shortage.to_problem(), chain(&shortage));
            tracing::warn!(
                outcome = "not_admitted",
                reason = error.problem.code(),
                detail = error.detail,
                "new session rejected"
            );
            error
        },
    )
}

/// Installs the check in the queue: accepted sessions wait while capacity is missing.
pub fn install_admission_check(server_context: &ServerContext) {
    let (config, machines) = (Arc::clone(&server_context.config), server_context.machines.clone());
    server_context.queue.set_admission_check(move |permits_in_use| check_capacity(&config, &machines, permits_in_use));
}

/// The number of machines whose memory is not in use yet: those that are starting, and those that admitted sessions are about to
/// request.
pub fn count_pending_machines(machines: &Machines, permits_in_use: u32) -> u64 {
    count_pending(permits_in_use, machines.list().iter().map(|(_, state)| state))
}

fn count_pending<'a>(permits_in_use: u32, states: impl Iterator<Item = &'a State>) -> u64 {
    let (mut starting, mut running) = (0_u64, 0_u64);
    for state in states {
        match state {
            State::Requested | State::Cloning | State::Waiting { .. } => starting += 1,
            State::Ready { .. } | State::Stopping { .. } | State::Exited { .. } | State::Removed { .. } => running += 1,
        }
    }
    u64::from(permits_in_use).saturating_sub(running).max(starting)
}

/// The free space below the state directory, as a sentence.
///
/// # Errors
/// Too little, or it cannot be determined.
pub fn check_disk(config: &Config) -> Result<String, ResourceShortage> {
    let min_mib = config.machines.disk_free_mib_min;
    let free_mib = read_disk_free_mib(&config.state_dir).map_err(ResourceShortage::UnknownDisk)?;
    if free_mib < min_mib {
        return Err(ResourceShortage::Disk { free_mib, min_mib });
    }
    Ok(format!("{free_mib} MiB free below the state directory"))
}

/// The available memory of the host, as a sentence, when `pending` more machines take theirs.
///
/// # Errors
/// Too little, or it cannot be determined.
pub fn check_memory(config: &Config, pending: u64) -> Result<String, ResourceShortage> {
    let machines = &config.machines;
    let text = std::fs::read_to_string("/proc/meminfo").ok();
    let Some(available_mib) = text.as_deref().and_then(parse_available_mib) else {
        // An unknown amount is not treated as a shortage.
        return Ok("the available memory is unknown".to_owned());
    };
    let expected_mib = machines.memory_per_machine_mib.saturating_mul(pending);
    let min_mib = machines.memory_free_mib_min;
    if min_mib > 0 && available_mib.saturating_sub(expected_mib) < min_mib {
        return Err(ResourceShortage::Memory { available_mib, expected_mib, min_mib });
    }
    Ok(format!("{available_mib} MiB of memory available"))
}

/// The free space of the directory's file system for this user, MiB.
///
/// # Errors
/// The file system cannot be queried.
pub fn read_disk_free_mib(dir: &Path) -> rustix::io::Result<u64> {
    let disk = rustix::fs::statvfs(dir)?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize) >> 20)
}

/// `MemAvailable` of proc(5), `meminfo`.
pub fn parse_available_mib(meminfo: &str) -> Option<u64> {
    let kib = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:")?.trim().strip_suffix("kB"))?;
    Some(kib.trim().parse::<u64>().ok()? >> 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(memory_free_mib_min: u64, memory_per_machine_mib: u64, disk_free_mib_min: u64) -> Config {
        let mut config = Config { state_dir: "/".into(), ..Config::default() };
        config.machines.memory_free_mib_min = memory_free_mib_min;
        config.machines.memory_per_machine_mib = memory_per_machine_mib;
        config.machines.disk_free_mib_min = disk_free_mib_min;
        config
    }

    #[test]
    fn available_memory_is_read_from_meminfo() {
        assert_eq!(parse_available_mib("MemTotal: 9 kB\nMemAvailable:    2097152 kB\n"), Some(2048));
        assert_eq!(parse_available_mib("MemTotal: 9 kB\n"), None);
    }

    #[test]
    fn each_pending_machine_counts_with_its_expected_cost() {
        let text = std::fs::read_to_string("/proc/meminfo").unwrap();
        let half = parse_available_mib(&text).unwrap() / 2;
        let config = config(1, half, 0);
        assert!(check_memory(&config, 1).is_ok());
        assert!(matches!(check_memory(&config, 3), Err(ResourceShortage::Memory { .. })));
    }

    #[test]
    fn an_admitted_session_counts_until_its_machine_runs() {
        let ended = State::Stopping { reason: anteroom_machine::StopReason::Completed };
        assert_eq!(count_pending(3, [].into_iter()), 3, "none of them has requested a machine yet");
        assert_eq!(count_pending(3, [State::Requested, State::Cloning].iter()), 3, "two have requested machines");
        assert_eq!(count_pending(3, [State::Cloning, ended.clone()].iter()), 2);
        assert_eq!(
            count_pending(0, [State::Requested, ended].iter()),
            1,
            "a machine without a session uses memory, too"
        );
    }

    #[test]
    fn a_minimum_above_the_free_amount_is_a_shortage_and_zero_disables_the_check() {
        assert!(matches!(check_disk(&config(0, 0, 1 << 40)), Err(ResourceShortage::Disk { .. })));
        assert!(check_disk(&config(0, 0, 0)).is_ok());
        assert!(matches!(check_memory(&config(1 << 40, 0, 0), 0), Err(ResourceShortage::Memory { .. })));
        assert!(check_memory(&config(0, 1 << 40, 0), 100).is_ok(), "0 disables the check");
    }
}
