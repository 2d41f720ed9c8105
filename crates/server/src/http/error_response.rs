//! The response for an API error: status, headers and the JSON body.

use anteroom_controller::{api_error::ApiError, audit::RequestScope};
use anteroom_wire::Problem;
use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};

/// The media type of errors (RFC 9457).
pub(super) const MEDIA_TYPE: &str = "application/problem+json";

/// The response for an error, which logs the fault that caused it. Handlers return it, so `?` converts whatever an [`ApiError`] can be made of.
#[derive(Debug)]
pub struct ErrorResponse(pub ApiError);

impl<E: Into<ApiError>> From<E> for ErrorResponse {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

/// How long a caller should wait before it repeats the request, seconds: about the time until capacity becomes free.
fn retry_after_s(problem: Problem) -> Option<u16> {
    let waits_for_capacity =
        [Problem::NoCapacity, Problem::CallerQuota, Problem::UserQuota, Problem::MemoryLow, Problem::DiskLow];
    let waits_for_others = [(Problem::TooManyRequests, 1), (Problem::TooManyConnections, 2)]
        .into_iter()
        .find(|(other, _)| *other == problem);
    waits_for_others.map(|(_, after_s)| after_s).or_else(|| waits_for_capacity.contains(&problem).then_some(30))
}

impl IntoResponse for ErrorResponse {
    fn into_response(self) -> Response {
        let request = RequestScope::current().map(|scope| scope.request);
        self.0.log_fault_of(request.as_deref());
        let status = StatusCode::from_u16(self.0.problem.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(self.0.details(request.as_deref().unwrap_or_default()))).into_response();
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        // The audit trail records it.
        response.extensions_mut().insert(self.0.problem);
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(after_s) = retry_after_s(self.0.problem) {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(after_s));
        }
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_for_missing_capacity_carry_retry_after() {
        for (problem, expected) in [
            (Problem::DiskLow, Some("30")),
            (Problem::MemoryLow, Some("30")),
            (Problem::NoCapacity, Some("30")),
            (Problem::CallerQuota, Some("30")),
            (Problem::UserQuota, Some("30")),
            (Problem::TooManyConnections, Some("2")),
            (Problem::UnknownSession, None),
        ] {
            let response = ErrorResponse::from(problem).into_response();
            let retry_after =
                response.headers().get(header::RETRY_AFTER).map(|retry_after| retry_after.to_str().unwrap());
            assert_eq!(retry_after, expected, "{problem:?}");
        }
    }
}
