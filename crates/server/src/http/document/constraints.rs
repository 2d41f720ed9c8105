//! The values that requests may have, where their types do not say it. Each is what a use case checks.

use anteroom_controller::session::start::for_use::ARGV_WORDS_MAX;
use serde_json::{Value, json};

/// Text without control characters.
const LINE: &str = r"^[^\x00-\x1f\x7f-\x9f]*$";
/// Text that is shown: 1 character that is not blank, and no control characters.
const SHOWN: &str = r"^[^\x00-\x1f\x7f-\x9f]*[^\s\x00-\x1f\x7f-\x9f][^\x00-\x1f\x7f-\x9f]*$";
/// The same with line breaks and tabs.
const PASTED: &str =
    r"^[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]*[^\s\x00-\x1f\x7f-\x9f][^\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]*$";
/// A key of a browser.
const BROWSER_KEY: &str = "^[0-9a-f]{64}$";
/// The longest life of a token, seconds: about 10 years.
const TOKEN_S_MAX: u64 = 316_224_000;
/// The last time that answers can write, milliseconds since 1970: in the year 9999.
pub(super) const UNIX_MS_MAX: u64 = 253_402_207_200_000;

/// Adds the constraints to the schemas of requests.
pub(super) fn add(components: &mut Value) {
    let shown = json!({ "minLength": 1, "maxLength": 255, "pattern": SHOWN });
    let pasted = json!({ "minLength": 1, "maxLength": 16_384, "pattern": PASTED });
    let constraints = [
        ("LoginRequest", "browser_key", json!({ "pattern": BROWSER_KEY })),
        ("OidcRequest", "browser_key", json!({ "pattern": BROWSER_KEY })),
        ("OidcAnswer", "browser_key", json!({ "pattern": BROWSER_KEY })),
        ("StartRequest", "provider", json!({ "pattern": "^[a-z][a-z0-9_]{0,39}$" })),
        ("StartRequest", "user_id", shown.clone()),
        ("StartRequest", "idempotency_key", shown),
        ("StartRequest", "return_url", json!({ "maxLength": 2_048, "pattern": r"^https?://\S+$" })),
        ("StartRequest", "renews", json!({ "pattern": "^crd_[0-7][0-9a-hjkmnp-tv-z]{25}$" })),
        ("EraseRequest", "user_id", json!({ "minLength": 1 })),
        ("CreateTokenRequest", "expires_in_s", json!({ "minimum": 1, "maximum": TOKEN_S_MAX })),
        ("RotateTokenRequest", "overlap_s", json!({ "maximum": TOKEN_S_MAX })),
        ("PasteRequest", "text", pasted.clone()),
        ("CodeRequest", "code", pasted),
        ("TypeRequest", "text", json!({ "maxLength": 16_384, "pattern": LINE })),
        ("OpenUrl", "url", json!({ "maxLength": 8_192, "pattern": r"^https?://[^\s\x00-\x1f\x7f-\x9f]*$" })),
    ];
    for (schema, property, constraint) in constraints {
        let found = components["schemas"][schema]["properties"].get_mut(property).and_then(Value::as_object_mut);
        if let (Some(found), Value::Object(constraint)) = (found, constraint) {
            found.extend(constraint);
        }
    }
    for (schema, condition) in conditions() {
        let found = components["schemas"].get_mut(schema).and_then(Value::as_object_mut);
        if let (Some(found), Value::Object(condition)) = (found, condition) {
            found.extend(condition);
        }
    }
}

/// What the value of one property requires of others.
fn conditions() -> [(&'static str, Value); 3] {
    let argument = json!({ "type": "string", "pattern": r"^[^\x00]*$" });
    let argv = json!({
        "minItems": 1, "maxItems": ARGV_WORDS_MAX, "items": argument,
        "prefixItems": [{ "type": "string", "minLength": 1, "pattern": r"^[^\x00]+$" }],
    });
    [
        (
            "CredentialUseRequest",
            json!({
                "if": { "properties": { "purpose": { "const": "exec" } } },
                "then": { "required": ["argv"], "properties": { "argv": argv } },
                "else": { "properties": { "argv": { "maxItems": 0 }, "attached": { "const": false } } },
            }),
        ),
        (
            "TicketRequest",
            json!({
                "if": { "properties": { "purpose": { "const": "terminal" } } },
                "then": { "properties": { "view_only": { "const": false } } },
            }),
        ),
        (
            "OidcAnswer",
            json!({
                "if": { "required": ["code"], "properties": { "code": { "type": "string" } } },
                "then": { "properties": { "error": { "type": "null" } } },
                "else": { "required": ["error"], "properties": { "error": { "type": "string" } } },
            }),
        ),
    ]
}
