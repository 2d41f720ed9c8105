//! `web/openapi.json`, which a test of the server compares with its routes.

use crate::tools::{output, project, python_tools};
use serde_json::Value;
use std::collections::BTreeSet;
use tokio::process::Command;

pub(crate) fn document() -> Value {
    serde_json::from_str(&std::fs::read_to_string(project().join("web/openapi.json")).unwrap()).unwrap()
}

pub(crate) fn operations(document: &Value) -> impl Iterator<Item = (String, &Value)> {
    let paths = document["paths"].as_object().unwrap();
    paths.iter().flat_map(|(path, methods)| {
        methods.as_object().unwrap().iter().map(move |(method, operation)| (format!("{method} {path}"), operation))
    })
}

/// The response, also if it is a shared one.
pub(crate) fn resolved<'a>(document: &'a Value, response: &'a Value) -> &'a Value {
    let Some(reference) = response["$ref"].as_str() else { return response };
    document.pointer(reference.trim_start_matches('#')).unwrap()
}

#[tokio::test]
async fn openapi_spec_validator_accepts_the_document() {
    let validator = python_tools().await.join("openapi-spec-validator");
    output(Command::new(validator).arg("--schema").arg("3.1").arg(project().join("web/openapi.json"))).await;
}

#[test]
fn each_operation_says_who_may_call_it_and_what_it_can_answer() {
    let document = document();
    let tags: BTreeSet<_> =
        document["tags"].as_array().unwrap().iter().map(|tag| tag["name"].as_str().unwrap()).collect();
    for (name, operation) in operations(&document) {
        let used = operation["tags"].as_array().unwrap();
        assert!(!used.is_empty() && used.iter().all(|tag| tags.contains(tag.as_str().unwrap())), "{name}: {used:?}");
        assert!(operation["summary"].as_str().is_some_and(|summary| !summary.is_empty()), "{name}");
        let needs_identity = !operation["security"].as_array().unwrap().is_empty() && name != "get /health";
        let responses = operation["responses"].as_object().unwrap();
        for (status, is_expected) in [
            ("400", true),
            ("401", needs_identity),
            ("403", needs_identity),
            ("404", name.contains('{')),
            ("413", operation.get("requestBody").is_some()),
            ("415", operation.get("requestBody").is_some()),
            ("429", true),
            ("500", true),
        ] {
            assert!(!is_expected || responses.contains_key(status), "{name} lacks {status}");
        }
        for (status, response) in responses {
            let response = resolved(&document, response);
            assert!(response["description"].as_str().is_some_and(|text| !text.is_empty()), "{name} {status}");
            assert!(response["headers"]["X-Request-Id"].is_object(), "{name} {status}");
            if !["101", "204", "304"].contains(&status.as_str()) {
                let content = response["content"].as_object().unwrap();
                assert!(content.values().all(|content| content["schema"].is_object()), "{name} {status}");
            }
        }
    }
}

#[test]
fn each_text_that_is_an_id_or_a_time_says_its_form() {
    let document = document();
    let schemas = document["components"]["schemas"].as_object().unwrap();
    for (name, schema) in schemas {
        if name.ends_with("Id") {
            assert!(schema["pattern"].is_string() && schema["examples"].is_array(), "{name}");
        }
        for (key, property) in schema["properties"].as_object().into_iter().flatten() {
            let text = property["description"].as_str().unwrap_or_default();
            let is_text = property["type"] == "string" || property["type"][0] == "string";
            assert!(!(is_text && text.starts_with("When ")) || property["format"] == "date-time", "{name}.{key}");
        }
    }
    assert!(document["paths"]["/api/auth/session/{id}/code"]["post"]["deprecated"].as_bool().unwrap());
    assert_eq!(
        document["components"]["schemas"]["Lease"]["properties"]["files"]["items"]["$ref"],
        "#/components/schemas/DeliveredFile"
    );
    let messages: Vec<_> = document["webhooks"].as_object().unwrap().keys().collect();
    assert!(messages.len() >= 4, "{messages:?}");
}
