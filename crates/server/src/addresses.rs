//! The addresses of this server: the base of printed links, and what `Host` and `Origin` of a request may be.
//!
//! Without `public_url` the pages have a host name of their own below `localhost`, which browsers resolve to this host. Cookies do not
//! distinguish ports, so a cookie for `127.0.0.1` or `localhost` would be sent to every other program that listens on this host. The
//! name is random, because a program on another port that knew it could lead a browser there.

use anteroom_controller::{config::normalise_public_url, random};
use anyhow::Context;
use axum::http::{HeaderMap, HeaderName, Uri, Version, header, uri::Authority};
use std::{
    fs::{self, OpenOptions},
    io::Write,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    sync::Arc,
};

/// The file in the state directory that contains the host name of the pages on loopback.
pub const LOCAL_NAME_FILE: &str = "local_name";
const LOCAL_NAME_PREFIX: &str = "anteroom-";
const LOCAL_NAME_RANDOM_BYTES: usize = 16;

/// The addresses of this server. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Addresses(Arc<Parts>);

#[derive(Debug)]
struct Parts {
    listening: SocketAddr,
    base_url: String,
    /// Whether it is from `public_url`. The name on loopback is not for programs that ask without a token.
    is_public: bool,
    origin: String,
    hosts: Vec<Host>,
}

/// A value of `Host` that is accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Host {
    /// In lower case; an IPv6 address is in its canonical form, without brackets.
    name: String,
    port: u16,
    /// The port may be left out, because it is the default of the scheme.
    is_default_port: bool,
}

/// Why a request is not for this server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// There is none, which only HTTP/1.0 allows.
    #[error("the request has no Host header")]
    Missing,
    /// Several headers, or one that differs from the request target.
    #[error("the request names more than one host")]
    Several,
    /// Not a host name with an optional port.
    #[error("the Host header is not a host name with an optional port")]
    Malformed,
    /// Another scheme than HTTP in the request target.
    #[error("the request target is not an address of this server")]
    OtherScheme,
    /// A host that is not in the list.
    #[error("the request is for {0:?}")]
    Unknown(String),
}

impl Addresses {
    /// The addresses of a server that listens on `listening`. `local_name`: see [`open_local_name`].
    ///
    /// # Errors
    /// `public_url` is not the address of a host.
    pub fn new(public_url: Option<&str>, listening: SocketAddr, local_name: &str) -> anyhow::Result<Self> {
        let base_url = match public_url {
            Some(url) => normalise_public_url(url).map_err(anyhow::Error::msg)?,
            None => format!("http://{local_name}.localhost:{}", listening.port()),
        };
        let (scheme, base) = parse_base(&base_url)
            .with_context(|| format!("public_url {base_url:?} is not an http or https address with a host name"))?;
        let name = if base.name.contains(':') { format!("[{}]", base.name) } else { base.name.clone() };
        let port = if base.is_default_port { String::new() } else { format!(":{}", base.port) };
        let origin = format!("{scheme}://{name}{port}");
        let mut hosts = vec![base];
        hosts.extend(listening_hosts(listening, local_name));
        Ok(Self(Arc::new(Parts { listening, base_url, is_public: public_url.is_some(), origin, hosts })))
    }

    /// The base of printed links, without a slash at its end.
    pub fn base_url(&self) -> &str {
        &self.0.base_url
    }

    /// Where the server listens.
    pub fn listening(&self) -> SocketAddr {
        self.0.listening
    }

    /// Where to open the pages instead, as the end of a sentence; empty if there is no `public_url`.
    pub fn hint(&self) -> String {
        if self.0.is_public { format!("; open {}", self.0.base_url) } else { String::new() }
    }

    /// Whether browsers reach this server over TLS.
    pub fn is_https(&self) -> bool {
        self.0.base_url.starts_with("https://")
    }

    /// Whether browsers keep a cookie with `Secure` of a page that they loaded with this `Host`: that of `public_url`, or loopback.
    pub fn is_kept_secure(&self, host: &str) -> bool {
        let Some((name, port)) = parse_authority(host) else { return false };
        let base = self.0.hosts.first();
        let is_base =
            base.is_some_and(|base| base.name == name && port.map_or(base.is_default_port, |port| port == base.port));
        let is_local_name = name == "localhost" || name.ends_with(".localhost");
        is_base || is_local_name || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    }

    /// The origin of this server's pages.
    pub fn origin(&self) -> &str {
        &self.0.origin
    }

    /// Whether `origin` is the one of this server's pages.
    pub fn is_own_origin(&self, origin: &[u8]) -> bool {
        origin == self.0.origin.as_bytes()
    }

    /// Requires that the request is for a host of this server, by its `Host` header and by its target.
    ///
    /// # Errors
    /// It names no host, several, or another one. A page of another site whose name resolves to this host sends its own name.
    pub fn require_own_host(&self, version: Version, target: &Uri, headers: &HeaderMap) -> Result<(), HostError> {
        if target.scheme_str().is_some_and(|scheme| scheme != "http" && scheme != "https") {
            return Err(HostError::OtherScheme);
        }
        let in_header = single(headers, &header::HOST)?;
        let in_target = target.authority().map(Authority::as_str);
        // HTTP/1.1 requires the header even if the target names the host.
        if in_header.is_none() && (in_target.is_none() || version < Version::HTTP_2) {
            return Err(HostError::Missing);
        }
        if let (Some(header), Some(target)) = (in_header, in_target)
            && !header.eq_ignore_ascii_case(target)
        {
            return Err(HostError::Several);
        }
        in_header.into_iter().chain(in_target).try_for_each(|host| self.require_known(host))
    }

    fn require_known(&self, host: &str) -> Result<(), HostError> {
        let (name, port) = parse_authority(host).ok_or(HostError::Malformed)?;
        let is_known = self
            .0
            .hosts
            .iter()
            .any(|known| known.name == name && port.map_or(known.is_default_port, |port| port == known.port));
        if is_known { Ok(()) } else { Err(HostError::Unknown(host.chars().take(100).collect())) }
    }
}

/// The only value of the header.
fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, HostError> {
    let mut values = headers.get_all(name).iter();
    let first = values.next();
    if values.next().is_some() {
        return Err(HostError::Several);
    }
    first.map(|value| value.to_str().map_err(|_| HostError::Malformed)).transpose()
}

/// The listening address as it is typed, and the names of this host if it can be reached by them.
fn listening_hosts(listening: SocketAddr, local_name: &str) -> Vec<Host> {
    let port = listening.port();
    let host = |name: String| Host { name, port, is_default_port: port == 80 };
    let mut hosts = Vec::new();
    let address = listening.ip();
    if !address.is_unspecified() {
        hosts.push(host(address.to_string()));
    }
    if address.is_loopback() || address.is_unspecified() {
        hosts.extend([host("localhost".to_owned()), host(format!("{local_name}.localhost"))]);
    }
    if address.is_unspecified() {
        hosts.extend([IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()].map(|ip| host(ip.to_string())));
    }
    hosts
}

/// The scheme and host of the base URL.
fn parse_base(url: &str) -> Option<(&'static str, Host)> {
    let uri: Uri = url.parse().ok()?;
    let (scheme, default_port) = match uri.scheme_str()? {
        "https" => ("https", 443),
        "http" => ("http", 80),
        _ => return None,
    };
    let (name, port) = parse_authority(uri.authority()?.as_str())?;
    let port = port.unwrap_or(default_port);
    Some((scheme, Host { name, port, is_default_port: port == default_port }))
}

/// The host name and the port, if there is one. `None`: malformed, or with user information.
fn parse_authority(text: &str) -> Option<(String, Option<u16>)> {
    let authority: Authority = text.parse().ok()?;
    let port = authority.port();
    let rest = text.strip_prefix(authority.host())?;
    // The parser accepts user information and an empty or invalid port.
    let port = match (rest, port) {
        ("", None) => None,
        (rest, Some(port)) if rest == format!(":{}", port.as_u16()) => Some(port.as_u16()),
        _ => return None,
    };
    let name = authority.host().to_ascii_lowercase();
    let name = match name.strip_prefix('[').and_then(|name| name.strip_suffix(']')) {
        Some(address) => address.parse::<Ipv6Addr>().ok()?.to_string(),
        None => name,
    };
    (!name.is_empty()).then_some((name, port))
}

/// Reads the host name of the pages on loopback, without `.localhost`; creates it at the first start.
///
/// # Errors
/// The file cannot be read or written, or is not such a name.
pub fn open_local_name(state_dir: &Path) -> anyhow::Result<String> {
    let path = state_dir.join(LOCAL_NAME_FILE);
    match fs::read_to_string(&path) {
        Ok(text) => {
            let name = text.trim();
            let random = name.strip_prefix(LOCAL_NAME_PREFIX).unwrap_or("");
            let is_valid =
                random.len() == 2 * LOCAL_NAME_RANDOM_BYTES && random.bytes().all(|byte| byte.is_ascii_hexdigit());
            anyhow::ensure!(
                is_valid && name == name.to_ascii_lowercase(),
                "{} does not contain a host name of this server: delete the file, and browsers sign in again",
                path.display()
            );
            Ok(name.to_owned())
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => create_local_name(&path),
        Err(error) => Err(error).with_context(|| format!("{} cannot be read", path.display())),
    }
}

fn create_local_name(path: &Path) -> anyhow::Result<String> {
    let random = random::random_bytes::<LOCAL_NAME_RANDOM_BYTES>();
    let name = format!("{LOCAL_NAME_PREFIX}{}", hex::encode(random));
    let temporary = path.with_extension("new");
    let written = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary);
    let written = written.and_then(|mut file| {
        writeln!(file, "{name}")?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    });
    written.with_context(|| format!("{} cannot be written", path.display()))?;
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &str = "anteroom-0123456789abcdef0123456789abcdef";

    fn listening(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn check(addresses: &Addresses, host: &str) -> Result<(), HostError> {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, host.parse().unwrap());
        addresses.require_own_host(Version::HTTP_11, &Uri::from_static("/api/me"), &headers)
    }

    #[test]
    fn loopback_server_accepts_its_address_and_localhost_names_with_its_port() {
        let addresses = Addresses::new(None, listening("127.0.0.1:7060"), NAME).unwrap();
        for host in ["127.0.0.1:7060", "localhost:7060", "LocalHost:7060", &format!("{NAME}.localhost:7060")] {
            assert_eq!(check(&addresses, host), Ok(()), "{host}");
        }
        for host in [
            "localhost",
            "127.0.0.1",
            "127.0.0.1:1",
            "127.0.0.1:80",
            "localhost.:7060",
            "127.1:7060",
            "2130706433:7060",
            "0.0.0.0:7060",
            "[::1]:7060",
            "[::ffff:127.0.0.1]:7060",
            "evil.example:7060",
            "other.localhost:7060",
            "localhost:7060.evil.example",
            "127.0.0.1:7060@evil.example",
            "evil.example@127.0.0.1:7060",
            "127.0.0.1:",
            "127.0.0.1:07060",
            ":7060",
            "",
            "127.0.0.1:7060, evil.example",
            "127.0.0.1:99999",
        ] {
            assert!(check(&addresses, host).is_err(), "{host}");
        }
    }

    #[test]
    fn r19_origin_of_the_public_url_is_the_one_that_browsers_send() {
        for url in ["https://anteroom.example:443", "https://Anteroom.Example", "https://anteroom.example/"] {
            let addresses = Addresses::new(Some(url), listening("127.0.0.1:7060"), NAME).unwrap();
            assert_eq!(addresses.base_url(), "https://anteroom.example", "{url}");
            assert!(addresses.is_own_origin(b"https://anteroom.example"), "{url}");
            assert_eq!(check(&addresses, "anteroom.example"), Ok(()), "{url}");
        }
        for url in ["https://portal.example/anteroom", "https://anteroom.example?x=1"] {
            assert!(Addresses::new(Some(url), listening("127.0.0.1:7060"), NAME).is_err(), "{url}");
        }
    }

    #[test]
    fn r22_cookie_for_https_is_kept_at_the_public_url_and_on_loopback_only() {
        let addresses = Addresses::new(Some("https://anteroom.example"), listening("192.168.1.20:7060"), NAME).unwrap();
        for host in ["anteroom.example", "anteroom.example:443", "localhost:7060", "127.0.0.1:7060", "[::1]:7060"] {
            assert!(addresses.is_kept_secure(host), "{host}");
        }
        for host in ["192.168.1.20:7060", "anteroom.example:80", "other.example", ""] {
            assert!(!addresses.is_kept_secure(host), "{host}");
        }
        assert_eq!(check(&addresses, "192.168.1.20:7060"), Ok(()));
    }

    #[test]
    fn ipv6_address_is_compared_by_value() {
        let addresses = Addresses::new(None, listening("[::1]:7060"), NAME).unwrap();
        assert_eq!(check(&addresses, "[0:0::1]:7060"), Ok(()));
        assert!(check(&addresses, "[::2]:7060").is_err());
    }

    #[test]
    fn default_port_of_the_public_url_may_be_left_out() {
        let addresses = Addresses::new(Some("https://Desk.example/"), listening("127.0.0.1:7060"), NAME).unwrap();
        for host in ["desk.example", "desk.example:443", "127.0.0.1:7060"] {
            assert_eq!(check(&addresses, host), Ok(()), "{host}");
        }
        for host in ["desk.example:80", "desk.example.", "a.desk.example"] {
            assert!(check(&addresses, host).is_err(), "{host}");
        }
        for (origin, is_own) in [
            ("https://desk.example", true),
            ("https://desk.example:443", false),
            ("http://desk.example", false),
            ("https://desk.example/", false),
            ("null", false),
            ("http://127.0.0.1:7060", false),
        ] {
            assert_eq!(addresses.is_own_origin(origin.as_bytes()), is_own, "{origin}");
        }
        assert!(Addresses::new(Some("ftp://desk.example"), listening("127.0.0.1:1"), NAME).is_err());
        assert!(Addresses::new(Some("https://a@desk.example"), listening("127.0.0.1:1"), NAME).is_err());
    }

    #[test]
    fn request_target_and_header_must_name_the_same_host() {
        let addresses = Addresses::new(None, listening("127.0.0.1:7060"), NAME).unwrap();
        let check = |version, target: &str, hosts: &[&str]| {
            let mut headers = HeaderMap::new();
            for host in hosts {
                headers.append(header::HOST, host.parse().unwrap());
            }
            addresses.require_own_host(version, &target.parse().unwrap(), &headers)
        };
        let own = "127.0.0.1:7060";
        assert_eq!(check(Version::HTTP_11, "http://127.0.0.1:7060/", &[own]), Ok(()));
        assert_eq!(check(Version::HTTP_2, "http://127.0.0.1:7060/", &[]), Ok(()));
        for (version, target, hosts) in [
            (Version::HTTP_11, "/", &[][..]),
            (Version::HTTP_10, "/", &[]),
            (Version::HTTP_11, "http://127.0.0.1:7060/", &[]),
            (Version::HTTP_11, "/", &[own, own]),
            (Version::HTTP_11, "http://evil.example/", &[own]),
            (Version::HTTP_11, "http://127.0.0.1:7060/", &["evil.example"]),
            (Version::HTTP_11, "http://localhost:7060/", &[own]),
            (Version::HTTP_11, "ftp://127.0.0.1:7060/", &[own]),
            (Version::HTTP_2, "http://evil.example/", &[]),
        ] {
            assert!(check(version, target, hosts).is_err(), "{version:?} {target} {hosts:?}");
        }
    }

    #[test]
    fn local_name_is_random_and_stays() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let name = open_local_name(one.path()).unwrap();
        assert_eq!(open_local_name(one.path()).unwrap(), name);
        assert_ne!(open_local_name(two.path()).unwrap(), name);
        fs::write(one.path().join(LOCAL_NAME_FILE), "localhost\n").unwrap();
        assert!(open_local_name(one.path()).is_err());
    }
}
