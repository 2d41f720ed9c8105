//! An error of the API: one entry of the problem table and the details of this case.

use anteroom_machine::AgentError;
use anteroom_store::{StoreError, StoreErrorKind};
use anteroom_wire::{Problem, ProblemBody};

/// An error returned to a caller. `detail` is for people and contains no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {detail}", problem.code())]
pub struct ApiError {
    /// The entry of the problem table.
    pub problem: Problem,
    /// Details of this case.
    pub detail: String,
}

impl ApiError {
    /// An error with details.
    pub fn new(problem: Problem, detail: impl Into<String>) -> Self {
        Self { problem, detail: detail.into() }
    }

    /// The JSON body.
    pub fn body(&self) -> ProblemBody {
        self.problem.with(self.detail.clone())
    }
}

impl From<Problem> for ApiError {
    fn from(problem: Problem) -> Self {
        Self::new(problem, "")
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        let problem = match error.kind() {
            StoreErrorKind::Unavailable => Problem::DatabaseUnavailable,
            StoreErrorKind::Conflict | StoreErrorKind::Corrupt => Problem::Internal,
        };
        tracing::error!(outcome = "store_error", error = %chain(&error), "database operation failed");
        problem.into()
    }
}

/// The agent's own error if it returned one, else that the agent does not answer.
impl From<AgentError> for ApiError {
    fn from(error: AgentError) -> Self {
        let AgentError::Rejected { problem: answer, .. } = &error else {
            return Self::new(Problem::AgentUnreachable, chain(&error));
        };
        match Problem::from_code(&answer.code) {
            // The machine was started by an earlier version of this server.
            Some(Problem::PathNotFound) => {
                Self::new(Problem::NotReady, "the machine's agent is older than this server and cannot do this")
            }
            Some(problem) => Self::new(problem, answer.detail.clone().unwrap_or_default()),
            None => Self::new(Problem::AgentUnreachable, chain(&error)),
        }
    }
}

/// The error and its sources, joined: `a: b: c`.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}
