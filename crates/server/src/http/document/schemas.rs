//! What the types of the API do not say about their JSON: the form of ids and times, and the list of error codes.

use super::reference;
use anteroom_wire::{CallerId, CredentialId, EndReason, HostId, MachineId, MessageId, Problem, SessionId};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// The part of an id after its prefix.
const ID_BODY: &str = "[0-7][0-9a-hjkmnp-tv-z]{25}";
const ID_BODY_EXAMPLE: &str = "01m8ydhrgt6fq1x2v7c9ek3b5a";

/// Completes all schemas.
pub(super) fn complete(components: &mut Value) {
    let schemas = &mut components["schemas"];
    let prefixes = [
        ("SessionId", SessionId::PREFIX),
        ("HostId", HostId::PREFIX),
        ("MachineId", MachineId::PREFIX),
        ("CredentialId", CredentialId::PREFIX),
        ("MessageId", MessageId::PREFIX),
        ("CallerId", CallerId::PREFIX),
    ];
    for (name, prefix) in prefixes {
        schemas[name]["pattern"] = format!("^{prefix}{ID_BODY}$").into();
        schemas[name]["examples"] = json!([format!("{prefix}{ID_BODY_EXAMPLE}")]);
    }
    schemas["FenceRequest"]["properties"]["i_saw_it_dead"]["const"] = true.into();
    schemas["FenceRequest"]["examples"] = json!([{ "i_saw_it_dead": true }]);
    schemas["ProviderId"]["pattern"] = "^[a-z][a-z0-9_]{0,39}$".into();
    schemas["ProviderId"]["examples"] = json!(["demo"]);
    for schema in schemas.as_object_mut().into_iter().flat_map(|named| named.values_mut()) {
        mark_times(schema);
    }
    schemas["StreamReset"] =
        json!({ "type": "object", "description": "Changes before this event are not known: read the list again." });
    let codes = Problem::ALL.iter().map(|problem| problem.code());
    let codes: BTreeSet<_> = codes.chain(EndReason::ALL.iter().map(|reason| reason.code())).collect();
    schemas["ProblemCode"] = json!({
        "type": "string",
        "enum": codes,
        "description": "The stable codes of errors and of the reasons for which sessions end. Later versions may have more.",
    });
    let description = schemas["ProblemBody"]["properties"]["code"]["description"].take();
    // A client of today can read the codes of later versions.
    let any = [reference("schemas", "ProblemCode"), json!({ "type": "string" })];
    schemas["ProblemBody"]["properties"]["code"] = json!({ "anyOf": any, "description": description });
}

/// Whether a text property of this name is a time (RFC 3339).
fn is_time(name: &str) -> bool {
    name.ends_with("_at") || name.ends_with("_until") || ["at", "since", "timestamp"].contains(&name)
}

/// Marks each property that is a time, in this schema and in those inside.
fn mark_times(schema: &mut Value) {
    for (name, property) in schema.get_mut("properties").and_then(Value::as_object_mut).into_iter().flatten() {
        let is_text = property["type"] == "string" || property["type"] == json!(["string", "null"]);
        if is_time(name) && is_text {
            property["format"] = "date-time".into();
        }
    }
    for combined in ["allOf", "oneOf"] {
        schema.get_mut(combined).and_then(Value::as_array_mut).into_iter().flatten().for_each(mark_times);
    }
}
