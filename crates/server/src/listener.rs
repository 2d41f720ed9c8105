//! The TCP listener: accepts connections within their limits and serves HTTP on them.
//!
//! ```text
//!  accept ──▶ admit: closes a waiting connection of a stranger, or answers 503
//!    └─▶ with a certificate: TLS; plain HTTP is redirected
//!    └─▶ first bytes: HTTP/1.1, or HTTP/2 where the settings permit it ──▶ requests ──▶ router
//! ```

mod connections;
mod guarded_stream;
mod listeners;
pub(crate) mod redirect;
mod refusal;

pub(crate) use connections::{Connection, TooManyConnections};
pub(crate) use listeners::Listeners;
pub(crate) use redirect::serve_redirects;

use crate::{
    app::App,
    peer::{ClientAddress, Peer, TrustedProxies},
    process_protection::raise_open_files,
};
use anteroom_controller::tls::ACME_TLS;
use axum::{
    Router,
    body::{Body, HttpBody},
    extract::{ConnectInfo, Request},
    response::Response,
};
use bytes::{Bytes, BytesMut};
use connections::{ConnectionSlot, Connections, Protocol, RequestGuard};
use guarded_stream::GuardedStream;
use http::{HeaderValue, StatusCode, header};
use hyper::{
    body::{Frame, Incoming, SizeHint},
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use redirect::redirect;
use refusal::refuse;
use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt;

/// Bytes of a request head, and of the buffer of a connection.
pub(crate) const HEAD_BYTES_MAX: usize = 16 * 1_024;
/// How long the kernel repeats unacknowledged data before it closes the connection, milliseconds: it finds clients that no longer answer.
pub(crate) const UNACKNOWLEDGED_MS_MAX: u32 = 30_000;
/// Requests at once on one HTTP/2 connection.
pub(crate) const HTTP2_STREAMS_MAX: u32 = 100;
/// Interval of HTTP/2 pings, and how long one may stay unanswered.
const HTTP2_PING: Duration = Duration::from_secs(20);
/// Flow-control windows of HTTP/2, bytes: what one stream and one connection may send before it is read.
const HTTP2_STREAM_WINDOW_BYTES: u32 = 64 * 1_024;
const HTTP2_CONNECTION_WINDOW_BYTES: u32 = 256 * 1_024;
/// Delay after the kernel refused to accept a connection.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);
/// Refused connections that are answered at once; further ones are closed without an answer.
pub(crate) const REFUSALS_MAX: usize = 64;
/// Time for the answer to a refused connection.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(2);

/// The type of the first record of TLS.
const TLS_HANDSHAKE: u8 = 22;
/// Browsers use https for this host for a year, even if a link says http.
const HSTS: &str = "max-age=31536000";

/// The first bytes of HTTP/2 (RFC 9113 §3.4).
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The answer where HTTP/2 is off: empty SETTINGS, then GOAWAY with `HTTP_1_1_REQUIRED` and 41 bytes of text.
const HTTP2_REFUSAL: &[u8] =
    b"\0\0\0\x04\0\0\0\0\0\0\0\x31\x07\0\0\0\0\0\0\0\0\0\0\0\0\x0dHTTP/2 is off: use HTTP/1.1 or http.http2";

/// What serves connections.
#[derive(Clone)]
pub(crate) struct TcpServer {
    router: Router,
    connections: Arc<Connections>,
    trusted_proxies: TrustedProxies,
    /// Whether HTTP/2 is served.
    http2: bool,
    /// `None`: plain HTTP.
    tls: Option<TlsAcceptor>,
    /// Where plain HTTP is redirected.
    base_url: Arc<str>,
    /// The tasks of connections.
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl TcpServer {
    /// Serves these routes. Raises this process's limit of open files.
    ///
    /// # Errors
    /// TLS cannot be set up.
    pub(crate) fn new(app: &App, router: Router, tasks: TaskTracker) -> anyhow::Result<Self> {
        let http2 = app.config().http.http2;
        let tls = app.tls.as_ref().map(|certificate| certificate.server_config(http2)).transpose()?;
        Ok(Self {
            router,
            connections: Connections::new(&app.limits.connections, raise_open_files()),
            trusted_proxies: app.trusted_proxies.clone(),
            http2,
            tls: tls.map(TlsAcceptor::from),
            base_url: app.auth.addresses.base_url().into(),
            tasks,
            stop: app.stop.clone(),
        })
    }

    /// Accepts connections until the server stops.
    pub(crate) async fn serve(self, listener: TcpListener) {
        let refusals = Arc::new(tokio::sync::Semaphore::new(REFUSALS_MAX));
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = self.stop.cancelled() => return,
            };
            match accepted {
                Ok((stream, address)) => match self.connections.admit(self.limited_network(address)) {
                    Ok(slot) => _ = self.tasks.spawn(self.clone().serve_connection(stream, address, slot)),
                    // A client of TLS would not understand the answer.
                    Err(_) if self.tls.is_some() => {}
                    Err(reason) => {
                        if let Ok(permit) = Arc::clone(&refusals).try_acquire_owned() {
                            self.tasks.spawn(async move {
                                let _ = tokio::time::timeout(REFUSAL_TIMEOUT, refuse(stream, reason)).await;
                                drop(permit);
                            });
                        }
                    }
                },
                Err(error) if is_of_connection(&error) => {}
                Err(error) => {
                    tracing::error!(outcome = "accept_failed", %error, "connection not accepted");
                    tokio::time::sleep(ACCEPT_RETRY).await;
                }
            }
        }
    }

    fn limited_network(&self, address: SocketAddr) -> Option<std::net::IpAddr> {
        let address = address.ip().to_canonical();
        ClientAddress::Ip(address).limited_network().filter(|_| !self.trusted_proxies.contains(address))
    }

    async fn serve_connection(self, stream: TcpStream, address: SocketAddr, slot: ConnectionSlot) {
        let _ = stream.set_nodelay(true);
        let _ = rustix::net::sockopt::set_tcp_user_timeout(&stream, UNACKNOWLEDGED_MS_MAX);
        let connection = slot.connection().clone();
        let stream = GuardedStream::new(stream, slot);
        let served = match self.tls.clone() {
            Some(tls) => self.serve_tls(stream, address, connection, tls).await,
            None => self.serve_plain(stream, address, connection).await,
        };
        if let Err(error) = served {
            tracing::trace!(outcome = "connection_ended", peer = %address, %error, "connection ended");
        }
    }

    async fn serve_plain(
        &self,
        mut stream: GuardedStream,
        address: SocketAddr,
        connection: Connection,
    ) -> Result<(), ConnectionError> {
        let protocol = tokio::select! {
            protocol = read_protocol(&mut stream) => protocol?,
            () = self.stop.cancelled() => return Ok(()),
        };
        match protocol {
            Protocol::Http1 => self.serve_http1(stream, address, connection).await?,
            Protocol::Http2 if self.http2 => self.serve_http2(stream, address, connection).await?,
            Protocol::Http2 => {
                let refused = async {
                    stream.write_all(HTTP2_REFUSAL).await?;
                    stream.shutdown().await
                };
                let _ = tokio::time::timeout(REFUSAL_TIMEOUT, refused).await;
            }
        }
        Ok(())
    }

    /// The time limit of a request's head includes the handshake.
    async fn serve_tls(
        &self,
        mut stream: GuardedStream,
        address: SocketAddr,
        connection: Connection,
        tls: TlsAcceptor,
    ) -> Result<(), ConnectionError> {
        let accepted = async {
            if !begins_with_tls(&mut stream).await? {
                redirect(&mut stream, &self.base_url).await;
                return io::Result::Ok(None);
            }
            tls.accept(stream).await.map(Some)
        };
        let stream = tokio::select! {
            accepted = accepted => accepted?,
            () = self.stop.cancelled() => return Ok(()),
        };
        let Some(stream) = stream else { return Ok(()) };
        // Only names that this server offers are agreed on.
        match stream.get_ref().1.alpn_protocol() {
            Some(b"h2") => self.serve_http2(stream, address, connection).await?,
            // An authority has seen the certificate for its challenge.
            Some(ACME_TLS) => {}
            Some(_) | None => self.serve_http1(stream, address, connection).await?,
        }
        Ok(())
    }

    async fn serve_http1(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        address: SocketAddr,
        connection: Connection,
    ) -> hyper::Result<()> {
        let service = service_fn(|request| self.answer(request, address, connection.clone()));
        let served = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(None)
            .max_buf_size(HEAD_BYTES_MAX)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        let mut served = pin!(served);
        tokio::select! {
            ended = served.as_mut() => return ended,
            () = self.stop.cancelled() => served.as_mut().graceful_shutdown(),
        }
        served.await
    }

    async fn serve_http2(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        address: SocketAddr,
        connection: Connection,
    ) -> hyper::Result<()> {
        connection.use_http2();
        let this = self.clone();
        let service = service_fn(move |request| {
            let (this, connection) = (this.clone(), connection.clone());
            async move { this.answer(request, address, connection).await }
        });
        let served = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .max_concurrent_streams(HTTP2_STREAMS_MAX)
            .max_header_list_size(u32::try_from(HEAD_BYTES_MAX).unwrap_or(u32::MAX))
            .initial_stream_window_size(HTTP2_STREAM_WINDOW_BYTES)
            .initial_connection_window_size(HTTP2_CONNECTION_WINDOW_BYTES)
            .keep_alive_interval(HTTP2_PING)
            .keep_alive_timeout(HTTP2_PING)
            .enable_connect_protocol()
            .serve_connection(TokioIo::new(stream), service);
        let mut served = pin!(served);
        tokio::select! {
            ended = served.as_mut() => return ended,
            () = self.stop.cancelled() => served.as_mut().graceful_shutdown(),
        }
        served.await
    }

    /// Passes a request to the router. The connection counts as busy until the response was sent.
    async fn answer(
        &self,
        mut request: Request<Incoming>,
        address: SocketAddr,
        connection: Connection,
    ) -> Result<Response<CountedBody>, Infallible> {
        let guard = connection.begin_request();
        request.extensions_mut().insert(ConnectInfo(Peer::Tcp(address)));
        request.extensions_mut().insert(connection.clone());
        let mut response = self.router.clone().oneshot(request.map(Body::new)).await?;
        if self.tls.is_some() {
            response.headers_mut().insert(header::STRICT_TRANSPORT_SECURITY, HeaderValue::from_static(HSTS));
        }
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            connection.upgrade();
        }
        Ok(response.map(|body| CountedBody { body, _request: guard }))
    }
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
enum ConnectionError {
    /// Before a request, or in the handshake.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// In HTTP.
    #[error(transparent)]
    Http(#[from] hyper::Error),
}

/// Whether the client begins a TLS handshake (RFC 8446 §5.1); the byte is put back.
async fn begins_with_tls(stream: &mut GuardedStream) -> io::Result<bool> {
    let mut first = BytesMut::with_capacity(1);
    if stream.read_buf(&mut first).await? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let first = first.freeze();
    let is_tls = first.first() == Some(&TLS_HANDSHAKE);
    stream.unread(first);
    Ok(is_tls)
}

/// Reads until it is certain which protocol the client speaks, and puts the bytes back.
async fn read_protocol(stream: &mut GuardedStream) -> io::Result<Protocol> {
    let mut bytes = BytesMut::with_capacity(HTTP2_PREFACE.len());
    while bytes.len() < HTTP2_PREFACE.len() && HTTP2_PREFACE.starts_with(&bytes) {
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    let protocol = if bytes.starts_with(HTTP2_PREFACE) { Protocol::Http2 } else { Protocol::Http1 };
    stream.unread(bytes.freeze());
    Ok(protocol)
}

/// Whether the error concerns only the connection that was to be accepted.
fn is_of_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    [ConnectionAborted, ConnectionRefused, ConnectionReset].contains(&error.kind())
}

/// A response body that counts its request until it was sent.
struct CountedBody {
    body: Body,
    _request: RequestGuard,
}

impl HttpBody for CountedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusal_of_http2_is_settings_and_a_goaway_of_the_length_that_it_names() {
        let goaway = &HTTP2_REFUSAL[9..];
        assert_eq!(usize::from(goaway[2]), goaway.len() - 9);
    }
}
