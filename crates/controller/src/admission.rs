//! Whether this host has room for another machine: memory and disk. (How many machines there may be is the queue's.)
//!
//! Refusing a session with the cause's name is better than letting the kernel choose a machine to kill, or a full disk choose
//! a database write to fail.

use crate::{api_error::ApiError, app::App, config::Config};
use anteroom_machine::State;
use anteroom_wire::Problem;
use std::{io, path::Path};

/// What there is too little of.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Shortage {
    /// Memory.
    #[error(
        "{available_mib} MiB of memory are available; another machine takes about {expected_mib} MiB and \
         machines.memory_free_mib_min of {min_mib} must be left"
    )]
    Memory {
        /// What the kernel could give away.
        available_mib: u64,
        /// What this machine and those that are just starting will take.
        expected_mib: u64,
        /// The setting.
        min_mib: u64,
    },
    /// Disk.
    #[error("{free_mib} MiB are free below the state directory; machines.disk_free_mib_min is {min_mib}")]
    Disk {
        /// What this user may still write.
        free_mib: u64,
        /// The setting.
        min_mib: u64,
    },
    /// It cannot be found out.
    #[error("{0}")]
    Unknown(String),
}

impl Shortage {
    /// The refusal's name.
    pub fn problem(&self) -> Problem {
        match self {
            Self::Memory { .. } => Problem::MemoryLow,
            Self::Disk { .. } => Problem::DiskLow,
            Self::Unknown(_) => Problem::NoCapacity,
        }
    }
}

/// Whether another machine may be started now.
///
/// # Errors
/// What there is too little of.
pub fn check_capacity(app: &App) -> Result<(), Shortage> {
    disk(&app.config)?;
    memory(&app.config, pending_machines(app) + 1)?;
    Ok(())
}

/// Whether another session may be started now.
///
/// # Errors
/// The refusal by its name: `disk_low`, `memory_low`.
pub fn admit(app: &App) -> Result<(), ApiError> {
    check_capacity(app).map_err(|shortage| {
        let refusal = ApiError::new(shortage.problem(), shortage.to_string());
        tracing::warn!(
            outcome = "not_admitted",
            reason = refusal.problem.code(),
            detail = refusal.detail,
            "a new session was refused"
        );
        refusal
    })
}

/// Has the queue ask before it lets anybody in: who was accepted waits while there is no room.
pub fn install_check(app: &App) {
    // Not the app itself: the queue is its part.
    let weak = app.downgrade();
    app.queue.set_admission_check(move || match App::upgrade(&weak) {
        Some(app) => check_capacity(&app).map_err(|shortage| shortage.to_string()),
        None => Ok(()),
    });
}

/// Machines whose memory does not show yet: those that start, and those that whoever was let in is about to ask for.
pub fn pending_machines(app: &App) -> u64 {
    count_pending(app.queue.in_use(), app.machines.list().iter().map(|(_, state)| state))
}

fn count_pending<'a>(given: u32, states: impl Iterator<Item = &'a State>) -> u64 {
    let (mut starting, mut settled) = (0_u64, 0_u64);
    for state in states {
        match state {
            State::Requested | State::Cloning | State::Waiting { .. } => starting += 1,
            State::Ready { .. } | State::Stopping { .. } | State::Exited { .. } | State::Removed { .. } => settled += 1,
        }
    }
    u64::from(given).saturating_sub(settled).max(starting)
}

/// What is free below the state directory, in words.
///
/// # Errors
/// It is too little, or cannot be looked at.
pub fn disk(config: &Config) -> Result<String, Shortage> {
    let min_mib = config.machines.disk_free_mib_min;
    let free_mib = disk_free_mib(&config.state_dir)
        .map_err(|error| Shortage::Unknown(format!("the state directory cannot be looked at: {error}")))?;
    if free_mib < min_mib {
        return Err(Shortage::Disk { free_mib, min_mib });
    }
    Ok(format!("{free_mib} MiB free below the state directory"))
}

/// What is available of the host's memory, in words, when `coming` more machines take theirs.
///
/// # Errors
/// It is too little, or cannot be looked at.
pub fn memory(config: &Config, pending: u64) -> Result<String, Shortage> {
    let machines = &config.machines;
    let text = std::fs::read_to_string("/proc/meminfo").ok();
    let Some(available_mib) = text.as_deref().and_then(available_mib) else {
        // A host that does not say is not one that has none.
        return Ok("the host does not say how much memory is available".to_owned());
    };
    let expected_mib = machines.memory_per_machine_mib.saturating_mul(pending);
    let min_mib = machines.memory_free_mib_min;
    if min_mib > 0 && available_mib.saturating_sub(expected_mib) < min_mib {
        return Err(Shortage::Memory { available_mib, expected_mib, min_mib });
    }
    Ok(format!("{available_mib} MiB of memory available"))
}

/// What this user may still write there, MiB.
///
/// # Errors
/// The directory cannot be looked at.
pub fn disk_free_mib(dir: &Path) -> io::Result<u64> {
    let disk = rustix::fs::statvfs(dir)?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize) >> 20)
}

/// `MemAvailable` of proc(5), `meminfo`.
pub fn available_mib(meminfo: &str) -> Option<u64> {
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
    fn memory_is_what_the_kernel_says_is_available() {
        assert_eq!(available_mib("MemTotal: 9 kB\nMemAvailable:    2097152 kB\n"), Some(2048));
        assert_eq!(available_mib("MemTotal: 9 kB\n"), None);
    }

    #[test]
    fn each_machine_on_its_way_counts_with_its_expected_cost() {
        let text = std::fs::read_to_string("/proc/meminfo").unwrap();
        let half = available_mib(&text).unwrap() / 2;
        let config = config(1, half, 0);
        assert!(memory(&config, 1).is_ok());
        assert!(matches!(memory(&config, 3), Err(Shortage::Memory { .. })));
    }

    #[test]
    fn who_was_let_in_counts_before_the_machine_is_there_and_no_more_when_it_is() {
        let ended = State::Stopping { why: anteroom_machine::StopReason::Completed };
        assert_eq!(count_pending(3, [].into_iter()), 3, "none of them has asked yet");
        assert_eq!(count_pending(3, [State::Requested, State::Cloning].iter()), 3, "two have asked");
        assert_eq!(count_pending(3, [State::Cloning, ended.clone()].iter()), 2);
        assert_eq!(
            count_pending(0, [State::Requested, ended].iter()),
            1,
            "a machine without a session takes memory, too"
        );
    }

    #[test]
    fn a_watermark_above_what_is_free_refuses_and_none_does_not() {
        assert!(matches!(disk(&config(0, 0, 1 << 40)), Err(Shortage::Disk { .. })));
        assert!(disk(&config(0, 0, 0)).is_ok());
        assert!(matches!(memory(&config(1 << 40, 0, 0), 0), Err(Shortage::Memory { .. })));
        assert!(memory(&config(0, 1 << 40, 0), 100).is_ok(), "0: not looked at");
    }
}
