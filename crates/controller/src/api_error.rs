//! An error of the API: one entry of the problem table, the details of this case, and the error that caused it.

use anteroom_machine::AgentError;
use anteroom_store::{StoreError, StoreErrorKind};
pub use anteroom_wire::chain;
use anteroom_wire::{EndReason, Problem, ProblemBody, ProblemDetails, guest_text::clean_line};
use std::{error::Error, sync::Arc};

/// The most bytes of the details.
const DETAIL_BYTES_MAX: usize = 4 * 1024;

/// An error returned to a caller. `detail` is for people and contains no secret; the source is never part of the answer.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{}: {detail}", problem.code())]
pub struct ApiError {
    /// The entry of the problem table.
    pub problem: Problem,
    /// Details of this case.
    pub detail: String,
    /// The display name of the owner of the session to which a used link led.
    owner: Option<Arc<str>>,
    #[source]
    source: Option<Arc<dyn Error + Send + Sync>>,
}

impl ApiError {
    /// An error with details.
    pub fn new(problem: Problem, detail: impl Into<String>) -> Self {
        // The detail may quote a guest or the caller.
        Self { problem, detail: clean_line(&detail.into(), DETAIL_BYTES_MAX), owner: None, source: None }
    }

    /// An internal error with its cause.
    pub fn internal(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::from(Problem::Internal).with_source(source)
    }

    /// The same error with its cause.
    pub fn with_source(self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { source: Some(Arc::from(source.into())), ..self }
    }

    /// The same error for the person with a used link of this owner's session.
    pub fn with_owner(self, owner: &str) -> Self {
        Self { owner: Some(owner.into()), ..self }
    }

    /// The JSON body.
    pub fn body(&self) -> ProblemBody {
        self.problem.with_detail(self.detail.clone())
    }

    /// The JSON body of the answer to the request of this id.
    pub fn details(&self, request: &str) -> ProblemDetails {
        let details = ProblemDetails::new(self.body(), self.problem.http_status(), request);
        match &self.owner {
            Some(owner) => details.with_owner(owner),
            None => details,
        }
    }

    /// Logs the cause of a fault of the server, which the answer does not contain. Called once, where the answer is made. The detail of
    /// any other error already describes its cause.
    pub fn log_fault(&self) {
        self.log_fault_of(None);
    }

    /// The same for the answer to the request of this id.
    pub fn log_fault_of(&self, request: Option<&str>) {
        if let (Problem::Internal | Problem::DatabaseUnavailable | Problem::RecordTampered, Some(source)) =
            (self.problem, &self.source)
        {
            tracing::error!(outcome = "request_failed", request, reason = self.problem.code(), error = %chain(source), "request failed in the server");
        }
    }
}

impl From<Problem> for ApiError {
    fn from(problem: Problem) -> Self {
        Self::new(problem, "")
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        let problem = match (&error, error.kind()) {
            (StoreError::TamperedRow { table: "credentials" | "timeline" | "timeline_heads", .. }, _) => {
                Problem::RecordTampered
            }
            (StoreError::TamperedRow { table: "sessions", .. }, _) => Problem::Ended(EndReason::SessionTampered),
            (StoreError::TamperedRow { .. }, _) => Problem::CallerTampered,
            // Another host is about to go on with the session.
            (StoreError::NotHolder(_), _) => Problem::ClusterContactLost,
            (_, StoreErrorKind::Unavailable) => Problem::DatabaseUnavailable,
            (_, StoreErrorKind::Conflict | StoreErrorKind::Corrupt) => Problem::Internal,
        };
        Self::from(problem).with_source(error)
    }
}

/// The error that the agent returned; for all others, that the agent does not answer.
impl From<AgentError> for ApiError {
    fn from(error: AgentError) -> Self {
        let answer = if let AgentError::Rejected { problem, .. } = &error { Some(problem) } else { None };
        let known = answer.and_then(|answer| Some((Problem::from_code(&answer.code)?, answer.detail.clone())));
        let (problem, detail) = match known {
            // The machine was started by an earlier version of this server.
            Some((Problem::PathNotFound, _)) => {
                (Problem::NotReady, "the machine's agent is older than this server and cannot do this".to_owned())
            }
            Some((problem, detail)) => (problem, detail.unwrap_or_default()),
            None => (Problem::AgentUnreachable, chain(&error)),
        };
        Self::new(problem, detail).with_source(error)
    }
}
