//! The error of a request to the agent.

use crate::{sign_in::callback::CallbackError, terminal::handle::TerminalError};
use anteroom_wire::{Problem, ProblemBody, chain};
use http::StatusCode;
use std::error::Error;

/// Why a request was rejected.
#[derive(Debug, thiserror::Error)]
#[error("{}: {detail}", problem.code())]
pub(crate) struct ApiError {
    pub(crate) problem: Problem,
    /// What is particular to this request. It never contains a secret.
    pub(crate) detail: String,
    http_status: u16,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl ApiError {
    /// With the problem's usual HTTP status.
    pub(crate) fn new(problem: Problem, detail: impl Into<String>) -> Self {
        Self { problem, detail: detail.into(), http_status: problem.http_status(), source: None }
    }

    /// With this cause. Its sentence is the detail too: the answer is all that the controller learns.
    pub(crate) fn caused_by(problem: Problem, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        let source = source.into();
        let detail = chain(&*source);
        Self { source: Some(source), ..Self::new(problem, detail) }
    }

    /// An error inside the agent, with its cause.
    pub(crate) fn internal(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::caused_by(Problem::Internal, source)
    }

    /// With another HTTP status.
    pub(crate) fn with_http_status(self, http_status: u16) -> Self {
        Self { http_status, ..self }
    }

    /// Whether another error caused it.
    pub(crate) fn has_cause(&self) -> bool {
        self.source.is_some()
    }

    /// The status and the body of the answer.
    pub(crate) fn into_answer(self) -> (StatusCode, ProblemBody) {
        let status = StatusCode::from_u16(self.http_status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (status, self.problem.with_detail(self.detail))
    }
}

/// The terminal is starting, or it failed and is started again.
impl From<TerminalError> for ApiError {
    fn from(error: TerminalError) -> Self {
        Self::caused_by(Problem::NotReady, error)
    }
}

impl From<CallbackError> for ApiError {
    fn from(error: CallbackError) -> Self {
        let problem = match &error {
            CallbackError::Mismatch(_) | CallbackError::NotExpected => Problem::WrongCallback,
            CallbackError::InvalidUrl(_) => Problem::Malformed,
            CallbackError::NotConnected(_) | CallbackError::BrokeOff(_) | CallbackError::Timeout => {
                Problem::CallbackFailed
            }
        };
        Self::caused_by(problem, error)
    }
}
