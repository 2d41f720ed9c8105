//! What the table of routes says about each operation: its tag, who may call it, and the errors that every such operation can have.

use super::{constraints::UNIX_MS_MAX, reference, responses};
use crate::http::routes::{Access, ROUTES, Route};
use axum::http::Method;
use serde_json::{Map, Value, json};

/// Tags in the order of the document: name, description, and the prefixes of their paths. The first that matches counts.
const TAGS: &[(&str, &str, &[&str])] = &[
    ("start", "Start a sign-in.", &["/api/auth/start"]),
    (
        "machine",
        "For the agent in a machine, which has a token of its own.",
        &["/api/agent/", "/api/auth/credentials/store"],
    ),
    (
        "sign-in",
        "Take part in a sign-in: input to the tool, its method, desktop and terminal.",
        &[
            "/api/auth/session/{id}/oauth-url",
            "/api/auth/session/{id}/paste",
            "/api/auth/session/{id}/code",
            "/api/auth/session/{id}/type",
            "/api/auth/session/{id}/open-url",
            "/api/auth/session/{id}/method",
            "/api/auth/session/{id}/ticket",
            "/api/auth/session/{id}/novnc",
            "/api/auth/session/{id}/terminal",
            "/api/auth/session/{id}/screen",
            "/api/auth/session/{id}/consent",
            "/api/auth/session/{id}/helpers",
            "/api/auth/session/{id}/invitations",
            "/api/auth/session/{id}/proxy-fault",
        ],
    ),
    (
        "operations",
        "For operators: links, reports, keys, reconciliation.",
        &[
            "/api/auth/session/{id}/bundle",
            "/api/auth/session/{id}/hosts",
            "/api/auth/session/{id}/links",
            "/api/auth/session/{id}/log",
        ],
    ),
    ("sessions", "Read and control sessions.", &["/api/auth/session/", "/api/sessions"]),
    ("credentials", "Stored credentials: list, lease, use, delete.", &["/api/credentials"]),
    ("providers", "The tools that can be signed in.", &["/api/providers"]),
    ("tokens", "API tokens.", &["/api/tokens"]),
    ("browsers", "How people sign in to this server, and their browsers.", BROWSERS),
    ("health", "Health and metrics.", &["/health", "/metrics"]),
    ("operations", "", &["/api/"]),
    ("webhooks", "The messages that this server posts to the configured webhook.", &[]),
];
const BROWSERS: &[&str] = &["/api/login", "/api/logout", "/api/me", "/api/oidc", "/api/browsers"];

/// The tags of the document.
pub(super) fn tags() -> Value {
    let described = TAGS.iter().filter(|(_, description, _)| !description.is_empty());
    described.map(|(name, description, _)| json!({ "name": name, "description": description })).collect()
}

/// How callers are identified.
pub(super) fn security_schemes() -> Value {
    json!({
        "token": {
            "type": "http", "scheme": "bearer",
            "description": "An API token (`anteroom token create`). Each operation names the scopes that it needs.",
        },
        "cookie": {
            "type": "apiKey", "in": "cookie", "name": "anteroom",
            "description": "The cookie of a browser; `__Host-anteroom` over https. The cookie of one session's viewer is `anteroom_view_` and the session's id.",
        },
        "browser_key": {
            "type": "apiKey", "in": "header", "name": "X-Anteroom",
            "description": "The key of the browser that the cookie belongs to.",
        },
        "agent_token": {
            "type": "http", "scheme": "bearer", "description": "The token of the agent in a machine.",
        },
        "ticket": {
            "type": "apiKey", "in": "header", "name": "Sec-WebSocket-Protocol",
            "description": "`ticket.` and a ticket, in addition to the subprotocol `binary`.",
        },
    })
}

/// Completes every operation.
pub(super) fn complete(paths: &mut Value) {
    for (path, methods) in paths.as_object_mut().into_iter().flatten() {
        for (method, operation) in methods.as_object_mut().into_iter().flatten() {
            let is_this = |route: &&Route| route.path == path && route.method.as_str().eq_ignore_ascii_case(method);
            let Some(route) = ROUTES.iter().find(is_this) else { continue };
            complete_operation(route, operation);
        }
    }
}

fn complete_operation(route: &Route, operation: &mut Value) {
    let tag = TAGS.iter().find(|(.., prefixes)| prefixes.iter().any(|prefix| route.path.starts_with(prefix)));
    operation["tags"] = json!(tag.map(|(name, ..)| name).into_iter().collect::<Vec<_>>());
    operation["security"] = security(route);
    if let Access::Caller(action) = route.access
        && !action.scopes().is_empty()
    {
        operation["x-required-scopes"] = action.scopes().iter().map(|scope| scope.as_str()).collect();
    }
    if route.path == "/api/auth/session/{id}/code" {
        operation["deprecated"] = true.into();
    }
    let parameters = operation.get_mut("parameters").and_then(Value::as_array_mut);
    for parameter in parameters.into_iter().flatten() {
        match parameter["in"].as_str() {
            Some("path") => complete_path_parameter(route, parameter),
            Some("query") if parameter["name"].as_str().is_some_and(|name| name.ends_with("_ms")) => {
                parameter["schema"]["maximum"] = UNIX_MS_MAX.into();
            }
            _ => {}
        }
    }
    let has_body = operation.get("requestBody").is_some();
    if let Some(found) = operation.get_mut("responses").and_then(Value::as_object_mut) {
        complete_responses(route, has_body, found);
    }
}

fn complete_path_parameter(route: &Route, parameter: &mut Value) {
    let of_path = [
        ("/api/auth/session/", "SessionId", "The session's id."),
        ("/api/credentials/", "CredentialId", "The credential's id."),
        ("/api/tokens/", "CallerId", "The token's id."),
        ("/api/hosts/", "HostId", "The host's id."),
        ("/api/browsers/", "CallerId", "The browser's id."),
        ("/api/webhook/messages/", "MessageId", "The message's `webhook-id`."),
    ];
    let found = match parameter["name"].as_str() {
        Some("helper") => Some(("CallerId", "The helper's id.")),
        _ => of_path
            .iter()
            .find(|(prefix, ..)| route.path.starts_with(prefix))
            .map(|(_, schema, description)| (*schema, *description)),
    };
    if let Some((schema, description)) = found {
        parameter["schema"] = reference("schemas", schema);
        parameter["description"] = description.into();
    }
}

/// The ways in which a route identifies its caller; one of them is needed.
fn security(route: &Route) -> Value {
    match route.access {
        Access::Caller(_) => json!([{ "token": [] }, { "cookie": [], "browser_key": [] }]),
        Access::Ticket => json!([{ "ticket": [], "token": [] }, { "ticket": [], "cookie": [] }]),
        Access::Public(reason) if reason == crate::http::routes::AGENT => json!([{ "agent_token": [] }]),
        // With a caller it has more details.
        Access::Public(_) if route.path == "/health" => json!([{}, { "token": [] }]),
        Access::Public(_) => json!([]),
    }
}

/// Adds the errors that an operation can have like all others, and the header with the request's id to its other responses.
fn complete_responses(route: &Route, has_body: bool, found: &mut Map<String, Value>) {
    for (status, response) in found.iter_mut() {
        response["headers"]["X-Request-Id"] = reference("headers", "RequestId");
        if ["201", "202"].contains(&status.as_str()) {
            response["headers"]["Location"] = reference("headers", "Location");
        }
        if status.starts_with(['4', '5']) && route.path != "/health" {
            responses::complete_error(status, response);
        }
        for content in response.get_mut("content").and_then(Value::as_object_mut).into_iter().flat_map(Map::values_mut)
        {
            if content.get("schema").is_none() {
                content["schema"] = json!({ "type": "string" });
            }
        }
    }
    let needs_identity = security(route).as_array().is_some_and(|ways| !ways.is_empty()) && route.path != "/health";
    // The session may have ended, or its machine may not answer.
    let is_input = route.path.starts_with("/api/auth/session/{id}/") && route.method == Method::POST;
    let statuses = [
        ("400", true),
        ("401", needs_identity),
        ("403", needs_identity || route.path == "/api/login"),
        ("404", route.path.contains('{') || route.path.starts_with("/api/oidc/")),
        ("408", has_body),
        ("409", is_input),
        ("410", is_input),
        ("502", is_input),
        ("413", has_body),
        ("415", has_body),
        ("421", true),
        ("429", true),
        ("500", true),
        ("503", true),
    ];
    for (status, _) in statuses.into_iter().filter(|(_, is_possible)| *is_possible) {
        let shared = || reference("responses", responses::name_of(status));
        found.entry(status).or_insert_with(shared);
    }
}
