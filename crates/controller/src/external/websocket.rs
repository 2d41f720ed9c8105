//! The WebSocket handshake with an external desktop, as a browser does it.
//!
//! Some servers reject a client without `Origin` (KasmVNC with 404, libvncserver by closing), and some answer without a subprotocol, which
//! a client that asked for one must not accept (RFC 6455 §4.1): these are asked again without one.

use super::{DesktopEndpoint, DesktopLogin, dial_error::DialError};
use anteroom_rfb::client::ViewerSocket;
use base64::{Engine, engine::general_purpose::STANDARD};
use http::HeaderValue;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::tungstenite::{
    self,
    error::{ProtocolError, SubProtocolError},
};
use zeroize::Zeroizing;

/// The largest WebSocket message that is accepted; websockify sends at most 64 KiB.
const MESSAGE_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Whether the handshake asks for the subprotocol `binary`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Subprotocol {
    Binary,
    NotRequested,
}

/// Does the handshake. The caller must set a timeout.
pub(super) async fn handshake<S>(
    desktop: &DesktopEndpoint,
    login: Option<&DesktopLogin>,
    subprotocol: Subprotocol,
    stream: S,
) -> Result<ViewerSocket<S>, DialError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (scheme, http_scheme) = if desktop.scheme.is_encrypted() { ("wss", "https") } else { ("ws", "http") };
    let authority = desktop.authority();
    let url = format!("{scheme}://{authority}{}", desktop.path);
    let mut headers = Vec::new();
    // The address was parsed as a URI, so its host is a valid header value.
    if let Ok(origin) = HeaderValue::try_from(format!("{http_scheme}://{authority}")) {
        headers.push(("Origin", origin));
    }
    if subprotocol == Subprotocol::Binary {
        headers.push(("Sec-WebSocket-Protocol", HeaderValue::from_static(anteroom_tunnel::WEBSOCKET_SUBPROTOCOL)));
    }
    let basic = login.and_then(basic_authorization);
    let has_user = basic.is_some();
    headers.extend(basic.map(|value| ("Authorization", value)));
    let connected = ViewerSocket::connect_over(stream, &url, &headers, MESSAGE_BYTES_MAX).await;
    connected.map_err(|error| handshake_error(error, has_user))
}

/// HTTP Basic (RFC 7617) with the configured user and password; `None`: no user is configured.
fn basic_authorization(login: &DesktopLogin) -> Option<HeaderValue> {
    let user = login.user.as_ref()?;
    let pair = Zeroizing::new(format!("{user}:{}", login.password.expose()));
    let text = Zeroizing::new(format!("Basic {}", Zeroizing::new(STANDARD.encode(pair.as_bytes())).as_str()));
    let mut value = HeaderValue::try_from(text.as_str()).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[expect(clippy::wildcard_enum_match_arm, reason = "any other answer is not a WebSocket handshake")]
fn handshake_error(error: tungstenite::Error, has_user: bool) -> DialError {
    use tungstenite::Error;
    match error {
        Error::Http(response) => DialError::HandshakeStatus { status: response.status().as_u16(), has_user },
        Error::Io(_) | Error::ConnectionClosed | Error::Protocol(ProtocolError::HandshakeIncomplete) => {
            DialError::HandshakeClosed(error)
        }
        Error::Protocol(ProtocolError::SecWebSocketSubProtocolError(SubProtocolError::NoSubProtocol)) => {
            DialError::NoSubprotocol(error)
        }
        Error::Protocol(ProtocolError::SecWebSocketSubProtocolError(_)) => DialError::OtherSubprotocol(error),
        _ => DialError::HandshakeInvalid(error),
    }
}
