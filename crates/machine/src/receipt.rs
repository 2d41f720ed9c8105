//! What is left of a machine: how it ended, its last console lines, and what was checked to be gone.

use crate::exit_reason::{ExitReason, StopReason};
use anteroom_wire::MachineId;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// How much of a guest's words goes into a reason, characters: it travels in one bounded line.
const SAID_CHARS_MAX: usize = 600;

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
    pub cause: ExitCause,
    /// Why it was ended, if somebody did and said more than the name in `how`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_detail: Option<StopDetail>,
    /// The console's tail, with what is not UTF-8 replaced.
    pub console_tail: String,
    /// The tail of what the process itself wrote to its error output.
    pub output_tail: String,
    /// What was looked at after the end.
    pub checks: CleanupChecks,
}

/// What was looked at after the end, and what of it was still there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct CleanupChecks {
    /// Process ids: the process and its descendants.
    pub pids: Vec<u32>,
    /// Socket names in the run directory that no longer answer.
    pub sockets: Vec<String>,
    /// Paths that no longer exist.
    pub paths: Vec<PathBuf>,
    /// Whatever of the above was still there. Empty in a clean end.
    pub leftovers: Vec<String>,
}

/// How a machine ended, as its keeper saw it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum ExitCause {
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
    /// QEMU stopped the guest, because it could not run it on.
    VmmError {
        /// QEMU's run state: `internal-error`, `io-error`.
        status: String,
    },
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

/// Why somebody ended a machine, in the words of the server that did. Keepers outlive upgrades, so a keeper hands it on
/// unread: neither does a reason that it does not know keep it from ending its machine, nor is that reason lost.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StopDetail(Value);

impl StopDetail {
    /// This reason; what a guest said in it is cut to a bounded length.
    pub(crate) fn of(why: &StopReason) -> Option<Self> {
        let cut = |said: &str| said.chars().take(SAID_CHARS_MAX).collect::<String>();
        let mut why = why.clone();
        match &mut why {
            StopReason::NotReady { last_error: Some(error), .. } => *error = cut(error),
            StopReason::Mismatch { expected, found } => (*expected, *found) = (cut(expected), cut(found)),
            StopReason::NotReady { last_error: None, .. }
            | StopReason::Hung { .. }
            | StopReason::Completed
            | StopReason::Cancelled
            | StopReason::IdleExpired
            | StopReason::DeadlineExpired
            | StopReason::Failed
            | StopReason::Restarted
            | StopReason::Orphaned
            | StopReason::Operator => {}
        }
        // A reason that were no JSON would be told by its name alone.
        serde_json::to_value(why).ok().map(Self)
    }

    /// The reason; `None`: this version does not know it.
    pub fn reason(&self) -> Option<StopReason> {
        StopReason::deserialize(&self.0).ok()
    }
}

impl ExitCause {
    /// The same, in the controller's words. `because`: what its keeper was told beside the name of the reason.
    pub(crate) fn exit_reason(&self, detail: Option<&StopDetail>) -> ExitReason {
        match (self, detail.and_then(StopDetail::reason)) {
            (Self::Stopped { why }, Some(reason)) if reason.name() == why => ExitReason::from_stop_reason(reason),
            _ => self.reason_by_name(),
        }
    }

    /// The same, as far as its name alone says it.
    pub(crate) fn reason_by_name(&self) -> ExitReason {
        match self {
            Self::Stopped { why } => {
                ExitReason::Stopped { why: StopReason::from_name(why).unwrap_or(StopReason::Operator) }
            }
            Self::Deadline => ExitReason::Deadline,
            Self::Exited { code } => ExitReason::Exited { code: *code },
            Self::Killed { signal } => ExitReason::Killed { signal: *signal },
            Self::OutOfMemory => ExitReason::OutOfMemory,
            Self::GuestPowerOff => ExitReason::GuestPowerOff,
            Self::GuestPanic => ExitReason::GuestPanic,
            Self::VmmError { status } => ExitReason::VmmError { status: status.clone() },
            Self::Saved => ExitReason::Exited { code: 0 },
            Self::NeverStarted { error } | Self::SaveFailed { error } => {
                ExitReason::NeverStarted { error: error.clone() }
            }
            Self::KeeperLost => ExitReason::KeeperLost,
        }
    }
}

/// Where `machine`'s receipt lies.
pub(crate) fn path(receipts_dir: &Path, machine: &MachineId) -> PathBuf {
    receipts_dir.join(format!("{machine}.json"))
}

impl Receipt {
    /// How the machine ended, in the controller's words.
    pub fn reason(&self) -> ExitReason {
        self.cause.exit_reason(self.stop_detail.as_ref())
    }

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

#[cfg(test)]
mod tests {
    use super::*;
    use anteroom_wire::agent::Stage;

    #[test]
    fn a_reason_goes_through_a_keeper_whole_but_for_a_guests_long_words() {
        let not_ready = |said: usize| {
            let last_error = Some("\u{1}".repeat(said));
            StopReason::NotReady { stage: Stage::Display, last_error, attempts: 3, elapsed_ms: 60_001 }
        };
        let through = |why: &StopReason| StopDetail::of(why).unwrap().reason().unwrap();
        assert_eq!(through(&not_ready(SAID_CHARS_MAX)), not_ready(SAID_CHARS_MAX));
        assert_eq!(through(&not_ready(1_000_000)), not_ready(SAID_CHARS_MAX));
        let long = StopReason::Mismatch { expected: "image a".into(), found: "b".repeat(1_000_000) };
        let line = serde_json::to_vec(&StopDetail::of(&long)).unwrap();
        assert!(line.len() < crate::keeper::control::LINE_BYTES_MAX / 2, "{}", line.len());
    }

    #[test]
    fn a_receipt_of_an_older_keeper_says_what_its_name_says() {
        let of = |cause: ExitCause| Receipt { cause, ..serde_json::from_str(OLDER).unwrap() }.reason();
        let stopped = |why: &str| of(ExitCause::Stopped { why: why.into() });
        assert_eq!(stopped("cancelled"), ExitReason::Stopped { why: StopReason::Cancelled });
        assert_eq!(stopped("hung"), ExitReason::Stopped { why: StopReason::Operator }, "how long it was, nobody wrote");
    }

    /// As version 1 of the control protocol wrote it before reasons were handed on.
    const OLDER: &str = r#"{"machine":"mac_00000000000000000000000001","began_unix_ms":1,"ended_unix_ms":2,
        "cause":{"kind":"deadline"},"console_tail":"","output_tail":"",
        "checks":{"pids":[],"sockets":[],"paths":[],"leftovers":[]}}"#;
}
