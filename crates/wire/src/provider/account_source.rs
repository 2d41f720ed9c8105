//! Where a credential names the account that is signed in.

use super::credential_format::lines_of;
use crate::guest_text::clean_line;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use regex_lite::Regex;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The longest name of an account, bytes: that of an e-mail address.
const ACCOUNT_BYTES_MAX: usize = 254;

/// The place of the account's name in a credential's file: an e-mail address or a user name, never a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum AccountSource {
    /// JSON pointer to a text.
    Pointer(String),
    /// A claim of an OpenID Connect ID token. Its signature is not checked: the name is shown to people and decides nothing.
    IdToken {
        /// JSON pointer to the token.
        pointer: String,
        /// The claim ("email").
        claim: String,
    },
    /// Regular expression on a text file; group 1, or the complete match, is the name.
    Pattern(String),
    /// A text in another JSON file that the tool writes. The file is delivered with the credential, and only this text of it is kept.
    OtherFile {
        /// Path of the file below the home directory.
        path: String,
        /// JSON pointer to the text.
        pointer: String,
    },
}

impl AccountSource {
    /// The path of the file that has the name, if it is not the credential's.
    pub fn other_path(&self) -> Option<&str> {
        match self {
            Self::OtherFile { path, .. } => Some(path),
            Self::Pointer(_) | Self::IdToken { .. } | Self::Pattern(_) => None,
        }
    }

    /// The name in these bytes of the file that has it, as one line that is safe to show. `None`: there is none, or it is longer than an e-mail address can be.
    pub fn read_from(&self, bytes: &[u8]) -> Option<String> {
        let name = match self {
            Self::Pointer(pointer) | Self::OtherFile { pointer, .. } => {
                text_at(&serde_json::from_slice(bytes).ok()?, pointer)?.to_owned()
            }
            Self::IdToken { pointer, claim } => {
                let value: Value = serde_json::from_slice(bytes).ok()?;
                claims_of(text_at(&value, pointer)?)?.get(claim)?.as_str()?.to_owned()
            }
            Self::Pattern(pattern) => {
                let text = lines_of(bytes)?;
                let captures = Regex::new(pattern).ok()?.captures(&text)?;
                captures.get(1).or_else(|| captures.get(0))?.as_str().to_owned()
            }
        };
        if name.len() > ACCOUNT_BYTES_MAX {
            return None;
        }
        let name = clean_line(name.trim(), ACCOUNT_BYTES_MAX);
        (!name.is_empty()).then_some(name)
    }
}

fn text_at<'v>(value: &'v Value, pointer: &str) -> Option<&'v str> {
    value.pointer(pointer)?.as_str()
}

/// The claims of a JSON Web Token.
fn claims_of(token: &str) -> Option<Value> {
    let payload = token.split('.').nth(1)?;
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id_token() -> AccountSource {
        AccountSource::IdToken { pointer: "/tokens/id_token".into(), claim: "email".into() }
    }

    fn with_claims(claims: &str) -> String {
        format!(r#"{{"tokens":{{"id_token":"e30.{}.c2ln"}}}}"#, URL_SAFE_NO_PAD.encode(claims))
    }

    #[test]
    fn account_is_read_from_each_source() {
        let pointer = AccountSource::Pointer("/account".into());
        assert_eq!(pointer.read_from(r#"{"account":" Zoë "}"#.as_bytes()).as_deref(), Some("Zoë"));
        let token = with_claims(r#"{"email":"ada@example.test","sub":"7"}"#);
        assert_eq!(id_token().read_from(token.as_bytes()).as_deref(), Some("ada@example.test"));
        let pattern = AccountSource::Pattern(r"(?m)^\s+user: (\S+)$".into());
        assert_eq!(pattern.read_from(b"github.com:\n    user: ada\n").as_deref(), Some("ada"));
    }

    #[test]
    fn account_of_claude_code_and_copilot_cli_is_read_from_their_files() {
        let account_of = |descriptor: &str| {
            toml::from_str::<super::super::Provider>(descriptor).unwrap().credential.account.unwrap()
        };
        let claude = account_of(include_str!("../../../../providers/claude_code.toml"));
        assert_eq!(claude.other_path(), Some(".claude.json"));
        let settings = r#"{"numStartups":1,"userID":"6f1c","hasCompletedOnboarding":true,"oauthAccount":{"accountUuid":"5e0d1d66-0000-4000-8000-000000000001","emailAddress":"ada@example.test","organizationUuid":"5e0d1d66-0000-4000-8000-000000000002","displayName":"Ada","organizationName":"Example"},"projects":{}}"#;
        assert_eq!(claude.read_from(settings.as_bytes()).as_deref(), Some("ada@example.test"));
        assert_eq!(claude.read_from(br#"{"hasCompletedOnboarding":true}"#), None);
        let copilot = account_of(include_str!("../../../../providers/copilot_cli.toml"));
        assert_eq!(copilot.other_path(), None);
        let file = "// User settings belong in settings.json.\n// This file is managed automatically.\n{\n  \"lastLoggedInUser\": {\n    \"host\": \"https://github.com\",\n    \"login\": \"ada-l\"\n  },\n  \"loggedInUsers\": [\n    {\n      \"host\": \"https://github.com\",\n      \"login\": \"ada-l\"\n    }\n  ],\n  \"authTokens\": [{ \"token\": \"gho_xxxxxxxxxxxxxxxxxxxxxxxxxxxx\" }]\n}\n";
        assert_eq!(copilot.read_from(file.as_bytes()).as_deref(), Some("ada-l"));
        assert_eq!(copilot.read_from(file.replace("\"login\"", "\"name\"").as_bytes()), None);
    }

    #[test]
    fn what_is_not_a_name_is_no_account() {
        let pointer = AccountSource::Pointer("/account".into());
        let long = format!(r#"{{"account":"{}"}}"#, "a".repeat(ACCOUNT_BYTES_MAX + 1));
        for json in ["", "{", "{}", r#"{"account":7}"#, r#"{"account":" "}"#, r#"{"account":{"a":"b"}}"#, &long] {
            assert_eq!(pointer.read_from(json.as_bytes()), None, "{json}");
        }
        for json in [
            r#"{"tokens":{"id_token":"secret"}}"#,
            r#"{"tokens":{"id_token":"a.b.c"}}"#,
            r#"{"tokens":{"id_token":"a.!.c"}}"#,
            &with_claims(r#"{"email":["a"]}"#),
            &with_claims("no JSON"),
        ] {
            assert_eq!(id_token().read_from(json.as_bytes()), None, "{json}");
        }
        assert_eq!(AccountSource::Pattern("(".into()).read_from(b"a"), None);
        assert_eq!(AccountSource::Pattern("a".into()).read_from(b"\xff"), None);
    }

    #[test]
    fn account_is_safe_to_show() {
        let pointer = AccountSource::Pointer("/account".into());
        let hostile = serde_json::to_vec(&serde_json::json!({ "account": "a\u{1b}[2J\u{202e}b\nc" })).unwrap();
        assert_eq!(pointer.read_from(&hostile).as_deref(), Some("a�[2J�b c"));
    }
}
