//! Connections: HTTP and egress.

use crate::settings::settings;
use anteroom_egress::{AllowedRanges, HostOverrides, UpstreamProxy};
use ipnet::IpNet;
use rustls::RootCertStore;
use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf};
use url::Url;

settings! {
    /// HTTP.
    pub struct Http {
        /// How long a graceful stop waits for open connections, milliseconds.
        drain_ms_max: u64 = 5_000, within 0..=600_000;
        /// Whether `listen` accepts HTTP/2: without TLS by prior knowledge, for a reverse proxy that speaks it; with TLS, browsers choose it.
        http2: bool = false;
        /// Origins of sites that may show a session's page in a frame or a popup (docs/embedding.md), at most 20. Default: none.
        frame_ancestors: Vec<String> = Vec::new(), example r#"["https://app.example"]"#;
    }
}

/// Most origins of `frame_ancestors`: each lengthens a header of the page.
const FRAME_ANCESTORS_MAX: usize = 20;

impl Http {
    /// One sentence for each invalid value.
    pub(super) fn validation_errors(&self) -> Vec<String> {
        let invalid = self.frame_ancestors.iter().filter(|origin| !is_embedding_origin(origin));
        let mut errors: Vec<String> = invalid
            .map(|origin| {
                format!(
                    "http.frame_ancestors has {origin:?}: an origin is https://, a host name in lower case, and a port unless it is \
                     443, without a path; http:// only for localhost"
                )
            })
            .collect();
        if self.frame_ancestors.len() > FRAME_ANCESTORS_MAX {
            errors.push(format!("http.frame_ancestors has more than {FRAME_ANCESTORS_MAX} origins"));
        }
        errors
    }
}

/// Whether it is the origin of a site whose pages the network cannot change, as browsers write it.
fn is_embedding_origin(text: &str) -> bool {
    let Ok(url) = Url::parse(text) else { return false };
    let host = url.host_str().unwrap_or_default();
    // No pattern, and no character that ends a directive of a Content Security Policy.
    let is_name = !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.[]:".contains(&byte));
    let is_local = host == "localhost" || host.ends_with(".localhost") || host == "127.0.0.1";
    is_name
        && (url.scheme() == "https" || url.scheme() == "http" && is_local)
        && url.origin().ascii_serialization() == text
}

settings! {
    /// Outbound connections of machines.
    pub struct Egress {
        /// Data that a session may send, MiB; further connections are denied (`egress_limit`).
        session_upload_mib_max: u64 = 1_024, within 1..=1 << 24;
        /// Data that a session may receive, MiB.
        session_download_mib_max: u64 = 8_192, within 1..=1 << 24;
        /// Rate of a session in each direction, KiB in a second; a faster one is slowed down.
        session_kib_per_s_max: u64 = 16_384, within 1..=1 << 24;
        /// Data sent by a session from which its timeline has a warning, MiB.
        upload_warning_mib: u64 = 64, within 1..=1 << 24;
        /// Addresses that are used instead of resolving the name, e.g. of a test server. The provider's egress list must still allow
        /// the name.
        overrides: BTreeMap<String, SocketAddr> = BTreeMap::new(), lines r#"[egress.overrides]
"auth.example.com:443" = "127.0.0.1:8443""#;
        /// Ranges of addresses that are not public and that a name may resolve to all the same: fake-IP DNS (`198.18.0.0/15`), NAT64
        /// (`64:ff9b::/96`), a company's own network. Never this host or its link. Default: none.
        allowed_special_ranges: Vec<IpNet> = Vec::new(), example r#"["198.18.0.0/15"]"#;
        /// Certificate authorities (PEM) that machines trust in addition to those of the image, e.g. of a proxy that inspects TLS; also
        /// for the connection to an https proxy and `anteroom doctor --network`. Default: none.
        extra_ca_files: Vec<PathBuf> = Vec::new(), example r#"["/etc/anteroom/company-ca.pem"]"#;
    }
    sections {
        /// The proxy through which machines reach their hosts (docs/networks.md). Webhooks and OpenID do not use it.
        proxy: EgressProxy;
    }
}

settings! {
    /// The proxy of the egress gate.
    pub struct EgressProxy {
        /// `http://`, `https://` or `socks5://`, host and port; the proxy resolves the names. Default: none, machines' connections are
        /// direct.
        url: Option<String> = None, example r#""http://proxy.example:3128""#;
        /// Whether the proxy is the one of the server's environment instead: `HTTPS_PROXY`, else `ALL_PROXY`, with `NO_PROXY`.
        from_environment: bool = false;
        /// File with `user:password` in one line; only its owner may read it. Default: `egress_proxy_credentials` in
        /// `$CREDENTIALS_DIRECTORY` (a systemd credential), if it exists, else none.
        credentials_file: Option<PathBuf> = None, example r#""/etc/anteroom/proxy.credentials""#;
        /// Hosts that are reached directly; a name also means all names below it. Default: none.
        no_proxy: Vec<String> = Vec::new(), example r#"["corp.example"]"#;
    }
}

impl Egress {
    /// One sentence for each invalid value. Files are not read.
    pub(crate) fn validation_errors(&self) -> Vec<String> {
        let mut errors = Vec::new();
        if let Err(invalid) = HostOverrides::parse(&self.overrides) {
            errors.extend(invalid.iter().map(ToString::to_string));
        }
        if let Err(invalid) = AllowedRanges::new(&self.allowed_special_ranges) {
            errors.extend(invalid.into_iter().map(|error| format!("egress.allowed_special_ranges: {error}")));
        }
        let proxy = &self.proxy;
        match &proxy.url {
            Some(_) if proxy.from_environment => {
                errors.push("egress.proxy has both url and from_environment: one of them is enough".to_owned());
            }
            Some(url) if url.contains('@') => errors.push(
                "egress.proxy.url has a user or a password: put user:password into egress.proxy.credentials_file"
                    .to_owned(),
            ),
            Some(url) => {
                let checked = UpstreamProxy::new(url, None, "", RootCertStore::empty());
                errors.extend(checked.err().map(|error| format!("egress.proxy.url {error}")));
            }
            None if proxy.from_environment => {}
            None if proxy.credentials_file.is_some() || !proxy.no_proxy.is_empty() => {
                errors.push("egress.proxy.url is missing".to_owned());
            }
            None => {}
        }
        let is_entry = |entry: &&String| !entry.is_empty() && !entry.contains([',', '/', ' ']);
        if let Some(entry) = proxy.no_proxy.iter().find(|entry| !is_entry(entry)) {
            errors.push(format!("egress.proxy.no_proxy has {entry:?}: an entry is a host name, or * for all"));
        }
        errors
    }
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    #[test]
    fn r02_settings_of_the_proxy_are_checked_and_no_password_is_printed() {
        let cases = [
            ("url = 'http://me:hunter2@proxy.example:3128'", "credentials_file"),
            ("url = 'ftp://proxy.example'", "must be http://"),
            ("url = 'socks4://proxy.example'", "must be http://"),
            ("url = 'http://'", "must be http://"),
            ("url = 'http://p:1'\nfrom_environment = true", "both url and from_environment"),
            ("credentials_file = '/x'", "egress.proxy.url is missing"),
            ("no_proxy = ['a.example']", "egress.proxy.url is missing"),
            ("url = 'http://p:1'\nno_proxy = ['a.example,b.example']", "no_proxy has"),
        ];
        for (settings, part) in cases {
            let errors = Config::parse(&format!("[egress.proxy]\n{settings}\n")).expect_err(settings);
            assert!(errors.iter().any(|error| error.contains(part)), "{settings}: {errors:?}");
            assert!(!errors.concat().contains("hunter2"), "{errors:?}");
        }
        for url in ["http://proxy.example:3128", "https://proxy.example", "socks5://[::1]:1080", "socks5h://proxy"] {
            let config = format!("[egress.proxy]\nurl = '{url}'\nno_proxy = ['.corp.example', '*']\n");
            assert_eq!(Config::parse(&config).err(), None, "{url}");
        }
    }

    #[test]
    fn r01_special_ranges_never_contain_this_host() {
        let parsed = |range: &str| Config::parse(&format!("egress.allowed_special_ranges = ['{range}']"));
        assert!(parsed("198.18.0.0/15").is_ok());
        assert!(parsed("0.0.0.0/0").unwrap_err()[0].contains("never allowed"));
        assert!(parsed("198.18.0.0").is_err());
    }

    #[test]
    fn frame_ancestors_are_origins_of_https_or_of_this_host() {
        for origin in [
            "https://app.example",
            "https://app.example:8443",
            "http://localhost:3000",
            "http://a.localhost",
            "http://127.0.0.1:1",
        ] {
            assert_eq!(Config::parse(&format!("http.frame_ancestors = [{origin:?}]")).err(), None, "{origin}");
        }
        for origin in [
            "http://app.example",
            "https://app.example/",
            "https://app.example/path",
            "https://App.example",
            "https://app.example:443",
            "https://user@app.example",
            "https://*.example",
            "https://app.example;script-src",
            "https://app.example; script-src *",
            "https://app.example https://b.example",
            "https:",
            "app.example",
            "'self'",
            "*",
            "data:",
            "null",
            "",
        ] {
            let errors = Config::parse(&format!("http.frame_ancestors = [{origin:?}]")).expect_err(origin);
            assert!(
                errors.iter().any(|error| error.contains("frame_ancestors") && error.contains("https://")),
                "{origin}: {errors:?}"
            );
        }
        let many: Vec<_> = (0..21).map(|number| format!("https://{number}.example")).collect();
        let errors = Config::parse(&format!("http.frame_ancestors = {many:?}")).expect_err("more than 20");
        assert!(errors[0].contains("more than 20"), "{errors:?}");
    }
}
