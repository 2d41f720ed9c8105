//! The error of a request to the agent.

use anteroom_wire::Problem;

/// Why a request was rejected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ApiError {
    pub(crate) problem: Problem,
    /// What is particular to this request. It never contains a secret.
    pub(crate) detail: String,
    pub(crate) http_status: u16,
}

impl ApiError {
    /// With the problem's usual HTTP status.
    pub(crate) fn new(problem: Problem, detail: impl Into<String>) -> Self {
        Self { problem, detail: detail.into(), http_status: problem.http_status() }
    }

    /// With another HTTP status.
    pub(crate) fn with_http_status(self, http_status: u16) -> Self {
        Self { http_status, ..self }
    }
}
