//! The proxy between this program and a server on another host, from the environment as curl reads it: `HTTPS_PROXY`, `HTTP_PROXY`,
//! `ALL_PROXY`, `NO_PROXY`, in capital or small letters. Every connection is a tunnel, so the proxy sees only host and port.

use super::{server_url::ServerUrl, stream::ApiStream};
use http::Uri;
use hyper_util::{
    client::{
        legacy::connect::{
            HttpConnector,
            proxy::{SocksV5, Tunnel},
        },
        proxy::matcher::{Intercept, Matcher},
    },
    rt::TokioIo,
};
use rustls::ClientConfig;
use std::{fmt, io};
use tower::ServiceExt;

/// The proxy for a server.
#[derive(Clone)]
pub(crate) struct ClientProxy {
    found: Intercept,
    scheme: Scheme,
    address: Uri,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Scheme {
    Http,
    Https,
    Socks5,
}

/// Its address without user and password.
impl fmt::Display for ClientProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.found.uri().scheme_str().unwrap_or("http"), authority(&self.address))
    }
}

impl ClientProxy {
    /// The proxy that the environment names for this server, if it is on another host.
    ///
    /// # Errors
    /// The proxy speaks something else than HTTP or SOCKS5.
    pub(crate) fn for_server(url: &ServerUrl) -> anyhow::Result<Option<Self>> {
        if url.is_loopback() {
            return Ok(None);
        }
        let Some(found) = Matcher::from_env().intercept(&target(url)?) else { return Ok(None) };
        let (scheme, port) = match found.uri().scheme_str() {
            Some("http") => (Scheme::Http, 80),
            Some("https") => (Scheme::Https, 443),
            Some("socks5" | "socks5h") => (Scheme::Socks5, 1080),
            _ => anyhow::bail!(
                "the proxy of the environment is not supported: expected http://, https:// or socks5://, then a host and a port"
            ),
        };
        let host = found.uri().host().unwrap_or_default();
        let port = found.uri().port_u16().unwrap_or(port);
        let connector_scheme = if scheme == Scheme::Https { "https" } else { "http" };
        let address = format!("{connector_scheme}://{host}:{port}").parse()?;
        Ok(Some(Self { found, scheme, address }))
    }

    /// Whether the proxy itself is reached over TLS.
    pub(crate) fn is_https(&self) -> bool {
        self.scheme == Scheme::Https
    }

    /// Opens a tunnel to the server. `tls`: for a proxy that is reached over TLS.
    ///
    /// # Errors
    /// The proxy cannot be reached or refuses.
    pub(crate) async fn connect(&self, url: &ServerUrl, tls: Option<ClientConfig>) -> io::Result<ApiStream> {
        let mut to_proxy = HttpConnector::new();
        to_proxy.enforce_http(false);
        to_proxy.set_nodelay(true);
        let target = target(url).map_err(io::Error::other)?;
        if self.scheme == Scheme::Socks5 {
            let socks = SocksV5::new(self.address.clone(), to_proxy);
            let socks = match self.found.raw_auth() {
                Some((user, password)) => socks.with_auth(user.to_owned(), password.to_owned()),
                None => socks,
            };
            let stream = socks.oneshot(target).await.map_err(|error| self.failed(&error))?;
            return Ok(Box::new(TokioIo::new(stream)));
        }
        let Some(tls) = tls.filter(|_| self.is_https()) else { return self.tunnel(to_proxy, target).await };
        let with_tls = hyper_rustls::HttpsConnectorBuilder::new().with_tls_config(tls).https_only();
        self.tunnel(with_tls.enable_http1().wrap_connector(to_proxy), target).await
    }

    async fn tunnel<C>(&self, connector: C, target: Uri) -> io::Result<ApiStream>
    where
        C: tower::Service<Uri, Future: Send + 'static, Error: Into<Box<dyn std::error::Error + Send + Sync>>>,
        C::Response: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
    {
        let tunnel = Tunnel::new(self.address.clone(), connector);
        let tunnel = match self.found.basic_auth() {
            Some(auth) => tunnel.with_auth(auth.clone()),
            None => tunnel,
        };
        let stream = tunnel.oneshot(target).await.map_err(|error| self.failed(&error))?;
        Ok(Box::new(TokioIo::new(stream)))
    }

    fn failed(&self, error: &(dyn std::error::Error + 'static)) -> io::Error {
        let causes = std::iter::successors(Some(error), |error| error.source());
        let causes: Vec<_> = causes.map(ToString::to_string).collect();
        io::Error::other(format!("the proxy {self} of the environment: {}", causes.join(": ")))
    }
}

/// The server's address with its port.
fn target(url: &ServerUrl) -> anyhow::Result<Uri> {
    let host = url.host_name();
    let host = if host.contains(':') { format!("[{host}]") } else { host };
    Ok(format!("{}://{host}:{}/", if url.is_https() { "https" } else { "http" }, url.port()).parse()?)
}

fn authority(uri: &Uri) -> &str {
    uri.authority().map_or("", |authority| authority.as_str())
}
