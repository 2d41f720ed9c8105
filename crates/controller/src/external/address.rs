//! The address of an external desktop: `ws://host:port/path` (websockify) or `vnc://host:port`.

use std::fmt;

/// The protocol of a desktop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// RFB in the binary messages of a WebSocket.
    Ws,
    /// RFB over TCP.
    Vnc,
}

/// The address of an external desktop. It is printed without the query, which may contain a websockify token.
#[derive(Clone, PartialEq, Eq)]
pub struct Address {
    /// The protocol.
    pub scheme: Scheme,
    /// A host name or an IP address; IPv6 without brackets.
    pub host: String,
    /// The TCP port.
    pub port: u16,
    /// Path and query of the WebSocket; `/` for RFB over TCP.
    pub path: String,
}

impl Address {
    /// Parses an address.
    ///
    /// # Errors
    /// The error as a clause after "desktop", without the address.
    pub fn parse(text: &str) -> Result<Self, String> {
        let given = text.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase());
        let (scheme, port) = match given.as_deref() {
            Some("ws") => (Scheme::Ws, 80),
            Some("vnc") => (Scheme::Vnc, 5900),
            Some("wss") => {
                return Err(
                    "has the scheme wss, which is not supported; use ws:// or vnc://, through an encrypted tunnel if needed"
                        .to_owned(),
                );
            }
            Some(other) => {
                return Err(format!("has the scheme {other:?}; it must be ws://HOST:PORT/ or vnc://HOST:PORT"));
            }
            None => return Err("is not an address; it must be ws://HOST:PORT/ or vnc://HOST:PORT".to_owned()),
        };
        let uri: http::Uri = text.parse().map_err(|error| format!("cannot be read: {error}"))?;
        let authority = uri.authority().ok_or("names no host")?;
        if authority.as_str().contains('@') {
            return Err(
                "has a user name or password, which must not be in the configuration; viewers enter the desktop's password"
                    .to_owned(),
            );
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() {
            return Err("names no host".to_owned());
        }
        let port_suffix = authority.as_str().strip_prefix(authority.host()).unwrap_or("");
        let port = match port_suffix.strip_prefix(':') {
            None => port,
            Some(port) => match port.parse() {
                Ok(port) if port > 0 => port,
                Ok(_) | Err(_) => return Err("has a port that is not 1 to 65535".to_owned()),
            },
        };
        let path = uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
        if scheme == Scheme::Vnc && path != "/" && !path.is_empty() {
            return Err("has a path, which vnc:// does not have".to_owned());
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

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let authority = self.authority();
        match self.scheme {
            Scheme::Vnc => write!(f, "vnc://{authority}"),
            Scheme::Ws => write!(f, "ws://{authority}{}", self.path.split('?').next().unwrap_or("/")),
        }
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
