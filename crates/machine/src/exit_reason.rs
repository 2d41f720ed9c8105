//! Why a machine ended: the reason somebody stopped it for, or what happened to its process.

use anteroom_wire::agent::Stage;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Why somebody ended a machine.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "reason")]
pub enum StopReason {
    /// Its session is complete: the credential is stored.
    Completed,
    /// Its session was cancelled.
    Cancelled,
    /// Its session's idle grace ran out.
    IdleExpired,
    /// Its session reached the hard cap.
    DeadlineExpired,
    /// Its session failed.
    Failed,
    /// It is being replaced by another.
    Restarted,
    /// No session owns it.
    Orphaned,
    /// A person at the host ended it, or a reason this version does not know.
    Operator,
    /// It was not ready in time.
    NotReady {
        /// The stage it waited for.
        stage: Stage,
        /// The last error there.
        last_error: Option<String>,
        /// Tries at that stage.
        attempts: u32,
        /// How long it was waited for, milliseconds.
        elapsed_ms: u64,
    },
    /// Its agent speaks another protocol or runs another image.
    Mismatch {
        /// Ours.
        expected: String,
        /// Its.
        found: String,
    },
    /// It had been ready and gave no sign of life for too long.
    Hung {
        /// How long nothing was heard of it, milliseconds.
        unanswered_ms: u64,
    },
}

impl StopReason {
    /// The stable word for it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Cancelled => "cancelled",
            Self::IdleExpired => "idle_expired",
            Self::DeadlineExpired => "deadline_expired",
            Self::Failed => "failed",
            Self::Restarted => "restarted",
            Self::Orphaned => "orphaned",
            Self::Operator => "operator",
            Self::NotReady { .. } => "not_ready",
            Self::Mismatch { .. } => "mismatch",
            Self::Hung { .. } => "hung",
        }
    }

    /// The reason of that name, where the name says all of it.
    pub fn from_name(name: &str) -> Option<Self> {
        [
            Self::Completed,
            Self::Cancelled,
            Self::IdleExpired,
            Self::DeadlineExpired,
            Self::Failed,
            Self::Restarted,
            Self::Orphaned,
            Self::Operator,
        ]
        .into_iter()
        .find(|reason| reason.name() == name)
    }
}

/// Why a machine is gone.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "cause")]
pub enum ExitReason {
    /// Somebody ended it.
    Stopped {
        /// Why.
        why: StopReason,
    },
    /// Its process ended by itself.
    Exited {
        /// The exit code.
        code: i32,
    },
    /// Its process was killed, not by us.
    Killed {
        /// The signal's number.
        signal: i32,
    },
    /// The host's kernel killed it for want of memory.
    OutOfMemory,
    /// Its keeper ended it at the hard deadline.
    Deadline,
    /// The guest switched itself off.
    GuestPowerOff,
    /// The guest's kernel gave up, or the guest reset itself.
    GuestPanic,
    /// QEMU stopped the guest, because it could not run it on.
    VmmError {
        /// QEMU's run state: `internal-error`, `io-error`.
        status: String,
    },
    /// Its keeper ended without a word; the process died with it.
    KeeperLost,
    /// It was not ready in time.
    ReadyTimeout {
        /// The stage it waited for.
        stage: Stage,
        /// The last error there.
        last_error: Option<String>,
        /// Tries at that stage.
        attempts: u32,
        /// How long it was waited for, milliseconds.
        elapsed_ms: u64,
    },
    /// Its agent speaks another protocol or runs another image.
    Mismatch {
        /// Ours.
        expected: String,
        /// Its.
        found: String,
    },
    /// It had been ready and gave no sign of life for too long, so it was ended.
    Hung {
        /// How long nothing was heard of it, milliseconds.
        unanswered_ms: u64,
    },
    /// The process or its saved state could not be started.
    NeverStarted {
        /// Why.
        error: String,
    },
}

impl fmt::Display for ExitReason {
    /// One sentence for people.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stopped { why } => write!(f, "the machine was ended ({})", why.name()),
            Self::Exited { code } => write!(f, "the machine's process ended by itself with exit code {code}"),
            Self::Killed { signal } => write!(f, "the machine's process was killed by signal {signal}"),
            Self::OutOfMemory => f.write_str("the host's kernel killed the machine's process for want of memory"),
            Self::Deadline => f.write_str("the machine reached its hard deadline"),
            Self::GuestPowerOff => f.write_str("the guest switched itself off"),
            Self::GuestPanic => f.write_str("the guest's kernel gave up"),
            Self::VmmError { status } => write!(f, "QEMU could not run the machine on ({status})"),
            Self::KeeperLost => f.write_str("the machine's keeper was killed, and the machine with it"),
            Self::ReadyTimeout { stage, last_error, attempts, elapsed_ms } => {
                write!(
                    f,
                    "the machine was not ready after {elapsed_ms} ms: it waited for {stage:?}, {attempts} attempts"
                )?;
                last_error.as_ref().map_or(Ok(()), |error| write!(f, ", last error: {error}"))
            }
            Self::Mismatch { expected, found } => {
                write!(f, "the machine runs {found}, but {expected} was expected")
            }
            Self::Hung { unanswered_ms } => {
                write!(f, "the machine gave no sign of life for {unanswered_ms} ms and was ended")
            }
            Self::NeverStarted { error } => write!(f, "the machine could not be started: {error}"),
        }
    }
}

impl ExitReason {
    pub(crate) fn from_stop_reason(why: StopReason) -> Self {
        match why {
            StopReason::NotReady { stage, last_error, attempts, elapsed_ms } => {
                Self::ReadyTimeout { stage, last_error, attempts, elapsed_ms }
            }
            StopReason::Mismatch { expected, found } => Self::Mismatch { expected, found },
            StopReason::Hung { unanswered_ms } => Self::Hung { unanswered_ms },
            why @ (StopReason::Completed
            | StopReason::Cancelled
            | StopReason::IdleExpired
            | StopReason::DeadlineExpired
            | StopReason::Failed
            | StopReason::Restarted
            | StopReason::Orphaned
            | StopReason::Operator) => Self::Stopped { why },
        }
    }
}
