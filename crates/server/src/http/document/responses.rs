//! Errors that many operations have in common, and the headers of responses.

use super::reference;
use crate::http::error_response::MEDIA_TYPE;
use anteroom_wire::{EndReason, Problem, ProblemDetails};
use serde_json::{Value, json};

const REQUEST_ID: &str = "9f86d081884c7d65";

/// Status, name, description and an example.
const SHARED: &[(&str, &str, &str, Problem)] = &[
    ("400", "Malformed", "The path, the query or the body is malformed.", Problem::Malformed),
    ("401", "Unauthenticated", "The caller is not authenticated.", Problem::Unauthenticated),
    ("403", "Forbidden", "The caller may not do this, or its token lacks a scope.", Problem::MissingScope),
    ("404", "NotFound", "There is no such resource.", Problem::UnknownSession),
    ("408", "RequestTimeout", "The body did not arrive in time.", Problem::RequestTimeout),
    ("409", "Conflict", "The state of the session or its machine does not permit this now.", Problem::NotReady),
    ("410", "Ended", "The session has ended.", Problem::Ended(EndReason::Cancelled)),
    ("413", "TooLarge", "The body is too large.", Problem::TooLarge),
    ("415", "UnsupportedMediaType", "The body is not `application/json`.", Problem::UnsupportedMediaType),
    ("421", "WrongHost", "This server does not have the host name of the request.", Problem::WrongHost),
    ("429", "TooManyRequests", "The caller sends too many requests.", Problem::TooManyRequests),
    ("500", "InternalError", "A fault of the server.", Problem::Internal),
    ("502", "BadGateway", "The machine's agent does not answer.", Problem::AgentUnreachable),
    ("503", "Unavailable", "The server or its database is not available now.", Problem::DatabaseUnavailable),
];

/// The shared response for this status.
pub(super) fn name_of(status: &str) -> &'static str {
    SHARED.iter().find(|(known, ..)| *known == status).map_or("InternalError", |(_, name, ..)| name)
}

/// All shared responses.
pub(super) fn shared() -> Value {
    let named = SHARED.iter().map(|(status, name, description, problem)| {
        let mut response = json!({ "description": description });
        complete_error(status, &mut response);
        response["content"][MEDIA_TYPE]["example"] =
            json!(ProblemDetails::new(problem.with_detail(""), problem.http_status(), REQUEST_ID));
        response["headers"]["X-Request-Id"] = reference("headers", "RequestId");
        ((*name).to_owned(), response)
    });
    Value::Object(named.collect())
}

/// Gives an error its schema and headers.
pub(super) fn complete_error(status: &str, response: &mut Value) {
    response["content"] = json!({ MEDIA_TYPE: { "schema": reference("schemas", "ProblemDetails") } });
    match status {
        "401" => response["headers"]["WWW-Authenticate"] = reference("headers", "Authenticate"),
        "429" | "503" => response["headers"]["Retry-After"] = reference("headers", "RetryAfter"),
        _ => {}
    }
}

/// The headers of responses.
pub(super) fn headers() -> Value {
    json!({
        "RequestId": {
            "description": "The id of the request, which the server's log has, too.",
            "schema": { "type": "string", "pattern": "^[0-9a-f]{16}$" },
        },
        "Location": {
            "description": "Where to read what was created.",
            "schema": { "type": "string", "format": "uri-reference" },
        },
        "Authenticate": { "description": "How to authenticate.", "schema": { "type": "string", "const": "Bearer" } },
        "RetryAfter": {
            "description": "When to try again, seconds; absent: it is not known.",
            "schema": { "type": "integer", "minimum": 1 },
        },
    })
}
