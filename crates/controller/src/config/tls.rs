//! TLS of this server's own pages and API.

use crate::{config::normalise_public_url, settings::settings};
use std::{net::SocketAddr, path::PathBuf};

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
}

impl Tls {
    /// One sentence for each invalid combination. Files are not read.
    pub(crate) fn validation_errors(&self, public_url: Option<&str>) -> Vec<String> {
        let mut errors = Vec::new();
        let is_set = self.certificate_file.is_some();
        if is_set != self.key_file.is_some() {
            errors.push("tls needs both certificate_file and key_file".to_owned());
        }
        if self.redirect_listen.is_some() && !is_set {
            errors.push("tls needs certificate_file with redirect_listen: there is nothing to redirect to".to_owned());
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
        let complete = format!(
            "listen = '0.0.0.0:443'\npublic_url = 'https://a.example'\n{files}redirect_listen = '0.0.0.0:80'\n"
        );
        assert_eq!(Config::parse(&complete).err(), None);
    }
}
