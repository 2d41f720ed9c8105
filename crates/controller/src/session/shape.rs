//! Whether delivered bytes are a credential of their provider. Speaks of keys, never of values.

use anteroom_wire::provider::CredentialRules;
use serde_json::Value;

/// Checks the bytes against the provider's rules.
///
/// # Errors
/// What is wrong, for people: the missing keys by their JSON pointers.
pub fn check(rules: &CredentialRules, bytes: &[u8]) -> Result<(), String> {
    let value: Value = serde_json::from_slice(bytes)
        .map_err(|error| format!("not JSON (line {}, column {})", error.line(), error.column()))?;
    let missing: Vec<&str> = rules
        .required
        .iter()
        .map(String::as_str)
        .filter(|pointer| !value.pointer(pointer).is_some_and(is_given))
        .collect();
    if missing.is_empty() { Ok(()) } else { Err(format!("missing or empty: {}", missing.join(", "))) }
}

fn is_given(value: &Value) -> bool {
    match value {
        Value::String(text) => !text.is_empty(),
        Value::Number(_) => true,
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> CredentialRules {
        CredentialRules {
            paths: vec![".x/auth.json".into()],
            required: vec!["/tokens/access".into(), "/expires".into()],
            ..CredentialRules::default()
        }
    }

    #[test]
    fn a_wrong_shape_names_keys_and_never_values() {
        assert_eq!(check(&rules(), br#"{"tokens":{"access":"s3cret"},"expires":1,"more":[]}"#), Ok(()));
        let why = check(&rules(), br#"{"tokens":{"acess":"s3cret"},"expires":null}"#).unwrap_err();
        assert_eq!(why, "missing or empty: /tokens/access, /expires");
        let why = check(&rules(), b"{\"tokens\":{\"access\":\"s3cr").unwrap_err();
        assert!(why.starts_with("not JSON (line 1") && !why.contains("s3cr"), "{why}");
    }
}
