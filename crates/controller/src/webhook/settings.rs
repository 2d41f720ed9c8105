//! The settings `[webhook]`. All errors are reported at once. The secret file is read only when the server starts, because its
//! content must not leave the server.

use crate::settings::settings;
use http::{
    Uri,
    uri::{Authority, Scheme},
};
use std::{
    fs::File,
    io::Read,
    net::IpAddr,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};
use zeroize::Zeroizing;

use super::sign::Key;

settings! {
    /// Messages about sessions and credentials (docs/webhook.md).
    pub struct WebhookSettings {
        /// The receiver's URL: `https://…`, or `http://` on this host. Default: no messages.
        url: Option<String> = None, example r#""https://backend.example/anteroom""#;
        /// File with the secrets that sign messages, `whsec_` and base64 of 24 to 64 bytes each, one a line; only its owner may read it.
        secret_file: Option<PathBuf> = None, example r#""/etc/anteroom/webhook.secret""#;
        /// Certificates (PEM) that are trusted in addition to those of this host. Default: none.
        ca_file: Option<PathBuf> = None, example r#""/etc/anteroom/ca.pem""#;
        /// Whether `deliver_once` credentials are attached to messages.
        include_credential: bool = false;
        /// Attempts for one message.
        attempts_max: u64 = 30, within 1..=1_000;
        /// Age at which a message is no longer retried, seconds.
        give_up_s_max: u64 = 24 * 3_600, within 1..=30 * 24 * 3_600;
    }
}

impl WebhookSettings {
    /// Errors other than numbers out of range, one sentence each. Files are not read.
    pub fn errors(&self) -> Vec<String> {
        let mut errors = Vec::new();
        match &self.url {
            Some(url) => {
                errors.extend(Target::parse(url).err().map(|why| format!("webhook.url {why}")));
                if self.secret_file.is_none() {
                    errors.push("webhook.secret_file is missing: messages must be signed".to_owned());
                }
            }
            None if self.secret_file.is_some() || self.include_credential || self.ca_file.is_some() => {
                errors.push("webhook.url is missing".to_owned());
            }
            None => {}
        }
        errors
    }
}

/// The URL to which messages are posted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    /// An `https` URL, or an `http` URL of this host.
    pub(super) uri: Uri,
}

impl Target {
    pub(super) fn parse(url: &str) -> Result<Self, String> {
        let invalid = |why: &str| format!("{why}: it must be an https URL, or an http URL on this host");
        let uri: Uri = url.parse().map_err(|_| invalid("is not a URL"))?;
        let authority = uri.authority().ok_or_else(|| invalid("has no host"))?;
        if authority.as_str().contains('@') {
            return Err("contains a user name or password: requests are authenticated by their signature".to_owned());
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() {
            return Err(invalid("has no host"));
        }
        match uri.scheme_str() {
            Some("https") => Ok(Self { uri }),
            Some("http") if is_loopback(host) => Ok(Self { uri }),
            Some("http") => Err(invalid("is not encrypted")),
            Some(_) | None => Err(invalid("has an unsupported scheme")),
        }
    }

    /// Whether TLS is used.
    pub(super) fn is_tls(&self) -> bool {
        self.uri.scheme() == Some(&Scheme::HTTPS)
    }

    /// The URL for people, without its query, which may be secret.
    pub(super) fn display_url(&self) -> String {
        let scheme = if self.is_tls() { "https" } else { "http" };
        let authority = self.uri.authority().map_or("", Authority::as_str);
        format!("{scheme}://{authority}{}", self.uri.path())
    }
}

fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

const SECRET_FILE_BYTES_MAX: u64 = 4 * 1024;
const SECRETS_MAX: usize = 4;

/// Reads the secrets from a file that only its owner may read, in order.
pub(super) fn read_keys(path: &Path) -> Result<Vec<Key>, String> {
    let mut file = File::open(path).map_err(|error| format!("cannot be read: {error}"))?;
    let meta = file.metadata().map_err(|error| format!("cannot be read: {error}"))?;
    if !meta.is_file() {
        return Err("is not a file".to_owned());
    }
    if meta.mode() & 0o077 != 0 {
        return Err(format!("may be read by others (mode {:04o}): chmod 600 it", meta.mode() & 0o777));
    }
    let mut text = Zeroizing::new(String::new());
    Read::by_ref(&mut file)
        .take(SECRET_FILE_BYTES_MAX)
        .read_to_string(&mut text)
        .map_err(|error| format!("cannot be read: {error}"))?;
    let mut keys = Vec::new();
    for (at, line) in text.lines().map(str::trim).enumerate().filter(|(_, line)| !line.is_empty()) {
        keys.push(Key::parse(line).map_err(|why| format!("line {}: {why}", at + 1))?);
    }
    if (1..=SECRETS_MAX).contains(&keys.len()) {
        Ok(keys)
    } else {
        Err(format!("must contain 1 to {SECRETS_MAX} secrets, one a line"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::uri::PathAndQuery;

    #[test]
    fn only_https_or_loopback_urls_are_accepted() {
        let good = Target::parse("https://hooks.example:8443/in?team=1").unwrap();
        assert_eq!(
            (good.is_tls(), good.uri.host(), good.uri.port_u16(), good.uri.path_and_query().map(PathAndQuery::as_str)),
            (true, Some("hooks.example"), Some(8443), Some("/in?team=1"))
        );
        assert_eq!(good.display_url(), "https://hooks.example:8443/in");
        for here in ["http://127.0.0.1:9/x", "http://localhost/x", "http://[::1]:8/"] {
            assert!(Target::parse(here).is_ok_and(|target| !target.is_tls()), "{here}");
        }
        for bad in ["http://hooks.example/", "ftp://a.example/", "hooks", "/x", "https://u:p@a.example/", "https://"] {
            assert!(Target::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_webhook_needs_both_a_url_and_a_secret_file() {
        let none = WebhookSettings::default();
        assert_eq!(none.errors(), Vec::<String>::new());
        let half = WebhookSettings { url: Some("https://a.example/".into()), ..none.clone() };
        assert!(half.errors()[0].contains("webhook.secret_file"));
        let other = WebhookSettings { include_credential: true, ..none };
        assert!(other.errors()[0].contains("webhook.url"));
    }
}
