//! Where the database is: a file of SQLite, or a database of PostgreSQL.

use anteroom_wire::Secret;
use std::{
    fmt::{self, Write as _},
    path::{Path, PathBuf},
};

/// The port of PostgreSQL, if an address has none.
const PORT: u16 = 5432;
/// The most servers in one address.
const SERVERS_MAX: usize = 8;
/// Parameters of an address; others are errors.
const PARAMETERS: [&str; 5] = ["host", "sslmode", "sslrootcert", "sslcert", "sslkey"];
const SSL_MODES: [&str; 6] = ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"];

/// Where the database is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A file of SQLite; it is created if it does not exist.
    File(PathBuf),
    /// A database of PostgreSQL.
    Postgres(PostgresAddress),
}

impl From<&Path> for Address {
    fn from(path: &Path) -> Self {
        Self::File(path.to_owned())
    }
}

impl From<&PathBuf> for Address {
    fn from(path: &PathBuf) -> Self {
        Self::File(path.clone())
    }
}

impl From<&Self> for Address {
    fn from(address: &Self) -> Self {
        address.clone()
    }
}

impl Address {
    /// Whether it is a file that does not exist.
    pub fn is_missing_file(&self) -> bool {
        match self {
            Self::File(path) => !path.exists(),
            Self::Postgres(_) => false,
        }
    }
}

/// The path, or the address without its password.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Postgres(address) => address.fmt(f),
        }
    }
}

/// A database of PostgreSQL: `postgresql://USER@HOST:PORT,HOST:PORT/DATABASE?sslmode=verify-full`. Of several servers the first that
/// answers and accepts writes is used. A host that begins with `/`, percent-encoded or as the parameter `host`, is the directory of a
/// Unix socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostgresAddress {
    servers: Vec<Server>,
    user: Option<String>,
    database: String,
    /// `sslmode` and files of certificates.
    tls: Vec<(String, String)>,
    password: Option<Secret>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Server {
    host: String,
    port: u16,
}

impl Server {
    fn parse(text: &str) -> Result<Self, InvalidAddress> {
        let (host, port) = match text.rsplit_once(':') {
            // The colons of an IPv6 address are within brackets.
            Some((host, port)) if !port.contains(']') => (host, port.parse().map_err(|_| InvalidAddress::Port)?),
            Some(_) | None => (text, PORT),
        };
        let host = decoded(host.trim_start_matches('[').trim_end_matches(']'))?;
        if host.is_empty() { Err(InvalidAddress::NoHost) } else { Ok(Self { host, port }) }
    }

    fn is_local(&self) -> bool {
        let is_loopback = self.host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
        self.host.starts_with('/') || self.host == "localhost" || is_loopback
    }
}

/// What is wrong with an address. The address itself is not repeated: it may contain a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidAddress {
    /// Another scheme.
    #[error("must begin with postgresql://")]
    Scheme,
    /// It has a password.
    #[error("must not contain a password: write it to a file and set database.password_file")]
    Password,
    /// No host.
    #[error("names no host")]
    NoHost,
    /// Too many hosts.
    #[error("names more than {SERVERS_MAX} hosts")]
    TooManyHosts,
    /// A port that is no number.
    #[error("has a port that is not a number of at most 65535")]
    Port,
    /// No database.
    #[error("names no database: add /NAME")]
    NoDatabase,
    /// A character that is not encoded properly.
    #[error("has a wrong % encoding")]
    Encoding,
    /// An unknown parameter.
    #[error("has the parameter {0:?}; known ones are host, sslmode, sslrootcert, sslcert and sslkey")]
    Parameter(String),
    /// A wrong `sslmode`.
    #[error("has a wrong sslmode: it must be disable, allow, prefer, require, verify-ca or verify-full")]
    SslMode,
}

impl std::str::FromStr for PostgresAddress {
    type Err = InvalidAddress;

    fn from_str(text: &str) -> Result<Self, InvalidAddress> {
        let rest = text.strip_prefix("postgresql://").or_else(|| text.strip_prefix("postgres://"));
        let rest = rest.ok_or(InvalidAddress::Scheme)?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
        let (user, hosts) = match authority.rsplit_once('@') {
            Some((user, _)) if user.contains(':') => return Err(InvalidAddress::Password),
            Some((user, hosts)) => (Some(decoded(user)?), hosts),
            None => (None, authority),
        };
        let mut servers =
            hosts.split(',').filter(|host| !host.is_empty()).map(Server::parse).collect::<Result<Vec<_>, _>>()?;
        let mut tls = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = decoded(value)?;
            match key {
                "password" => return Err(InvalidAddress::Password),
                "host" => servers.push(Server { host: value, port: PORT }),
                "sslmode" if !SSL_MODES.contains(&value.as_str()) => return Err(InvalidAddress::SslMode),
                key if PARAMETERS.contains(&key) => tls.push((key.to_owned(), value)),
                key => return Err(InvalidAddress::Parameter(key.chars().take(40).collect())),
            }
        }
        match servers.len() {
            0 => return Err(InvalidAddress::NoHost),
            1..=SERVERS_MAX => {}
            _ => return Err(InvalidAddress::TooManyHosts),
        }
        let database = decoded(database)?;
        if database.is_empty() {
            return Err(InvalidAddress::NoDatabase);
        }
        Ok(Self { servers, user, database, tls, password: None })
    }
}

impl PostgresAddress {
    /// The same with a password.
    #[must_use]
    pub fn with_password(self, password: Option<Secret>) -> Self {
        Self { password, ..self }
    }

    /// The host and port of each server.
    pub(crate) fn server_names(&self) -> Vec<String> {
        self.servers.iter().map(|server| format!("{}:{}", server.host, server.port)).collect()
    }

    /// A URL for each server, with the password: for the driver only.
    pub(crate) fn urls(&self, application: &str) -> Vec<Secret> {
        let url = |server: &Server| {
            let mut url = format!("postgresql:///{}?", encoded(&self.database));
            let mut add = |key: &str, value: &str| {
                let _ = write!(url, "{key}={}&", encoded(value));
            };
            add("host", &server.host);
            add("port", &server.port.to_string());
            add("application_name", application);
            self.user.iter().for_each(|user| add("user", user));
            self.password.iter().for_each(|password| add("password", password.expose()));
            self.tls.iter().for_each(|(key, value)| add(key, value));
            if !self.tls.iter().any(|(key, _)| key == "sslmode") {
                add("sslmode", if server.is_local() { "prefer" } else { "verify-full" });
            }
            Secret::new(url)
        };
        self.servers.iter().map(url).collect()
    }
}

/// The address without its password.
impl fmt::Display for PostgresAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("postgresql://")?;
        self.user.as_ref().map_or(Ok(()), |user| write!(f, "{user}@"))?;
        for (number, server) in self.servers.iter().enumerate() {
            let comma = if number > 0 { "," } else { "" };
            write!(f, "{comma}{}:{}", server.host, server.port)?;
        }
        write!(f, "/{}", self.database)
    }
}

/// A text in a URL: everything but letters, digits and `._-/` is percent-encoded.
pub(crate) fn encoded(text: &str) -> String {
    let mut url = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"/._-".contains(&byte) {
            url.push(char::from(byte));
        } else {
            let _ = write!(url, "%{byte:02X}");
        }
    }
    url
}

fn decoded(text: &str) -> Result<String, InvalidAddress> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let digit =
            |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16)).ok_or(InvalidAddress::Encoding);
        bytes.push(if byte == b'%' {
            let (high, low) = (digit(rest.next())?, digit(rest.next())?);
            u8::try_from(high * 16 + low).map_err(|_| InvalidAddress::Encoding)?
        } else {
            byte
        });
    }
    match String::from_utf8(bytes) {
        Ok(text) if !text.contains('\0') => Ok(text),
        Ok(_) | Err(_) => Err(InvalidAddress::Encoding),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn urls(text: &str) -> Vec<String> {
        let address: PostgresAddress = text.parse().unwrap();
        address.urls("a").iter().map(|url| url.expose().to_owned()).collect()
    }

    #[test]
    fn each_server_gets_a_url_with_a_safe_default_for_tls() {
        let found = urls("postgresql://ann@db1.example,[::1]:5433/rooms");
        assert_eq!(
            found,
            [
                "postgresql:///rooms?host=db1.example&port=5432&application_name=a&user=ann&sslmode=verify-full&",
                "postgresql:///rooms?host=%3A%3A1&port=5433&application_name=a&user=ann&sslmode=prefer&",
            ]
        );
        let socket = "postgresql:///rooms?host=/run/postgresql&port=5432&application_name=a&sslmode=prefer&";
        assert_eq!(urls("postgresql://%2Frun%2Fpostgresql/rooms"), [socket]);
        assert_eq!(urls("postgres:///rooms?host=/run/postgresql"), [socket]);
        let required = urls("postgresql://db.example/rooms?sslmode=require&sslrootcert=/etc/ca.pem");
        assert!(required[0].ends_with("&sslmode=require&sslrootcert=/etc/ca.pem&"), "{required:?}");
    }

    #[test]
    fn a_password_is_accepted_only_beside_the_address_and_is_never_shown() {
        for text in ["postgresql://ann:pw@h/d", "postgresql://ann@h/d?password=pw"] {
            let error = text.parse::<PostgresAddress>().unwrap_err();
            assert_eq!(error, InvalidAddress::Password);
            assert!(!error.to_string().contains("pw"));
        }
        let address: PostgresAddress = "postgresql://ann@h/d".parse().unwrap();
        let address = address.with_password(Some(Secret::new("s3cret&".to_owned())));
        assert!(address.urls("a")[0].expose().contains("password=s3cret%26&"));
        let shown = format!("{address} {address:?} {:?} {:?}", Address::Postgres(address.clone()), address.urls("a"));
        assert!(shown.starts_with("postgresql://ann@h:5432/d ") && !shown.contains("s3cret"), "{shown}");
    }

    #[test]
    fn wrong_addresses_are_named() {
        for (text, error) in [
            ("mysql://h/d", InvalidAddress::Scheme),
            ("postgresql:///d", InvalidAddress::NoHost),
            ("postgresql://h", InvalidAddress::NoDatabase),
            ("postgresql://h:99999/d", InvalidAddress::Port),
            ("postgresql://h/d%zz", InvalidAddress::Encoding),
            ("postgresql://h/d?sslmode=yes", InvalidAddress::SslMode),
            ("postgresql://h/d?options=-c", InvalidAddress::Parameter("options".to_owned())),
            ("postgresql://a,b,c,d,e,f,g,h,i/d", InvalidAddress::TooManyHosts),
        ] {
            assert_eq!(text.parse::<PostgresAddress>().unwrap_err(), error, "{text}");
        }
    }
}
