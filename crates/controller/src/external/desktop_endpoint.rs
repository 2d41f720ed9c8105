//! The address of an external desktop.
//!
//! | scheme | protocol |
//! |---|---|
//! | `wss://host:port/path` | websockify with TLS |
//! | `vncs://host:port` | RFB inside TLS, as a TLS proxy such as stunnel offers it |
//! | `vencrypt://host:port` | RFB with the security type VeNCrypt and a certificate |
//! | `ws://host:port/path` | websockify without encryption |
//! | `vnc://host:port` | RFB without encryption |

use std::{fmt, net::IpAddr};

/// The forms of an address, for messages.
const FORMS: &str = "wss://HOST:PORT/, vncs://HOST:PORT, vencrypt://HOST:PORT or, without encryption, ws://HOST:PORT/ or vnc://HOST:PORT";

/// The protocol of a desktop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndpointScheme {
    /// RFB in the binary messages of a WebSocket.
    Ws,
    /// The same inside TLS.
    Wss,
    /// RFB over TCP.
    Vnc,
    /// RFB inside TLS.
    Vncs,
    /// RFB that changes to TLS in its handshake.
    Vencrypt,
}

impl EndpointScheme {
    const ALL: [Self; 5] = [Self::Ws, Self::Wss, Self::Vnc, Self::Vncs, Self::Vencrypt];

    fn name(self) -> &'static str {
        match self {
            Self::Ws => "ws",
            Self::Wss => "wss",
            Self::Vnc => "vnc",
            Self::Vncs => "vncs",
            Self::Vencrypt => "vencrypt",
        }
    }

    fn default_port(self) -> u16 {
        match self {
            Self::Ws => 80,
            Self::Wss => 443,
            Self::Vnc | Self::Vncs | Self::Vencrypt => 5900,
        }
    }

    /// Whether RFB is in the messages of a WebSocket.
    pub fn is_websocket(self) -> bool {
        match self {
            Self::Ws | Self::Wss => true,
            Self::Vnc | Self::Vncs | Self::Vencrypt => false,
        }
    }

    /// Whether the connection is encrypted.
    pub fn is_encrypted(self) -> bool {
        match self {
            Self::Wss | Self::Vncs | Self::Vencrypt => true,
            Self::Ws | Self::Vnc => false,
        }
    }
}

/// The address of an external desktop. It is printed without the query, which may contain a websockify token.
#[derive(Clone, PartialEq, Eq)]
pub struct DesktopEndpoint {
    /// The protocol.
    pub scheme: EndpointScheme,
    /// A host name or an IP address; IPv6 without brackets.
    pub host: String,
    /// The TCP port.
    pub port: u16,
    /// Path and query of the WebSocket; `/` for RFB over TCP.
    pub path: String,
}

/// What is wrong with the text of an address. The sentence is a clause after "desktop" and does not contain the address.
#[derive(Debug, thiserror::Error)]
pub enum DesktopEndpointError {
    /// Another scheme.
    #[error("has the scheme {0:?}; it must be {FORMS}")]
    UnknownScheme(String),
    /// No scheme.
    #[error("is not an address; it must be {FORMS}")]
    NoScheme,
    /// Not a URI.
    #[error("cannot be read")]
    NotAUri(#[source] http::uri::InvalidUri),
    /// No host.
    #[error("names no host")]
    NoHost,
    /// A user name or password.
    #[error(
        "has a user name or password, which must not be in the configuration; viewers enter the desktop's password"
    )]
    UserInfo,
    /// A port that is not one.
    #[error("has a port that is not 1 to 65535")]
    InvalidPort,
    /// A path after an address that is not a WebSocket's.
    #[error("has a path, which only ws:// and wss:// have")]
    VncPath,
}

impl DesktopEndpoint {
    /// Parses an address.
    ///
    /// # Errors
    /// [`DesktopEndpointError`].
    pub fn parse(text: &str) -> Result<Self, DesktopEndpointError> {
        let given = text.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase());
        let given = given.ok_or(DesktopEndpointError::NoScheme)?;
        let scheme = EndpointScheme::ALL.into_iter().find(|scheme| scheme.name() == given);
        let scheme = scheme.ok_or(DesktopEndpointError::UnknownScheme(given))?;
        let uri: http::Uri = text.parse().map_err(DesktopEndpointError::NotAUri)?;
        let authority = uri.authority().ok_or(DesktopEndpointError::NoHost)?;
        if authority.as_str().contains('@') {
            return Err(DesktopEndpointError::UserInfo);
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() {
            return Err(DesktopEndpointError::NoHost);
        }
        let port_suffix = authority.as_str().strip_prefix(authority.host()).unwrap_or("");
        let port = match port_suffix.strip_prefix(':') {
            None => scheme.default_port(),
            Some(port) => match port.parse() {
                Ok(port) if port > 0 => port,
                Ok(_) | Err(_) => return Err(DesktopEndpointError::InvalidPort),
            },
        };
        let path = uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
        if !scheme.is_websocket() && path != "/" && !path.is_empty() {
            return Err(DesktopEndpointError::VncPath);
        }
        let path = if path.is_empty() { "/" } else { path };
        Ok(Self { scheme, host: host.to_owned(), port, path: path.to_owned() })
    }

    /// Whether the desktop is on this host, so that no network carries its bytes.
    pub fn is_on_this_host(&self) -> bool {
        match self.host.parse::<IpAddr>() {
            Ok(address) => address.is_loopback(),
            Err(_) => self.host.eq_ignore_ascii_case("localhost"),
        }
    }

    /// Host and port as in a `Host` header.
    pub fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

impl fmt::Display for DesktopEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme.name(), self.authority())?;
        if self.scheme.is_websocket() { f.write_str(self.path.split('?').next().unwrap_or("/")) } else { Ok(()) }
    }
}

impl fmt::Debug for DesktopEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
