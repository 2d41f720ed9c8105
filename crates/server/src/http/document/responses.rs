//! Errors that many operations have in common, and the headers of responses.

use super::reference;
use anteroom_wire::Problem;
use serde_json::{Value, json};

/// Status, name, description and an example.
const SHARED: &[(&str, &str, &str, Problem)] = &[
    ("400", "Malformed", "The path, the query or the body is malformed.", Problem::Malformed),
    ("401", "Unauthenticated", "The caller is not authenticated.", Problem::Unauthenticated),
    ("403", "Forbidden", "The caller may not do this, or its token lacks a scope.", Problem::MissingScope),
    ("404", "NotFound", "There is no such resource.", Problem::UnknownSession),
    ("408", "RequestTimeout", "The body did not arrive in time.", Problem::RequestTimeout),
    ("413", "TooLarge", "The body is too large.", Problem::TooLarge),
    ("415", "UnsupportedMediaType", "The body is not `application/json`.", Problem::UnsupportedMediaType),
    ("421", "WrongHost", "This server does not have the host name of the request.", Problem::WrongHost),
    ("429", "TooManyRequests", "The caller sends too many requests.", Problem::TooManyRequests),
    ("500", "InternalError", "A fault of the server.", Problem::Internal),
    ("503", "Unavailable", "The server or its database is not available now.", Problem::DatabaseUnavailable),
];

/// The media type of errors.
const MEDIA_TYPE: &str = "application/json";

/// The shared response for this status.
pub(super) fn name_of(status: &str) -> &'static str {
    SHARED.iter().find(|(known, ..)| *known == status).map_or("InternalError", |(_, name, ..)| name)
}

/// All shared responses.
pub(super) fn shared() -> Value {
    let named = SHARED.iter().map(|(status, name, description, problem)| {
        let mut response = json!({ "description": description });
        complete_error(status, &mut response);
        response["content"][MEDIA_TYPE]["example"] = json!(problem.with_detail(""));
        response["headers"]["X-Request-Id"] = reference("headers", "RequestId");
        ((*name).to_owned(), response)
    });
    Value::Object(named.collect())
}

/// Gives an error its schema and headers.
pub(super) fn complete_error(status: &str, response: &mut Value) {
    let own = response.pointer_mut("/content/application~1json/schema").map(Value::take);
    let schema = own.unwrap_or_else(|| reference("schemas", "ProblemBody"));
    response["content"] = json!({ MEDIA_TYPE: { "schema": schema } });
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
        "Authenticate": { "description": "How to authenticate.", "schema": { "type": "string", "const": "Bearer" } },
        "RetryAfter": {
            "description": "When to try again, seconds; absent: it is not known.",
            "schema": { "type": "integer", "minimum": 1 },
        },
    })
}
