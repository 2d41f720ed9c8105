//! TLS of this server's own pages and API.

use crate::{config::normalise_public_url, settings::settings};
use std::{net::SocketAddr, path::PathBuf};
use url::Url;

settings! {
    /// TLS without a reverse proxy (docs/operations.md). `public_url` must then begin with https://.
    pub struct Tls {
        /// The certificate of `public_url`'s host and those of its authorities (PEM). Changed files are read again by themselves. Default:
        /// none; `listen` speaks plain HTTP.
        certificate_file: Option<PathBuf> = None, example r#""/etc/anteroom/tls/fullchain.pem""#;
        /// Its key (PEM), which users outside of the file's group may not read.
        key_file: Option<PathBuf> = None, example r#""/etc/anteroom/tls/privkey.pem""#;
        /// A second address, which redirects plain HTTP to `public_url`. Default: none.
        redirect_listen: Option<SocketAddr> = None, example r#""0.0.0.0:80""#;
    }
    sections {
        /// A certificate of an authority that speaks ACME, instead of files.
        acme: Acme;
    }
}

/// The directory of Let's Encrypt.
const LETS_ENCRYPT: &str = "https://acme-v02.api.letsencrypt.org/directory";
/// The most names of a certificate.
const DOMAINS_MAX: usize = 100;

settings! {
    /// A certificate of an authority that speaks ACME (RFC 8555), instead of files. The authority connects to port 443 of each name
    /// (TLS-ALPN-01). Account, certificate and key are in `acme/` of `state_dir`.
    pub struct Acme {
        /// The names of the certificate; one is the host of `public_url`. Setting them accepts the authority's terms. Default: none, no
        /// ACME.
        domains: Vec<String> = Vec::new(), example r#"["anteroom.example"]"#;
        /// Where the authority can write to, `mailto:`. Default: none.
        contact: Vec<String> = Vec::new(), example r#"["mailto:operator@anteroom.example"]"#;
        /// The authority's directory.
        directory_url: String = LETS_ENCRYPT.to_owned();
        /// Certificates (PEM) that are trusted for the directory in addition to those of this host. Default: none.
        ca_file: Option<PathBuf> = None, example r#""/etc/anteroom/acme-ca.pem""#;
    }
}

impl Acme {
    /// Whether the certificate comes from ACME.
    pub fn is_set(&self) -> bool {
        !self.domains.is_empty()
    }

    /// One sentence for each error.
    fn validation_errors(&self, host: Option<&str>) -> Vec<String> {
        let mut errors = Vec::new();
        if !self.is_set() {
            if *self != Self::default() {
                errors.push("tls.acme.domains is missing: name the host of public_url".to_owned());
            }
            return errors;
        }
        if !cfg!(feature = "acme") {
            errors.push("tls.acme cannot be used: this program was built without ACME".to_owned());
        }
        if self.domains.len() > DOMAINS_MAX {
            errors.push(format!("tls.acme.domains has more than {DOMAINS_MAX} names"));
        }
        if let Some(name) = self.domains.iter().find(|name| !is_host_name(name)) {
            errors.push(format!(
                "tls.acme.domains has {name:?}: a name is a host name in lower case, without * (TLS-ALPN-01 proves none)"
            ));
        }
        if let Some(host) = host.filter(|host| !self.domains.iter().any(|name| name == host)) {
            errors.push(format!("tls.acme.domains has not {host:?}, the host of public_url"));
        }
        if let Some(contact) = self.contact.iter().find(|contact| !contact.starts_with("mailto:")) {
            errors.push(format!("tls.acme.contact has {contact:?}: it must begin with mailto:"));
        }
        if !Url::parse(&self.directory_url).is_ok_and(|url| url.scheme() == "https") {
            errors.push("tls.acme.directory_url must begin with https://".to_owned());
        }
        errors
    }
}

/// Whether it is the name of a host (RFC 1123), and no address.
fn is_host_name(name: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= 253 && name.split('.').all(is_label) && name.parse::<std::net::IpAddr>().is_err()
}

impl Tls {
    /// One sentence for each invalid combination. Files are not read.
    pub(crate) fn validation_errors(&self, public_url: Option<&str>) -> Vec<String> {
        let host = public_url.and_then(|url| Url::parse(url).ok()?.host_str().map(str::to_owned));
        let mut errors = self.acme.validation_errors(host.as_deref());
        let has_files = self.certificate_file.is_some();
        if has_files != self.key_file.is_some() {
            errors.push("tls needs both certificate_file and key_file".to_owned());
        }
        if has_files && self.acme.is_set() {
            errors.push("tls has both certificate_file and acme.domains: one of them is enough".to_owned());
        }
        let is_set = has_files || self.acme.is_set();
        if self.redirect_listen.is_some() && !is_set {
            errors.push(
                "tls needs certificate_file or acme with redirect_listen: there is nothing to redirect to".to_owned(),
            );
        }
        let is_https =
            public_url.is_some_and(|url| normalise_public_url(url).is_ok_and(|url| url.starts_with("https://")));
        if is_set && !is_https {
            errors.push(
                "tls needs public_url, which begins with https:// and has the host name of the certificate".to_owned(),
            );
        }
        errors
    }
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    #[test]
    fn certificate_key_and_public_url_belong_together() {
        let files = "[tls]\ncertificate_file = '/c'\nkey_file = '/k'\n";
        for (text, part) in [
            ("[tls]\ncertificate_file = '/c'\n".to_owned(), "both certificate_file and key_file"),
            ("[tls]\nredirect_listen = '0.0.0.0:80'\n".to_owned(), "nothing to redirect to"),
            (files.to_owned(), "needs public_url"),
            (format!("public_url = 'http://a.example'\n{files}"), "begins with https://"),
        ] {
            let errors = Config::parse(&text).expect_err(&text);
            assert!(errors.iter().any(|error| error.contains(part)), "{text}: {errors:?}");
        }
        let acme = "public_url = 'https://a.example'\n[tls.acme]\n";
        for (text, part) in [
            ("contact = ['mailto:a@a.example']", "domains is missing"),
            ("domains = ['b.example']", "has not \"a.example\""),
            ("domains = ['a.example', '*.a.example']", "without *"),
            ("domains = ['a.example', '192.0.2.1']", "a host name"),
            ("domains = ['a.example']\ncontact = ['a@a.example']", "mailto:"),
            ("domains = ['a.example']\ndirectory_url = 'http://a.example'", "directory_url must begin with https://"),
        ] {
            let errors = Config::parse(&format!("{acme}{text}\n")).expect_err(text);
            assert!(errors.iter().any(|error| error.contains(part)), "{text}: {errors:?}");
        }
        assert_eq!(Config::parse(&format!("{acme}domains = ['a.example']\n")).err(), None);
        let both = format!("{acme}domains = ['a.example']\n[tls]\ncertificate_file = '/c'\nkey_file = '/k'\n");
        assert!(Config::parse(&both).unwrap_err().concat().contains("one of them is enough"));
        let complete = format!(
            "listen = '0.0.0.0:443'\npublic_url = 'https://a.example'\n{files}redirect_listen = '0.0.0.0:80'\n"
        );
        assert_eq!(Config::parse(&complete).err(), None);
    }
}
