//! Splits a web URL into its parts, which are kept byte for byte.

/// An `http` or `https` URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CallbackUrl<'a> {
    pub(crate) is_https: bool,
    /// As written; an IPv6 address is in brackets.
    pub(crate) host: &'a str,
    /// As written, or the scheme's default.
    pub(crate) port: u16,
    /// Host and port as written.
    pub(crate) authority: &'a str,
    /// Always begins with `/`, or is empty.
    pub(crate) path: &'a str,
    /// Without the `?`.
    pub(crate) query: Option<&'a str>,
}

impl<'a> CallbackUrl<'a> {
    /// `None`: this is not a web URL, or it contains a user name or password.
    pub(crate) fn parse(text: &'a str) -> Option<Self> {
        if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return None;
        }
        let (scheme, rest) = text.split_once("://")?;
        let is_https = match scheme.to_ascii_lowercase().as_str() {
            "http" => false,
            "https" => true,
            _ => return None,
        };
        let authority = &rest[..rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len())];
        let target = rest[authority.len()..].split('#').next()?;
        let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
        let host_end = match authority.strip_prefix('[') {
            Some(v6) => v6.find(']')? + 2,
            None => authority.find(':').unwrap_or(authority.len()),
        };
        let (host, port) = authority.split_at(host_end);
        let port = match port.strip_prefix(':') {
            Some(port) if port.bytes().all(|b| b.is_ascii_digit()) => port.parse().ok()?,
            Some(_) => return None,
            None if !port.is_empty() => return None,
            None if is_https => 443,
            None => 80,
        };
        let valid = !host.is_empty() && !authority.contains('@') && !path.contains('\\');
        valid.then_some(Self { is_https, host, port, authority, path, query })
    }

    /// Whether it leads to this computer, without encryption, as the callback of a tool does.
    pub(crate) fn is_loopback(&self) -> bool {
        !self.is_https && self.is_loopback_name()
    }

    /// Whether its host is this computer, with either scheme: some browsers replace `http` by `https`.
    pub(crate) fn is_loopback_name(&self) -> bool {
        let names = ["localhost", "127.0.0.1", "[::1]"];
        names.iter().any(|name| self.host.eq_ignore_ascii_case(name))
    }

    /// The request target, byte for byte.
    pub(crate) fn request_target(&self) -> String {
        let path = if self.path.is_empty() { "/" } else { self.path };
        self.query.map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"))
    }

    /// The first value of this name in the query, percent_decoded. `None` if it is missing or not UTF-8.
    pub(crate) fn query_value(&self, name: &str) -> Option<String> {
        let pairs = self.query?.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        let (_, value) = pairs.into_iter().find(|(key, _)| percent_decoded(key).as_deref() == Some(name))?;
        percent_decoded(value)
    }
}

/// Undoes percent-encoding. A plus sign stays one, since codes may contain it.
pub(super) fn percent_decoded(text: &str) -> Option<String> {
    let digit = |at: usize| text.as_bytes().get(at).and_then(|&b| char::from(b).to_digit(16));
    let mut out = Vec::with_capacity(text.len());
    let mut at = 0;
    while let Some(&byte) = text.as_bytes().get(at) {
        match (byte, digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                out.push(u8::try_from(high * 16 + low).ok()?);
                at += 3;
            }
            _ => {
                out.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn url_is_split_into_its_parts() {
        let address = CallbackUrl::parse("http://LocalHost:1455/auth/callback?code=a%2Fb+c&state=x%3Dy#top").unwrap();
        assert!(address.is_loopback());
        assert_eq!((address.host, address.port, address.authority), ("LocalHost", 1455, "LocalHost:1455"));
        assert_eq!(address.request_target(), "/auth/callback?code=a%2Fb+c&state=x%3Dy");
        assert_eq!(address.query_value("code").as_deref(), Some("a/b+c"));
        assert_eq!(address.query_value("state").as_deref(), Some("x=y"));
        assert_eq!(address.query_value("none"), None);
        let v6 = CallbackUrl::parse("http://[::1]:8/").unwrap();
        assert!(v6.is_loopback() && v6.port == 8);
        assert_eq!(
            CallbackUrl::parse("https://a.example?x").map(|a| (a.port, a.request_target())),
            Some((443, "/?x".into()))
        );
    }

    #[test]
    fn other_urls_are_not_mistaken_for_this_computer() {
        for text in [
            "http://localhost:1@evil.example/x",
            "http://evil@localhost:1/x",
            "localhost:1/x",
            "http://localhost:x/",
            "http://localhost:99999/",
            "http://[::1/",
            "http://[::1]x:1/",
            "http:///x",
            "ftp://localhost/",
            "http://localhost:1/ x",
            "http://localhost:1/\\evil",
        ] {
            assert_eq!(CallbackUrl::parse(text), None, "{text:?}");
        }
        for text in [
            "http://localhost.evil.example:1/",
            "http://127.0.0.1.evil.example/",
            "https://localhost/",
            "http://10.0.0.1/",
        ] {
            assert!(!CallbackUrl::parse(text).unwrap().is_loopback(), "{text:?}");
        }
    }
}
