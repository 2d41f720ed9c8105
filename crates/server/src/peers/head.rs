//! The head of a request that is passed on: where it came from, as the other host reports it.
//!
//! Only the listener for other hosts reads these headers, and what a client sends of them is removed.

use super::Handshake;
use crate::{addresses::Addresses, peer::Peer};
use anteroom_wire::HostId;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, Version, header, request::Parts, uri::PathAndQuery};
use rustix::process::geteuid;

/// Where the request came from: `tcp ADDRESS` or `operator`.
const PEER: HeaderName = HeaderName::from_static("anteroom-peer-client");
/// The request's `Origin` is that of the pages of the host that passes it on.
const OWN_ORIGIN: HeaderName = HeaderName::from_static("anteroom-peer-own-origin");
/// In an answer 421: this host does not hold the session.
pub(crate) const NOT_OWNER: HeaderName = HeaderName::from_static("anteroom-peer-not-owner");
const ALL: [HeaderName; 3] = [PEER, OWN_ORIGIN, NOT_OWNER];

/// Headers of one connection.
const HOP_BY_HOP: [HeaderName; 5] = [
    header::CONNECTION,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

/// The host that passed a request on; an extension of the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FromHost(pub(crate) HostId);

/// What is passed on of a request's head.
pub(super) struct ForwardedHead {
    pub(super) method: Method,
    pub(super) uri: Uri,
    pub(super) headers: HeaderMap,
}

impl ForwardedHead {
    /// Of a request from `peer`. `None`: its target or its client cannot be passed on.
    pub(super) fn new(parts: &Parts, peer: Peer, addresses: &Addresses, handshake: Option<Handshake>) -> Option<Self> {
        let mut headers = parts.headers.clone();
        for name in ALL {
            headers.remove(name);
        }
        let peer = match peer {
            Peer::Tcp(address) => format!("tcp {address}"),
            Peer::Local { .. } if peer.is_operator() => "operator".to_owned(),
            Peer::Local { .. } | Peer::Refused(_) => return None,
        };
        headers.insert(PEER, HeaderValue::from_str(&peer).ok()?);
        let mut origins = headers.get_all(header::ORIGIN).into_iter();
        if let (Some(origin), None) = (origins.next(), origins.next())
            && addresses.is_own_origin(origin.as_bytes())
        {
            headers.insert(OWN_ORIGIN, HeaderValue::from_static("1"));
        }
        let host = headers.remove(header::HOST);
        let authority = parts.uri.authority().map(|authority| authority.as_str().to_owned());
        let authority = authority.or_else(|| host.and_then(|host| host.to_str().ok().map(str::to_owned)));
        let authority = authority.unwrap_or_else(|| "host.invalid".to_owned());
        let path = parts.uri.path_and_query().map_or("/", PathAndQuery::as_str);
        let uri = if let Some(handshake) = handshake {
            headers.insert(header::HOST, HeaderValue::from_str(&authority).ok()?);
            handshake.complete(&mut headers)?;
            path.parse().ok()?
        } else {
            for name in HOP_BY_HOP {
                headers.remove(name);
            }
            format!("https://{authority}{path}").parse().ok()?
        };
        let method = if handshake.is_some() { Method::GET } else { parts.method.clone() };
        Some(Self { method, uri, headers })
    }

    /// A request with this head.
    pub(super) fn request<B>(&self, version: Version, body: B) -> http::Request<B> {
        let mut request = http::Request::new(body);
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        *request.version_mut() = version;
        *request.headers_mut() = self.headers.clone();
        request
    }
}

/// Takes where the request came from out of the head that another host passed on. `None`: it reports none.
pub(crate) fn take_client(parts: &mut Parts, addresses: &Addresses) -> Option<Peer> {
    let peer = parts.headers.remove(PEER)?;
    let peer = match peer.to_str().ok()?.split_once(' ') {
        Some(("tcp", address)) => Peer::Tcp(address.parse().ok()?),
        // The other host has checked that its kernel confirms it.
        None if peer == "operator" => Peer::Local { uid: geteuid().as_raw() },
        Some(_) | None => return None,
    };
    if parts.headers.remove(OWN_ORIGIN).is_some() {
        parts.headers.insert(header::ORIGIN, HeaderValue::from_str(addresses.origin()).ok()?);
    }
    parts.headers.remove(NOT_OWNER);
    Some(peer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddr;

    fn addresses(port: u16) -> Addresses {
        Addresses::new(None, SocketAddr::from(([127, 0, 0, 1], port)), "anteroom-x").unwrap()
    }

    fn parts(headers: &[(&str, &str)]) -> Parts {
        let mut request = http::Request::get("/api/auth/session/x?after=1");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn pass(headers: &[(&str, &str)], peer: Peer) -> (Parts, Option<Peer>) {
        let head = ForwardedHead::new(&parts(headers), peer, &addresses(1), None).unwrap();
        let (mut parts, ()) = head.request(Version::HTTP_2, ()).into_parts();
        let peer = take_client(&mut parts, &addresses(2));
        (parts, peer)
    }

    #[test]
    fn client_and_own_origin_arrive_and_forged_headers_do_not() {
        let client = Peer::Tcp("192.0.2.7:99".parse().unwrap());
        let forged = [
            ("anteroom-peer-client", "operator"),
            ("anteroom-peer-own-origin", "1"),
            ("origin", "https://evil.example"),
        ];
        let (parts, peer) = pass(&forged, client);
        assert_eq!(peer, Some(client));
        assert_eq!(parts.headers[header::ORIGIN], "https://evil.example");
        let own =
            [("origin", "http://anteroom-x.localhost:1"), ("host", "anteroom-x.localhost:1"), ("connection", "close")];
        let (parts, _) = pass(&own, client);
        assert_eq!(parts.headers[header::ORIGIN], "http://anteroom-x.localhost:2");
        assert_eq!(parts.uri, "https://anteroom-x.localhost:1/api/auth/session/x?after=1");
        assert!(!parts.headers.contains_key(header::CONNECTION) && !parts.headers.contains_key(header::HOST));
        let operator = Peer::Local { uid: geteuid().as_raw() };
        assert_eq!(pass(&[], operator).1, Some(operator));
    }

    #[test]
    fn a_head_without_a_client_is_not_accepted() {
        for value in ["", "tcp", "tcp x", "operator 0", "local"] {
            let mut parts = parts(&[("anteroom-peer-client", value)]);
            assert_eq!(take_client(&mut parts, &addresses(1)), None, "{value:?}");
        }
        assert_eq!(take_client(&mut parts(&[]), &addresses(1)), None);
    }
}
