//! The WebSockets and event streams, which OpenAPI can describe only in part.

use super::reference;
use serde_json::{Value, json};

const EVENT_STREAM: &str = "text/event-stream";

/// Adds the two WebSockets, and the events of the event streams.
pub(super) fn add(paths: &mut Value) {
    paths["/api/auth/session/{id}/novnc/websock"]["get"] =
        socket("open_desktop_socket", "Opens the desktop: RFB 3.8 in binary messages.", &json!([]));
    let size = |name: &str, description: &str, max: u16| {
        let schema = json!({ "type": "integer", "minimum": 2, "maximum": max });
        json!({ "name": name, "in": "query", "description": description, "schema": schema })
    };
    paths["/api/auth/session/{id}/terminal"]["get"] = socket(
        "open_terminal_socket",
        "Opens the terminal: its bytes in binary messages; the text message `{\"cols\":120,\"rows\":40}` changes its size.",
        &json!([size("cols", "Columns at the beginning.", 500), size("rows", "Rows at the beginning.", 300)]),
    );
    describe_stream(
        &mut paths["/api/auth/session/{id}/events"]["get"]["responses"]["200"],
        &[
            ("session", "SessionView"),
            ("timeline", "TimelineEntry"),
            ("helpers", "HelperList"),
            ("closed", "ProblemBody"),
        ],
    );
    describe_stream(
        &mut paths["/api/sessions/events"]["get"]["responses"]["200"],
        &[("session", "SessionView"), ("reset", "StreamReset"), ("closed", "ProblemBody")],
    );
    describe_stream(
        &mut paths["/api/log/events"]["get"]["responses"]["200"],
        &[("line", ""), ("live", ""), ("closed", "ProblemBody")],
    );
    describe_stream(
        &mut paths["/api/audit/events"]["get"]["responses"]["200"],
        &[("live", ""), ("record", "AuditRecord"), ("closed", "ProblemBody")],
    );
}

/// A WebSocket that a ticket opens.
fn socket(operation_id: &str, description: &str, queries: &Value) -> Value {
    let mut parameters = vec![json!({ "name": "id", "in": "path", "required": true, "schema": { "type": "string" } })];
    parameters.extend(queries.as_array().into_iter().flatten().cloned());
    let error = |description: &str| json!({ "description": description });
    let summary = format!("{description} WebSocket (RFC 6455).");
    json!({
        "summary": summary,
        "description": "The subprotocols are `binary` and `ticket.` with a ticket of `POST …/ticket`, which needs the token or cookie of its caller as well. A rejected page gets 101 and then a close code (docs/close_codes.md); a program gets the HTTP status.",
        "operationId": operation_id,
        "parameters": parameters,
        "responses": {
            "101": { "description": "The WebSocket is open, or is closed with the code of the error." },
            "400": error("The request is no WebSocket handshake."),
            "409": error("The machine is not ready, or it was replaced."),
            "410": error("The session has ended."),
            "426": error("The request has no upgrade."),
            "502": error("The desktop or terminal cannot be reached."),
            "504": error("The desktop or terminal does not answer."),
        },
    })
}

/// Says which events a stream has, and which schema the data of each has; without a name it is any object.
fn describe_stream(response: &mut Value, events: &[(&str, &str)]) {
    let of_event = |(event, schema): &(&str, &str)| {
        let schema = if schema.is_empty() { json!({ "type": "object" }) } else { reference("schemas", schema) };
        let data = json!({ "type": "string", "contentMediaType": "application/json", "contentSchema": schema });
        let properties = json!({ "event": { "const": event }, "id": { "type": "string" }, "data": data });
        json!({ "type": "object", "required": ["event", "data"], "properties": properties })
    };
    let retry = json!({ "type": "object", "required": ["retry"], "properties": { "retry": { "type": "integer", "description": "After how long to connect again, milliseconds." } } });
    let events: Vec<_> = events.iter().map(of_event).chain([retry]).collect();
    response["content"][EVENT_STREAM] =
        json!({ "schema": { "description": "One server-sent event (HTML Standard §9.2).", "oneOf": events } });
}
