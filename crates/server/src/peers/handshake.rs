//! The handshake of a WebSocket that is passed on. Between hosts it is one of HTTP/1.1 (RFC 6455); the client's may be one of HTTP/2 (an
//! extended CONNECT, RFC 8441).

use anteroom_controller::random::random_bytes;
use axum::body::Body;
use base64::{Engine, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Version, header, request::Parts};
use hyper::ext::Protocol;

/// How the client begins a WebSocket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Handshake {
    /// `Upgrade: websocket`.
    Upgrade,
    /// `:protocol = websocket`.
    ExtendedConnect,
}

impl Handshake {
    /// That of this request; `None`: it begins none.
    pub(crate) fn of(parts: &Parts) -> Option<Self> {
        let is_websocket = |protocol: &[u8]| protocol.eq_ignore_ascii_case(b"websocket");
        match parts.version {
            Version::HTTP_11 => parts
                .headers
                .get(header::UPGRADE)
                .filter(|protocol| is_websocket(protocol.as_bytes()))
                .map(|_| Self::Upgrade),
            Version::HTTP_2 if parts.method == Method::CONNECT => parts
                .extensions
                .get::<Protocol>()
                .filter(|protocol| is_websocket(protocol.as_ref()))
                .map(|_| Self::ExtendedConnect),
            _ => None,
        }
    }

    /// Adds what a handshake of HTTP/1.1 has. `None`: a header cannot be made.
    pub(super) fn complete(self, headers: &mut HeaderMap) -> Option<()> {
        if self == Self::ExtendedConnect {
            let nonce = STANDARD.encode(random_bytes::<16>());
            headers.insert(header::SEC_WEBSOCKET_KEY, HeaderValue::from_str(&nonce).ok()?);
            headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
            headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        }
        Some(())
    }

    /// The other host's answer, as the client expects it.
    pub(super) fn answer(self, mut answer: Response<Body>) -> Response<Body> {
        if self == Self::ExtendedConnect {
            for name in [header::CONNECTION, header::UPGRADE, header::SEC_WEBSOCKET_ACCEPT] {
                answer.headers_mut().remove(name);
            }
            if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
                *answer.status_mut() = StatusCode::OK;
            }
            *answer.version_mut() = Version::HTTP_2;
        }
        answer
    }
}
