//! Host names that guests may request: DNS names, never IP addresses in any notation.

use super::EgressError;
use anteroom_wire::Problem;
use std::fmt;

/// The longest name, bytes (RFC 1035 §2.3.4).
pub const NAME_BYTES_MAX: usize = 253;
/// The longest label, bytes (RFC 1035 §2.3.4).
const LABEL_BYTES_MAX: usize = 63;

/// A well-formed DNS name in lower case without a trailing dot.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostName(String);

impl HostName {
    /// Parses a name in any case, with at most one trailing dot.
    ///
    /// # Errors
    /// [`Problem::EgressDenied`] for an IP address in any notation that a resolver accepts (`127.0.0.1`, `[::1]`,
    /// `2130706433`, `0x7f.1`) and for a text that is not a DNS name.
    pub fn parse(text: &str) -> Result<Self, EgressError> {
        let denied =
            |why: &str| EgressError::new(Problem::EgressDenied, format!("{:?} {why}", escape_control_characters(text)));
        let name = text.strip_suffix('.').unwrap_or(text);
        if text.starts_with('[') || text.contains(':') || name.parse::<std::net::IpAddr>().is_ok() {
            return Err(denied("is an IP address; only host names are allowed"));
        }
        let label = |label: &str| {
            (1..=LABEL_BYTES_MAX).contains(&label.len())
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        if name.len() > NAME_BYTES_MAX || !name.split('.').all(label) {
            return Err(denied("is not a DNS name"));
        }
        // inet_aton(3) accepts numbers in decimal, octal and hexadecimal, with one to four parts: a last label that starts
        // with a digit is never a DNS name.
        if name.rsplit('.').next().is_some_and(|last| last.starts_with(|c: char| c.is_ascii_digit())) {
            return Err(denied("is an IP address; only host names are allowed"));
        }
        Ok(Self(name.to_ascii_lowercase()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name to resolve, with a trailing dot, so that the resolver does not append a suffix of the host's search list. A
    /// single label (`localhost`) has no dot, because the host itself defines those names.
    pub(super) fn to_absolute(&self) -> String {
        if self.0.contains('.') { format!("{}.", self.0) } else { self.0.clone() }
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A guest's text for a message: bounded, with control characters replaced.
pub(super) fn escape_control_characters(text: &str) -> String {
    text.chars().take(NAME_BYTES_MAX).map(|c| if c.is_ascii_graphic() { c } else { '?' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_is_parsed_in_any_case_and_resolved_as_absolute_name() {
        let name = HostName::parse("Auth.OpenAI.com.").unwrap();
        assert_eq!(name.as_str(), "auth.openai.com");
        assert_eq!(name.to_absolute(), "auth.openai.com.");
        assert_eq!(HostName::parse("localhost").unwrap().to_absolute(), "localhost");
    }

    #[test]
    fn ip_address_in_any_notation_is_not_a_name() {
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
            let error = HostName::parse(address).unwrap_err();
            assert_eq!(error.problem, Problem::EgressDenied, "{address}");
        }
    }

    #[test]
    fn invalid_name_is_denied_and_shown_without_control_characters() {
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
        let error = HostName::parse("evil\r\n\u{1b}[31m.example").unwrap_err();
        assert!(error.detail.chars().all(|c| c.is_ascii_graphic() || c == ' '), "{}", error.detail);
    }
}
