//! Properties of the server's parsers, for the fuzz targets: each function panics where one does not hold.

#![allow(clippy::expect_used, reason = "a target panics to report a fault")]

use crate::{
    addresses::Addresses,
    auth,
    http::viewer_sockets,
    peer::{ClientAddress, Peer, TrustedProxies},
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Uri, Version, header};
use std::net::{IpAddr, SocketAddr};

/// A text message on a terminal's WebSocket.
pub fn check_viewer_text_message(data: &[u8]) {
    // The WebSocket library passes only valid UTF-8.
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(size) = viewer_sockets::parse_terminal_size(text) {
        assert!((2..=500).contains(&size.cols) && (2..=300).contains(&size.rows), "{size:?}");
    }
}

/// The header fields of a request, one a line; the first line is the request target.
pub fn check_request_headers(data: &[u8]) {
    let mut lines = data.split(|&byte| byte == b'\n');
    let target = lines.next().unwrap_or_default();
    let mut headers = HeaderMap::new();
    for line in lines {
        let mut parts = line.splitn(2, |&byte| byte == b':');
        let (Some(name), Some(value)) = (parts.next(), parts.next()) else { continue };
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value.trim_ascii())) {
            headers.append(name, value);
        }
    }
    check_credentials(&headers);
    if let Ok(target) = Uri::try_from(target) {
        check_host(&target, &headers);
    }
    check_client_address(&headers);
}

fn check_credentials(headers: &HeaderMap) {
    let lines = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok()).collect::<Vec<_>>();
    for is_https in [false, true] {
        for (name, value) in auth::cookie_header::parse_cookie_header(headers, is_https) {
            assert!(!name.contains([';', '=']) && !value.contains(';'), "{name:?} {value:?}");
            assert!(lines.iter().any(|line| line.contains(&format!("{name}={value}"))), "{name:?} {value:?}");
        }
    }
    if let Some(token) = auth::bearer_token(headers) {
        let value = headers[header::AUTHORIZATION].to_str().expect("a token was found in it");
        assert_eq!(value.get(7..).map(str::trim), Some(token.expose()));
    }
}

fn check_host(target: &Uri, headers: &HeaderMap) {
    let listening = SocketAddr::from(([0, 0, 0, 0], 8080));
    let addresses =
        Addresses::new(Some("https://anteroom.example"), listening, "anteroom-x").expect("the URL is valid");
    let known = ["anteroom.example", "anteroom-x.localhost", "localhost", "127.0.0.1", "[::1]"];
    for version in [Version::HTTP_11, Version::HTTP_2] {
        match addresses.require_own_host(version, target, headers) {
            Ok(()) => {
                let hosts: Vec<&str> =
                    headers.get_all(header::HOST).iter().filter_map(|host| host.to_str().ok()).collect();
                assert!(hosts.len() <= 1);
                let named = hosts.into_iter().chain(target.authority().map(|authority| authority.as_str()));
                for host in named {
                    let name = host.rsplit_once(':').filter(|_| !host.ends_with(']')).map_or(host, |(name, _)| name);
                    let is_v6 =
                        name.trim_matches(['[', ']']).parse::<std::net::Ipv6Addr>().is_ok_and(|ip| ip.is_loopback());
                    assert!(is_v6 || known.iter().any(|known| known.eq_ignore_ascii_case(name)), "{host:?}");
                }
            }
            Err(error) => assert!(error.to_string().len() <= 2_000, "{} bytes", error.to_string().len()),
        }
    }
    for origin in headers.get_all(header::ORIGIN) {
        assert_eq!(addresses.is_own_origin(origin.as_bytes()), origin.as_bytes() == b"https://anteroom.example");
    }
}

fn check_client_address(headers: &HeaderMap) {
    let proxies =
        TrustedProxies::new(&["10.0.0.0/8".parse().expect("a network"), "fd00::/8".parse().expect("a network")]);
    let stranger = IpAddr::from([203, 0, 113, 9]);
    let client = |peer: IpAddr| proxies.client_address(Peer::Tcp(SocketAddr::new(peer, 1)), headers);
    assert_eq!(client(stranger), ClientAddress::Ip(stranger), "a stranger chooses an address");
    let proxy = IpAddr::from([10, 0, 0, 1]);
    let has_one = headers.contains_key("x-forwarded-for") != headers.contains_key(header::FORWARDED);
    if !has_one {
        assert_eq!(client(proxy), ClientAddress::Ip(proxy));
    }
    // A mapped address is the same client.
    let mapped = IpAddr::from(std::net::Ipv4Addr::new(10, 0, 0, 1).to_ipv6_mapped());
    assert_eq!(client(mapped), client(proxy));
}
