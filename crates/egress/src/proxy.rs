//! The upstream proxy of the gate: for a host whose only way out is a proxy.
//!
//! HTTP `CONNECT` (RFC 9110 §9.3.6), also over TLS, and SOCKS5 (RFC 1928, RFC 1929). The proxy gets the name and resolves it.

use super::{EgressError, HostName, dial::ByteStream, host_name::escape_control_characters};
use anteroom_wire::{Problem, Secret, chain};
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::Empty;
use hyper::{client::conn::http1, ext::ReasonPhrase};
use hyper_util::{client::proxy::matcher::Matcher, rt::TokioIo};
use rustls::{ClientConfig, RootCertStore, pki_types::ServerName};
use std::{fmt, sync::Arc};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_socks::tcp::Socks5Stream;

/// Longest head of a proxy's answer, bytes.
pub const PROXY_HEAD_BYTES_MAX: usize = 16 * 1024;
/// Characters of a proxy's own words in a message.
const WORDS_MAX: usize = 120;

/// A user and a password for the proxy.
#[derive(Debug, Clone)]
pub struct ProxyCredentials {
    /// The user.
    pub user: String,
    /// The password.
    pub password: Secret,
}

/// What is wrong with the settings of a proxy. Contains nothing of a URL, which may have a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidProxy {
    /// Not a URL of a known scheme with a host.
    #[error(
        "must be http://, https:// or socks5:// (also socks5h://), then a host and a port, like http://proxy.example:3128"
    )]
    Url,
    /// TLS to the proxy cannot be set up.
    #[error("TLS to the proxy cannot be set up")]
    Tls,
}

/// A proxy through which the gate connects.
pub struct UpstreamProxy {
    scheme: Scheme,
    host: String,
    port: u16,
    auth: Auth,
    /// Knows the exceptions.
    matcher: Matcher,
}

enum Scheme {
    Http,
    Https(TlsConnector, ServerName<'static>),
    Socks5,
}

enum Auth {
    None,
    Basic(HeaderValue),
    Password(ProxyCredentials),
}

impl fmt::Debug for UpstreamProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UpstreamProxy").field("at", &self.to_string()).finish_non_exhaustive()
    }
}

/// Its URL without user and password.
impl fmt::Display for UpstreamProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.scheme {
            Scheme::Http => "http",
            Scheme::Https(..) => "https",
            Scheme::Socks5 => "socks5",
        };
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        write!(f, "{scheme}://{host}:{}", self.port)
    }
}

impl UpstreamProxy {
    /// A proxy. `url` may have user and password; `credentials` replace them. `no_proxy` is a list with commas as in the variable
    /// `NO_PROXY`: a name also means the names below it, `*` all. `roots` are trusted for a proxy with TLS.
    ///
    /// # Errors
    /// [`InvalidProxy`].
    pub fn new(
        url: &str,
        credentials: Option<ProxyCredentials>,
        no_proxy: &str,
        roots: RootCertStore,
    ) -> Result<Self, InvalidProxy> {
        let matcher = Matcher::builder().all(url).no(no_proxy).build();
        let found = Matcher::builder().all(url).build().intercept(&Uri::from_static("https://host.invalid/"));
        let found = found.ok_or(InvalidProxy::Url)?;
        let host = found.uri().host().filter(|host| !host.is_empty()).ok_or(InvalidProxy::Url)?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let (scheme, default_port) = match found.uri().scheme_str() {
            Some("http") => (Scheme::Http, 80),
            Some("https") => {
                let name = ServerName::try_from(host.clone()).map_err(|_| InvalidProxy::Url)?;
                (Scheme::Https(tls(roots)?, name), 443)
            }
            Some("socks5" | "socks5h") => (Scheme::Socks5, 1080),
            _ => return Err(InvalidProxy::Url),
        };
        let auth = match (credentials, found.basic_auth(), found.raw_auth()) {
            (Some(credentials), ..) if matches!(scheme, Scheme::Socks5) => Auth::Password(credentials),
            (Some(credentials), ..) => Auth::Basic(basic(&credentials)),
            (None, Some(header), _) => Auth::Basic(header.clone()),
            (None, None, Some((user, password))) => {
                let password = Secret::new(password.to_owned());
                Auth::Password(ProxyCredentials { user: user.to_owned(), password })
            }
            (None, None, None) => Auth::None,
        };
        let port = found.uri().port_u16().unwrap_or(default_port);
        Ok(Self { scheme, host, port, auth, matcher })
    }

    /// Whether connections to this name go through the proxy.
    pub fn is_for(&self, name: &HostName) -> bool {
        let url = Uri::try_from(format!("https://{name}/"));
        url.is_ok_and(|url| self.matcher.intercept(&url).is_some())
    }

    /// Its host and port.
    pub(crate) fn address(&self) -> (&str, u16) {
        (&self.host, self.port)
    }

    /// The proxy itself cannot be reached.
    pub(crate) fn unreachable(&self, detail: &str) -> EgressError {
        EgressError::new(Problem::EgressProxy, format!("the proxy {self} cannot be reached: {detail}"))
    }

    /// The proxy does not answer.
    pub(crate) fn silent(&self, name: &HostName, port: u16, ms_max: u64) -> EgressError {
        let detail = format!("the proxy {self} did not answer the request for {name}:{port} in {ms_max} ms");
        EgressError::new(Problem::EgressProxy, detail)
    }

    /// Asks for a tunnel to `name:port` over a connection to the proxy.
    ///
    /// # Errors
    /// [`Problem::EgressProxy`] with the proxy's answer.
    pub(crate) async fn tunnel(
        &self,
        socket: TcpStream,
        name: &HostName,
        port: u16,
    ) -> Result<Box<dyn ByteStream>, EgressError> {
        let failed = |why: String| {
            EgressError::new(Problem::EgressProxy, format!("the proxy {self} did not connect to {name}:{port}: {why}"))
        };
        match &self.scheme {
            Scheme::Http => self.http_tunnel(socket, name, port).await.map_err(failed),
            Scheme::Https(connector, server_name) => {
                let stream = connector.connect(server_name.clone(), socket).await;
                let stream = stream.map_err(|error| failed(format!("TLS to the proxy failed: {}", chain(&error))))?;
                self.http_tunnel(stream, name, port).await.map_err(failed)
            }
            Scheme::Socks5 => self.socks_tunnel(socket, name, port).await.map_err(failed),
        }
    }

    async fn http_tunnel<S: ByteStream + 'static>(
        &self,
        stream: S,
        name: &HostName,
        port: u16,
    ) -> Result<Box<dyn ByteStream>, String> {
        let broken = |error: hyper::Error| format!("it does not answer as an HTTP proxy: {}", chain(&error));
        let target = format!("{name}:{port}");
        let mut request = Request::builder().method(Method::CONNECT).uri(&target).header(header::HOST, &target);
        if let Auth::Basic(value) = &self.auth {
            request = request.header(header::PROXY_AUTHORIZATION, value);
        }
        let request = request.body(Empty::<Bytes>::new()).map_err(|error| error.to_string())?;
        let handshake = http1::Builder::new().max_buf_size(PROXY_HEAD_BYTES_MAX).handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(broken)?;
        // It ends with the tunnel, or when `sender` is dropped.
        tokio::spawn(connection.with_upgrades());
        let response = sender.send_request(request).await.map_err(broken)?;
        if !response.status().is_success() {
            return Err(self.describe_refusal(&response));
        }
        let tunnel = hyper::upgrade::on(response).await.map_err(broken)?;
        Ok(Box::new(TokioIo::new(tunnel)))
    }

    /// The answer of an HTTP proxy that did not open the tunnel.
    fn describe_refusal<B>(&self, response: &Response<B>) -> String {
        let status = response.status();
        let reason = response.extensions().get::<ReasonPhrase>();
        let reason = reason.map(|reason| String::from_utf8_lossy(reason.as_bytes()).into_owned());
        let reason = reason.or_else(|| status.canonical_reason().map(ToOwned::to_owned)).unwrap_or_default();
        let mut text = format!("it answered {} {}", status.as_str(), words(&reason));
        for name in ["x-squid-error", "proxy-status"] {
            if let Some(value) = value_of(response.headers(), name) {
                text.push_str(&format!(" ({name}: {value})"));
            }
        }
        match status {
            StatusCode::PROXY_AUTHENTICATION_REQUIRED | StatusCode::UNAUTHORIZED => {
                let wanted = value_of(response.headers(), header::PROXY_AUTHENTICATE.as_str());
                let wanted = wanted.map_or_else(String::new, |wanted| format!(" ({wanted})"));
                text.push_str(&match self.auth {
                    Auth::None => {
                        format!("; it wants a user and a password{wanted}: set egress.proxy.credentials_file")
                    }
                    Auth::Basic(_) | Auth::Password(_) => {
                        format!("; it does not accept the user and the password{wanted}, which are sent as Basic")
                    }
                });
            }
            StatusCode::FORBIDDEN => text.push_str("; its rules refuse this host: ask its operator to allow the name"),
            StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT => {
                text.push_str("; it cannot reach the host itself");
            }
            _ => {}
        }
        text
    }

    async fn socks_tunnel(&self, socket: TcpStream, name: &HostName, port: u16) -> Result<Box<dyn ByteStream>, String> {
        use tokio_socks::Error as Socks;
        let target = (name.as_str(), port);
        let opened = match &self.auth {
            Auth::Password(ProxyCredentials { user, password }) => {
                Socks5Stream::connect_with_password_and_socket(socket, target, user, password.expose()).await
            }
            Auth::None | Auth::Basic(_) => Socks5Stream::connect_with_socket(socket, target).await,
        };
        match opened {
            Ok(stream) => Ok(Box::new(stream)),
            Err(Socks::PasswordAuthFailure(_)) => Err("it does not accept the user and the password".to_owned()),
            Err(Socks::NoAcceptableAuthMethods) => Err(match self.auth {
                Auth::Password(_) => "it accepts no sign-in with a user and a password".to_owned(),
                Auth::None | Auth::Basic(_) => {
                    "it wants a user and a password: set egress.proxy.credentials_file".to_owned()
                }
            }),
            Err(Socks::ConnectionNotAllowedByRuleset) => {
                Err("connection not allowed by ruleset: ask its operator to allow the name".to_owned())
            }
            Err(error @ (Socks::InvalidResponseVersion | Socks::UnknownAuthMethod)) => {
                Err(format!("it does not answer as a SOCKS5 proxy: {error}"))
            }
            Err(error) => Err(format!("it answered: {error}")),
        }
    }
}

/// The value of `Proxy-Authorization` (RFC 7617), marked as secret.
fn basic(credentials: &ProxyCredentials) -> HeaderValue {
    let text = STANDARD.encode(format!("{}:{}", credentials.user, credentials.password.expose()));
    // Base64 has only characters of a header.
    let mut value = HeaderValue::try_from(format!("Basic {text}")).unwrap_or(HeaderValue::from_static("Basic"));
    value.set_sensitive(true);
    value
}

fn tls(roots: RootCertStore) -> Result<TlsConnector, InvalidProxy> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.map_err(|_| InvalidProxy::Tls)?.with_root_certificates(roots).with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

/// A header of the proxy, for a message.
fn value_of(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name).map(|value| words(&String::from_utf8_lossy(value.as_bytes())))
}

/// The proxy's own words, bounded, without control characters.
fn words(text: &str) -> String {
    let words = text.split_whitespace().map(escape_control_characters).collect::<Vec<_>>().join(" ");
    words.chars().take(WORDS_MAX).collect()
}
