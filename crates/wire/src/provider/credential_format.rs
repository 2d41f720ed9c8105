//! The format of a credential file. The agent checks a file before it delivers it; the controller checks the delivered bytes again.

use super::{CredentialRules, FileFormat};
use regex_lite::Regex;
use serde_json::Value;

/// The format that a provider's credential must have, ready to be checked.
#[derive(Debug)]
pub enum CredentialFormat {
    /// JSON with a non-empty text or a number at each of these pointers.
    Json(Vec<String>),
    /// Text that matches this pattern.
    Text(Regex),
}

/// Why bytes are not a provider's credential. Names keys, never values.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormatFault {
    /// Nothing but blanks.
    #[error("the file is empty")]
    Empty,
    /// Not one complete JSON value. (The parser's message could quote the text.)
    #[error("not complete JSON")]
    NotJson,
    /// JSON without a non-empty text or a number at these pointers.
    #[error("missing or empty: {}", .0.join(", "))]
    Missing(Vec<String>),
    /// Not UTF-8.
    #[error("not UTF-8 text")]
    NotText,
    /// Text that does not match the pattern.
    #[error("the text does not match the provider's pattern")]
    NoMatch,
    /// The provider's rules have no pattern for the text.
    #[error("credential.text_matches is missing")]
    PatternMissing,
    /// The provider's pattern for the text is not a regular expression.
    #[error("credential.text_matches is not a regular expression: {0}")]
    PatternInvalid(String),
}

impl CredentialRules {
    /// Checks whether these bytes are a credential with the provider's format.
    ///
    /// # Errors
    /// They are not, or the rules have no valid pattern.
    pub fn check_format(&self, bytes: &[u8]) -> Result<(), FormatFault> {
        CredentialFormat::new(self)?.check_bytes(bytes)
    }
}

impl CredentialFormat {
    /// The format that these rules describe.
    ///
    /// # Errors
    /// [`FormatFault::PatternMissing`], [`FormatFault::PatternInvalid`].
    pub fn new(rules: &CredentialRules) -> Result<Self, FormatFault> {
        match rules.format {
            FileFormat::Json => Ok(Self::Json(rules.required.clone())),
            FileFormat::Text => {
                let pattern = rules.text_matches.as_deref().ok_or(FormatFault::PatternMissing)?;
                let pattern = Regex::new(pattern).map_err(|error| FormatFault::PatternInvalid(error.to_string()))?;
                Ok(Self::Text(pattern))
            }
        }
    }

    /// Checks whether these bytes have the format.
    ///
    /// # Errors
    /// They have not.
    pub fn check_bytes(&self, bytes: &[u8]) -> Result<(), FormatFault> {
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Err(FormatFault::Empty);
        }
        match self {
            Self::Json(required) => check_json(required, bytes),
            Self::Text(pattern) => {
                let text = std::str::from_utf8(bytes).map_err(|_| FormatFault::NotText)?;
                if pattern.is_match(text) { Ok(()) } else { Err(FormatFault::NoMatch) }
            }
        }
    }
}

fn check_json(required: &[String], bytes: &[u8]) -> Result<(), FormatFault> {
    let value: Value = serde_json::from_slice(bytes).map_err(|_| FormatFault::NotJson)?;
    let missing: Vec<String> =
        required.iter().filter(|pointer| !value.pointer(pointer).is_some_and(is_present)).cloned().collect();
    if missing.is_empty() { Ok(()) } else { Err(FormatFault::Missing(missing)) }
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
    fn a_format_fault_names_keys_and_never_values() {
        assert_eq!(rules().check_format(br#"{"tokens":{"access":"s3cret"},"expires":1,"more":[]}"#), Ok(()));
        let fault = rules().check_format(br#"{"tokens":{"acess":"s3cret"},"expires":null}"#).unwrap_err();
        assert_eq!(fault.to_string(), "missing or empty: /tokens/access, /expires");
        let fault = rules().check_format(br#"{"tokens":{"access":""},"expires":{}}"#).unwrap_err();
        assert_eq!(fault.to_string(), "missing or empty: /tokens/access, /expires");
        let fault = rules().check_format(b"{\"tokens\":{\"access\":\"s3cr").unwrap_err();
        assert_eq!(fault.to_string(), "not complete JSON");
    }

    #[test]
    fn a_text_credential_must_match_the_pattern_and_is_never_shown() {
        let rules = CredentialRules {
            format: FileFormat::Text,
            text_matches: Some("(?m)^oauth_token: \\S+$".into()),
            ..CredentialRules::default()
        };
        assert_eq!(rules.check_format(b"github.com:\noauth_token: s3cret\n"), Ok(()));
        for (wrong, fault) in [
            (&b"github.com:\n"[..], FormatFault::NoMatch),
            (b"oauth_token: \xff\n", FormatFault::NotText),
            (b"oauth_token:\n", FormatFault::NoMatch),
            (b" \n", FormatFault::Empty),
            (b"", FormatFault::Empty),
        ] {
            let found = rules.check_format(wrong).unwrap_err();
            assert_eq!(found, fault);
            let text = found.to_string();
            assert!(!text.contains("s3cret") && !text.contains("github"), "{text}");
        }
        let without = CredentialRules { text_matches: None, ..rules.clone() };
        assert_eq!(without.check_format(b"anything"), Err(FormatFault::PatternMissing));
        let invalid = CredentialRules { text_matches: Some("(".into()), ..rules };
        assert!(matches!(invalid.check_format(b"anything"), Err(FormatFault::PatternInvalid(_))));
    }

    #[test]
    fn blank_content_is_invalid_in_every_format() {
        for format in [FileFormat::Json, FileFormat::Text] {
            let all = CredentialRules { format, text_matches: Some(String::new()), ..CredentialRules::default() };
            assert_eq!(all.check_format(b" \r\n\t"), Err(FormatFault::Empty));
        }
    }
}
