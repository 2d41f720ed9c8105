//! The format of a credential file. The agent checks a file before it delivers it; the controller checks the delivered bytes again.

use super::{CredentialRules, FileFormat};
use regex_lite::Regex;
use serde_json::Value;
use std::borrow::Cow;

const UTF8_BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

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
    /// UTF-16 in either byte order, which no tool reads.
    #[error("UTF-16 text: save the file as UTF-8 without a byte-order mark")]
    Utf16,
    /// JSON after a byte-order mark, which RFC 8259 forbids and the tools' parsers reject.
    #[error("a byte-order mark before the JSON: save the file as UTF-8 without a byte-order mark")]
    ByteOrderMark,
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
    #[error(
        "the text does not match the provider's pattern: it is incomplete, or the token is in a keyring instead of the file"
    )]
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
        if is_utf16(bytes) {
            return Err(FormatFault::Utf16);
        }
        match self {
            Self::Json(_) if bytes.starts_with(UTF8_BYTE_ORDER_MARK) => Err(FormatFault::ByteOrderMark),
            Self::Json(required) => check_json(required, bytes),
            Self::Text(pattern) => {
                let text = lines_of(bytes).ok_or(FormatFault::NotText)?;
                if pattern.is_match(&text) { Ok(()) } else { Err(FormatFault::NoMatch) }
            }
        }
    }
}

/// The text that patterns are matched with: without a byte-order mark, and with `\n` at the end of each line. `None`: not UTF-8.
pub(super) fn lines_of(bytes: &[u8]) -> Option<Cow<'_, str>> {
    let text = std::str::from_utf8(bytes.strip_prefix(UTF8_BYTE_ORDER_MARK).unwrap_or(bytes)).ok()?;
    Some(if text.contains("\r\n") { Cow::Owned(text.replace("\r\n", "\n")) } else { Cow::Borrowed(text) })
}

/// Whether bytes begin as UTF-16: with its byte-order mark, or with a character of ASCII.
fn is_utf16(bytes: &[u8]) -> bool {
    matches!(bytes, [0xff, 0xfe, ..] | [0xfe, 0xff, ..] | [0, 1..=0x7f, ..] | [1..=0x7f, 0, ..])
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

    /// The rules of a descriptor of this project.
    fn descriptor(text: &str) -> CredentialRules {
        toml::from_str::<super::super::Provider>(text).unwrap().credential
    }

    fn utf16(text: &str, to_bytes: impl Fn(u16) -> [u8; 2]) -> Vec<u8> {
        text.encode_utf16().flat_map(to_bytes).collect()
    }

    #[test]
    fn r31_json_with_a_byte_order_mark_or_in_utf16_is_refused_by_name() {
        let codex = descriptor(include_str!("../../../../providers/codex.toml"));
        let good = r#"{"auth_mode":"chatgpt","OPENAI_API_KEY":null,"tokens":{"id_token":"e30.e30.e30","access_token":"e30.e30.e30","refresh_token":"rt_x","account_id":"a"},"last_refresh":"2026-01-01T00:00:00Z"}"#;
        assert_eq!(codex.check_format(good.as_bytes()), Ok(()));
        assert_eq!(codex.check_format(good.replace(',', ",\r\n").as_bytes()), Ok(()), "JSON takes CRLF");
        let marked = format!("\u{feff}{good}");
        let fault = codex.check_format(marked.as_bytes()).unwrap_err();
        assert_eq!(
            fault.to_string(),
            "a byte-order mark before the JSON: save the file as UTF-8 without a byte-order mark"
        );
        for wide in [
            utf16(&marked, u16::to_le_bytes),
            utf16(&marked, u16::to_be_bytes),
            utf16(good, u16::to_le_bytes),
            utf16(good, u16::to_be_bytes),
        ] {
            let fault = codex.check_format(&wide).unwrap_err();
            assert_eq!(fault.to_string(), "UTF-16 text: save the file as UTF-8 without a byte-order mark");
        }
    }

    const HOSTS: &str = "github.com:\n    git_protocol: https\n    users:\n        octo-person:\n            oauth_token: gho_xxxxxxxxxxxxxxxxxxxxxxxxxxxx\n    user: octo-person\n    oauth_token: gho_xxxxxxxxxxxxxxxxxxxxxxxxxxxx\n";

    #[test]
    fn r31_text_with_crlf_or_a_byte_order_mark_is_taken() {
        let github = descriptor(include_str!("../../../../providers/github_cli.toml"));
        let windows = HOSTS.replace('\n', "\r\n");
        for text in [HOSTS, &windows, &format!("\u{feff}{windows}")] {
            assert_eq!(github.check_format(text.as_bytes()), Ok(()), "{text:?}");
            let account = github.account.as_ref().unwrap().read_from(text.as_bytes());
            assert_eq!(account.as_deref(), Some("octo-person"), "{text:?}");
        }
        assert_eq!(github.check_format(&utf16(&windows, u16::to_le_bytes)), Err(FormatFault::Utf16));
    }

    #[test]
    fn r42_hosts_file_whose_token_is_in_a_keyring_does_not_count() {
        let github = descriptor(include_str!("../../../../providers/github_cli.toml"));
        let keyring: String =
            HOSTS.lines().filter(|line| !line.contains("oauth_token")).map(|line| format!("{line}\n")).collect();
        for text in [keyring.clone(), keyring.replace('\n', "\r\n")] {
            assert_eq!(github.check_format(text.as_bytes()), Err(FormatFault::NoMatch));
        }
    }
}
