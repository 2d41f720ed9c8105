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

use crate::{
    channel::AgentClient,
    exit_reason::{ExitReason, StopReason},
    receipt::Receipt,
};
use anteroom_wire::agent::{Hello, Stage};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

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
    Exited {
        /// Why. The same stands when it is gone.
        why: ExitReason,
    },
    /// Nothing of it is left.
    Removed {
        /// Why.
        why: ExitReason,
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

/// What happens to a machine.
#[derive(Debug, Clone)]
pub enum Event<C = Channels> {
    /// Its keeper was started, or found alive.
    KeeperFound,
    /// Its process runs.
    ProcessStarted,
    /// A try at a stage; `error` says why it did not succeed, `None`: it is being tried.
    StageAttempted {
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
    StopRequested(StopReason),
    /// Its process has ended.
    ProcessExited {
        /// How it looks from outside.
        reason: ExitReason,
    },
    /// Nothing of it is left.
    Removed {
        /// How it looks from outside.
        reason: ExitReason,
        /// The keeper's last words.
        receipt: Option<Box<Receipt>>,
    },
}

/// Why an event has no effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RejectedEvent {
    /// The machine is gone: nothing happens to it any more.
    #[error("the machine is gone")]
    Removed,
    /// Its process has ended; the reason that was told stands.
    #[error("the machine's process has ended")]
    Exited,
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

/// The result of asking for a machine's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestOutcome {
    /// The driver will carry it out.
    Enqueued,
    /// The machine is already ending or has ended.
    Ignored,
    /// This host has no such machine, or has already removed it.
    UnknownMachine,
}

impl<C> State<C> {
    /// The whole lifecycle: what `event` makes of this state.
    ///
    /// # Errors
    /// Says why when the event has no effect; the state then stays as it was.
    pub fn on(&self, event: Event<C>) -> Result<State<C>, RejectedEvent> {
        match (self, event) {
            (State::Removed { .. }, _) => Err(RejectedEvent::Removed),
            // What was told of its end stays true.
            (State::Exited { why }, Event::Removed { receipt, .. }) => Ok(State::Removed { why: why.clone(), receipt }),
            (State::Exited { .. }, _) => Err(RejectedEvent::Exited),
            (State::Stopping { why }, Event::ProcessExited { .. }) => {
                Ok(State::Exited { why: ExitReason::from_stop_reason(why.clone()) })
            }
            (_, Event::ProcessExited { reason }) => Ok(State::Exited { why: reason }),
            (State::Stopping { why }, Event::Removed { receipt, .. }) => {
                Ok(State::Removed { why: ExitReason::from_stop_reason(why.clone()), receipt })
            }
            (_, Event::Removed { reason, receipt }) => Ok(State::Removed { why: reason, receipt }),
            (State::Stopping { .. }, _) => Err(RejectedEvent::Stopping),
            (_, Event::StopRequested(why)) => Ok(State::Stopping { why }),
            (State::Requested, Event::KeeperFound) => Ok(State::Cloning),
            (_, Event::KeeperFound) => Err(RejectedEvent::Stale),
            (State::Requested, _) => Err(RejectedEvent::TooEarly),
            (State::Cloning, Event::ProcessStarted) => {
                Ok(State::Waiting { stage: Stage::Channel, last_error: None, attempts: 0 })
            }
            (_, Event::ProcessStarted) => Err(RejectedEvent::Stale),
            (State::Waiting { stage, last_error, attempts }, Event::StageAttempted { stage: tried, error }) => {
                let same = *stage == tried;
                Ok(State::Waiting {
                    stage: tried,
                    last_error: error.or_else(|| last_error.clone().filter(|_| same)),
                    attempts: if same { attempts.saturating_add(1) } else { 1 },
                })
            }
            // The channel is dialled while the process is still being started: what comes of it waits its turn.
            (State::Cloning, Event::StageAttempted { .. } | Event::ChannelLost { .. }) => Err(RejectedEvent::TooEarly),
            (State::Ready { .. }, Event::StageAttempted { .. }) => Err(RejectedEvent::Stale),
            // An agent that answers is proof enough that its process runs.
            (State::Cloning | State::Waiting { .. }, Event::BecameReady(channels)) => Ok(State::Ready { channels }),
            (State::Ready { .. }, Event::BecameReady(_)) => Err(RejectedEvent::Stale),
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
            State::Exited { .. } => "exited",
            State::Removed { .. } => "removed",
        }
    }

    /// Whether nothing of the machine is left.
    pub fn is_removed(&self) -> bool {
        matches!(self, State::Removed { .. })
    }

    /// Ready's channels.
    pub fn channels(&self) -> Option<&C> {
        match self {
            State::Ready { channels } => Some(channels),
            State::Requested
            | State::Cloning
            | State::Waiting { .. }
            | State::Stopping { .. }
            | State::Exited { .. }
            | State::Removed { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests;
