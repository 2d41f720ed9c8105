//! The listener for the other hosts: only they are answered, and machines that join.

use super::{join, questions};
use crate::{
    app::App,
    peers::{EndingStream, FromHost, Peers, ReadAhead, TLS_BUFFER_BYTES, certificate_end_ms, take_client},
};
use anteroom_cluster::peer::{ALPN_HTTP2, ALPN_JOIN, host_of};
use anteroom_controller::log::line_budget::SECURITY_TARGET;
use anteroom_wire::HostId;
use axum::{Router, body::Body, extract::ConnectInfo};
use http::{Request, Response, StatusCode};
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use std::{convert::Infallible, io, pin::pin, sync::Arc, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::timeout,
};
use tokio_rustls::{LazyConfigAcceptor, rustls::server::Acceptor, server::TlsStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt;

/// Handshakes at once; further connections are closed.
pub(crate) const HANDSHAKES_MAX: usize = 64;
/// Connections of hosts at once; further ones are closed. Each viewer through another host has one.
pub(crate) const CONNECTIONS_MAX: usize = 16_384;
/// Time for a handshake, milliseconds.
pub(crate) const HANDSHAKE_MS_MAX: u64 = 3_000;
/// Requests at once on one HTTP/2 connection.
const STREAMS_MAX: u32 = 1_000;
/// Windows of HTTP/2, bytes.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;
/// How long the kernel repeats unacknowledged data, milliseconds.
const UNACKNOWLEDGED_MS_MAX: u32 = 10_000;
/// Time for requests that are under way when this server stops, milliseconds.
const STOP_MS_MAX: u64 = 1_000;
/// Time until the kernel is asked for a connection again after it refused, milliseconds.
const ACCEPT_RETRY_MS: u64 = 100;

/// Serves other hosts.
#[derive(Clone)]
pub(crate) struct PeerListener {
    app: App,
    router: Router,
    peers: Arc<Peers>,
    handshakes: Arc<Semaphore>,
    connections: Arc<Semaphore>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// Why a connection ends before a request.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Tls(#[from] tokio_rustls::rustls::Error),
    #[error("the handshake takes too long")]
    Slow,
    #[error("the host {0} is not in the cluster")]
    NotMember(HostId),
    #[error("the certificate names no host")]
    NoHost,
}

impl PeerListener {
    /// Serves these routes to other hosts.
    pub(crate) fn new(app: &App, router: Router, peers: Arc<Peers>, tasks: TaskTracker) -> Self {
        Self {
            app: app.clone(),
            router,
            peers,
            handshakes: Arc::new(Semaphore::new(HANDSHAKES_MAX)),
            connections: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
            tasks,
            stop: app.stop.clone(),
        }
    }

    /// Accepts connections until the server stops.
    pub(crate) async fn serve(self, listener: TcpListener) {
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = self.stop.cancelled() => return,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::debug!(outcome = "accept_failed", %error, "connection of a host not accepted");
                    tokio::time::sleep(Duration::from_millis(ACCEPT_RETRY_MS)).await;
                    continue;
                }
            };
            let permits =
                (Arc::clone(&self.handshakes).try_acquire_owned(), Arc::clone(&self.connections).try_acquire_owned());
            if let (Ok(handshake), Ok(connection)) = permits {
                let this = self.clone();
                self.tasks.spawn(async move {
                    if let Err(error) = this.accept(stream, handshake).await {
                        tracing::info!(target: SECURITY_TARGET, outcome = "peer_refused", %error, "connection to the listener for hosts refused");
                    }
                    drop(connection);
                });
            }
        }
    }

    async fn accept(self, stream: TcpStream, handshake: tokio::sync::OwnedSemaphorePermit) -> Result<(), Refused> {
        let accepted = async {
            stream.set_nodelay(true)?;
            rustix::net::sockopt::set_tcp_user_timeout(&stream, UNACKNOWLEDGED_MS_MAX).map_err(io::Error::from)?;
            let start = LazyConfigAcceptor::new(Acceptor::default(), ReadAhead::new(stream)).await?;
            let is_joining = start.client_hello().alpn().is_some_and(|mut names| names.any(|name| name == ALPN_JOIN));
            let tls = self.peers.tls();
            let config = if is_joining { tls.accept_joining()? } else { tls.accept_hosts()? };
            let mut stream = start.into_stream(config).await?;
            stream.get_mut().1.set_buffer_limit(Some(TLS_BUFFER_BYTES));
            Ok::<_, Refused>((stream, is_joining))
        };
        let accepted = timeout(Duration::from_millis(HANDSHAKE_MS_MAX), accepted).await;
        let (stream, is_joining) = accepted.map_err(|_| Refused::Slow)??;
        if is_joining {
            // Counts as a handshake until it is answered.
            join::serve(&self.app, &self.peers, stream).await;
            return Ok(());
        }
        let connection = stream.get_ref().1;
        let certificate = connection.peer_certificates().and_then(<[_]>::first);
        let host = certificate.and_then(host_of).ok_or(Refused::NoHost)?;
        let ends_at_ms = certificate_end_ms(connection).ok_or(Refused::NoHost)?;
        if !self.peers.directory.contains(&host).await {
            return Err(Refused::NotMember(host));
        }
        drop(handshake);
        self.serve_host(stream, host, ends_at_ms).await;
        Ok(())
    }

    /// Serves a host until it closes, this server stops, the host is removed, or its certificate ends. A connection that became a
    /// WebSocket is not this function's any more, but ends for the last two reasons all the same.
    async fn serve_host(self, stream: TlsStream<ReadAhead<TcpStream>>, host: HostId, ends_at_ms: u64) {
        let is_http2 = stream.get_ref().1.alpn_protocol() == Some(ALPN_HTTP2);
        let directory = self.peers.directory.clone();
        let stream = TokioIo::new(EndingStream::of_member(stream, host.clone(), ends_at_ms, directory, &self.tasks));
        let stop = self.stop.clone();
        let limit = Duration::from_millis(STOP_MS_MAX);
        let service = service_fn(move |request| self.clone().answer(request, host.clone()));
        if is_http2 {
            let served = http2::Builder::new(TokioExecutor::new())
                .timer(TokioTimer::new())
                .max_concurrent_streams(STREAMS_MAX)
                .initial_stream_window_size(STREAM_WINDOW_BYTES)
                .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
                .serve_connection(stream, service);
            let mut served = pin!(served);
            if stop.run_until_cancelled(served.as_mut()).await.is_none() {
                served.as_mut().graceful_shutdown();
                let _ = timeout(limit, served).await;
            }
        } else {
            let served =
                http1::Builder::new().timer(TokioTimer::new()).serve_connection(stream, service).with_upgrades();
            let mut served = pin!(served);
            if stop.run_until_cancelled(served.as_mut()).await.is_none() {
                served.as_mut().graceful_shutdown();
                let _ = timeout(limit, served).await;
            }
        }
    }

    async fn answer(self, request: Request<Incoming>, host: HostId) -> Result<Response<Body>, Infallible> {
        let (mut parts, body) = request.into_parts();
        let body = match questions::answer(&self.app, &parts, body).await {
            Ok(answer) => return Ok(answer),
            Err(body) => body,
        };
        let Some(client) = take_client(&mut parts, &self.app.auth.addresses) else {
            return Ok(empty(StatusCode::BAD_REQUEST));
        };
        parts.extensions.insert(ConnectInfo(client));
        parts.extensions.insert(FromHost(host));
        self.router.oneshot(Request::from_parts(parts, Body::new(body))).await
    }
}

fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}
