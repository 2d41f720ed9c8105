//! The link to one host: a pooled HTTP/2 connection, and whether the host answers.
//!
//! While a link is used, the host is asked every half second. A host that has answered nothing for [`SILENT_MS_MAX`] is silent: whatever
//! waits for it ends with the reason, at the same moment for all.

use super::{Peers, SILENT_MS_MAX, Unreachable};
use anteroom_cluster::peer::ALPN_HTTP2;
use anteroom_controller::unix_time::now_unix_ms;
use anteroom_wire::HostId;
use axum::body::Body;
use http::{Request, Response, StatusCode};
use hyper::{
    body::Incoming,
    client::conn::http2::{self, SendRequest},
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use std::{
    io,
    ops::Deref,
    sync::{
        Arc,
        atomic::{
            AtomicUsize,
            Ordering::{AcqRel, Acquire},
        },
    },
    time::Duration,
};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout_at},
};

/// The path of the question whether a host answers.
pub(crate) const PING_PATH: &str = "/peer/ping";
/// Time between two questions, milliseconds.
const PING_EVERY_MS: u64 = 500;
/// Time until a connection that was refused is tried again, milliseconds.
const RETRY_MS: u64 = 200;
/// Time for requests that are under way when this server stops, milliseconds.
const STOP_MS_MAX: u64 = 1_000;
/// A link that is not used is kept for so long, milliseconds.
const UNUSED_MS_MAX: u64 = 30_000;
/// What a stream and the connection may send before it is read, bytes.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;

/// The link to a host.
pub(crate) struct Link {
    pub(super) host: HostId,
    /// When the host answered last, milliseconds since 1970, if it is silent.
    silent_since_ms: watch::Sender<Option<u64>>,
    sender: tokio::sync::Mutex<Option<SendRequest<Body>>>,
    users: AtomicUsize,
}

/// Counts a use of a link.
pub(crate) struct LinkGuard(Arc<Link>);

impl LinkGuard {
    /// Counts a use; while the links are locked, so that the link is not closed before.
    pub(super) fn new(link: Arc<Link>) -> Self {
        link.users.fetch_add(1, AcqRel);
        Self(link)
    }
}

impl Deref for LinkGuard {
    type Target = Link;
    fn deref(&self) -> &Link {
        &self.0
    }
}

impl Drop for LinkGuard {
    fn drop(&mut self) {
        self.0.users.fetch_sub(1, AcqRel);
    }
}

impl Link {
    pub(super) fn new(host: HostId) -> Arc<Self> {
        Arc::new(Self {
            host,
            silent_since_ms: watch::Sender::new(None),
            sender: tokio::sync::Mutex::new(None),
            users: AtomicUsize::new(0),
        })
    }

    /// Waits until the host is silent. Cancel-safe.
    pub(super) async fn wait_silent(&self) -> Unreachable {
        let mut silent = self.silent_since_ms.subscribe();
        let found = silent.wait_for(Option::is_some).await.ok().and_then(|since| *since);
        Unreachable { host: self.host.clone(), since_ms: found.unwrap_or_else(now_unix_ms) }
    }

    /// Waits until the host answers. Cancel-safe.
    pub(super) async fn wait_answer(&self, peers: &Peers) {
        while self.ping(peers).await.is_err() {
            sleep(Duration::from_millis(RETRY_MS)).await;
        }
    }

    /// A sender on the present connection, or on a new one.
    pub(super) async fn sender(&self, peers: &Peers) -> io::Result<SendRequest<Body>> {
        let mut present = self.sender.lock().await;
        if let Some(sender) = present.as_ref().filter(|sender| !sender.is_closed()) {
            return Ok(sender.clone());
        }
        let stream = peers.connect(&self.host, ALPN_HTTP2).await?;
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(io::Error::other)?;
        let stop = peers.stop.clone();
        // It ends by itself once nothing sends on it.
        peers.tasks.spawn(async move {
            tokio::select! {
                _ = connection => {}
                () = async { stop.cancelled().await; sleep(Duration::from_millis(STOP_MS_MAX)).await } => {}
            }
        });
        *present = Some(sender.clone());
        Ok(sender)
    }

    /// Sends a request that `make` makes. It is sent again only if the host cannot have received it, or if it is `safe`.
    ///
    /// # Errors
    /// The host is silent, the connection broke, or this server stops.
    pub(super) async fn send(
        &self,
        peers: &Peers,
        is_safe: bool,
        make: impl Fn() -> Request<Body> + Send,
    ) -> Result<Response<Incoming>, Unreachable> {
        let attempts = async {
            loop {
                let sent = match self.sender(peers).await {
                    Ok(mut sender) => {
                        sender.send_request(make()).await.map_err(|error| (error.is_canceled(), error.to_string()))
                    }
                    Err(error) => Err((true, error.to_string())),
                };
                match sent {
                    Ok(response) => return Ok(response),
                    Err((is_unsent, error)) => {
                        tracing::debug!(outcome = "peer_request_failed", host = %self.host, error, "request to another host failed");
                        if (!is_unsent && !is_safe) || peers.stop.is_cancelled() {
                            return Err(Unreachable { host: self.host.clone(), since_ms: now_unix_ms() });
                        }
                    }
                }
                sleep(Duration::from_millis(RETRY_MS)).await;
            }
        };
        tokio::select! {
            answered = attempts => answered,
            silent = self.wait_silent() => Err(silent),
        }
    }

    async fn ping(&self, peers: &Peers) -> io::Result<()> {
        let mut sender = self.sender(peers).await?;
        let request = Request::get(format!("https://host.invalid{PING_PATH}")).body(Body::empty());
        let response = sender.send_request(request.map_err(io::Error::other)?).await.map_err(io::Error::other)?;
        if response.status() == StatusCode::OK { Ok(()) } else { Err(io::Error::other(response.status().to_string())) }
    }
}

/// Asks the host while the link is used, and closes the link when it was not for a while.
pub(super) async fn watch(peers: Arc<Peers>, link: Arc<Link>) {
    let (mut answered, mut answered_ms, mut used) = (Instant::now(), now_unix_ms(), Instant::now());
    while !peers.stop.is_cancelled() {
        let is_silent = link.silent_since_ms.borrow().is_some();
        let from = if is_silent { Instant::now() } else { answered };
        let asked = timeout_at(from + Duration::from_millis(SILENT_MS_MAX), link.ping(&peers));
        let Some(asked) = peers.stop.run_until_cancelled(asked).await else { break };
        let pause = match asked {
            Ok(Ok(())) => {
                (answered, answered_ms) = (Instant::now(), now_unix_ms());
                if link.silent_since_ms.send_replace(None).is_some() {
                    tracing::info!(outcome = "host_answers", host = %link.host, "another host answers again");
                }
                PING_EVERY_MS
            }
            Ok(Err(_)) => RETRY_MS,
            Err(_) => 0,
        };
        if !is_silent && answered.elapsed() >= Duration::from_millis(SILENT_MS_MAX) {
            tracing::warn!(outcome = "host_silent", host = %link.host, "another host does not answer");
            link.silent_since_ms.send_replace(Some(answered_ms));
            // A host that was frozen would get what is queued.
            *link.sender.lock().await = None;
        }
        if link.users.load(Acquire) > 0 {
            used = Instant::now();
        } else if used.elapsed() >= Duration::from_millis(UNUSED_MS_MAX) && peers.close_unused(&link) {
            return;
        }
        peers.stop.run_until_cancelled(sleep(Duration::from_millis(pause))).await;
    }
    // The connection ends after the requests that are under way.
    *link.sender.lock().await = None;
}

impl Peers {
    /// Removes the link unless it is used again.
    fn close_unused(&self, link: &Link) -> bool {
        let mut links = self.links.lock();
        let is_unused = link.users.load(Acquire) == 0;
        if is_unused {
            links.remove(&link.host);
        }
        is_unused
    }
}
