//! What is left of a machine: how it ended, its last console lines, and what was checked to be gone.

use crate::state::{GoneReason, StopReason};
use anteroom_wire::MachineId;
use serde::{Deserialize, Serialize};
use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// A keeper's last words, one JSON file per machine. Console and output are the guest's: bounded and never trusted.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Receipt {
    /// Which machine.
    pub machine: MachineId,
    /// When its keeper began, milliseconds since 1970.
    pub began_unix_ms: u64,
    /// When its end was complete, milliseconds since 1970.
    pub ended_unix_ms: u64,
    /// How it ended.
    pub how: End,
    /// The console's tail, with what is not UTF-8 replaced.
    pub console_tail: String,
    /// The tail of what the process itself wrote to its error output.
    pub output_tail: String,
    /// What was looked at after the end.
    pub checks: Checks,
}

/// What was looked at after the end, and what of it was still there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Checks {
    /// Process ids: the process and its descendants.
    pub pids: Vec<u32>,
    /// Socket names in the run directory that no longer answer.
    pub sockets: Vec<String>,
    /// Paths that no longer exist.
    pub paths: Vec<PathBuf>,
    /// Whatever of the above was still there. Empty in a clean end.
    pub left: Vec<String>,
}

/// How a machine ended, as its keeper saw it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "how")]
pub enum End {
    /// The controller asked for it.
    Stopped {
        /// [`StopReason::name`].
        why: String,
    },
    /// The hard deadline.
    Deadline,
    /// By itself.
    Exited {
        /// The exit code.
        code: i32,
    },
    /// By a signal that the keeper did not send.
    Killed {
        /// Its number.
        signal: i32,
    },
    /// By the host kernel's want of memory.
    OutOfMemory,
    /// The guest switched itself off.
    GuestPowerOff,
    /// The guest reset itself or its kernel gave up.
    GuestPanic,
    /// The state was saved and the process told to quit (a template's preparation).
    Saved,
    /// The state could not be saved, or QEMU cannot be understood.
    SaveFailed {
        /// Why.
        error: String,
    },
    /// The process could not be started.
    NeverStarted {
        /// Why.
        error: String,
    },
    /// The keeper itself was killed. Written by the controller, who found out.
    KeeperLost,
}

impl End {
    /// The same, in the controller's words.
    pub fn reason(&self) -> GoneReason {
        match self {
            Self::Stopped { why } => {
                GoneReason::Stopped { why: StopReason::from_name(why).unwrap_or(StopReason::Operator) }
            }
            Self::Deadline => GoneReason::Deadline,
            Self::Exited { code } => GoneReason::Exited { code: *code },
            Self::Killed { signal } => GoneReason::Killed { signal: *signal },
            Self::OutOfMemory => GoneReason::OutOfMemory,
            Self::GuestPowerOff => GoneReason::GuestPowerOff,
            Self::GuestPanic => GoneReason::GuestPanic,
            Self::Saved => GoneReason::Exited { code: 0 },
            Self::NeverStarted { error } | Self::SaveFailed { error } => {
                GoneReason::NeverStarted { error: error.clone() }
            }
            Self::KeeperLost => GoneReason::KeeperLost,
        }
    }
}

/// Where `machine`'s receipt lies.
pub(crate) fn path(receipts_dir: &Path, machine: &MachineId) -> PathBuf {
    receipts_dir.join(format!("{machine}.json"))
}

impl Receipt {
    /// The receipt of `machine`; `None` when there is none.
    ///
    /// # Errors
    /// When the file is there and cannot be read as a receipt.
    pub fn read(receipts_dir: &Path, machine: &MachineId) -> io::Result<Option<Self>> {
        match fs::read(path(receipts_dir, machine)) {
            Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes it beside its place and renames it there, so that nobody reads half of one. Not synced: it is evidence,
    /// not state, and a machine's end need not wait for a disk.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, receipts_dir: &Path) -> io::Result<()> {
        fs::create_dir_all(receipts_dir)?;
        let place = path(receipts_dir, &self.machine);
        let beside = receipts_dir.join(format!(".{}.{}", self.machine, std::process::id()));
        fs::write(&beside, serde_json::to_vec(self)?)?;
        fs::rename(&beside, &place)
    }
}

/// Removes the oldest receipts so that at most `receipts_max` are left; returns how many went.
///
/// # Errors
/// When the directory cannot be read.
pub(crate) fn prune(receipts_dir: &Path, receipts_max: usize) -> io::Result<usize> {
    let mut names: Vec<String> = fs::read_dir(receipts_dir)?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.starts_with(MachineId::PREFIX) && name.ends_with(".json"))
        .collect();
    // Ids sort by age.
    names.sort_unstable();
    let excess = names.len().saturating_sub(receipts_max);
    Ok(names.iter().take(excess).filter(|name| fs::remove_file(receipts_dir.join(name)).is_ok()).count())
}
