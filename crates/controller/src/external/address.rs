//! The address of an external desktop: `ws://host:port/path` (websockify) or `vnc://host:port`.

use std::fmt;

/// How a desktop is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// RFB in the binary messages of a WebSocket.
    Ws,
    /// RFB as it is.
    Vnc,
}

/// Where an external desktop is. Printed for operators without its query, which may carry a websockify token.
#[derive(Clone, PartialEq, Eq)]
pub struct Address {
    /// How it is spoken to.
    pub scheme: Scheme,
    /// A name or an address; IPv6 without brackets.
    pub host: String,
    /// The TCP port.
    pub port: u16,
    /// Path and query of the WebSocket; `/` for plain RFB.
    pub path: String,
}

impl Address {
    /// Reads an address.
    ///
    /// # Errors
    /// What is wrong with it, to follow "desktop": one clause, without the address itself.
    pub fn parse(text: &str) -> Result<Self, String> {
        let given = text.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase());
        let (scheme, port) = match given.as_deref() {
            Some("ws") => (Scheme::Ws, 80),
            Some("vnc") => (Scheme::Vnc, 5900),
            Some("wss") => {
                return Err(
                    "has the scheme wss, which this server does not speak; give it a ws:// address behind a tunnel \
                            of your own, or vnc://"
                        .to_owned(),
                );
            }
            Some(other) => {
                return Err(format!("has the scheme {other:?}; it must be ws://HOST:PORT/ or vnc://HOST:PORT"));
            }
            None => return Err("is no address; it must be ws://HOST:PORT/ or vnc://HOST:PORT".to_owned()),
        };
        let uri: http::Uri = text.parse().map_err(|error| format!("cannot be read: {error}"))?;
        let authority = uri.authority().ok_or("names no host")?;
        if authority.as_str().contains('@') {
            return Err(
                "has a user name or password in it, which would stand in the configuration; a desktop's password is \
                        asked of its viewer"
                    .to_owned(),
            );
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() {
            return Err("names no host".to_owned());
        }
        let given_port = authority.as_str().strip_prefix(authority.host()).unwrap_or("");
        let port = match given_port.strip_prefix(':') {
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

    /// Host and port as they stand in a `Host` header.
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
