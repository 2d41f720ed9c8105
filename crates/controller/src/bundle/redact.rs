//! Redaction of support bundles: removes secrets, users' addresses and paths of this host.
//!
//! Logs, timelines and receipts that Anteroom writes contain no secrets. This is a second protection, for text that programs
//! in a machine printed. It prefers to remove too much.
//!
//! | text | replacement |
//! |---|---|
//! | the session's device code and the parameter values of its URLs | `(secret)` |
//! | `https://user@host/path?state=…#…` | `https://host/…` |
//! | long words that mix letters and digits, except ids and known hashes | `(31 characters)` |
//! | `ABCD-12345`: the form of device codes | `(code)` |
//! | `203.0.113.7`, except loopback addresses | `203.0.x.x` |
//! | state, cache and home directory | `STATE`, `CACHE`, `HOME` |

use regex_lite::{Captures, Regex};
use std::path::Path;

/// A longer word of letters and digits may be a token. Ids of Anteroom are longer and are recognized by their form.
const WORD_CHARS_MAX: usize = 19;
/// Minimum length of a word of short parts that counts as a UUID.
const UUID_CHARS: usize = 32;
/// Minimum number of digits of a UUID; package names of that length have fewer.
const UUID_DIGITS_MIN: usize = 10;
/// The text of a diagnosis after this marker is a program's screen.
const SCREEN_MARKER: &str = "its last lines: “";
/// Shorter secrets are not replaced: they would match ordinary words.
const SECRET_CHARS_MIN: usize = 4;

/// Replaces secrets in text and JSON.
#[derive(Debug)]
pub struct Redactor {
    /// Literal text and its replacement, the longest first.
    replacements: Vec<(String, String)>,
    /// Words that look like secrets and are not.
    allowed: Vec<String>,
    url: Regex,
    code: Regex,
    word: Regex,
    address: Regex,
}

impl Redactor {
    /// A redactor for these literal `secrets` in addition to the patterns of the module. `directories`: paths of this host and
    /// the names that replace them. `allowed`: words that stay, such as an image's hash.
    ///
    /// # Errors
    /// None in practice: the patterns are constant. The error type avoids a panic.
    pub fn new(
        secrets: impl IntoIterator<Item = String>,
        directories: &[(&Path, &str)],
        allowed: impl IntoIterator<Item = String>,
    ) -> Result<Self, regex_lite::Error> {
        let secrets = secrets.into_iter().filter(|secret| secret.chars().count() >= SECRET_CHARS_MIN);
        let mut replacements: Vec<_> = secrets.map(|secret| (secret, "(secret)".to_owned())).collect();
        for (path, name) in directories {
            let path = path.to_string_lossy();
            // A home directory of "/" would match every path.
            if path.len() > 1 {
                replacements.push((path.trim_end_matches('/').to_owned(), (*name).to_owned()));
            }
        }
        replacements.sort_by_key(|(text, _)| std::cmp::Reverse(text.len()));
        Ok(Self {
            replacements,
            allowed: allowed.into_iter().collect(),
            url: Regex::new(r#"\b([A-Za-z][A-Za-z0-9+.-]*)://([^\s"'<>\\]+)"#)?,
            code: Regex::new(r"\b[A-Z0-9]{4,10}(?:-[A-Z0-9]{4,10})+\b")?,
            word: Regex::new(r"[A-Za-z0-9_+=.~-]+")?,
            address: Regex::new(r"\b(\d{1,3})\.(\d{1,3})\.\d{1,3}\.\d{1,3}\b")?,
        })
    }

    /// Returns the text with all secrets replaced.
    pub fn redact_text(&self, text: &str) -> String {
        let mut text = match text.find(SCREEN_MARKER) {
            Some(at) => format!("{}its last lines: (left out)", &text[..at]),
            None => text.to_owned(),
        };
        for (secret, replacement) in &self.replacements {
            if text.contains(secret.as_str()) {
                text = text.replace(secret.as_str(), replacement);
            }
        }
        let text = self.url.replace_all(&text, |found: &Captures<'_>| url_without_secrets(&found[1], &found[2]));
        let text = self.code.replace_all(&text, |found: &Captures<'_>| self.code(&found[0]));
        let text = self.word.replace_all(&text, |found: &Captures<'_>| self.word(&found[0]));
        let text = self.address.replace_all(&text, |found: &Captures<'_>| match &found[1] {
            "127" | "0" => found[0].to_owned(),
            first => format!("{first}.{}.x.x", &found[2]),
        });
        text.into_owned()
    }

    /// Redacts all strings of a JSON value, keys too. Values of the keys in [`LEFT_OUT`] are replaced as a whole.
    pub fn redact_json(&self, value: &mut serde_json::Value) {
        use serde_json::Value;
        match value {
            Value::String(text) => *text = self.redact_text(text),
            Value::Array(values) => values.iter_mut().for_each(|value| self.redact_json(value)),
            Value::Object(fields) => {
                for (key, mut value) in std::mem::take(fields) {
                    if LEFT_OUT.contains(&key.as_str()) && !value.is_null() {
                        value = Value::String("(left out)".into());
                    } else {
                        self.redact_json(&mut value);
                    }
                    fields.insert(self.redact_text(&key), value);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    fn code(&self, found: &str) -> String {
        // Names of standards and dates contain only letters or only digits: UTF-8, RFC-3339, 2026-01.
        let digits = found.chars().any(|c| c.is_ascii_digit());
        let letters = found.chars().any(|c| c.is_ascii_uppercase());
        if self.is_allowed(found) || !(digits || letters) { found.to_owned() } else { "(code)".to_owned() }
    }

    fn word(&self, found: &str) -> String {
        if self.is_allowed(found) || is_id(found) {
            return found.to_owned();
        }
        // A word has parts joined by hyphens, dots or underscores. A token has one long part; a UUID has many digits.
        let longest = found.split(['-', '_', '.', '=', '~', '+']).map(|part| part.len()).max().unwrap_or(0);
        let digits = found.chars().filter(char::is_ascii_digit).count();
        let like_a_uuid = found.len() >= UUID_CHARS && digits >= UUID_DIGITS_MIN;
        if longest > WORD_CHARS_MAX && has_mixed_characters(found) || like_a_uuid {
            format!("({} characters)", found.len())
        } else {
            found.to_owned()
        }
    }

    fn is_allowed(&self, word: &str) -> bool {
        self.allowed.iter().any(|allowed| allowed.contains(word))
    }
}

/// Keys whose values identify a user or contain the screen of a program into which a user types secrets.
const LEFT_OUT: &[&str] = &["last_lines", "user_id", "device_code"];

/// Scheme and host of a URL; user info, path, query and fragment may be secret.
fn url_without_secrets(scheme: &str, rest: &str) -> String {
    let authority = rest.split(['/', '?', '#']).next().unwrap_or("");
    let host = authority.rsplit('@').next().unwrap_or("");
    let more = if rest.len() > authority.len() { "/…" } else { "" };
    format!("{scheme}://{host}{more}")
}

/// Whether the word is an id of Anteroom, alone or followed by a file name suffix.
fn is_id(word: &str) -> bool {
    let stem = word.split('.').next().unwrap_or(word).trim_end_matches(['=', '-', '_', '+', '~']);
    let parts = [
        stem.parse::<anteroom_wire::SessionId>().is_ok(),
        stem.parse::<anteroom_wire::MachineId>().is_ok(),
        stem.parse::<anteroom_wire::CredentialId>().is_ok(),
        stem.parse::<anteroom_wire::CallerId>().is_ok(),
    ];
    parts.contains(&true) && word.len() <= stem.len() + ".json".len()
}

/// Whether the word has digits, or both lower-case and upper-case letters. Natural words of this length do not.
fn has_mixed_characters(word: &str) -> bool {
    let has = |is: fn(&char) -> bool| word.chars().any(|c| is(&c));
    let digits = has(char::is_ascii_digit);
    let (lower, upper) = (has(char::is_ascii_lowercase), has(char::is_ascii_uppercase));
    digits || (lower && upper)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn redactor() -> Redactor {
        let directories = [(Path::new("/var/lib/anteroom"), "STATE"), (Path::new("/"), "HOME")];
        let secrets = ["hunter2".to_owned(), "x".to_owned()];
        Redactor::new(secrets, &directories, ["9f86d081884c7d659a2feaa0c55ad015".to_owned()]).unwrap()
    }

    #[test]
    fn text_that_looks_like_a_secret_is_replaced() {
        for (text, expected) in [
            ("printed hunter2 twice: hunter2", "printed (secret) twice: (secret)"),
            ("see https://u:p@id.example/a?state=1#frag now", "see https://id.example/… now"),
            ("see https://id.example", "see https://id.example"),
            ("enter WDJB-MJHT or ABCD-12345", "enter (code) or (code)"),
            ("token ant_op_0123456789abcdef0123456789abcdef", "token (39 characters)"),
            ("jwt eyJhbGciOiJIUzI1NiIsInR5cCI6.eyJzdWIiOiIxMjM0NTY3ODkw.SflKxwRJSMeKKF2QT4", "jwt (72 characters)"),
            ("AbCdEfGhIjKlMnOpQrStUvWxYz", "(26 characters)"),
            ("peer 203.0.113.7:80 asked 127.0.0.1", "peer 203.0.x.x:80 asked 127.0.0.1"),
            ("/var/lib/anteroom/run/x", "STATE/run/x"),
            ("550e8400-e29b-41d4-a716-446655440000", "(36 characters)"),
            ("Codex ended; its last lines: “Password: swordfish ” / more”.", "Codex ended; its last lines: (left out)"),
        ] {
            assert_eq!(redactor().redact_text(text), expected, "{text}");
        }
    }

    #[test]
    fn ids_versions_and_error_codes_are_kept() {
        for text in [
            "session ses_0123456789abcdefghjkmnpqrs on mac_0123456789abcdefghjkmnpqrs.json",
            "2026-11-22T23:01:02.345Z the guest's kernel 6.12.57-cloud-amd64 gave up: UTF-8, EAGAIN",
            "image 9f86d081884c7d659a2feaa0c55ad015, linux-image-cloud-amd64",
            "qemu-system-x86_64: cannot set up guest memory 'pc.ram': Cannot allocate memory",
            "agent_unreachable credential_invalid_format machine_being_replaced",
            "anteroom_controller::session::generation",
        ] {
            assert_eq!(redactor().redact_text(text), text);
        }
    }

    #[test]
    fn screens_and_user_ids_are_left_out_at_every_depth() {
        let mut value =
            json!({ "data": { "last_lines": ["Password: swordfish"], "code": 1 }, "user_id": "eve", "n": null });
        redactor().redact_json(&mut value);
        assert_eq!(
            value,
            json!({ "data": { "last_lines": "(left out)", "code": 1 }, "user_id": "(left out)", "n": null })
        );
    }
}
