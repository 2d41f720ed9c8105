//! The hosts of a provider's sign-in pages.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A host that serves pages of the sign-in: `HOST`, or `*.HOST` for everything below it; with HTTPS at its usual port. Another scheme
/// or port is written out: `http://HOST`, `https://HOST:PORT`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SignInHost {
    text: String,
    is_https: bool,
    with_subdomains: bool,
    host: String,
    port: u16,
}

/// A text that is not a [`SignInHost`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a host of sign-in pages: expected HOST or *.HOST, with http:// or https:// in front and :PORT behind if needed"
)]
pub struct InvalidSignInHost(pub String);

impl SignInHost {
    /// Whether pages of this origin belong to the sign-in. `host` is in lower case.
    pub fn includes(&self, is_https: bool, host: &str, port: u16) -> bool {
        let name_fits = if self.with_subdomains {
            host.strip_suffix(&self.host).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
        } else {
            host == self.host
        };
        name_fits && self.is_https == is_https && self.port == port
    }
}

impl TryFrom<String> for SignInHost {
    type Error = InvalidSignInHost;

    fn try_from(text: String) -> Result<Self, InvalidSignInHost> {
        let (is_https, rest) = match (text.strip_prefix("http://"), text.strip_prefix("https://")) {
            (Some(rest), _) => (false, rest),
            (None, Some(rest)) => (true, rest),
            (None, None) => (true, text.as_str()),
        };
        let (host, port) = match rest.split_once(':') {
            Some((host, port)) => (host, port.parse().ok().filter(|port| *port > 0)),
            None => (rest, Some(if is_https { 443 } else { 80 })),
        };
        let (with_subdomains, host) = match host.strip_prefix("*.") {
            Some(parent) => (true, parent),
            None => (false, host),
        };
        let is_label = |label: &str| {
            !label.is_empty() && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        };
        // Everything below a top-level domain belongs to many owners.
        let is_host = host.split('.').all(is_label) && (!with_subdomains || host.contains('.'));
        match port.filter(|_| is_host) {
            Some(port) => Ok(Self { is_https, with_subdomains, host: host.to_owned(), port, text }),
            None => Err(InvalidSignInHost(text)),
        }
    }
}

impl From<SignInHost> for String {
    fn from(host: SignInHost) -> Self {
        host.text
    }
}

impl fmt::Display for SignInHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(text: &str) -> SignInHost {
        SignInHost::try_from(text.to_owned()).unwrap()
    }

    #[test]
    fn a_sign_in_host_includes_exactly_its_origin() {
        assert!(host("accounts.google.com").includes(true, "accounts.google.com", 443));
        for (is_https, name, port) in [
            (false, "accounts.google.com", 80),
            (true, "accounts.google.com", 8443),
            (true, "accounts.google.com.", 443),
            (true, "x.accounts.google.com", 443),
            (true, "accounts.google.com.evil.example", 443),
            (true, "accounts-google.com", 443),
        ] {
            assert!(!host("accounts.google.com").includes(is_https, name, port), "{name}");
        }
        assert!(host("*.claude.ai").includes(true, "a.b.claude.ai", 443));
        assert!(!host("*.claude.ai").includes(true, "claude.ai", 443));
        assert!(!host("*.claude.ai").includes(true, "evilclaude.ai", 443));
        assert!(!host("*.claude.ai").includes(true, ".claude.ai", 443));
        assert!(host("http://id.anteroom.test").includes(false, "id.anteroom.test", 80));
        assert!(host("http://127.0.0.1:9000").includes(false, "127.0.0.1", 9000));
        assert!(!host("http://127.0.0.1:9000").includes(true, "127.0.0.1", 9000));
    }

    #[test]
    fn a_text_that_is_no_host_is_rejected() {
        for text in [
            "",
            "*",
            "*.",
            "*.com",
            "A.example",
            "a.example/",
            "a@b.example",
            "a..example",
            "a.example:0",
            "ftp://a.example",
        ] {
            assert!(SignInHost::try_from(text.to_owned()).is_err(), "{text}");
        }
    }
}
