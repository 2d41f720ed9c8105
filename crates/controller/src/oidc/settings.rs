//! The settings `[oidc]`. The file of the secret is read only when the server starts.

use crate::{
    private_file::{PrivateFile, Readers, read_private_file},
    settings::settings,
};
use anteroom_store::Role;
use openidconnect::ClientSecret;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    io,
    net::IpAddr,
    path::{Path, PathBuf},
};
use url::{Host, Url};

/// The name of the secret as a systemd credential.
const SECRET_CREDENTIAL: &str = "oidc_client_secret";
const SECRET_BYTES_MAX: u64 = 4 * 1_024;

/// A role that people can have. Several groups of a person may give several roles: the first of this list counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PersonRole {
    /// Operates the server.
    Operator,
    /// Reads what callers did.
    Auditor,
    /// Starts sessions and owns their credentials.
    User,
}

impl From<PersonRole> for Role {
    fn from(role: PersonRole) -> Self {
        match role {
            PersonRole::Operator => Self::Operator,
            PersonRole::Auditor => Self::Auditor,
            PersonRole::User => Self::User,
        }
    }
}

settings! {
    /// Sign-in of people with an OpenID provider (docs/oidc.md).
    pub struct OidcSettings {
        /// The provider's issuer identifier: `https://…`, or `http://` on this host. Default: people sign in with login links.
        issuer: Option<String> = None, example r#""https://login.example/realms/staff""#;
        /// The identifier of this server at the provider.
        client_id: Option<String> = None, example r#""anteroom""#;
        /// File with the client's secret; only its owner may read it. Default: `oidc_client_secret` in `$CREDENTIALS_DIRECTORY` (a
        /// systemd credential), if it exists, else none: a public client.
        client_secret_file: Option<PathBuf> = None, example r#""/etc/anteroom/oidc_client_secret""#;
        /// Certificates (PEM) that are trusted in addition to those of this host. Default: none.
        ca_file: Option<PathBuf> = None, example r#""/etc/anteroom/ca.pem""#;
        /// Scopes that are requested in addition to `openid` and `profile`; some providers need one to send groups.
        extra_scopes: Vec<String> = Vec::new(), example r#"["groups"]"#;
        /// The claim of the ID token with the person's groups: a list of texts, or one text.
        groups_claim: String = "groups".to_owned();
        /// The role of people with no group in `[oidc.roles]`: `user`, `operator` or `auditor`. Default: they cannot sign in.
        default_role: Option<PersonRole> = None, example r#""user""#;
        /// The roles of groups: `user`, `operator` or `auditor`. Of several, the first of `operator`, `auditor`, `user` counts:
        roles: BTreeMap<String, PersonRole> = BTreeMap::new(), lines r#"[oidc.roles]
"anteroom-users" = "user"
"anteroom-operators" = "operator""#;
    }
}

impl OidcSettings {
    /// Errors of combinations, one sentence each. Files are not read. `public_url` is that of the server.
    pub fn validation_errors(&self, public_url: Option<&str>) -> Vec<String> {
        let mut errors = Vec::new();
        let Some(issuer) = &self.issuer else {
            if *self != Self::default() {
                errors.push("oidc.issuer is missing: set it, or remove the section [oidc]".to_owned());
            }
            return errors;
        };
        if let Err(error) = parse_issuer(issuer) {
            errors.push(error.to_string());
        }
        if self.client_id.as_ref().is_none_or(String::is_empty) {
            errors.push("oidc.client_id is missing: it is the identifier of this server at the provider".to_owned());
        }
        if self.roles.is_empty() && self.default_role.is_none() {
            errors.push(
                "oidc.roles and oidc.default_role are missing: without a role no person can sign in; set one of them"
                    .to_owned(),
            );
        }
        let is_scope = |scope: &String| !scope.is_empty() && scope.bytes().all(|byte| byte.is_ascii_graphic());
        if !self.extra_scopes.iter().all(is_scope) {
            errors.push("oidc.extra_scopes must be names without spaces".to_owned());
        }
        // Browsers resolve names below `localhost` to their own host.
        let is_local_name = |url: &Url| url.host_str().is_some_and(|host| host.ends_with(".localhost"));
        let is_protected = |url: &Url| is_https_or_loopback(url) || is_local_name(url);
        if public_url.is_some_and(|url| Url::parse(url).is_ok_and(|url| !is_protected(&url))) {
            errors.push(
                "public_url is not encrypted: with [oidc] it must be an https URL, or an http URL on this host"
                    .to_owned(),
            );
        }
        errors
    }

    /// The role that these groups give.
    pub(super) fn role_of<'a>(&self, groups: impl IntoIterator<Item = &'a str>) -> Option<PersonRole> {
        groups.into_iter().filter_map(|group| self.roles.get(group).copied()).min().or(self.default_role)
    }

    /// Reads the client's secret. `None`: a public client.
    pub(crate) fn read_secret(&self) -> Result<Option<ClientSecret>, SecretFileError> {
        if let Some(path) = &self.client_secret_file {
            return read_secret(path, Readers::Owner).map(Some);
        }
        let directory = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from).filter(|path| path.is_absolute());
        let provided = directory.map(|directory| directory.join(SECRET_CREDENTIAL)).filter(|path| path.exists());
        provided.map(|path| read_secret(&path, Readers::ByServiceManager)).transpose()
    }
}

/// What is wrong with `oidc.issuer`.
#[derive(Debug, thiserror::Error)]
pub enum InvalidIssuer {
    /// Not a URL.
    #[error("oidc.issuer is not a URL: it must be an https URL, or an http URL on this host")]
    NotAUrl(#[source] url::ParseError),
    /// Not encrypted, or another scheme.
    #[error("oidc.issuer is not encrypted: it must be an https URL, or an http URL on this host")]
    NotEncrypted,
    /// Parts that an issuer identifier cannot have.
    #[error(
        "oidc.issuer contains a user name, a query or a fragment: copy the value `issuer` from the provider's metadata"
    )]
    ExtraParts,
}

/// Parses an issuer identifier (OpenID Connect Core §2).
pub(super) fn parse_issuer(text: &str) -> Result<Url, InvalidIssuer> {
    let url = Url::parse(text).map_err(InvalidIssuer::NotAUrl)?;
    if !is_https_or_loopback(&url) {
        return Err(InvalidIssuer::NotEncrypted);
    }
    let has_extra = !url.username().is_empty() || url.password().is_some() || url.query().is_some();
    if has_extra || url.fragment().is_some() { Err(InvalidIssuer::ExtraParts) } else { Ok(url) }
}

/// Whether what is sent to this URL is encrypted or stays on this host.
pub(super) fn is_https_or_loopback(url: &Url) -> bool {
    match (url.scheme(), url.host()) {
        ("https", Some(_)) => true,
        ("http", Some(Host::Ipv4(address))) => IpAddr::from(address).is_loopback(),
        ("http", Some(Host::Ipv6(address))) => IpAddr::from(address).is_loopback(),
        ("http", Some(Host::Domain(name))) => name == "localhost",
        _ => false,
    }
}

/// Whether the provider with this issuer may name this URL: it is as protected as the issuer. A provider on another host cannot make this
/// server send requests to programs on this one.
pub(super) fn is_permitted_for(issuer: &Url, url: &Url) -> bool {
    if issuer.scheme() == "https" { url.scheme() == "https" && url.has_host() } else { is_https_or_loopback(url) }
}

/// Why the file of the client's secret is not accepted.
#[derive(Debug, thiserror::Error)]
pub enum SecretFileError {
    /// It cannot be read.
    #[error("oidc.client_secret_file {} cannot be read", path.display())]
    NotRead {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// It is a directory or a special file.
    #[error("oidc.client_secret_file {} is not a file", path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// Others than its owner may read it.
    #[error("oidc.client_secret_file {} may be read by others (mode {mode:04o}): chmod 600 it", path.display())]
    ReadableByOthers {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// It is empty or too long, or has several lines.
    #[error("oidc.client_secret_file {} must contain one line of at most {SECRET_BYTES_MAX} bytes", path.display())]
    NotOneLine {
        /// The file.
        path: PathBuf,
    },
}

fn read_secret(path: &Path, readers: Readers) -> Result<ClientSecret, SecretFileError> {
    let owned = || path.to_owned();
    match read_private_file(path, readers, SECRET_BYTES_MAX + 1) {
        Ok(PrivateFile::Text(text)) => {
            let secret = text.trim();
            let is_line = !secret.is_empty() && !secret.contains(char::is_control);
            if !is_line || text.len() as u64 > SECRET_BYTES_MAX {
                return Err(SecretFileError::NotOneLine { path: owned() });
            }
            Ok(ClientSecret::new(secret.to_owned()))
        }
        Ok(PrivateFile::NotAFile) => Err(SecretFileError::NotAFile { path: owned() }),
        Ok(PrivateFile::ReadableByOthers { mode }) => Err(SecretFileError::ReadableByOthers { path: owned(), mode }),
        Err(source) => Err(SecretFileError::NotRead { path: owned(), source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::PermissionsExt};

    fn complete() -> OidcSettings {
        OidcSettings {
            issuer: Some("https://login.example/realms/staff".to_owned()),
            client_id: Some("anteroom".to_owned()),
            default_role: Some(PersonRole::User),
            ..OidcSettings::default()
        }
    }

    #[test]
    fn a_provider_needs_an_encrypted_issuer_a_client_and_a_role() {
        assert_eq!(OidcSettings::default().validation_errors(None), Vec::<String>::new());
        assert_eq!(complete().validation_errors(Some("https://a.example")), Vec::<String>::new());
        assert_eq!(complete().validation_errors(Some("http://localhost:7060")), Vec::<String>::new());
        let cases = [
            (OidcSettings { issuer: None, ..complete() }, None, "oidc.issuer is missing"),
            (OidcSettings { client_id: None, ..complete() }, None, "oidc.client_id is missing"),
            (OidcSettings { default_role: None, ..complete() }, None, "oidc.roles"),
            (OidcSettings { extra_scopes: vec!["a b".to_owned()], ..complete() }, None, "oidc.extra_scopes"),
            (complete(), Some("http://a.example"), "public_url is not encrypted"),
        ];
        for (settings, public_url, part) in cases {
            let errors = settings.validation_errors(public_url);
            assert!(errors.len() == 1 && errors[0].contains(part), "{part} in {errors:?}");
        }
        for issuer in [
            "login.example",
            "http://login.example",
            "javascript:alert(1)",
            "https://u@a.example",
            "https://a.example/?x=1",
        ] {
            let settings = OidcSettings { issuer: Some(issuer.to_owned()), ..complete() };
            assert_eq!(settings.validation_errors(None).len(), 1, "{issuer}");
        }
    }

    #[test]
    fn a_provider_names_only_addresses_that_are_as_protected_as_its_issuer() {
        let is_permitted =
            |issuer: &str, url: &str| is_permitted_for(&Url::parse(issuer).unwrap(), &Url::parse(url).unwrap());
        assert!(is_permitted("https://a.example", "https://b.example/token"));
        assert!(is_permitted("http://127.0.0.1:9", "http://127.0.0.1:9/token"));
        for (issuer, url) in [
            ("https://a.example", "http://127.0.0.1:9/token"),
            ("https://a.example", "javascript:alert(1)"),
            ("http://127.0.0.1:9", "http://b.example/token"),
            ("http://localhost:9", "http://localhost.b.example/token"),
            ("http://localhost:9", "data:text/html,x"),
        ] {
            assert!(!is_permitted(issuer, url), "{issuer} {url}");
        }
    }

    #[test]
    fn of_several_groups_the_one_with_most_rights_decides() {
        let roles = [("ops", PersonRole::Operator), ("audit", PersonRole::Auditor), ("all", PersonRole::User)];
        let roles = roles.map(|(group, role)| (group.to_owned(), role)).into();
        let settings = OidcSettings { roles, default_role: None, ..complete() };
        assert_eq!(settings.role_of(["all", "ops", "audit"]), Some(PersonRole::Operator));
        assert_eq!(settings.role_of(["all", "audit"]), Some(PersonRole::Auditor));
        assert_eq!(settings.role_of(["other"]), None);
        assert_eq!(settings.role_of(["OPS", "ops "]), None, "groups are compared exactly");
        assert_eq!(complete().role_of([]), Some(PersonRole::User));
    }

    #[test]
    fn secret_is_one_line_that_only_its_owner_may_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        let read = |text: &str, mode| {
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let settings = OidcSettings { client_secret_file: Some(path.clone()), ..complete() };
            settings.read_secret().map(|secret| secret.map(|secret| secret.secret().clone()))
        };
        assert_eq!(read("s3cret\n", 0o600).unwrap().as_deref(), Some("s3cret"));
        assert!(matches!(read("s3cret", 0o640), Err(SecretFileError::ReadableByOthers { mode: 0o640, .. })));
        for text in ["", "\n", "a\nb\n", &"x".repeat(5_000)] {
            assert!(matches!(read(text, 0o600), Err(SecretFileError::NotOneLine { .. })), "{}", text.len());
        }
    }
}
