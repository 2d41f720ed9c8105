//! Decides whether an address that a machine reports belongs to the provider's sign-in. A guest chooses the address, and a user
//! trusts what this server's page offers: only addresses on hosts that the descriptor names may be offered.

use anteroom_wire::{GuestText, guest_text::clean_line, provider::Provider};
use url::{Host, Url};

/// The most bytes of an address.
pub const ADDRESS_BYTES_MAX: usize = 8 * 1024;
/// The most bytes of a host name (RFC 1035).
const HOST_BYTES_MAX: usize = 253;

/// An address that a machine reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SignInAddress {
    /// A page of the provider.
    Named(String),
    /// A page of another host: only its origin is kept.
    Unexpected(GuestText),
}

impl SignInAddress {
    /// Checks an address. `None`: it is not an http or https address of at most [`ADDRESS_BYTES_MAX`] bytes.
    pub fn check(provider: &Provider, address: &str) -> Option<Self> {
        if address.len() > ADDRESS_BYTES_MAX || address.chars().any(char::is_control) {
            return None;
        }
        let url = Url::parse(address).ok().filter(|url| matches!(url.scheme(), "http" | "https"))?;
        if is_unambiguous(address) && is_named(provider, &url) {
            return Some(Self::Named(address.to_owned()));
        }
        Some(Self::Unexpected(origin(&url).into()))
    }
}

/// Whether the address has only characters of RFC 3986, so that all programs find the same host in it.
fn is_unambiguous(address: &str) -> bool {
    address.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~:/?#[]@!$&'()*+,;=%".contains(&byte))
}

fn is_named(provider: &Provider, url: &Url) -> bool {
    let host = match url.host() {
        Some(Host::Domain(name)) => name.to_owned(),
        Some(Host::Ipv4(address)) => address.to_string(),
        Some(Host::Ipv6(_)) | None => return false,
    };
    let has_user = !url.username().is_empty() || url.password().is_some();
    let is_https = url.scheme() == "https";
    let port = url.port_or_known_default().unwrap_or_default();
    !has_user && provider.sign_in_hosts.iter().any(|named| named.includes(is_https, &host, port))
}

/// The host that the address leads to; with the scheme, the user name and the port, if they are unusual. Names in other scripts are
/// in their ASCII form, so that they cannot look like another name.
fn origin(url: &Url) -> String {
    let scheme = if url.scheme() == "https" { "" } else { "http://" };
    let user = if url.username().is_empty() && url.password().is_none() { "" } else { "…@" };
    let port = url.port().map_or_else(String::new, |port| format!(":{port}"));
    format!("{scheme}{user}{}{port}", clean_line(url.host_str().unwrap_or_default(), HOST_BYTES_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn provider() -> Provider {
        toml::from_str(
            r#"
            id = "x"
            name = "X"
            cli = "x"
            argv = ["x"]
            lanes = ["link"]
            next_action = "Open it."
            policy = "store"
            egress = []
            sign_in_hosts = ["accounts.google.com", "*.claude.ai", "http://127.0.0.1:9000"]
            credential = { paths = [".x"] }
            "#,
        )
        .unwrap()
    }

    #[test]
    fn addresses_on_named_hosts_are_kept_as_they_are() {
        for address in [
            "https://accounts.google.com/o/oauth2/v2/auth?client_id=a&redirect_uri=http%3A%2F%2Flocalhost%3A1",
            "https://ACCOUNTS.google.com/",
            "https://accounts.google.com:443/x",
            "https://a.claude.ai/x",
            "http://127.0.0.1:9000/authorize",
        ] {
            assert_eq!(SignInAddress::check(&provider(), address), Some(SignInAddress::Named(address.into())));
        }
    }

    #[test]
    fn look_alikes_are_unexpected_and_show_where_they_lead() {
        for (address, origin) in [
            ("https://accounts-google.evil.example/signin?continue=anteroom", "accounts-google.evil.example"),
            ("https://accounts.google.com@evil.example/login", "…@evil.example"),
            ("https://x@accounts.google.com/", "…@accounts.google.com"),
            ("https://accounts.google.com.evil.example/", "accounts.google.com.evil.example"),
            ("https://accounts.google.com./", "accounts.google.com."),
            ("https://accounts.google.com:8443/", "accounts.google.com:8443"),
            ("http://accounts.google.com/", "http://accounts.google.com"),
            ("https://evil.example\\@accounts.google.com/", "evil.example"),
            ("https:\\\\evil.example/accounts.google.com", "evil.example"),
            ("https:evil.example/", "evil.example"),
            ("https://xn--ggle-55da.com/", "xn--ggle-55da.com"),
            ("https://аccounts.google.com/", "xn--ccounts-1fg.google.com"),
            ("https://accounts。google。com/", "accounts.google.com"),
            ("https://accounts.google.com%2eevil.example/", "accounts.google.com.evil.example"),
            ("https://0x7f.1/", "127.0.0.1"),
            ("https://[::1]/", "[::1]"),
            ("https://evilclaude.ai/", "evilclaude.ai"),
            ("http://127.0.0.1:7060/dashboard/remote-cli", "http://127.0.0.1:7060"),
        ] {
            let checked = SignInAddress::check(&provider(), address);
            assert_eq!(checked, Some(SignInAddress::Unexpected(origin.into())), "{address}");
        }
    }

    #[test]
    fn an_address_of_another_scheme_is_none() {
        for address in [
            "javascript:alert(1)",
            "JaVaScRiPt:alert(1)",
            "data:text/html,x",
            "file:///etc/passwd",
            "",
            "x",
            "https://accounts.google.com/\r\nx",
            "vbscript:x",
            "blob:https://accounts.google.com/x",
        ] {
            assert_eq!(SignInAddress::check(&provider(), address), None, "{address}");
        }
        let long = format!("https://accounts.google.com/{}", "a".repeat(ADDRESS_BYTES_MAX));
        assert_eq!(SignInAddress::check(&provider(), &long), None);
    }
}
