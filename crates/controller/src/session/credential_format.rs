//! Checks that delivered bytes have the format of the provider's credential. Errors name keys, never values. The agent makes the
//! same check before it delivers, but its result is not trusted here.

use anteroom_wire::provider::{CredentialRules, FileFormat};
use regex_lite::Regex;
use serde_json::Value;

/// Checks the bytes against the provider's rules.
///
/// # Errors
/// The fault, for people: missing keys by their JSON pointers.
pub fn check(rules: &CredentialRules, bytes: &[u8]) -> Result<(), String> {
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err("it is empty".to_owned());
    }
    match rules.format {
        FileFormat::Json => check_json(&rules.required, bytes),
        FileFormat::Text => text(rules.text_matches.as_deref(), bytes),
    }
}

fn check_json(required: &[String], bytes: &[u8]) -> Result<(), String> {
    let value: Value = serde_json::from_slice(bytes)
        .map_err(|error| format!("not JSON (line {}, column {})", error.line(), error.column()))?;
    let missing: Vec<&str> =
        required.iter().map(String::as_str).filter(|pointer| !value.pointer(pointer).is_some_and(is_present)).collect();
    if missing.is_empty() { Ok(()) } else { Err(format!("missing or empty: {}", missing.join(", "))) }
}

fn text(pattern: Option<&str>, bytes: &[u8]) -> Result<(), String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "it is not UTF-8 text".to_owned())?;
    // A descriptor without a valid pattern is rejected when the server starts.
    let pattern = pattern.ok_or("the provider has no pattern for the text")?;
    let pattern = Regex::new(pattern).map_err(|_| "the provider's pattern is not a regular expression")?;
    if pattern.is_match(text) { Ok(()) } else { Err("the text does not match the provider's pattern".to_owned()) }
}

fn is_present(value: &Value) -> bool {
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
    fn a_format_error_names_keys_and_never_values() {
        assert_eq!(check(&rules(), br#"{"tokens":{"access":"s3cret"},"expires":1,"more":[]}"#), Ok(()));
        let why = check(&rules(), br#"{"tokens":{"acess":"s3cret"},"expires":null}"#).unwrap_err();
        assert_eq!(why, "missing or empty: /tokens/access, /expires");
        let why = check(&rules(), b"{\"tokens\":{\"access\":\"s3cr").unwrap_err();
        assert!(why.starts_with("not JSON (line 1") && !why.contains("s3cr"), "{why}");
    }

    #[test]
    fn a_text_credential_must_match_the_pattern_and_is_never_shown() {
        let rules = CredentialRules {
            format: FileFormat::Text,
            text_matches: Some("(?m)^oauth_token: \\S+$".into()),
            ..CredentialRules::default()
        };
        assert_eq!(check(&rules, b"github.com:\noauth_token: s3cret\n"), Ok(()));
        for wrong in [&b"github.com:\n"[..], b"oauth_token: \xff\n", b"oauth_token:\n", b" \n", b""] {
            let why = check(&rules, wrong).unwrap_err();
            assert!(!why.contains("s3cret") && !why.contains("github"), "{why}");
        }
        let without = CredentialRules { text_matches: None, ..rules };
        assert!(check(&without, b"anything").is_err());
    }

    #[test]
    fn blank_content_is_invalid_in_every_format() {
        for format in [FileFormat::Json, FileFormat::Text] {
            let all = CredentialRules { format, text_matches: Some(String::new()), ..CredentialRules::default() };
            assert_eq!(check(&all, b" \r\n\t").unwrap_err(), "it is empty");
        }
    }
}
