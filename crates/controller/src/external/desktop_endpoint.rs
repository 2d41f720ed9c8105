//! The address of an external desktop: `ws://host:port/path` (websockify) or `vnc://host:port`.

use std::fmt;

/// The protocol of a desktop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndpointScheme {
    /// RFB in the binary messages of a WebSocket.
    Ws,
    /// RFB over TCP.
    Vnc,
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
    /// `wss`.
    #[error("has the scheme wss, which is not supported; use ws:// or vnc://, through an encrypted tunnel if needed")]
    EncryptedWebSocket,
    /// Another scheme.
    #[error("has the scheme {0:?}; it must be ws://HOST:PORT/ or vnc://HOST:PORT")]
    UnknownScheme(String),
    /// No scheme.
    #[error("is not an address; it must be ws://HOST:PORT/ or vnc://HOST:PORT")]
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
    /// A path after a `vnc` address.
    #[error("has a path, which vnc:// does not have")]
    VncPath,
}

impl DesktopEndpoint {
    /// Parses an address.
    ///
    /// # Errors
    /// [`DesktopEndpointError`].
    pub fn parse(text: &str) -> Result<Self, DesktopEndpointError> {
        let given = text.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase());
        let (scheme, port) = match given.as_deref() {
            Some("ws") => (EndpointScheme::Ws, 80),
            Some("vnc") => (EndpointScheme::Vnc, 5900),
            Some("wss") => return Err(DesktopEndpointError::EncryptedWebSocket),
            Some(other) => return Err(DesktopEndpointError::UnknownScheme(other.to_owned())),
            None => return Err(DesktopEndpointError::NoScheme),
        };
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
            None => port,
            Some(port) => match port.parse() {
                Ok(port) if port > 0 => port,
                Ok(_) | Err(_) => return Err(DesktopEndpointError::InvalidPort),
            },
        };
        let path = uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
        if scheme == EndpointScheme::Vnc && path != "/" && !path.is_empty() {
            return Err(DesktopEndpointError::VncPath);
        }
        let path = if path.is_empty() { "/" } else { path };
        Ok(Self { scheme, host: host.to_owned(), port, path: path.to_owned() })
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
        let authority = self.authority();
        match self.scheme {
            EndpointScheme::Vnc => write!(f, "vnc://{authority}"),
            EndpointScheme::Ws => write!(f, "ws://{authority}{}", self.path.split('?').next().unwrap_or("/")),
        }
    }
}

impl fmt::Debug for DesktopEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
