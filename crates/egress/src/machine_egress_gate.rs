//! Serves `CONNECT host:port` requests of a machine: opens the connection through the gate and copies bytes until one side
//! ends or a limit is reached.

use super::{
    CloseCause, EgressDecision, EgressError, EgressGate, EgressOutcome, GatedStream, HostName,
    host_name::escape_control_characters, mask_address,
};
use crate::EgressSettings;
use anteroom_wire::{Problem, provider::Provider, time::to_millis};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper_util::rt::TokioIo;
use std::{
    fmt, io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional_with_sizes},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep_until, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Size of the copy buffer of each direction (8 KiB cost three times the processor time).
const COPY_BYTES: usize = 64 * 1024;

/// The gate for one machine: with its provider's egress list, its limit of connections and the callback of its session.
///
/// Cheap to clone; all clones share the limit of connections.
#[derive(Clone)]
pub struct MachineEgressGate {
    gate: Arc<EgressGate>,
    provider: Arc<Provider>,
    slots: Arc<Semaphore>,
    tasks: TaskTracker,
    shutdown: CancellationToken,
    on_decision: Arc<dyn Fn(EgressDecision) + Send + Sync>,
}

impl fmt::Debug for MachineEgressGate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MachineGate")
            .field("provider", &self.provider.id)
            .field("slots", &self.slots)
            .finish_non_exhaustive()
    }
}

impl MachineEgressGate {
    /// `tasks` runs the connections; `shutdown` closes all of them; `on_decision` receives every decision and must not block.
    pub fn new(
        gate: Arc<EgressGate>,
        provider: Arc<Provider>,
        tasks: TaskTracker,
        shutdown: CancellationToken,
        on_decision: impl Fn(EgressDecision) + Send + Sync + 'static,
    ) -> Self {
        let slots = Arc::new(Semaphore::new(gate.settings().connections_per_machine_max.max(1)));
        Self { gate, provider, slots, tasks, shutdown, on_decision: Arc::new(on_decision) }
    }

    /// Answers one `CONNECT` request: 200 when the connection is open (a task of the tracker then copies its bytes), else 403,
    /// 502 or 504 with a [`ProblemBody`](anteroom_wire::ProblemBody). Returns within the sum of the gate's timeouts.
    pub async fn serve_connect<B: Send + 'static>(&self, mut request: Request<B>) -> Response<Full<Bytes>> {
        let started = Instant::now();
        let Some((host, port)) = connect_target(&request) else {
            return error_response(&EgressError::new(Problem::Malformed, "expected CONNECT host:port"));
        };
        let opened = tokio::select! {
            biased;
            () = self.shutdown.cancelled() => Err(EgressError::new(Problem::EgressUnreachable, "the machine is stopping")),
            opened = self.open(&host, port) => opened,
        };
        match opened {
            Ok((stream, slot)) => {
                self.report(
                    &host,
                    port,
                    EgressOutcome::Allowed {
                        address: mask_address(stream.peer_address().ip()),
                        overridden: stream.is_overridden(),
                        connect_ms: to_millis(stream.connect_time()),
                    },
                );
                let upgrade = hyper::upgrade::on(&mut request);
                let this = self.clone();
                self.tasks.spawn(async move { this.copy_until_end(&host, port, upgrade, stream, slot).await });
                Response::new(Full::default())
            }
            Err(error) => {
                let (problem, detail) = (error.problem, error.detail.clone());
                self.report(
                    &host,
                    port,
                    EgressOutcome::Failed { problem, detail, after_ms: to_millis(started.elapsed()) },
                );
                error_response(&error)
            }
        }
    }

    async fn open(&self, host: &str, port: u16) -> Result<(GatedStream, OwnedSemaphorePermit), EgressError> {
        let wait_max = Duration::from_millis(self.gate.settings().connection_slot_wait_ms_max);
        let slot = match timeout(wait_max, Arc::clone(&self.slots).acquire_owned()).await {
            Ok(Ok(slot)) => slot,
            Ok(Err(_)) | Err(_) => {
                let most = self.gate.settings().connections_per_machine_max;
                let detail = format!("the machine already has {most} connections open");
                return Err(EgressError::new(Problem::EgressTimeout, detail));
            }
        };
        Ok((self.gate.connect(&self.provider, host, port).await?, slot))
    }

    fn report(&self, host: &str, port: u16, outcome: EgressOutcome) {
        let host =
            HostName::parse(host).map_or_else(|_| escape_control_characters(host), |name| name.as_str().to_owned());
        (self.on_decision)(EgressDecision { host, port, outcome });
    }

    /// Copies bytes until the connection ends, then reports the totals. Releases `slot` at the end.
    async fn copy_until_end(
        &self,
        host: &str,
        port: u16,
        upgrade: hyper::upgrade::OnUpgrade,
        stream: GatedStream,
        slot: OwnedSemaphorePermit,
    ) {
        let started = Instant::now();
        let (up, down) = (Arc::new(Traffic::new(started)), Arc::new(Traffic::new(started)));
        let upgrade_max = Duration::from_millis(self.gate.settings().connect_ms_max);
        let why = match timeout(upgrade_max, upgrade).await {
            Ok(Ok(upgraded)) => {
                let mut guest = Counted { inner: TokioIo::new(upgraded), read: Arc::clone(&up) };
                let mut outside = Counted { inner: stream, read: Arc::clone(&down) };
                let copied = copy_bidirectional_with_sizes(&mut guest, &mut outside, COPY_BYTES, COPY_BYTES);
                tokio::select! {
                    copied = copied => if copied.is_ok() { CloseCause::Completed } else { CloseCause::ConnectionLost },
                    why = timed_out(self.gate.settings(), started, &up, &down) => why,
                    () = self.shutdown.cancelled() => CloseCause::Shutdown,
                }
            }
            Ok(Err(_)) | Err(_) => CloseCause::ConnectionLost,
        };
        drop(slot);
        self.report(
            host,
            port,
            EgressOutcome::Closed {
                bytes_up: up.bytes.load(Relaxed),
                bytes_down: down.bytes.load(Relaxed),
                duration_ms: to_millis(started.elapsed()),
                why,
            },
        );
    }
}

/// Waits until the idle timeout or the longest duration of the connection is reached.
async fn timed_out(settings: &EgressSettings, started: Instant, up: &Traffic, down: &Traffic) -> CloseCause {
    let ends_at = started + Duration::from_secs(settings.connection_lifetime_s_max);
    loop {
        let last = started + Duration::from_millis(up.last_ms.load(Relaxed).max(down.last_ms.load(Relaxed)));
        let idle_at = last + Duration::from_secs(settings.connection_idle_s_max);
        let now = Instant::now();
        if now >= ends_at {
            return CloseCause::LifetimeExceeded;
        }
        if now >= idle_at {
            return CloseCause::IdleTimeout;
        }
        sleep_until(idle_at.min(ends_at)).await;
    }
}

/// Host and port of a `CONNECT` request: its authority, without user info.
fn connect_target<B>(request: &Request<B>) -> Option<(String, u16)> {
    let authority = request.uri().authority()?;
    let is_valid = request.method() == Method::CONNECT && !authority.as_str().contains('@');
    let port = authority.port_u16().filter(|&port| port != 0)?;
    is_valid.then(|| (authority.host().to_owned(), port))
}

fn error_response(error: &EgressError) -> Response<Full<Bytes>> {
    // The body has only texts, so serialization does not fail. With an empty body the status would still be correct.
    let body = serde_json::to_vec(&error.body()).unwrap_or_default();
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() =
        StatusCode::from_u16(error.problem.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    response
}

/// Bytes of one direction and the time of the last one.
struct Traffic {
    started: Instant,
    bytes: AtomicU64,
    last_ms: AtomicU64,
}

impl Traffic {
    fn new(started: Instant) -> Self {
        Self { started, bytes: AtomicU64::new(0), last_ms: AtomicU64::new(0) }
    }
}

/// A stream that counts the bytes read from it.
struct Counted<S> {
    inner: S,
    read: Arc<Traffic>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
        self.read.bytes.fetch_add((buf.filled().len() - before) as u64, Relaxed);
        self.read.last_ms.store(to_millis(self.read.started.elapsed()), Relaxed);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
