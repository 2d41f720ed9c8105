//! The messages that this server posts to the configured webhook.

use super::reference;
use anteroom_wire::webhook::EventType;
use serde_json::{Map, Value, json};

/// One operation for each type of message.
pub(super) fn operations() -> Value {
    let named = EventType::ALL
        .iter()
        .map(|kind| (kind.as_str().to_owned(), json!({ "post": operation(kind.as_str(), kind.when()) })));
    Value::Object(named.collect::<Map<_, _>>())
}

fn operation(kind: &str, description: &str) -> Value {
    let header = |name: &str, description: &str| json!({ "name": name, "in": "header", "required": true, "description": description, "schema": { "type": "string" } });
    json!({
        "operationId": format!("receive_{}", kind.replace('.', "_")),
        "summary": description,
        "description": "Signed as Standard Webhooks specifies (docs/webhook.md).",
        "tags": ["webhooks"],
        "parameters": [
            header("webhook-id", "The id of the message, the same for each attempt."),
            header("webhook-timestamp", "When it is sent, seconds since 1970."),
            header("webhook-signature", "`v1,` and the base64 of the HMAC-SHA-256 of id, timestamp and body."),
        ],
        "requestBody": {
            "required": true,
            "content": { "application/json": { "schema": {
                "allOf": [reference("schemas", "WebhookNotification"), { "properties": { "type": { "const": kind } } }],
            } } },
        },
        "responses": { "2XX": { "description": "The message was processed. After any other answer it is sent again." } },
    })
}
