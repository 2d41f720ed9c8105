//! Why a machine was stopped, and why it exited.

use anteroom_wire::agent::Stage;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The signal of an access to a mapped file that the file system cannot serve.
const SIGBUS: i32 = rustix::process::Signal::BUS.as_raw();

/// The reason for a requested stop.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum StopReason {
    /// Its session is complete: the credential is stored.
    Completed,
    /// Its session was cancelled.
    Cancelled,
    /// Its session was idle for too long.
    IdleExpired,
    /// Its session reached its deadline.
    DeadlineExpired,
    /// Its session failed.
    Failed,
    /// Another machine replaces it.
    Restarted,
    /// No session owns it.
    Orphaned,
    /// An operator stopped it, or the reason is unknown to this version.
    Operator,
    /// It did not become ready in time.
    NotReady {
        /// The stage it did not reach.
        stage: Stage,
        /// The last error at that stage.
        last_error: Option<String>,
        /// Attempts at that stage.
        attempts: u32,
        /// Time since the start, milliseconds.
        elapsed_ms: u64,
    },
    /// Its agent speaks another protocol or runs another image.
    Mismatch {
        /// The version or image of this server.
        expected: String,
        /// The version or image of the machine.
        found: String,
    },
    /// It had been ready and then sent nothing for longer than the liveness timeout.
    Hung {
        /// Time without any received byte, milliseconds.
        unanswered_ms: u64,
    },
    /// It violated the protocol of a channel repeatedly.
    ChannelViolation {
        /// The channel's name.
        channel: String,
        /// The last violation.
        violation: String,
    },
}

impl StopReason {
    /// The stable name of the reason.
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
            Self::ChannelViolation { .. } => "channel_violation",
        }
    }

    /// The reason with that name; `None` for unknown names and for reasons that carry data.
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

/// Why a machine exited.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "cause")]
pub enum ExitReason {
    /// It was stopped on request.
    Stopped {
        /// The reason.
        reason: StopReason,
    },
    /// Its process exited by itself.
    Exited {
        /// The exit code.
        code: i32,
    },
    /// Its process was killed by a signal that its keeper did not send.
    Killed {
        /// The signal's number.
        signal: i32,
    },
    /// The host's kernel killed it because the host was out of memory.
    OutOfMemory,
    /// Its keeper stopped it at its maximum lifetime.
    Deadline,
    /// Its keeper ended it: the host had not been in contact with its cluster for `cluster.renew_deadline_s`.
    RenewDeadline,
    /// The guest powered off.
    GuestPowerOff,
    /// The guest's kernel panicked, or the guest reset itself.
    GuestPanic,
    /// The VMM met an error from which the guest cannot recover.
    VmmError {
        /// `internal-error`, `io-error` (QEMU's run states), or `unresponsive`: it did not answer its keeper.
        status: String,
    },
    /// Its process made a system call that no VMM makes: a program has broken out of the guest. Its keeper killed it.
    ForbiddenSystemCall {
        /// The name of the call.
        system_call: String,
    },
    /// Its keeper ended without a report, and the process ended with it.
    KeeperLost,
    /// It did not become ready in time.
    ReadyTimeout {
        /// The stage it did not reach.
        stage: Stage,
        /// The last error at that stage.
        last_error: Option<String>,
        /// Attempts at that stage.
        attempts: u32,
        /// Time since the start, milliseconds.
        elapsed_ms: u64,
    },
    /// Its agent speaks another protocol or runs another image.
    Mismatch {
        /// The version or image of this server.
        expected: String,
        /// The version or image of the machine.
        found: String,
    },
    /// It had been ready, then sent nothing for longer than the liveness timeout, and was stopped.
    Hung {
        /// Time without any received byte, milliseconds.
        unanswered_ms: u64,
    },
    /// It violated the protocol of a channel repeatedly, and was stopped.
    ChannelViolation {
        /// The channel's name.
        channel: String,
        /// The last violation.
        violation: String,
    },
    /// The process could not be started, or its saved state could not be loaded.
    NeverStarted {
        /// The error.
        error: String,
    },
}

impl fmt::Display for ExitReason {
    /// One sentence for operators.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stopped { reason } => write!(f, "the machine was stopped ({})", reason.name()),
            Self::Exited { code } => write!(f, "the machine's process exited by itself with code {code}"),
            Self::Killed { signal: SIGBUS } => write!(
                f,
                "the machine's process was killed by signal {SIGBUS} (SIGBUS): a file that it maps could not be read, or the disk was full"
            ),
            Self::Killed { signal } => write!(f, "the machine's process was killed by signal {signal}"),
            Self::OutOfMemory => f.write_str("the host ran out of memory and its kernel killed the machine's process"),
            Self::Deadline => f.write_str("the machine reached its maximum lifetime"),
            Self::RenewDeadline => {
                f.write_str("the host had lost contact with its cluster, so the keeper ended the machine")
            }
            Self::GuestPowerOff => f.write_str("the guest powered off"),
            Self::GuestPanic => f.write_str("the guest's kernel panicked or the guest reset itself"),
            Self::VmmError { status } => write!(f, "the machine's VMM failed: {status}"),
            Self::ForbiddenSystemCall { system_call } => write!(
                f,
                "the machine's process made the system call {system_call}, which no VMM makes, and was killed: a program may have broken out of the guest"
            ),
            Self::KeeperLost => f.write_str("the machine's keeper process ended, and the machine ended with it"),
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
                write!(f, "the machine sent nothing for {unanswered_ms} ms and was stopped")
            }
            Self::ChannelViolation { channel, violation } => {
                write!(
                    f,
                    "the machine violated the protocol of its channel {channel} repeatedly and was stopped: {violation}"
                )
            }
            Self::NeverStarted { error } => write!(f, "the machine could not be started: {error}"),
        }
    }
}

impl ExitReason {
    /// The reason of a machine that exited for `self` after a stop was requested: the request's, unless a program has broken out of the guest.
    /// That must not remain hidden, whatever else happens to the machine.
    pub(crate) fn of_stopping_machine(self, requested: &StopReason) -> Self {
        if matches!(self, Self::ForbiddenSystemCall { .. }) { self } else { Self::from_stop_reason(requested.clone()) }
    }

    pub(crate) fn from_stop_reason(reason: StopReason) -> Self {
        match reason {
            StopReason::NotReady { stage, last_error, attempts, elapsed_ms } => {
                Self::ReadyTimeout { stage, last_error, attempts, elapsed_ms }
            }
            StopReason::Mismatch { expected, found } => Self::Mismatch { expected, found },
            StopReason::Hung { unanswered_ms } => Self::Hung { unanswered_ms },
            StopReason::ChannelViolation { channel, violation } => Self::ChannelViolation { channel, violation },
            reason @ (StopReason::Completed
            | StopReason::Cancelled
            | StopReason::IdleExpired
            | StopReason::DeadlineExpired
            | StopReason::Failed
            | StopReason::Restarted
            | StopReason::Orphaned
            | StopReason::Operator) => Self::Stopped { reason },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_by_sigbus_names_the_file_or_the_disk() {
        let text = ExitReason::Killed { signal: 7 }.to_string();
        assert!(text.contains("SIGBUS") && text.contains("could not be read, or the disk was full"), "{text}");
        assert!(!ExitReason::Killed { signal: 9 }.to_string().contains("disk"));
    }
}
