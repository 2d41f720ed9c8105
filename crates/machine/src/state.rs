//! A machine's life, pure: no clock, no I/O, no log.
//!
//! ```text
//!  Requested ─▶ Cloning ─▶ Waiting{stage} ◀──▶ Ready{channels}
//!      │           │            │                  │
//!      └───────────┴────────────┴──────────────────┴─▶ Stopping{why} ─▶ Dead{why} ─▶ Gone{why}
//!                (the process may end at any moment: ─▶ Dead, or ─▶ Gone where nobody says so first)
//! ```
//!
//! `Dead` is told at once, `Gone` when nothing of the machine is left: only then another one may take its place.
//! One task per machine writes it; all others ask (and are told *enqueued*, *ignored* or *denied*) or watch. Why a machine
//! is gone follows from what was intended before what the process's exit status says: a VMM that we kill does not exit 0.

use crate::{channel::AgentClient, receipt::Receipt};
use anteroom_wire::agent::{Hello, Stage};
use serde::{Deserialize, Serialize};
use std::{fmt, sync::Arc};

/// What is true of a machine. `C` is how to talk to a ready one: [`Channels`], but for those who reason about the lifecycle
/// alone.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum State<C = Channels> {
    /// Asked for; nothing exists yet.
    Requested,
    /// Its keeper exists and starts the process.
    Cloning,
    /// The process exists; the machine is not ready (or no longer).
    Waiting {
        /// What it waits for.
        stage: Stage,
        /// Why the last try failed.
        last_error: Option<String>,
        /// Tries at this stage so far.
        attempts: u32,
    },
    /// Its agent answers and everything in it is up.
    Ready {
        /// How to talk to it. They exist here and nowhere else.
        channels: C,
    },
    /// Told to end.
    Stopping {
        /// Why.
        why: StopReason,
    },
    /// Its process has ended. Its keeper still clears away what is left of it.
    Dead {
        /// Why. The same stands when it is gone.
        why: GoneReason,
    },
    /// Nothing of it is left.
    Gone {
        /// Why.
        why: GoneReason,
        /// What its keeper wrote down at the end; `None`: the keeper did not live to write it.
        receipt: Option<Box<Receipt>>,
    },
}

/// How to talk to a ready machine. Cheap to clone; a clone that outlives the machine only gets errors.
#[derive(Debug, Clone)]
pub struct Channels {
    /// Calls to the agent.
    pub agent: AgentClient,
    /// What the agent said when it became ready.
    pub hello: Arc<Hello>,
    /// How long the start took.
    pub timings: Timings,
}

/// How long a start took: milliseconds since the machine was asked for (for an adopted one: since its adoption).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timings {
    /// The keeper reported the process.
    pub spawned_ms: u64,
    /// The channel answered the nonce.
    pub channel_ms: u64,
    /// The agent said hello.
    pub hello_ms: u64,
    /// All stages were up.
    pub ready_ms: u64,
}

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
    Unowned,
    /// The host may no longer hold it.
    LeaseLost,
    /// The server ends and takes its machines with it.
    ShuttingDown,
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
            Self::Unowned => "unowned",
            Self::LeaseLost => "lease_lost",
            Self::ShuttingDown => "shutting_down",
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
            Self::Unowned,
            Self::LeaseLost,
            Self::ShuttingDown,
            Self::Operator,
        ]
        .into_iter()
        .find(|reason| reason.name() == name)
    }
}

/// Why a machine is gone.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "cause")]
pub enum GoneReason {
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

impl fmt::Display for GoneReason {
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

/// What happens to a machine.
#[derive(Debug, Clone)]
pub enum Event<C = Channels> {
    /// Its keeper was started, or found alive.
    KeeperFound,
    /// Its process runs.
    ProcessRuns,
    /// A try at a stage; `error` says why it did not succeed, `None`: it is being tried.
    Tried {
        /// Which.
        stage: Stage,
        /// Why it failed.
        error: Option<String>,
    },
    /// Everything is up.
    BecameReady(C),
    /// The agent's channel broke.
    ChannelLost {
        /// How.
        error: String,
    },
    /// Somebody wants it ended.
    StopAsked(StopReason),
    /// Its process has ended.
    Died {
        /// How it looks from outside.
        how: GoneReason,
    },
    /// Nothing of it is left.
    Ended {
        /// How it looks from outside.
        how: GoneReason,
        /// The keeper's last words.
        receipt: Option<Box<Receipt>>,
    },
}

/// Why an event has no effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The machine is gone: nothing happens to it any more.
    #[error("the machine is gone")]
    Gone,
    /// Its process has ended; the reason that was told stands.
    #[error("the machine's process has ended")]
    Dead,
    /// It is ending already; the first reason stands.
    #[error("the machine is ending already")]
    Stopping,
    /// It has happened before.
    #[error("this has happened before")]
    Stale,
    /// There is no process yet that this could have happened to.
    #[error("the machine's process does not exist yet")]
    TooEarly,
}

/// What a caller who asks for a stop is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It will be done.
    Enqueued,
    /// It is being done, or has been.
    Ignored,
    /// It cannot be done.
    Denied(Denied),
}

/// Why a stop cannot be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// No such machine here, or gone for some time.
    #[error("there is no such machine on this host")]
    Unknown,
}

impl<C> State<C> {
    /// The whole lifecycle: what `event` makes of this state.
    ///
    /// # Errors
    /// Says why when the event has no effect; the state then stays as it was.
    pub fn on(&self, event: Event<C>) -> Result<State<C>, Refused> {
        match (self, event) {
            (State::Gone { .. }, _) => Err(Refused::Gone),
            // What was told of its end stays true.
            (State::Dead { why }, Event::Ended { receipt, .. }) => Ok(State::Gone { why: why.clone(), receipt }),
            (State::Dead { .. }, _) => Err(Refused::Dead),
            (State::Stopping { why }, Event::Died { .. }) => {
                Ok(State::Dead { why: GoneReason::from_intent(why.clone()) })
            }
            (_, Event::Died { how }) => Ok(State::Dead { why: how }),
            (State::Stopping { why }, Event::Ended { receipt, .. }) => {
                Ok(State::Gone { why: GoneReason::from_intent(why.clone()), receipt })
            }
            (_, Event::Ended { how, receipt }) => Ok(State::Gone { why: how, receipt }),
            (State::Stopping { .. }, _) => Err(Refused::Stopping),
            (_, Event::StopAsked(why)) => Ok(State::Stopping { why }),
            (State::Requested, Event::KeeperFound) => Ok(State::Cloning),
            (_, Event::KeeperFound) => Err(Refused::Stale),
            (State::Requested, _) => Err(Refused::TooEarly),
            (State::Cloning, Event::ProcessRuns) => {
                Ok(State::Waiting { stage: Stage::Channel, last_error: None, attempts: 0 })
            }
            (_, Event::ProcessRuns) => Err(Refused::Stale),
            (State::Waiting { stage, last_error, attempts }, Event::Tried { stage: tried, error }) => {
                let same = *stage == tried;
                Ok(State::Waiting {
                    stage: tried,
                    last_error: error.or_else(|| last_error.clone().filter(|_| same)),
                    attempts: if same { attempts.saturating_add(1) } else { 1 },
                })
            }
            // The channel is dialled while the process is still being started: what comes of it waits its turn.
            (State::Cloning, Event::Tried { .. } | Event::ChannelLost { .. }) => Err(Refused::TooEarly),
            (State::Ready { .. }, Event::Tried { .. }) => Err(Refused::Stale),
            // An agent that answers is proof enough that its process runs.
            (State::Cloning | State::Waiting { .. }, Event::BecameReady(channels)) => Ok(State::Ready { channels }),
            (State::Ready { .. }, Event::BecameReady(_)) => Err(Refused::Stale),
            (State::Waiting { .. } | State::Ready { .. }, Event::ChannelLost { error }) => {
                Ok(State::Waiting { stage: Stage::Channel, last_error: Some(error), attempts: 0 })
            }
        }
    }

    /// The stable word for the state.
    pub fn name(&self) -> &'static str {
        match self {
            State::Requested => "requested",
            State::Cloning => "cloning",
            State::Waiting { .. } => "waiting",
            State::Ready { .. } => "ready",
            State::Stopping { .. } => "stopping",
            State::Dead { .. } => "dead",
            State::Gone { .. } => "gone",
        }
    }

    /// Whether nothing of the machine is left.
    pub fn is_gone(&self) -> bool {
        matches!(self, State::Gone { .. })
    }

    /// Ready's channels.
    pub fn channels(&self) -> Option<&C> {
        match self {
            State::Ready { channels } => Some(channels),
            State::Requested
            | State::Cloning
            | State::Waiting { .. }
            | State::Stopping { .. }
            | State::Dead { .. }
            | State::Gone { .. } => None,
        }
    }
}

impl GoneReason {
    pub(crate) fn from_intent(why: StopReason) -> Self {
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
            | StopReason::Unowned
            | StopReason::LeaseLost
            | StopReason::ShuttingDown
            | StopReason::Operator) => Self::Stopped { why },
        }
    }
}

#[cfg(test)]
mod tests;
