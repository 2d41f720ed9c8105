//! Counts and limits the bytes of connections: those of one connection, and those of all connections of one session.

use crate::ActCheck;
use anteroom_wire::time::to_millis;
use std::{
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep_until},
};

/// Bytes of this duration may be sent at once, before the rate slows the session down.
const BURST: Duration = Duration::from_secs(1);

/// Bytes of one direction of a connection, and the time of the last one.
pub(crate) struct Traffic {
    pub(crate) started: Instant,
    pub(crate) bytes: AtomicU64,
    pub(crate) last_ms: AtomicU64,
}

impl Traffic {
    pub(crate) fn new(started: Instant) -> Self {
        Self { started, bytes: AtomicU64::new(0), last_ms: AtomicU64::new(0) }
    }
}

/// What one direction of a session's connections may carry together.
#[derive(Debug)]
pub(crate) struct Allowance {
    bytes_max: u64,
    bytes_per_s_max: u64,
    bytes: AtomicU64,
    /// When the bytes so far are sent at the permitted rate.
    paid_until: Mutex<Instant>,
}

impl Allowance {
    pub(crate) fn new(bytes_max: u64, bytes_per_s_max: u64) -> Self {
        Self {
            bytes_max,
            bytes_per_s_max: bytes_per_s_max.max(1),
            bytes: AtomicU64::new(0),
            paid_until: Mutex::new(Instant::now()),
        }
    }

    /// Whether all bytes are used.
    pub(crate) fn is_used_up(&self) -> bool {
        self.bytes.load(Relaxed) >= self.bytes_max
    }

    /// The limit, bytes.
    pub(crate) fn bytes_max(&self) -> u64 {
        self.bytes_max
    }

    /// Counts bytes. Returns when the next ones may follow, if that is later than now.
    fn spend(&self, bytes: u64) -> Option<Instant> {
        self.bytes.fetch_add(bytes, Relaxed);
        let now = Instant::now();
        let cost = Duration::from_nanos(bytes.saturating_mul(1_000_000_000) / self.bytes_per_s_max);
        let mut paid_until = self.paid_until.lock().unwrap_or_else(PoisonError::into_inner);
        *paid_until = (*paid_until).max(now) + cost;
        paid_until.checked_sub(BURST).filter(|next| *next > now)
    }
}

/// A stream that counts the bytes read from it, and reads no more than the session's allowance, and nothing while the host may not act.
pub(crate) struct Counted<S> {
    inner: S,
    traffic: Arc<Traffic>,
    allowance: Arc<Allowance>,
    act_check: ActCheck,
    pause: Option<Pin<Box<Sleep>>>,
}

impl<S> Counted<S> {
    pub(crate) fn new(inner: S, traffic: &Arc<Traffic>, allowance: &Arc<Allowance>, act_check: &ActCheck) -> Self {
        let (traffic, allowance) = (Arc::clone(traffic), Arc::clone(allowance));
        Self { inner, traffic, allowance, act_check: act_check.clone(), pause: None }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if let Some(pause) = &mut self.pause {
            ready!(pause.as_mut().poll(cx));
            self.pause = None;
        }
        if self.allowance.is_used_up() {
            return Poll::Ready(Err(io::ErrorKind::QuotaExceeded.into()));
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
        // What was read now is not passed on.
        if !self.act_check.may_act() {
            return Poll::Ready(Err(io::ErrorKind::PermissionDenied.into()));
        }
        let bytes = (buf.filled().len() - before) as u64;
        self.traffic.bytes.fetch_add(bytes, Relaxed);
        self.traffic.last_ms.store(to_millis(self.traffic.started.elapsed()), Relaxed);
        self.pause = self.allowance.spend(bytes).map(|next| Box::pin(sleep_until(next)));
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
