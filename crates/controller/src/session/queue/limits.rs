//! The limits of a queue, and the sessions that it rejects.

use crate::{
    api_error::ApiError,
    config::{Machines, Sessions},
};
use anteroom_wire::Problem;

/// The limits of a queue. Zero is a limit: nothing is permitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueLimits {
    /// Waiting sessions.
    pub waiting_max: u32,
    /// Waiting sessions of one caller.
    pub waiting_by_caller_max: u32,
    /// Waiting sessions of one user of a caller.
    pub waiting_by_user_max: u32,
    /// Machines that one caller uses, external ones included.
    pub machines_by_caller_max: u32,
}

impl QueueLimits {
    /// The limits of these settings.
    pub fn new(machines: &Machines, sessions: &Sessions) -> Self {
        Self {
            waiting_max: sessions.queue_max,
            waiting_by_caller_max: sessions.queue_by_caller_max,
            waiting_by_user_max: sessions.queue_by_user_max,
            machines_by_caller_max: machines.machines_by_caller_max.unwrap_or(u32::MAX),
        }
    }
}

/// Why a session was not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum QueueRejection {
    /// The queue is full.
    #[error("the queue is full ({waiting} sessions waiting)")]
    Full {
        /// The number of waiting sessions.
        waiting: usize,
    },
    /// The caller's share of the queue is full.
    #[error("{waiting} sessions of this caller wait for a machine; sessions.queue_by_caller_max is {waiting_max}")]
    CallerWaiting {
        /// The number of the caller's waiting sessions.
        waiting: usize,
        /// The limit.
        waiting_max: u32,
    },
    /// The user's share of the queue is full.
    #[error("{waiting} sessions of this user wait for a machine; sessions.queue_by_user_max is {waiting_max}")]
    UserWaiting {
        /// The number of the user's waiting sessions.
        waiting: usize,
        /// The limit.
        waiting_max: u32,
    },
    /// The caller uses all the machines that it may use.
    #[error("this caller uses {machines} machines; machines.machines_by_caller_max is {machines_max}")]
    CallerMachines {
        /// The number of the caller's machines.
        machines: u32,
        /// The limit.
        machines_max: u32,
    },
}

impl From<QueueRejection> for ApiError {
    fn from(rejection: QueueRejection) -> Self {
        let problem = match rejection {
            QueueRejection::Full { .. } => Problem::NoCapacity,
            QueueRejection::CallerWaiting { .. } | QueueRejection::CallerMachines { .. } => Problem::CallerQuota,
            QueueRejection::UserWaiting { .. } => Problem::UserQuota,
        };
        Self::new(problem, rejection.to_string())
    }
}
