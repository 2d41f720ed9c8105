//! The address of a server.

use std::{fmt, net::IpAddr, str::FromStr};
use url::{Host, Url};

/// The origin of a server: scheme, host and port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServerUrl {
    is_https: bool,
    host: Host<String>,
    port: u16,
}

impl FromStr for ServerUrl {
    type Err = anyhow::Error;

    /// Parses `https://HOST[:PORT]`, `http://HOST[:PORT]` or `HOST[:PORT]`, which is https. The error does not repeat what follows the
    /// host: a login link has a secret there.
    fn from_str(text: &str) -> anyhow::Result<Self> {
        let with_scheme = if text.contains("://") { text.to_owned() } else { format!("https://{text}") };
        let expected = "expected the address of a server such as https://anteroom.example";
        let url = Url::parse(&with_scheme).map_err(|error| anyhow::anyhow!("{error}: {expected}"))?;
        let is_https = match url.scheme() {
            "https" => true,
            "http" => false,
            _ => anyhow::bail!("the scheme is neither https nor http: {expected}"),
        };
        let has_more = url.path() != "/" || url.query().is_some() || url.fragment().is_some();
        let has_user = !url.username().is_empty() || url.password().is_some();
        anyhow::ensure!(!has_more && !has_user, "the address has more than scheme, host and port: {expected}");
        match (url.host(), url.port_or_known_default()) {
            (Some(host), Some(port)) => Ok(Self { is_https, host: host.to_owned(), port }),
            (_, _) => anyhow::bail!("the address has no host: {expected}"),
        }
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", if self.is_https { "https" } else { "http" }, self.authority())
    }
}

impl ServerUrl {
    /// Whether it is reached over TLS.
    pub(crate) fn is_https(&self) -> bool {
        self.is_https
    }

    /// Host and port as in a `Host` header: without the default port.
    pub(crate) fn authority(&self) -> String {
        let default = if self.is_https { 443 } else { 80 };
        if self.port == default { self.host.to_string() } else { format!("{}:{}", self.host, self.port) }
    }

    /// The host name or address, without brackets.
    pub(crate) fn host_name(&self) -> String {
        match &self.host {
            Host::Domain(name) => name.clone(),
            Host::Ipv4(address) => address.to_string(),
            Host::Ipv6(address) => address.to_string(),
        }
    }

    /// The port.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Whether it is on this host. Names below `localhost` are (RFC 6761), also where the resolver does not know them.
    pub(crate) fn is_loopback(&self) -> bool {
        match &self.host {
            Host::Domain(name) => name == "localhost" || name.ends_with(".localhost"),
            Host::Ipv4(address) => IpAddr::from(*address).is_loopback(),
            Host::Ipv6(address) => IpAddr::from(*address).is_loopback(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_has_a_scheme_a_host_and_a_port() {
        for (text, expected) in [
            ("anteroom.example", "https://anteroom.example"),
            ("https://Anteroom.example:443/", "https://anteroom.example"),
            ("anteroom.example:8443", "https://anteroom.example:8443"),
            ("http://10.0.0.7:8080", "http://10.0.0.7:8080"),
            ("http://[::1]:80", "http://[::1]"),
        ] {
            assert_eq!(text.parse::<ServerUrl>().unwrap().to_string(), expected, "{text}");
        }
    }

    #[test]
    fn other_addresses_are_refused_without_repeating_their_secrets() {
        for text in [
            "",
            "https://",
            "ftp://anteroom.example",
            "https://anteroom.example/login#login_token=SECRET",
            "https://user:SECRET@anteroom.example",
            "https://anteroom.example/?token=SECRET",
        ] {
            let error = text.parse::<ServerUrl>().unwrap_err().to_string();
            assert!(error.contains("https://anteroom.example") && !error.contains("SECRET"), "{text}: {error}");
        }
    }

    #[test]
    fn loopback_addresses_need_no_tls() {
        for (text, expected) in [
            ("http://127.0.0.1:1", true),
            ("http://[::1]:1", true),
            ("http://localhost", true),
            ("http://a1b2.localhost:8080", true),
            ("http://10.0.0.7", false),
            ("http://localhost.example", false),
        ] {
            assert_eq!(text.parse::<ServerUrl>().unwrap().is_loopback(), expected, "{text}");
        }
    }
}
