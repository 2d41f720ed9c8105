//! Examples of requests, and of responses: answers of a server, which a test records (`examples.json`).

use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Adds an example to each schema of a request that a backend sends, and of a successful response.
pub(super) fn add(components: &mut Value) {
    let examples = [
        (
            "StartRequest",
            json!({ "provider": "demo", "user_id": "u-17", "return_url": "https://app.example.com/done", "idempotency_key": "order-4711" }),
        ),
        ("CredentialUseRequest", json!({ "purpose": "check" })),
        ("MethodRequest", json!({ "method": "device" })),
        ("PasteRequest", json!({ "text": "ABCD-1234" })),
        ("CodeRequest", json!({ "code": "ABCD-1234" })),
        ("TypeRequest", json!({ "text": "yes", "enter": true })),
        ("OpenUrl", json!({ "url": "https://example.com/" })),
        ("TicketRequest", json!({ "purpose": "desktop", "view_only": true })),
        ("InvitationRequest", json!({ "name": "Ada" })),
        ("GrantHostRequest", json!({ "host": "login.example.com" })),
        ("CreateTokenRequest", json!({ "name": "shop", "role": "backend", "scopes": ["start", "read"] })),
        ("RotateTokenRequest", json!({ "overlap_s": 3600 })),
        ("RevokeTokenRequest", json!({ "end_sessions": true })),
        ("EraseRequest", json!({ "user_id": "u-17" })),
        ("DeliveredFile", json!({ "path": ".demo/auth.json", "mode": 384, "content": "e30=" })),
    ];
    for (name, example) in examples {
        components["schemas"][name]["examples"] = json!([example]);
    }
    let responses: BTreeMap<String, Value> = serde_json::from_str(include_str!("examples.json")).unwrap_or_default();
    for (name, example) in responses {
        components["schemas"][&name]["examples"] = json!([example]);
    }
}
