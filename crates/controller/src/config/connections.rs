//! Connections: HTTP and egress.

use crate::settings::settings;
use std::{collections::BTreeMap, net::SocketAddr};
use url::Url;

settings! {
    /// HTTP.
    pub struct Http {
        /// How long a graceful stop waits for open connections, milliseconds.
        drain_ms_max: u64 = 5_000, within 0..=600_000;
        /// Whether `listen` accepts HTTP/2 without TLS (prior knowledge), for a reverse proxy that speaks it.
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
    }
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

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
