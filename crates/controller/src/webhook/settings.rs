//! The settings `[webhook]`. All errors are reported at once. The secret file is read only when the server starts, because its
//! content must not leave the server.

use crate::{
    api_error::chain,
    private_file::{PrivateFile, Readers, read_private_file},
    settings::settings,
};
use anteroom_wire::webhook::EventType;
use http::{
    Uri,
    uri::{Authority, Scheme},
};
use std::{
    io,
    net::IpAddr,
    path::{Path, PathBuf},
};

use super::{
    client::WebhookClient,
    receiver_settings::name_and_type_errors,
    sign::{InvalidKey, SigningKey},
};

settings! {
    /// Messages about sessions and credentials (docs/webhook.md).
    pub struct WebhookSettings {
        /// The name of this receiver, 1 to 40 characters of a-z, 0-9, - and _. Several receivers are `[[webhook]]` tables, each with a name.
        name: String = "default".to_owned();
        /// The receiver's URL: `https://…`, or `http://` on this host. Default: no messages.
        url: Option<String> = None, example r#""https://backend.example/anteroom""#;
        /// File with the secrets that sign messages, `whsec_` and base64 of 24 to 64 bytes each, one a line; only its owner may read it.
        secret_file: Option<PathBuf> = None, example r#""/etc/anteroom/webhook.secret""#;
        /// Certificates (PEM) that are trusted in addition to those of this host. Default: none.
        ca_file: Option<PathBuf> = None, example r#""/etc/anteroom/ca.pem""#;
        /// The types of messages that it gets. Default: all.
        types: Vec<String> = Vec::new(), example r#"["session.ended", "credential.stored"]"#;
        /// Whether `deliver_once` credentials are attached to messages; for one receiver at most.
        include_credential: bool = false;
        /// Attempts for one message.
        attempts_max: u64 = 30, within 1..=1_000;
        /// Age at which a message is no longer retried, seconds.
        give_up_s_max: u64 = 24 * 3_600, within 1..=30 * 24 * 3_600;
    }
}

impl WebhookSettings {
    /// Whether the receiver gets messages of this type.
    pub fn takes(&self, kind: EventType) -> bool {
        self.types.is_empty() || self.types.iter().any(|wanted| wanted == kind.as_str())
    }

    /// Errors other than numbers out of range, one sentence each. Files are not read.
    pub fn validation_errors(&self) -> Vec<String> {
        let mut errors = name_and_type_errors(&self.name, &self.types);
        match &self.url {
            Some(url) => {
                errors.extend(WebhookTarget::parse(url).err().map(|error| error.to_string()));
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

/// What is wrong with `webhook.url`.
#[derive(Debug, thiserror::Error)]
pub enum InvalidUrl {
    /// Not a URL.
    #[error("webhook.url is not a URL: it must be an https URL, or an http URL on this host")]
    NotAUrl(#[source] http::uri::InvalidUri),
    /// No host.
    #[error("webhook.url has no host: it must be an https URL, or an http URL on this host")]
    NoHost,
    /// A user name or password.
    #[error("webhook.url contains a user name or password: requests are authenticated by their signature")]
    UserInfo,
    /// An `http` URL of another host.
    #[error("webhook.url is not encrypted: it must be an https URL, or an http URL on this host")]
    NotEncrypted,
    /// Another scheme, or none.
    #[error("webhook.url has an unsupported scheme: it must be an https URL, or an http URL on this host")]
    UnsupportedScheme,
}

/// The URL to which messages are posted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct WebhookTarget {
    /// An `https` URL, or an `http` URL of this host.
    pub(super) uri: Uri,
}

impl WebhookTarget {
    pub(super) fn parse(url: &str) -> Result<Self, InvalidUrl> {
        let uri: Uri = url.parse().map_err(InvalidUrl::NotAUrl)?;
        let authority = uri.authority().ok_or(InvalidUrl::NoHost)?;
        if authority.as_str().contains('@') {
            return Err(InvalidUrl::UserInfo);
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() {
            return Err(InvalidUrl::NoHost);
        }
        match uri.scheme_str() {
            Some("https") => Ok(Self { uri }),
            Some("http") if is_loopback(host) => Ok(Self { uri }),
            Some("http") => Err(InvalidUrl::NotEncrypted),
            Some(_) | None => Err(InvalidUrl::UnsupportedScheme),
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

/// What is wrong with the files of the receiver, one sentence each.
pub fn file_errors(settings: &WebhookSettings) -> Vec<String> {
    let (Some(url), Some(secret_file)) = (&settings.url, &settings.secret_file) else { return Vec::new() };
    let keys = read_keys(secret_file).err().map(|error| chain(&error));
    let client = WebhookTarget::parse(url).ok().and_then(|target| {
        let client = WebhookClient::new(target, settings.ca_file.as_deref(), 1);
        client.err().map(|error| chain(&error))
    });
    keys.into_iter().chain(client).collect()
}

const SECRET_FILE_BYTES_MAX: u64 = 4 * 1024;
const SECRETS_MAX: usize = 4;

/// Why the file of secrets is not accepted.
#[derive(Debug, thiserror::Error)]
pub enum SecretFileError {
    /// It cannot be read.
    #[error("webhook.secret_file {} cannot be read", path.display())]
    NotRead {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// It is a directory or a special file.
    #[error("webhook.secret_file {} is not a file", path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// Others than its owner may read it.
    #[error("webhook.secret_file {} may be read by others (mode {mode:04o}): chmod 600 it", path.display())]
    ReadableByOthers {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// A line is not a secret.
    #[error("webhook.secret_file {} line {number}", path.display())]
    InvalidLine {
        /// The file.
        path: PathBuf,
        /// The number of the line, from 1.
        number: usize,
        /// What is wrong with it.
        source: InvalidKey,
    },
    /// It has no secret, or too many.
    #[error("webhook.secret_file {} must contain 1 to {SECRETS_MAX} secrets, one a line", path.display())]
    WrongCount {
        /// The file.
        path: PathBuf,
    },
}

/// Reads the secrets from a file that only its owner may read, in order.
pub(super) fn read_keys(file_path: &Path) -> Result<Vec<SigningKey>, SecretFileError> {
    let path = file_path.to_owned();
    let text = match read_private_file(file_path, Readers::Owner, SECRET_FILE_BYTES_MAX) {
        Ok(PrivateFile::Text(text)) => text,
        Ok(PrivateFile::NotAFile) => return Err(SecretFileError::NotAFile { path }),
        Ok(PrivateFile::ReadableByOthers { mode }) => return Err(SecretFileError::ReadableByOthers { path, mode }),
        Err(source) => return Err(SecretFileError::NotRead { path, source }),
    };
    let mut keys = Vec::new();
    for (at, line) in text.lines().map(str::trim).enumerate().filter(|(_, line)| !line.is_empty()) {
        match SigningKey::parse(line) {
            Ok(key) => keys.push(key),
            Err(source) => return Err(SecretFileError::InvalidLine { path, number: at + 1, source }),
        }
    }
    if (1..=SECRETS_MAX).contains(&keys.len()) { Ok(keys) } else { Err(SecretFileError::WrongCount { path }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::uri::PathAndQuery;

    #[test]
    fn only_https_or_loopback_urls_are_accepted() {
        let good = WebhookTarget::parse("https://hooks.example:8443/in?team=1").unwrap();
        assert_eq!(
            (good.is_tls(), good.uri.host(), good.uri.port_u16(), good.uri.path_and_query().map(PathAndQuery::as_str)),
            (true, Some("hooks.example"), Some(8443), Some("/in?team=1"))
        );
        assert_eq!(good.display_url(), "https://hooks.example:8443/in");
        for here in ["http://127.0.0.1:9/x", "http://localhost/x", "http://[::1]:8/"] {
            assert!(WebhookTarget::parse(here).is_ok_and(|target| !target.is_tls()), "{here}");
        }
        for bad in ["http://hooks.example/", "ftp://a.example/", "hooks", "/x", "https://u:p@a.example/", "https://"] {
            assert!(WebhookTarget::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_webhook_needs_both_a_url_and_a_secret_file() {
        let none = WebhookSettings::default();
        assert_eq!(none.validation_errors(), Vec::<String>::new());
        let half = WebhookSettings { url: Some("https://a.example/".into()), ..none.clone() };
        assert!(half.validation_errors()[0].contains("webhook.secret_file"));
        let other = WebhookSettings { include_credential: true, ..none };
        assert!(other.validation_errors()[0].contains("webhook.url"));
    }
}
