//! The settings `[webhook]`. All faults are reported at once. The secret file is read only when the server starts, because its
//! content must not leave the server.

use serde::{Deserialize, Serialize};
use std::{
    fs::File,
    io::Read,
    net::IpAddr,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};
use zeroize::Zeroizing;

use super::sign::Key;

/// The receiver of notifications about sessions and credentials, and the limits of deliveries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct WebhookSettings {
    /// The receiver's URL: `https://…`, or `http://` on this host. Without it the webhook is off.
    pub url: Option<String>,
    /// The file with the secrets that sign messages, `whsec_` and base64 of 24 to 64 bytes each, one a line; only its owner may read it.
    pub secret_file: Option<PathBuf>,
    /// Certificates (PEM) that are trusted in addition to those of this host.
    pub ca_file: Option<PathBuf>,
    /// Whether credentials with the policy `deliver_once` are attached to messages.
    pub include_credential: bool,
    /// The timeout of one attempt, milliseconds.
    pub timeout_ms_max: u64,
    /// Maximum number of attempts for a message.
    pub attempts_max: u64,
    /// Maximum age of a message before it is abandoned, seconds.
    pub give_up_s_max: u64,
    /// The wait before the first retry, milliseconds; doubles up to `retry_ms_max`.
    pub retry_ms_min: u64,
    /// The longest wait before a retry, milliseconds.
    pub retry_ms_max: u64,
    /// How long delivered and abandoned messages are retained, seconds.
    pub done_retention_s: u64,
}

impl Default for WebhookSettings {
    fn default() -> Self {
        Self {
            url: None,
            secret_file: None,
            ca_file: None,
            include_credential: false,
            timeout_ms_max: 10_000,
            attempts_max: 30,
            give_up_s_max: 24 * 3600,
            retry_ms_min: 1_000,
            retry_ms_max: 15 * 60 * 1_000,
            done_retention_s: 7 * 24 * 3600,
        }
    }
}

impl WebhookSettings {
    /// Calls `check` with the name, value, minimum and maximum of every number.
    pub fn check_ranges(&self, check: &mut impl FnMut(&str, u64, u64, u64)) {
        check("webhook.timeout_ms_max", self.timeout_ms_max, 10, 120_000);
        check("webhook.attempts_max", self.attempts_max, 1, 1_000);
        check("webhook.give_up_s_max", self.give_up_s_max, 1, 30 * 24 * 3600);
        check("webhook.retry_ms_min", self.retry_ms_min, 10, 3_600_000);
        check("webhook.retry_ms_max", self.retry_ms_max, self.retry_ms_min, 24 * 3_600_000);
        check("webhook.done_retention_s", self.done_retention_s, 60, 365 * 24 * 3600);
    }

    /// Other faults, one sentence each. Files are not read.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        match &self.url {
            Some(url) => {
                faults.extend(Target::parse(url).err().map(|why| format!("webhook.url {why}")));
                if self.secret_file.is_none() {
                    faults.push("webhook.secret_file is missing: messages must be signed".to_owned());
                }
            }
            None if self.secret_file.is_some() || self.include_credential || self.ca_file.is_some() => {
                faults.push("webhook.url is missing".to_owned());
            }
            None => {}
        }
        faults
    }
}

/// The URL to which messages are posted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    /// Whether TLS is used.
    pub tls: bool,
    /// Name or address.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The `Host` header.
    pub authority: String,
    /// Path and query.
    pub path: String,
}

impl Target {
    pub(super) fn parse(url: &str) -> Result<Self, String> {
        let fault = |why: &str| format!("{why}: it must be an https URL, or an http URL on this host");
        let uri: http::Uri = url.parse().map_err(|_| fault("is not a URL"))?;
        let authority = uri.authority().ok_or_else(|| fault("has no host"))?;
        if authority.as_str().contains('@') {
            return Err("contains a user name or password: requests are authenticated by their signature".to_owned());
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        if host.is_empty() {
            return Err(fault("has no host"));
        }
        let tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") if is_loopback(&host) => false,
            Some("http") => return Err(fault("is not encrypted")),
            Some(_) | None => return Err(fault("has an unsupported scheme")),
        };
        let port = authority.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        Ok(Self { tls, host, port, authority: authority.as_str().to_owned(), path })
    }

    /// The URL for people, without its query, which may be secret.
    pub(super) fn display_url(&self) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        let path = self.path.split('?').next().unwrap_or("/");
        format!("{scheme}://{}{path}", self.authority)
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

    #[test]
    fn only_https_or_loopback_urls_are_accepted() {
        let good = Target::parse("https://hooks.example:8443/in?team=1").unwrap();
        assert_eq!(
            (good.tls, good.host.as_str(), good.port, good.path.as_str()),
            (true, "hooks.example", 8443, "/in?team=1")
        );
        assert_eq!(good.display_url(), "https://hooks.example:8443/in");
        for here in ["http://127.0.0.1:9/x", "http://localhost/x", "http://[::1]:8/"] {
            assert!(Target::parse(here).is_ok_and(|target| !target.tls), "{here}");
        }
        for bad in ["http://hooks.example/", "ftp://a.example/", "hooks", "/x", "https://u:p@a.example/", "https://"] {
            assert!(Target::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_webhook_needs_both_a_url_and_a_secret_file() {
        let none = WebhookSettings::default();
        assert_eq!(none.faults(), Vec::<String>::new());
        let half = WebhookSettings { url: Some("https://a.example/".into()), ..none.clone() };
        assert!(half.faults()[0].contains("webhook.secret_file"));
        let other = WebhookSettings { include_credential: true, ..none };
        assert!(other.faults()[0].contains("webhook.url"));
    }
}
