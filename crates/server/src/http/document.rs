//! The OpenAPI document: what the handlers' annotations say, and what holds for whole groups of routes, which comes from the table of
//! routes. `web/openapi.json` is the same document.

mod constraints;
mod examples;
mod operations;
mod responses;
mod schemas;
mod sockets;
mod webhooks;

use serde::Serialize;
use serde_json::{Value, json};
use utoipa::OpenApi;

/// Head of the document; its paths come from the handlers' annotations.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Anteroom",
        description = "Disposable machines in which users sign in to command-line tools. All errors are problem details (RFC 9457) with a stable code, a sentence and a remedy. Each path exists under `/api/v1/` as well; both are stable. A query parameter or a field of a body that an operation does not have is refused with 400."
    ),
    components(schemas(
        super::session_list::ListedState,
        super::session_list::Include,
        super::tokens::ListedRole,
        super::server_log::LogLevel,
        anteroom_wire::ProblemDetails,
        anteroom_wire::webhook::WebhookNotification
    ))
)]
pub(super) struct Document;

/// The document in the order in which people read it.
#[derive(Debug, Serialize)]
pub(super) struct FinishedDocument {
    openapi: &'static str,
    info: Value,
    servers: Value,
    tags: Value,
    pub(super) paths: Value,
    webhooks: Value,
    components: Value,
}

/// Completes the document that was made of the annotations.
pub(super) fn finish(document: &utoipa::openapi::OpenApi) -> FinishedDocument {
    let mut document = serde_json::to_value(document).unwrap_or_default();
    let mut components = document["components"].take();
    let mut paths = document["paths"].take();
    schemas::complete(&mut components);
    constraints::add(&mut components);
    examples::add(&mut components);
    sockets::add(&mut paths);
    operations::complete(&mut paths);
    components["responses"] = responses::shared();
    components["headers"] = responses::headers();
    components["securitySchemes"] = operations::security_schemes();
    FinishedDocument {
        openapi: "3.1.0",
        info: document["info"].take(),
        servers: json!([{ "url": "/", "description": "The server that serves this document." }]),
        tags: operations::tags(),
        paths,
        webhooks: webhooks::operations(),
        components,
    }
}

/// A reference to a component.
fn reference(kind: &str, name: &str) -> Value {
    json!({ "$ref": format!("#/components/{kind}/{name}") })
}
