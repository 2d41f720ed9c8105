//! Limits the outbound connections, because HTTP/2's connection window has space for a limited number of unread streams.
//!
//! Browsers keep idle connections open for minutes. When all slots are in use and another connection waits, the one that has been idle
//! longest is closed.

use anteroom_wire::{channel::STREAMS_MAX, time::to_millis};
use parking_lot::Mutex;
use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

/// Streams reserved for events and the delivery.
const RESERVED: u32 = 3;
/// A connection that has been idle for less than this is not closed.
const IDLE_MS_MIN: u64 = 3_000;
const EVICT_EVERY_MS: u64 = 250;
const WAIT_MS_MAX: u64 = 30_000;
const COPY_BYTES: usize = 64 * 1024;

#[derive(Debug)]
struct Activity {
    opened_at: Instant,
    /// When bytes were last transferred, milliseconds after `opened_at`.
    last_ms: AtomicU64,
    evict: Notify,
}

impl Activity {
    fn touch(&self) {
        self.last_ms.store(to_millis(self.opened_at.elapsed()), Ordering::Relaxed);
    }

    fn idle_ms(&self) -> u64 {
        to_millis(self.opened_at.elapsed()).saturating_sub(self.last_ms.load(Ordering::Relaxed))
    }
}

/// The open outbound connections.
pub(crate) struct ConnectionSlots {
    slots: Arc<Semaphore>,
    open: Mutex<Vec<Arc<Activity>>>,
}

/// A slot for one connection; dropping it frees the slot.
pub(crate) struct ConnectionSlot {
    _permit: OwnedSemaphorePermit,
    activity: Arc<Activity>,
    tunnels: Arc<ConnectionSlots>,
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        self.tunnels.open.lock().retain(|other| !Arc::ptr_eq(other, &self.activity));
    }
}

impl ConnectionSlots {
    pub(crate) fn new() -> Self {
        Self::with_slots((STREAMS_MAX - RESERVED) as usize)
    }

    fn with_slots(slots: usize) -> Self {
        Self { slots: Arc::new(Semaphore::new(slots)), open: Mutex::default() }
    }

    /// Waits for a slot, first come first served; `None`: none became free within 30 s.
    pub(crate) async fn acquire(self: &Arc<Self>) -> Option<ConnectionSlot> {
        let turn = self.slots.clone().acquire_owned();
        let evict = async {
            loop {
                self.evict_idlest();
                tokio::time::sleep(Duration::from_millis(EVICT_EVERY_MS)).await;
            }
        };
        let permit = tokio::select! {
            biased;
            permit = tokio::time::timeout(Duration::from_millis(WAIT_MS_MAX), turn) => permit.ok()?.ok()?,
            () = evict => return None,
        };
        let activity =
            Arc::new(Activity { opened_at: Instant::now(), last_ms: AtomicU64::new(0), evict: Notify::new() });
        self.open.lock().push(activity.clone());
        Some(ConnectionSlot { _permit: permit, activity, tunnels: self.clone() })
    }

    fn evict_idlest(&self) {
        let open = self.open.lock();
        let idlest = open.iter().max_by_key(|activity| activity.idle_ms());
        if let Some(activity) = idlest.filter(|activity| activity.idle_ms() >= IDLE_MS_MIN) {
            activity.evict.notify_one();
        }
    }
}

impl ConnectionSlot {
    /// Copies bytes in both directions until one side ends or the slot is reclaimed.
    pub(crate) async fn relay(
        &self,
        near: impl AsyncRead + AsyncWrite + Unpin,
        mut far: impl AsyncRead + AsyncWrite + Unpin,
    ) {
        let mut near = TrackedStream { inner: near, activity: &self.activity };
        tokio::select! {
            _ = tokio::io::copy_bidirectional_with_sizes(&mut near, &mut far, COPY_BYTES, COPY_BYTES) => {}
            () = self.activity.evict.notified() => {}
        }
    }

    /// Runs `running` in this slot; `None`: the slot was reclaimed first.
    pub(crate) async fn run_in_slot<T>(&self, running: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            done = running => Some(done),
            () = self.activity.evict.notified() => None,
        }
    }
}

/// A stream that records when bytes are transferred.
struct TrackedStream<'a, S> {
    inner: S,
    activity: &'a Activity,
}

impl<S: AsyncRead + Unpin> AsyncRead for TrackedStream<'_, S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        let polled = Pin::new(&mut self.inner).poll_read(cx, buf);
        if polled.is_ready() {
            self.activity.touch();
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for TrackedStream<'_, S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        self.activity.touch();
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn idlest_connection_is_closed_for_one_that_waits() {
        let tunnels = Arc::new(ConnectionSlots::with_slots(2));
        let busy = tunnels.acquire().await.unwrap();
        let idle = tunnels.acquire().await.unwrap();
        let ((_, near), (far, _)) = (tokio::io::duplex(64), tokio::io::duplex(64));
        let idle = tokio::spawn(async move { idle.run_in_slot(std::future::pending::<()>()).await });
        tokio::time::advance(Duration::from_millis(IDLE_MS_MIN + 1)).await;
        busy.activity.touch();
        assert!(tunnels.acquire().await.is_some(), "the idle connection was closed");
        assert_eq!(idle.await.unwrap(), None);
        busy.relay(near, far).await;
    }

    #[tokio::test(start_paused = true)]
    async fn request_for_a_connection_slot_times_out() {
        let tunnels = Arc::new(ConnectionSlots::with_slots(1));
        let busy = tunnels.acquire().await.unwrap();
        let keep = async {
            loop {
                busy.activity.touch();
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::select! {
            none = tunnels.acquire() => assert!(none.is_none()),
            () = keep => {}
        }
    }
}
