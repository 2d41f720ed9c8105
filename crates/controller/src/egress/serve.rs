//! `CONNECT host:port` from a machine: ask the gate, answer, then carry bytes until one of the limits or the end.

use super::{CloseCause, EgressDecision, Gate, GatedStream, HostName, EgressOutcome, EgressError, mask, name::shown};
use crate::egress::GateSettings;
use anteroom_wire::{Problem, provider::Provider};
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

/// One copy buffer, each way (8 KiB cost three times the processor time).
const COPY_BYTES: usize = 64 * 1024;

/// The gate as one machine sees it: its provider's list, its share of connections, its session's ear.
///
/// Cheap to clone; all clones share the count of connections.
#[derive(Clone)]
pub struct MachineGate {
    gate: Arc<Gate>,
    provider: Arc<Provider>,
    slots: Arc<Semaphore>,
    tasks: TaskTracker,
    ending: CancellationToken,
    tell: Arc<dyn Fn(EgressDecision) + Send + Sync>,
}

impl fmt::Debug for MachineGate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MachineGate")
            .field("provider", &self.provider.id)
            .field("slots", &self.slots)
            .finish_non_exhaustive()
    }
}

impl MachineGate {
    /// `tasks` owns the connections; `ending` ends them all; `tell` hears every decision and must not block.
    pub fn new(
        gate: Arc<Gate>,
        provider: Arc<Provider>,
        tasks: TaskTracker,
        ending: CancellationToken,
        tell: impl Fn(EgressDecision) + Send + Sync + 'static,
    ) -> Self {
        let slots = Arc::new(Semaphore::new(gate.settings().streams_max.max(1)));
        Self { gate, provider, slots, tasks, ending, tell: Arc::new(tell) }
    }

    /// HostOverrides one `CONNECT` request: 200 when the connection exists (its bytes are then carried by a task of the
    /// tracker), else 403, 502 or 504 with a [`ProblemBody`](anteroom_wire::ProblemBody). Never takes longer than the
    /// gate's limits together.
    pub async fn serve<B: Send + 'static>(&self, mut request: Request<B>) -> Response<Full<Bytes>> {
        let started = Instant::now();
        let Some((host, port)) = target(&request) else {
            return refuse(&EgressError::new(Problem::Malformed, "expected CONNECT host:port"));
        };
        let opened = tokio::select! {
            biased;
            () = self.ending.cancelled() => Err(EgressError::new(Problem::EgressUnreachable, "the machine is ending")),
            opened = self.open(&host, port) => opened,
        };
        match opened {
            Ok((stream, slot)) => {
                self.decided(
                    &host,
                    port,
                    EgressOutcome::Granted {
                        address: mask(stream.peer().ip()),
                        overridden: stream.is_overridden(),
                        connect_ms: millis(stream.connect_time()),
                    },
                );
                let upgrade = hyper::upgrade::on(&mut request);
                let this = self.clone();
                self.tasks.spawn(async move { this.carry(&host, port, upgrade, stream, slot).await });
                Response::new(Full::default())
            }
            Err(refusal) => {
                let (problem, detail) = (refusal.problem, refusal.detail.clone());
                self.decided(&host, port, EgressOutcome::Refused { problem, detail, after_ms: millis(started.elapsed()) });
                refuse(&refusal)
            }
        }
    }

    async fn open(&self, host: &str, port: u16) -> Result<(GatedStream, OwnedSemaphorePermit), EgressError> {
        let wait_max = Duration::from_millis(self.gate.settings().stream_wait_ms_max);
        let slot = match timeout(wait_max, Arc::clone(&self.slots).acquire_owned()).await {
            Ok(Ok(slot)) => slot,
            Ok(Err(_)) | Err(_) => {
                let most = self.gate.settings().streams_max;
                let detail = format!("the machine already has {most} connections open");
                return Err(EgressError::new(Problem::EgressTimeout, detail));
            }
        };
        Ok((self.gate.connect(&self.provider, host, port).await?, slot))
    }

    fn decided(&self, host: &str, port: u16, outcome: EgressOutcome) {
        let host = HostName::parse(host).map_or_else(|_| shown(host), |name| name.as_str().to_owned());
        (self.tell)(EgressDecision { host, port, outcome });
    }

    /// Carries bytes until the connection ends, then tells how much it was. Holds `slot` as long.
    async fn carry(
        &self,
        host: &str,
        port: u16,
        upgrade: hyper::upgrade::OnUpgrade,
        stream: GatedStream,
        slot: OwnedSemaphorePermit,
    ) {
        let started = Instant::now();
        let (up, down) = (Arc::new(Meter::new(started)), Arc::new(Meter::new(started)));
        let upgrade_max = Duration::from_millis(self.gate.settings().connect_ms_max);
        let why = match timeout(upgrade_max, upgrade).await {
            Ok(Ok(upgraded)) => {
                let mut guest = Metered { inner: TokioIo::new(upgraded), read: Arc::clone(&up) };
                let mut outside = Metered { inner: stream, read: Arc::clone(&down) };
                let copied = copy_bidirectional_with_sizes(&mut guest, &mut outside, COPY_BYTES, COPY_BYTES);
                tokio::select! {
                    copied = copied => if copied.is_ok() { CloseCause::Completed } else { CloseCause::ConnectionLost },
                    why = expiry(self.gate.settings(), started, &up, &down) => why,
                    () = self.ending.cancelled() => CloseCause::Shutdown,
                }
            }
            Ok(Err(_)) | Err(_) => CloseCause::ConnectionLost,
        };
        drop(slot);
        self.decided(
            host,
            port,
            EgressOutcome::Closed {
                bytes_up: up.bytes.load(Relaxed),
                bytes_down: down.bytes.load(Relaxed),
                duration_ms: millis(started.elapsed()),
                why,
            },
        );
    }
}

/// Ends when the connection was idle or open for too long.
async fn expiry(settings: &GateSettings, started: Instant, up: &Meter, down: &Meter) -> CloseCause {
    let ends_at = started + Duration::from_secs(settings.total_s_max);
    loop {
        let last = started + Duration::from_millis(up.last_ms.load(Relaxed).max(down.last_ms.load(Relaxed)));
        let idle_at = last + Duration::from_secs(settings.idle_s_max);
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

/// Host and port of a `CONNECT`: the authority, no user, no path.
fn target<B>(request: &Request<B>) -> Option<(String, u16)> {
    let authority = request.uri().authority()?;
    let good = request.method() == Method::CONNECT && !authority.as_str().contains('@');
    let port = authority.port_u16().filter(|&port| port != 0)?;
    good.then(|| (authority.host().to_owned(), port))
}

fn refuse(refusal: &EgressError) -> Response<Full<Bytes>> {
    // A body of plain texts always serialises; an empty one would only lose the words, not the status.
    let body = serde_json::to_vec(&refusal.body()).unwrap_or_default();
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() =
        StatusCode::from_u16(refusal.problem.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    response
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Bytes one way, and when the last of them came.
struct Meter {
    started: Instant,
    bytes: AtomicU64,
    last_ms: AtomicU64,
}

impl Meter {
    fn new(started: Instant) -> Self {
        Self { started, bytes: AtomicU64::new(0), last_ms: AtomicU64::new(0) }
    }
}

/// A stream whose reads are counted.
struct Metered<S> {
    inner: S,
    read: Arc<Meter>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
        self.read.bytes.fetch_add((buf.filled().len() - before) as u64, Relaxed);
        self.read.last_ms.store(millis(self.read.started.elapsed()), Relaxed);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
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
