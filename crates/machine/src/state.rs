//! The lifecycle of a machine as a pure function: no clock, no I/O, no logging.
//!
//! ```text
//!  Requested ─▶ Cloning ─▶ Waiting{stage} ◀──▶ Ready{channels}
//!      │           │            │                  │
//!      └───────────┴────────────┴──────────────────┴─▶ Stopping{reason} ─▶ Exited{reason} ─▶ Removed{reason}
//!      (from every state: ─▶ Exited when the process exits, ─▶ Removed when cleanup ends without a report of the exit)
//! ```
//!
//! `Exited` is published as soon as the process has exited. `Removed` is published when cleanup is done and the slot is
//! free for another machine. One task per machine writes the state. Other tasks send it requests (see [`StopRequestOutcome`])
//! or watch the state. A requested stop takes precedence over the exit status, because a VMM that was killed on request
//! does not exit with 0.

use crate::{
    channel::AgentClient,
    exit_reason::{ExitReason, StopReason},
    receipt::Receipt,
};
use anteroom_wire::agent::{AgentInfo, Stage};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The state of a machine. `C` is the type of a ready machine's connections: [`Channels`], or a placeholder in code that
/// examines only the lifecycle.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum State<C = Channels> {
    /// The machine was requested; no process exists yet.
    Requested,
    /// Its keeper is running and starts the machine's process.
    Cloning,
    /// The process is running; the machine is not ready yet, or not ready any more.
    Waiting {
        /// The stage that has not been reached.
        stage: Stage,
        /// The error of the last attempt.
        last_error: Option<String>,
        /// Attempts at this stage so far.
        attempts: u32,
    },
    /// Its agent answers and all stages are up.
    Ready {
        /// Connections to the machine. They are available in this state only.
        channels: C,
    },
    /// A stop was requested.
    Stopping {
        /// The reason.
        reason: StopReason,
    },
    /// Its process has exited; the keeper is cleaning up.
    Exited {
        /// The reason. `Removed` repeats it.
        reason: ExitReason,
    },
    /// Cleanup is done and the slot is free.
    Removed {
        /// The reason.
        reason: ExitReason,
        /// The keeper's record of the exit; `None` when the keeper ended before it could write one.
        receipt: Option<Box<Receipt>>,
    },
}

/// Connections to a ready machine. Cheap to clone; calls through a clone fail once the machine has exited.
#[derive(Debug, Clone)]
pub struct Channels {
    /// Calls to the agent.
    pub agent: AgentClient,
    /// The agent's hello at the moment it became ready.
    pub agent_info: Arc<AgentInfo>,
    /// Durations of the start.
    pub timings: StartTimings,
}

/// The steps of a start, each in milliseconds since the request (for an adopted machine: since its adoption).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartTimings {
    /// The keeper reported the process.
    pub spawned_ms: u64,
    /// The channel answered the nonce.
    pub channel_ms: u64,
    /// The agent answered with its hello.
    pub agent_info_ms: u64,
    /// All stages were up.
    pub ready_ms: u64,
}

/// An event in the lifecycle of a machine.
#[derive(Debug, Clone)]
pub enum Event<C = Channels> {
    /// Its keeper was started, or found running.
    KeeperFound,
    /// Its process is running.
    ProcessStarted,
    /// A stage was attempted and is not up yet.
    StageAttempted {
        /// The stage.
        stage: Stage,
        /// Why the attempt failed; `None`: it is in progress.
        error: Option<String>,
    },
    /// All stages are up.
    BecameReady(C),
    /// The agent's channel broke.
    ChannelLost {
        /// The error.
        error: String,
    },
    /// A stop was requested.
    StopRequested(StopReason),
    /// Its process has exited.
    ProcessExited {
        /// The reason as the keeper observed it.
        reason: ExitReason,
    },
    /// Cleanup is done.
    Removed {
        /// The reason as the keeper observed it.
        reason: ExitReason,
        /// The keeper's record of the exit.
        receipt: Option<Box<Receipt>>,
    },
}

/// Why an event has no effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RejectedEvent {
    /// The machine is removed; this state is final.
    #[error("the machine is already removed")]
    Removed,
    /// Its process has exited; the published reason does not change.
    #[error("the machine's process has already exited")]
    Exited,
    /// It is stopping already; the first reason is kept.
    #[error("the machine is already stopping")]
    Stopping,
    /// The same event has been applied before.
    #[error("this event was already applied")]
    Stale,
    /// The event requires a process, and there is none yet.
    #[error("the machine's process does not exist yet")]
    TooEarly,
}

/// The result of asking for a machine's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopRequestOutcome {
    /// The machine task will carry it out.
    Enqueued,
    /// The machine is already ending or has ended.
    Ignored,
    /// This host has no such machine, or has already removed it.
    UnknownMachine,
}

impl<C> State<C> {
    /// The next state after `event`. This function is the whole lifecycle.
    ///
    /// # Errors
    /// The reason why the event has no effect; the state does not change.
    pub fn handle_event(&self, event: Event<C>) -> Result<State<C>, RejectedEvent> {
        match (self, event) {
            (State::Removed { .. }, _) => Err(RejectedEvent::Removed),
            // The published reason does not change.
            (State::Exited { reason }, Event::Removed { receipt, .. }) => {
                Ok(State::Removed { reason: reason.clone(), receipt })
            }
            (State::Exited { .. }, _) => Err(RejectedEvent::Exited),
            (State::Stopping { reason: requested }, Event::ProcessExited { reason }) => {
                Ok(State::Exited { reason: reason.of_stopping_machine(requested) })
            }
            (_, Event::ProcessExited { reason }) => Ok(State::Exited { reason }),
            (State::Stopping { reason: requested }, Event::Removed { reason, receipt }) => {
                Ok(State::Removed { reason: reason.of_stopping_machine(requested), receipt })
            }
            (_, Event::Removed { reason, receipt }) => Ok(State::Removed { reason, receipt }),
            (State::Stopping { .. }, _) => Err(RejectedEvent::Stopping),
            (_, Event::StopRequested(reason)) => Ok(State::Stopping { reason }),
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
            // The channel is dialled while the process is being started: these events may arrive early and are dropped.
            (State::Cloning, Event::StageAttempted { .. } | Event::ChannelLost { .. }) => Err(RejectedEvent::TooEarly),
            (State::Ready { .. }, Event::StageAttempted { .. }) => Err(RejectedEvent::Stale),
            // An agent that answers proves that its process is running.
            (State::Cloning | State::Waiting { .. }, Event::BecameReady(channels)) => Ok(State::Ready { channels }),
            (State::Ready { .. }, Event::BecameReady(_)) => Err(RejectedEvent::Stale),
            (State::Waiting { .. } | State::Ready { .. }, Event::ChannelLost { error }) => {
                Ok(State::Waiting { stage: Stage::Channel, last_error: Some(error), attempts: 0 })
            }
        }
    }

    /// The stable name of the state.
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

    /// Whether cleanup is done.
    pub fn is_removed(&self) -> bool {
        matches!(self, State::Removed { .. })
    }

    /// The connections of a ready machine.
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
