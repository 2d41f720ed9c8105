//! What leaves the house is reduced first: no secret, no address of a person, no path of this host.
//!
//! Nothing here has to find secrets in what Anteroom writes itself: logs, timelines and receipts have none. This is the
//! second wall, for what programs in a machine said in their own words. It rather takes away too much.
//!
//! | what | becomes |
//! |---|---|
//! | the session's code, and what stands in its address | `(secret)` |
//! | `https://user@host/path?state=…#…` | `https://host/…` |
//! | long words that mix letters and digits, but for ids and known hashes | `(31 characters)` |
//! | `ABCD-12345`: what device codes look like | `(code)` |
//! | `203.0.113.7`, but for this host's own addresses | `203.0.x.x` |
//! | `STATE`, `CACHE` and home directories | their names |

use regex_lite::{Captures, Regex};
use std::path::Path;

/// A word of so many letters and digits may be a token; ids of ours are longer and let through by their form.
const WORD_CHARS_MAX: usize = 19;
/// Short parts that are one long word with many digits in it, as in a UUID.
const UUID_CHARS: usize = 32;
/// Fewer digits stand in names of packages.
const UUID_DIGITS_MIN: usize = 10;
/// Before this a diagnosis is our own words, behind it a program's screen.
const SCREEN: &str = "its last lines: “";
/// A known secret shorter than this would take ordinary words away.
const KNOWN_CHARS_MIN: usize = 4;

/// What is taken away from texts.
#[derive(Debug)]
pub struct Reducer {
    /// Literal text, and what it becomes; the longest first.
    known: Vec<(String, String)>,
    /// Words that look like secrets and are not.
    harmless: Vec<String>,
    url: Regex,
    code: Regex,
    word: Regex,
    address: Regex,
}

impl Reducer {
    /// Takes `secrets` away besides what looks like one. `places`: directories of this host and their names. `harmless`:
    /// words that stay, such as an image's hash.
    ///
    /// # Errors
    /// Never: the patterns are fixed. It is an error so that nothing here can panic.
    pub fn new(
        secrets: impl IntoIterator<Item = String>,
        places: &[(&Path, &str)],
        harmless: impl IntoIterator<Item = String>,
    ) -> Result<Self, regex_lite::Error> {
        let secrets = secrets.into_iter().filter(|secret| secret.chars().count() >= KNOWN_CHARS_MIN);
        let mut known: Vec<_> = secrets.map(|secret| (secret, "(secret)".to_owned())).collect();
        for (path, name) in places {
            let path = path.to_string_lossy();
            // A home of "/" names nothing.
            if path.len() > 1 {
                known.push((path.trim_end_matches('/').to_owned(), (*name).to_owned()));
            }
        }
        known.sort_by_key(|(text, _)| std::cmp::Reverse(text.len()));
        Ok(Self {
            known,
            harmless: harmless.into_iter().collect(),
            url: Regex::new(r#"\b([A-Za-z][A-Za-z0-9+.-]*)://([^\s"'<>\\]+)"#)?,
            code: Regex::new(r"\b[A-Z0-9]{4,10}(?:-[A-Z0-9]{4,10})+\b")?,
            word: Regex::new(r"[A-Za-z0-9_+=.~-]+")?,
            address: Regex::new(r"\b(\d{1,3})\.(\d{1,3})\.\d{1,3}\.\d{1,3}\b")?,
        })
    }

    /// The text without what must not leave the house.
    pub fn text(&self, text: &str) -> String {
        let mut text = match text.find(SCREEN) {
            Some(at) => format!("{}its last lines: (left out)", &text[..at]),
            None => text.to_owned(),
        };
        for (secret, name) in &self.known {
            if text.contains(secret.as_str()) {
                text = text.replace(secret.as_str(), name);
            }
        }
        let text = self.url.replace_all(&text, |found: &Captures<'_>| address_without_secrets(&found[1], &found[2]));
        let text = self.code.replace_all(&text, |found: &Captures<'_>| self.code(&found[0]));
        let text = self.word.replace_all(&text, |found: &Captures<'_>| self.word(&found[0]));
        let text = self.address.replace_all(&text, |found: &Captures<'_>| match &found[1] {
            "127" | "0" => found[0].to_owned(),
            first => format!("{first}.{}.x.x", &found[2]),
        });
        text.into_owned()
    }

    /// All texts of a JSON value, keys too. What stands under the keys of [`LEFT_OUT`] goes altogether.
    pub fn value(&self, value: &mut serde_json::Value) {
        use serde_json::Value;
        match value {
            Value::String(text) => *text = self.text(text),
            Value::Array(values) => values.iter_mut().for_each(|value| self.value(value)),
            Value::Object(fields) => {
                let taken = std::mem::take(fields);
                for (key, mut value) in taken {
                    if LEFT_OUT.contains(&key.as_str()) && !value.is_null() {
                        value = Value::String("(left out)".into());
                    } else {
                        self.value(&mut value);
                    }
                    fields.insert(self.text(&key), value);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    fn code(&self, found: &str) -> String {
        // Names of standards and dates have letters or digits only: UTF-8, RFC-3339, 2026-01.
        let digits = found.chars().any(|c| c.is_ascii_digit());
        let letters = found.chars().any(|c| c.is_ascii_uppercase());
        if self.is_harmless(found) || !(digits || letters) { found.to_owned() } else { "(code)".to_owned() }
    }

    fn word(&self, found: &str) -> String {
        if self.is_harmless(found) || is_id(found) {
            return found.to_owned();
        }
        // Hyphens, dots and underlines join parts; a token's part is long, or all parts together mix what names do not mix.
        let longest = found.split(['-', '_', '.', '=', '~', '+']).map(|part| part.len()).max().unwrap_or(0);
        let digits = found.chars().filter(char::is_ascii_digit).count();
        let like_a_uuid = found.len() >= UUID_CHARS && digits >= UUID_DIGITS_MIN;
        if longest > WORD_CHARS_MAX && mixes(found) || like_a_uuid {
            format!("({} characters)", found.len())
        } else {
            found.to_owned()
        }
    }

    fn is_harmless(&self, word: &str) -> bool {
        self.harmless.iter().any(|known| known.contains(word))
    }
}

/// Keys whose values are a person's, or the screen of a program in which a person types secrets.
const LEFT_OUT: &[&str] = &["last_lines", "user_id", "device_code"];

/// Scheme and host; the rest of an address may carry what only the person should see.
fn address_without_secrets(scheme: &str, rest: &str) -> String {
    let authority = rest.split(['/', '?', '#']).next().unwrap_or("");
    let host = authority.rsplit('@').next().unwrap_or("");
    let more = if rest.len() > authority.len() { "/…" } else { "" };
    format!("{scheme}://{host}{more}")
}

/// One of our own ids, alone or with a file's ending behind it.
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

/// Letters and digits, or small and large letters within: words of a language are not like that at this length.
fn mixes(word: &str) -> bool {
    let has = |is: fn(&char) -> bool| word.chars().any(|c| is(&c));
    let digits = has(char::is_ascii_digit);
    let (small, large) = (has(char::is_ascii_lowercase), has(char::is_ascii_uppercase));
    digits || (small && large)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn reducer() -> Reducer {
        let places = [(Path::new("/var/lib/anteroom"), "STATE"), (Path::new("/"), "HOME")];
        Reducer::new(["hunter2".to_owned(), "x".to_owned()], &places, ["9f86d081884c7d659a2feaa0c55ad015".to_owned()])
            .unwrap()
    }

    #[test]
    fn what_looks_like_a_secret_is_taken_away() {
        for (given, expected) in [
            ("said hunter2 twice: hunter2", "said (secret) twice: (secret)"),
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
            assert_eq!(reducer().text(given), expected, "{given}");
        }
    }

    #[test]
    fn what_explains_a_fault_stays() {
        for text in [
            "session ses_0123456789abcdefghjkmnpqrs on mac_0123456789abcdefghjkmnpqrs.json",
            "2026-11-22T23:01:02.345Z the guest's kernel 6.12.57-cloud-amd64 gave up: UTF-8, EAGAIN",
            "image 9f86d081884c7d659a2feaa0c55ad015, linux-image-cloud-amd64",
            "qemu-system-x86_64: cannot set up guest memory 'pc.ram': Cannot allocate memory",
            "agent_unreachable credential_invalid_format machine_being_replaced",
            "anteroom_controller::session::generation",
        ] {
            assert_eq!(reducer().text(text), text);
        }
    }

    #[test]
    fn screens_and_people_are_left_out_wherever_they_stand() {
        let mut value =
            json!({ "data": { "last_lines": ["Password: swordfish"], "code": 1 }, "user_id": "eve", "n": null });
        reducer().value(&mut value);
        assert_eq!(
            value,
            json!({ "data": { "last_lines": "(left out)", "code": 1 }, "user_id": "(left out)", "n": null })
        );
    }
}
