//! A host name as a guest may ask for it: a DNS name, never an address in any spelling.

use super::EgressError;
use anteroom_wire::Problem;
use std::fmt;

/// The longest name, bytes (RFC 1035 §2.3.4).
const NAME_BYTES_MAX: usize = 253;
/// The longest label, bytes (same place).
const LABEL_BYTES_MAX: usize = 63;

/// A well-formed DNS name in lower case without a trailing dot.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostName(String);

impl HostName {
    /// Reads a name; any case, one trailing dot allowed.
    ///
    /// # Errors
    /// [`Problem::EgressDenied`] for an address (`127.0.0.1`, `[::1]`, `2130706433`, `0x7f.1`: whatever a resolver
    /// would read as one) and for what is not a DNS name.
    pub fn parse(text: &str) -> Result<Self, EgressError> {
        let refused = |why: &str| EgressError::new(Problem::EgressDenied, format!("{:?} {why}", shown(text)));
        let name = text.strip_suffix('.').unwrap_or(text);
        if text.starts_with('[') || text.contains(':') || name.parse::<std::net::IpAddr>().is_ok() {
            return Err(refused("is an address: only names may be reached"));
        }
        let label = |label: &str| {
            (1..=LABEL_BYTES_MAX).contains(&label.len())
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        if name.len() > NAME_BYTES_MAX || !name.split('.').all(label) {
            return Err(refused("is not a DNS name"));
        }
        // inet_aton(3) reads numbers in decimal, octal and hexadecimal, with one to four parts: no name ends like that.
        if name.rsplit('.').next().is_some_and(|last| last.starts_with(|c: char| c.is_ascii_digit())) {
            return Err(refused("is an address: only names may be reached"));
        }
        Ok(Self(name.to_ascii_lowercase()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name as it is asked for: absolute, so that the host's search list cannot turn it into another one. A single
    /// label (`localhost`) is left as it is, since those are the host's own.
    pub(super) fn as_question(&self) -> String {
        if self.0.contains('.') { format!("{}.", self.0) } else { self.0.clone() }
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What of a guest's text may stand in a message: bounded, printable.
pub(super) fn shown(text: &str) -> String {
    text.chars().take(NAME_BYTES_MAX).map(|c| if c.is_ascii_graphic() { c } else { '?' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_in_any_case_and_asked_for_as_an_absolute_one() {
        let name = HostName::parse("Auth.OpenAI.com.").unwrap();
        assert_eq!(name.as_str(), "auth.openai.com");
        assert_eq!(name.as_question(), "auth.openai.com.");
        assert_eq!(HostName::parse("localhost").unwrap().as_question(), "localhost");
    }

    #[test]
    fn an_address_in_any_spelling_is_not_a_name() {
        for address in [
            "127.0.0.1",
            "127.1",
            "2130706433",
            "0x7f.1",
            "0x7f000001",
            "017700000001",
            "127.0.0.1.",
            "[::1]",
            "::1",
            "fe80::1%eth0",
            "1.2.3.4.5",
        ] {
            let refusal = HostName::parse(address).unwrap_err();
            assert_eq!(refusal.problem, Problem::EgressDenied, "{address}");
        }
    }

    #[test]
    fn what_is_not_a_dns_name_is_refused_and_shown_without_its_control_characters() {
        for bad in [
            "",
            ".",
            "a..b",
            "a b",
            "a/b",
            "$(id)",
            "a;id",
            "ä.example",
            "-a.example",
            "a@b.example",
            &"a".repeat(64),
            &"a.".repeat(200),
        ] {
            assert!(HostName::parse(bad).is_err(), "{bad}");
        }
        let refusal = HostName::parse("evil\r\n\u{1b}[31m.example").unwrap_err();
        assert!(refusal.detail.chars().all(|c| c.is_ascii_graphic() || c == ' '), "{}", refusal.detail);
    }
}
