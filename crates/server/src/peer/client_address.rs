//! The address of the client of a request: the connection's, or the one that a trusted reverse proxy reports.

use super::Peer;
use axum::http::{HeaderMap, HeaderName, header};
use ipnet::{IpNet, Ipv6Net};
use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Length of the prefix that one client of IPv6 usually has, bits: it may use every address below it.
const IPV6_PREFIX_BITS: u8 = 64;

/// Where a request comes from. Every request has one as an extension; handlers extract it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ClientAddress {
    /// This address, over TCP.
    Ip(IpAddr),
    /// A process of this host, over the operator's socket, as this user.
    OperatorSocket {
        /// The user id; `None` for a process that may not use the socket.
        uid: Option<u32>,
    },
}

impl ClientAddress {
    /// The network that limits by address apply to: an IPv4 address, or the /64 network of an IPv6 address. `None`: no limit applies.
    pub fn limited_network(self) -> Option<IpAddr> {
        match self {
            Self::Ip(IpAddr::V6(address)) => {
                let network = Ipv6Net::new(address, IPV6_PREFIX_BITS).map_or(address, |network| network.network());
                Some(network.into())
            }
            Self::Ip(address) => Some(address),
            Self::OperatorSocket { .. } => None,
        }
    }
}

impl fmt::Display for ClientAddress {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(out),
            Self::OperatorSocket { uid: Some(uid) } => write!(out, "operator's socket, uid {uid}"),
            Self::OperatorSocket { uid: None } => out.write_str("operator's socket, refused"),
        }
    }
}

/// The reverse proxies whose forwarding headers are read.
#[derive(Debug, Clone, Default)]
pub struct TrustedProxies {
    networks: Arc<[IpNet]>,
    reported: Arc<AtomicBool>,
}

impl TrustedProxies {
    /// The proxies with an address in one of these networks.
    pub fn new(networks: &[IpNet]) -> Self {
        Self { networks: networks.into(), reported: Arc::default() }
    }

    /// Whether this is the address of a trusted proxy.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.networks.iter().any(|network| network.contains(&address.to_canonical()))
    }

    /// The client's address. Forwarding headers are read from right to left for as long as the address found is a trusted proxy's: each
    /// trusted proxy has added the one to the left of its own. An entry that is not an address ends the search.
    ///
    /// A request with both headers counts as the proxy's: a proxy adds to one of them and may pass on the other as its client sent it.
    pub fn client_address(&self, peer: Peer, headers: &HeaderMap) -> ClientAddress {
        let peer = match peer {
            Peer::Tcp(address) => address.ip().to_canonical(),
            Peer::Local { uid } => return ClientAddress::OperatorSocket { uid: Some(uid) },
            Peer::Refused(_) => return ClientAddress::OperatorSocket { uid: None },
        };
        if !self.contains(peer) {
            self.report_untrusted(peer, headers);
            return ClientAddress::Ip(peer);
        }
        let entries = match (headers.contains_key(&X_FORWARDED_FOR), headers.contains_key(header::FORWARDED)) {
            (true, false) => entries(headers, &X_FORWARDED_FOR, parse_address),
            (false, true) => entries(headers, &header::FORWARDED, parse_forwarded),
            (true, true) | (false, false) => Vec::new(),
        };
        let mut client = peer;
        for entry in entries.into_iter().rev() {
            let Some(entry) = entry.filter(|_| self.contains(client)) else { break };
            client = entry;
        }
        ClientAddress::Ip(client)
    }

    /// Logs once that a proxy seems to be in front which `trusted_proxies` does not contain.
    fn report_untrusted(&self, peer: IpAddr, headers: &HeaderMap) {
        let is_forwarded = headers.contains_key(&X_FORWARDED_FOR) || headers.contains_key(header::FORWARDED);
        if is_forwarded && !self.reported.swap(true, Relaxed) {
            tracing::warn!(
                outcome = "untrusted_proxy", %peer,
                "forwarding header ignored: if a reverse proxy has this address, add it to trusted_proxies"
            );
        }
    }
}

/// All entries of a header that is a list, from left to right; `None` for an entry that is not an address.
fn entries(headers: &HeaderMap, name: &HeaderName, parse: fn(&str) -> Option<IpAddr>) -> Vec<Option<IpAddr>> {
    let lines = headers.get_all(name).into_iter().map(|line| line.to_str().unwrap_or_default());
    lines.flat_map(|line| line.split(',')).map(|entry| parse(entry.trim())).collect()
}

/// `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1` or `[2001:db8::1]:80`.
fn parse_address(text: &str) -> Option<IpAddr> {
    let in_brackets = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    let address = in_brackets.unwrap_or(text).parse::<IpAddr>().ok();
    address
        .or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()))
        .map(|address| address.to_canonical())
}

/// An element of `Forwarded` (RFC 7239): the address in its `for` parameter.
fn parse_forwarded(element: &str) -> Option<IpAddr> {
    let mut pairs = element.split(';').filter_map(|pair| pair.trim().split_once('='));
    let (_, value) = pairs.find(|(name, _)| name.eq_ignore_ascii_case("for"))?;
    parse_address(value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(peer: &str, lines: &[(&'static str, &str)]) -> String {
        let proxies = TrustedProxies::new(&["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()]);
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, value.parse().unwrap());
        }
        proxies.client_address(Peer::Tcp(SocketAddr::new(peer.parse().unwrap(), 1)), &headers).to_string()
    }

    #[test]
    fn forwarding_headers_of_an_untrusted_peer_are_ignored() {
        let forged = [("x-forwarded-for", "192.0.2.1"), ("forwarded", "for=192.0.2.2")];
        assert_eq!(client("198.51.100.7", &forged), "198.51.100.7");
        assert_eq!(client("::ffff:198.51.100.7", &forged[..1]), "198.51.100.7");
    }

    #[test]
    fn client_is_the_rightmost_address_that_is_no_trusted_proxy() {
        let forwarded = |value: &str| client("10.0.0.1", &[("x-forwarded-for", value)]);
        assert_eq!(forwarded("192.0.2.66, 192.0.2.1"), "192.0.2.1", "the client forged the first entry");
        assert_eq!(forwarded("192.0.2.66, 192.0.2.1, 10.9.9.9"), "192.0.2.1");
        assert_eq!(forwarded("10.9.9.8, 10.9.9.9"), "10.9.9.8", "all are proxies");
        assert_eq!(forwarded("192.0.2.1, unknown"), "10.0.0.1");
        assert_eq!(forwarded("192.0.2.1:4711"), "192.0.2.1");
        assert_eq!(forwarded("[2001:db8::1]:4711"), "2001:db8::1");
        assert_eq!(forwarded("::ffff:192.0.2.1"), "192.0.2.1");
        assert_eq!(forwarded(""), "10.0.0.1");
        let two_lines = [("x-forwarded-for", "192.0.2.66"), ("x-forwarded-for", "192.0.2.1")];
        assert_eq!(client("10.0.0.1", &two_lines), "192.0.2.1");
    }

    #[test]
    fn forwarded_is_read_like_x_forwarded_for() {
        let forwarded = |value: &str| client("fd00::1", &[("forwarded", value)]);
        assert_eq!(forwarded("for=192.0.2.66, For=\"[2001:db8::1]:1\";proto=https"), "2001:db8::1");
        assert_eq!(forwarded("proto=https;for=192.0.2.1"), "192.0.2.1");
        assert_eq!(forwarded("for=192.0.2.1, for=_hidden"), "fd00::1");
        assert_eq!(forwarded("for=192.0.2.1;by=\"a,for=192.0.2.9"), "192.0.2.9", "no client writes the last element");
    }

    #[test]
    fn request_with_both_headers_counts_as_the_proxys() {
        let both = [("x-forwarded-for", "192.0.2.1"), ("forwarded", "for=192.0.2.66")];
        assert_eq!(client("10.0.0.1", &both), "10.0.0.1");
    }

    #[test]
    fn limits_apply_to_the_network_of_an_ipv6_client() {
        let network = |address: &str| ClientAddress::Ip(address.parse().unwrap()).limited_network().unwrap();
        assert_eq!(network("2001:db8:1:2:3:4:5:6"), network("2001:db8:1:2::1"));
        assert_ne!(network("2001:db8:1:2::1"), network("2001:db8:1:3::1"));
        assert_ne!(network("192.0.2.1"), network("192.0.2.2"));
        assert_eq!(ClientAddress::OperatorSocket { uid: Some(0) }.limited_network(), None);
    }
}
