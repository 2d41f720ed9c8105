//! The record that a keeper writes when its machine has exited: the cause, the last console output, the cleanup checks.

use crate::{
    confinement::{Layer, LayerStatus},
    exit_reason::{ExitReason, StopReason},
};
use anteroom_wire::MachineId;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
};

/// The longest text from a guest in a stop reason, characters: the reason is sent in one line of bounded length.
const GUEST_TEXT_CHARS_MAX: usize = 600;

/// One JSON file per machine, written by its keeper. Console and output come from the guest: bounded and untrusted.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Receipt {
    /// The machine's id.
    pub machine: MachineId,
    /// When its keeper started, milliseconds since 1970.
    pub began_unix_ms: u64,
    /// When cleanup was done, milliseconds since 1970.
    pub ended_unix_ms: u64,
    /// What ended it.
    pub cause: ExitCause,
    /// For a requested stop: the full reason, of which `cause` has only the name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_detail: Option<StopDetail>,
    /// The end of the console output; invalid UTF-8 is replaced.
    pub console_tail: String,
    /// The end of the process's standard output and standard error.
    pub output_tail: String,
    /// What was checked after cleanup.
    pub checks: CleanupChecks,
    /// The layers of its confinement; empty for a process that was not confined.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub confinement: BTreeMap<Layer, LayerStatus>,
    /// How often its process made a system call that was denied, by name of the call.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub denied_system_calls: BTreeMap<String, u32>,
    /// Paths that it was denied to open, at most 32, each cut after 128 bytes; control characters and invalid UTF-8 are replaced.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub denied_paths: BTreeSet<String>,
}

/// What was checked after cleanup, and what was still there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct CleanupChecks {
    /// Ids of the process and its descendants.
    pub pids: Vec<u32>,
    /// Socket names in the run directory that were tested for a listener.
    pub sockets: Vec<String>,
    /// Paths that were tested for existence.
    pub paths: Vec<PathBuf>,
    /// Everything that was still there. Empty after a complete cleanup.
    pub leftovers: Vec<String>,
}

/// What ended a machine, as its keeper observed it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum ExitCause {
    /// The controller requested a stop.
    Stopped {
        /// [`StopReason::name`].
        reason: String,
    },
    /// The machine reached its maximum lifetime.
    Deadline,
    /// The host was in a cluster and had not renewed its deadline.
    RenewDeadline,
    /// The process exited by itself.
    Exited {
        /// The exit code.
        code: i32,
    },
    /// A signal that the keeper did not send.
    Killed {
        /// The signal's number.
        signal: i32,
    },
    /// The host's kernel killed the process because the host was out of memory.
    OutOfMemory,
    /// The guest powered off.
    GuestPowerOff,
    /// The guest reset itself or its kernel panicked.
    GuestPanic,
    /// The VMM met an error from which the guest cannot recover.
    VmmError {
        /// `internal-error`, `io-error` (QEMU's run states), or `unresponsive`: it did not answer its keeper.
        status: String,
    },
    /// The process made a system call that no VMM makes, and its keeper killed it.
    ForbiddenSystemCall {
        /// The name of the call.
        system_call: String,
    },
    /// The state was saved and the process stopped (preparation of a template).
    Saved,
    /// The state could not be saved, or the VMM sent an invalid message.
    SaveFailed {
        /// The error.
        error: String,
    },
    /// The process could not be started.
    NeverStarted {
        /// The error.
        error: String,
    },
    /// The keeper itself was killed. Written by the controller.
    KeeperLost,
}

/// A [`StopReason`] as JSON. Keepers outlive server upgrades, so a keeper passes it on without parsing it: an unknown reason
/// neither prevents the stop nor gets lost.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StopDetail(Value);

impl StopDetail {
    /// `reason` as JSON; texts that come from the guest are cut to a bounded length.
    pub(crate) fn from_reason(reason: &StopReason) -> Option<Self> {
        let cut = |text: &str| text.chars().take(GUEST_TEXT_CHARS_MAX).collect::<String>();
        let mut reason = reason.clone();
        match &mut reason {
            StopReason::NotReady { last_error: Some(error), .. } => *error = cut(error),
            StopReason::Mismatch { expected, found } => (*expected, *found) = (cut(expected), cut(found)),
            StopReason::NotReady { last_error: None, .. }
            | StopReason::Hung { .. }
            | StopReason::ChannelViolation { .. }
            | StopReason::Completed
            | StopReason::Cancelled
            | StopReason::IdleExpired
            | StopReason::DeadlineExpired
            | StopReason::Failed
            | StopReason::Restarted
            | StopReason::Orphaned
            | StopReason::Operator => {}
        }
        // Without the JSON, the reason's name is still sent.
        serde_json::to_value(reason).ok().map(Self)
    }

    /// The parsed reason; `None` when this version does not know it.
    pub fn reason(&self) -> Option<StopReason> {
        StopReason::deserialize(&self.0).ok()
    }
}

impl ExitCause {
    /// The cause as an exit reason, with the data from `detail` when it matches the stop's name.
    pub(crate) fn to_exit_reason(&self, detail: Option<&StopDetail>) -> ExitReason {
        match (self, detail.and_then(StopDetail::reason)) {
            (Self::Stopped { reason: name }, Some(reason)) if reason.name() == name => {
                ExitReason::from_stop_reason(reason)
            }
            _ => self.to_exit_reason_without_detail(),
        }
    }

    /// The cause as an exit reason, without a stop's data.
    pub(crate) fn to_exit_reason_without_detail(&self) -> ExitReason {
        match self {
            Self::Stopped { reason } => {
                ExitReason::Stopped { reason: StopReason::from_name(reason).unwrap_or(StopReason::Operator) }
            }
            Self::Deadline => ExitReason::Deadline,
            Self::RenewDeadline => ExitReason::RenewDeadline,
            Self::Exited { code } => ExitReason::Exited { code: *code },
            Self::Killed { signal } => ExitReason::Killed { signal: *signal },
            Self::OutOfMemory => ExitReason::OutOfMemory,
            Self::GuestPowerOff => ExitReason::GuestPowerOff,
            Self::GuestPanic => ExitReason::GuestPanic,
            Self::VmmError { status } => ExitReason::VmmError { status: status.clone() },
            Self::ForbiddenSystemCall { system_call } => {
                ExitReason::ForbiddenSystemCall { system_call: system_call.clone() }
            }
            Self::Saved => ExitReason::Exited { code: 0 },
            Self::NeverStarted { error } | Self::SaveFailed { error } => {
                ExitReason::NeverStarted { error: error.clone() }
            }
            Self::KeeperLost => ExitReason::KeeperLost,
        }
    }
}

/// The path of `machine`'s receipt.
pub(crate) fn receipt_path(receipts_dir: &Path, machine: &MachineId) -> PathBuf {
    receipts_dir.join(format!("{machine}.json"))
}

impl Receipt {
    /// Why the machine exited.
    pub fn exit_reason(&self) -> ExitReason {
        self.cause.to_exit_reason(self.stop_detail.as_ref())
    }

    /// Reads the receipt of `machine`; `None` when there is none.
    ///
    /// # Errors
    /// The file exists and cannot be read or parsed.
    pub fn read(receipts_dir: &Path, machine: &MachineId) -> io::Result<Option<Self>> {
        match fs::read(receipt_path(receipts_dir, machine)) {
            Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes a temporary file and renames it, so that readers never see a partial receipt. Not synced: a receipt is
    /// diagnostic data, and cleanup need not wait for a disk.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, receipts_dir: &Path) -> io::Result<()> {
        fs::create_dir_all(receipts_dir)?;
        let path = receipt_path(receipts_dir, &self.machine);
        let temporary = receipts_dir.join(format!(".{}.{}", self.machine, std::process::id()));
        fs::write(&temporary, serde_json::to_vec(self)?)?;
        fs::rename(&temporary, &path)
    }
}

/// Removes the oldest receipts so that at most `receipts_max` remain; returns how many were removed.
///
/// # Errors
/// The directory cannot be read.
pub(crate) fn prune_receipts(receipts_dir: &Path, receipts_max: usize) -> io::Result<usize> {
    let mut names: Vec<String> = fs::read_dir(receipts_dir)?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.starts_with(MachineId::PREFIX) && name.ends_with(".json"))
        .collect();
    // Ids are ULIDs: they sort by creation time.
    names.sort_unstable();
    let excess = names.len().saturating_sub(receipts_max);
    Ok(names.iter().take(excess).filter(|name| fs::remove_file(receipts_dir.join(name)).is_ok()).count())
}

#[cfg(test)]
mod tests {
    use super::*;
    use anteroom_wire::agent::Stage;

    #[test]
    fn stop_detail_keeps_the_reason_and_truncates_long_guest_texts() {
        let not_ready = |chars: usize| {
            let last_error = Some("\u{1}".repeat(chars));
            StopReason::NotReady { stage: Stage::Display, last_error, attempts: 3, elapsed_ms: 60_001 }
        };
        let round_trip = |reason: &StopReason| StopDetail::from_reason(reason).unwrap().reason().unwrap();
        assert_eq!(round_trip(&not_ready(GUEST_TEXT_CHARS_MAX)), not_ready(GUEST_TEXT_CHARS_MAX));
        assert_eq!(round_trip(&not_ready(1_000_000)), not_ready(GUEST_TEXT_CHARS_MAX));
        let long = StopReason::Mismatch { expected: "image a".into(), found: "b".repeat(1_000_000) };
        let line = serde_json::to_vec(&StopDetail::from_reason(&long)).unwrap();
        assert!(line.len() < crate::keeper::control::LINE_BYTES_MAX / 2, "{}", line.len());
    }

    #[test]
    fn receipt_without_stop_detail_is_read_by_the_stops_name() {
        let reason = |cause: ExitCause| Receipt { cause, ..serde_json::from_str(MINIMAL).unwrap() }.exit_reason();
        let stopped = |name: &str| reason(ExitCause::Stopped { reason: name.into() });
        assert_eq!(stopped("cancelled"), ExitReason::Stopped { reason: StopReason::Cancelled });
        assert_eq!(stopped("hung"), ExitReason::Stopped { reason: StopReason::Operator }, "the duration is unknown");
    }

    /// A receipt without the optional fields.
    const MINIMAL: &str = r#"{"machine":"mac_00000000000000000000000001","began_unix_ms":1,"ended_unix_ms":2,
        "cause":{"kind":"deadline"},"console_tail":"","output_tail":"",
        "checks":{"pids":[],"sockets":[],"paths":[],"leftovers":[]}}"#;
}
