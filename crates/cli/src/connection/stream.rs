//! Opens connections to a server: its Unix socket, TCP or TLS.

use super::{proxy::ClientProxy, server_url::ServerUrl};
use anteroom_controller::config::LOCAL_API_SOCKET_NAME;
use anteroom_wire::Secret;
use anyhow::Context;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use std::{
    fs::File,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::fd::AsRawFd,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
    time::timeout,
};
use tokio_rustls::TlsConnector;

/// Time for one connection with its TLS handshake, seconds.
const CONNECT_S_MAX: u64 = 20;

/// An open connection.
pub(crate) trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for S {}

/// An open connection of any kind.
pub(crate) type ApiStream = Box<dyn ByteStream>;

/// How a server is reached, and what authenticates this program there.
#[derive(Clone)]
pub(crate) enum Access {
    /// The socket in the state directory; the kernel names this user.
    Local {
        /// The state directory.
        state_dir: PathBuf,
    },
    /// The network, with a token.
    Remote {
        /// The address.
        url: ServerUrl,
        /// The token.
        token: Secret,
        /// Absent if neither the server nor the proxy needs it.
        tls: Option<Arc<ClientConfig>>,
        /// The proxy on the way.
        proxy: Option<Box<ClientProxy>>,
    },
}

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Local { state_dir } => write!(f, "{}", state_dir.display()),
            Self::Remote { url, .. } => write!(f, "{url}"),
        }
    }
}

/// The reason why a server cannot be reached.
#[derive(Debug)]
pub(crate) struct ConnectError(pub(crate) String);

impl Access {
    /// Access over the network. `cacert`: a file of authorities that are trusted instead of the system's.
    ///
    /// # Errors
    /// The file cannot be read or has no certificate; the token would cross the network without TLS.
    pub(crate) fn remote(
        url: ServerUrl,
        token: Secret,
        cacert: Option<&Path>,
        plain_http: bool,
    ) -> anyhow::Result<Self> {
        anyhow::ensure!(
            url.is_https() || url.is_loopback() || plain_http,
            "{url} has no TLS: each host on the way could read the token. Use https, or --plain-http in a network that you trust"
        );
        let proxy = ClientProxy::for_server(&url)?;
        let needs_tls = url.is_https() || proxy.as_ref().is_some_and(ClientProxy::is_https);
        let tls = needs_tls.then(|| tls_config(cacert)).transpose()?.map(Arc::new);
        Ok(Self::Remote { url, token, tls, proxy: proxy.map(Box::new) })
    }

    /// The value of the `Host` header.
    pub(crate) fn authority(&self) -> String {
        match self {
            Self::Local { .. } => "localhost".to_owned(),
            Self::Remote { url, .. } => url.authority(),
        }
    }

    /// The token that requests carry.
    pub(crate) fn token(&self) -> Option<&Secret> {
        match self {
            Self::Local { .. } => None,
            Self::Remote { token, .. } => Some(token),
        }
    }

    /// Opens a connection.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub(crate) async fn connect(&self) -> Result<ApiStream, ConnectError> {
        match self {
            Self::Local { state_dir } => {
                let stream = connect_local(state_dir).await;
                stream.map(|stream| Box::new(stream) as ApiStream).map_err(|error| ConnectError(error.to_string()))
            }
            Self::Remote { url, tls, proxy, .. } => {
                let connected = connect_remote(url, tls.as_ref(), proxy.as_deref());
                match timeout(Duration::from_secs(CONNECT_S_MAX), connected).await {
                    Ok(Ok(stream)) => Ok(stream),
                    Ok(Err(error)) => Err(ConnectError(describe(&error))),
                    Err(_) => Err(ConnectError(format!("no connection within {CONNECT_S_MAX} s"))),
                }
            }
        }
    }
}

/// Connects to the socket in a state directory. The path leads through the directory's file descriptor, because the path of a Unix
/// socket is limited to 107 bytes.
///
/// # Errors
/// There is no socket, or no server accepts.
pub(crate) async fn connect_local(state_dir: &Path) -> io::Result<UnixStream> {
    let dir = File::open(state_dir)?;
    UnixStream::connect(format!("/proc/self/fd/{}/{LOCAL_API_SOCKET_NAME}", dir.as_raw_fd())).await
}

async fn connect_remote(
    url: &ServerUrl,
    tls: Option<&Arc<ClientConfig>>,
    proxy: Option<&ClientProxy>,
) -> io::Result<ApiStream> {
    let stream = match proxy {
        Some(proxy) => proxy.connect(url, tls.map(|tls| ClientConfig::clone(tls))).await?,
        None => connect_directly(url).await?,
    };
    let Some(tls) = tls.filter(|_| url.is_https()) else { return Ok(stream) };
    let name = ServerName::try_from(url.host_name()).map_err(io::Error::other)?;
    Ok(Box::new(TlsConnector::from(Arc::clone(tls)).connect(name, stream).await?))
}

async fn connect_directly(url: &ServerUrl) -> io::Result<ApiStream> {
    let host = url.host_name();
    let stream = if url.is_loopback() && host.parse::<IpAddr>().is_err() {
        let addresses =
            [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()].map(|ip| (ip, url.port()).into());
        TcpStream::connect(&addresses[..]).await?
    } else {
        TcpStream::connect((host.as_str(), url.port())).await?
    };
    stream.set_nodelay(true)?;
    Ok(Box::new(stream))
}

fn tls_config(cacert: Option<&Path>) -> anyhow::Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    match cacert {
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
        Some(path) => {
            let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
            let read = read.with_context(|| format!("{} cannot be read", path.display()))?;
            let (trusted, _) = roots.add_parsable_certificates(read);
            anyhow::ensure!(trusted > 0, "{} has no certificate", path.display());
        }
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    Ok(config.with_safe_default_protocol_versions()?.with_root_certificates(roots).with_no_client_auth())
}

fn describe(error: &io::Error) -> String {
    let is_untrusted = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()).is_some_and(|error| {
        matches!(error, rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer))
    });
    if is_untrusted { format!("{error}; --cacert FILE trusts a private authority") } else { error.to_string() }
}
