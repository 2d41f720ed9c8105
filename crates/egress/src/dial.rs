//! Connects to checked addresses.
//!
//! A small form of "happy eyeballs" (RFC 8305): the next address is tried in parallel after `connect_attempt_delay_ms`, or at once when an
//! attempt failed. The first connection is used and the other attempts are dropped.

use super::{EgressError, EgressSettings, mask_address};
use anteroom_wire::Problem;
use futures_util::{StreamExt, stream::FuturesUnordered};
use std::{
    fmt, io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Instant, sleep_until, timeout, timeout_at},
};

/// A byte stream to a host: a socket, or a tunnel through a proxy.
pub(crate) trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for S {}

/// How the gate reaches a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    /// To this address, which it has resolved and checked.
    Direct(SocketAddr),
    /// To this address, which is from `egress.overrides`.
    Override(SocketAddr),
    /// Through the proxy, which resolves the name. The address of the host is not known.
    Proxy,
}

/// An open connection through the gate.
pub struct GatedStream {
    stream: Box<dyn ByteStream>,
    way: Way,
    connect: Duration,
}

impl fmt::Debug for GatedStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GatedStream").field("way", &self.way).field("connect", &self.connect).finish_non_exhaustive()
    }
}

impl GatedStream {
    pub(super) fn new(stream: impl ByteStream + 'static, way: Way, connect: Duration) -> Self {
        Self { stream: Box::new(stream), way, connect }
    }

    /// How the host was reached. Mask an address ([`mask_address`]) before it is logged or shown.
    pub fn way(&self) -> &Way {
        &self.way
    }

    /// Time to resolve and connect.
    pub fn connect_time(&self) -> Duration {
        self.connect
    }
}

impl AsyncRead for GatedStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for GatedStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Why an attempt to connect to one address failed.
enum AttemptError {
    Timeout,
    Io(io::Error),
}

/// Connects to the first of `addresses` that accepts.
///
/// # Errors
/// [`Problem::EgressTimeout`] if the total timeout or the timeout of the last attempt expired, otherwise
/// [`Problem::EgressUnreachable`] with the last error.
pub(super) async fn dial(
    settings: &EgressSettings,
    name: &str,
    addresses: Vec<SocketAddr>,
) -> Result<TcpStream, EgressError> {
    let deadline = Instant::now() + Duration::from_millis(settings.connect_ms_max);
    let count = addresses.len();
    match timeout_at(deadline, connect_to_first(settings, addresses)).await {
        Ok(Ok(socket)) => {
            // Small writes are keystrokes and handshakes. If this fails, only latency is higher.
            let _ = socket.set_nodelay(true);
            Ok(socket)
        }
        Ok(Err((address, AttemptError::Io(error)))) => Err(EgressError::new(
            Problem::EgressUnreachable,
            format!("connect to {name} at {} ({count} tried): {error}", mask_address(address.ip())),
        )),
        Ok(Err((_, AttemptError::Timeout))) | Err(_) => Err(EgressError::new(
            Problem::EgressTimeout,
            format!(
                "connect to {name} ({count} to try): no answer in {} ms",
                settings.connect_ms_max.min(settings.connect_attempt_ms_max)
            ),
        )),
    }
}

async fn connect_to_first(
    settings: &EgressSettings,
    addresses: Vec<SocketAddr>,
) -> Result<TcpStream, (SocketAddr, AttemptError)> {
    let attempt_max = Duration::from_millis(settings.connect_attempt_ms_max);
    let attempt_delay = Duration::from_millis(settings.connect_attempt_delay_ms.max(1));
    let attempt = async |address: SocketAddr| match timeout(attempt_max, TcpStream::connect(address)).await {
        Ok(Ok(socket)) => Ok(socket),
        Ok(Err(error)) => Err((address, AttemptError::Io(error))),
        Err(_) => Err((address, AttemptError::Timeout)),
    };
    let mut remaining = addresses.into_iter();
    let mut running = FuturesUnordered::new();
    let mut last = None;
    let mut next_at = Instant::now();
    loop {
        if (running.is_empty() || Instant::now() >= next_at)
            && let Some(address) = remaining.next()
        {
            running.push(attempt(address));
            next_at = Instant::now() + attempt_delay;
        }
        if running.is_empty() {
            // `addresses` is never empty, so there was an attempt and its error is known.
            return Err(last.unwrap_or_else(|| (SocketAddr::from(([0, 0, 0, 0], 0)), AttemptError::Timeout)));
        }
        tokio::select! {
            Some(outcome) = running.next() => match outcome {
                Ok(socket) => return Ok(socket),
                Err(error) => {
                    last = Some(error);
                    next_at = Instant::now();
                }
            },
            () = sleep_until(next_at), if remaining.len() > 0 => {}
        }
    }
}
