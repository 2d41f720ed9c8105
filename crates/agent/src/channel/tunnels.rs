//! Outbound connections: bounded, because HTTP/2's connection window carries only so many unread streams.
//!
//! Browsers hold idle connections open for minutes. When all places are taken, the connection that has been idle
//! longest gives its place to the one that waits.

use anteroom_wire::channel::STREAMS_MAX;
use std::{
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
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

/// Streams kept free for events and the delivery.
const RESERVED: u32 = 3;
/// Before this, an idle connection keeps its place.
const IDLE_MS_MIN: u64 = 3_000;
const LOOK_EVERY_MS: u64 = 250;
const WAIT_MS_MAX: u64 = 30_000;
const COPY_BYTES: usize = 64 * 1024;

#[derive(Debug)]
struct Use {
    since: Instant,
    /// Milliseconds after `since`.
    last_ms: AtomicU64,
    make_room: Notify,
}

impl Use {
    fn touch(&self) {
        self.last_ms.store(ms(self.since.elapsed()), Ordering::Relaxed);
    }

    fn idle_ms(&self) -> u64 {
        ms(self.since.elapsed()).saturating_sub(self.last_ms.load(Ordering::Relaxed))
    }
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// All of them.
pub(crate) struct Tunnels {
    places: Arc<Semaphore>,
    open: Mutex<Vec<Arc<Use>>>,
}

/// A place for one; dropping it frees it.
pub(crate) struct Place {
    _permit: OwnedSemaphorePermit,
    used: Arc<Use>,
    tunnels: Arc<Tunnels>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.tunnels.open().retain(|other| !Arc::ptr_eq(other, &self.used));
    }
}

impl Tunnels {
    pub(crate) fn new() -> Self {
        Self::with_places((STREAMS_MAX - RESERVED) as usize)
    }

    fn with_places(places: usize) -> Self {
        Self { places: Arc::new(Semaphore::new(places)), open: Mutex::default() }
    }

    fn open(&self) -> MutexGuard<'_, Vec<Arc<Use>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a place, oldest first; `None`: none came free in time.
    pub(crate) async fn place(self: &Arc<Self>) -> Option<Place> {
        let turn = self.places.clone().acquire_owned();
        let make_room = async {
            loop {
                self.close_idlest();
                tokio::time::sleep(Duration::from_millis(LOOK_EVERY_MS)).await;
            }
        };
        let permit = tokio::select! {
            biased;
            permit = tokio::time::timeout(Duration::from_millis(WAIT_MS_MAX), turn) => permit.ok()?.ok()?,
            () = make_room => return None,
        };
        let used = Arc::new(Use { since: Instant::now(), last_ms: AtomicU64::new(0), make_room: Notify::new() });
        self.open().push(used.clone());
        Some(Place { _permit: permit, used, tunnels: self.clone() })
    }

    fn close_idlest(&self) {
        let open = self.open();
        let idlest = open.iter().max_by_key(|used| used.idle_ms());
        if let Some(used) = idlest.filter(|used| used.idle_ms() >= IDLE_MS_MIN) {
            used.make_room.notify_one();
        }
    }
}

impl Place {
    /// Carries bytes both ways until one side ends or the place is needed.
    pub(crate) async fn carry(
        &self,
        near: impl AsyncRead + AsyncWrite + Unpin,
        mut far: impl AsyncRead + AsyncWrite + Unpin,
    ) {
        let mut near = Noted { inner: near, used: &self.used };
        tokio::select! {
            _ = tokio::io::copy_bidirectional_with_sizes(&mut near, &mut far, COPY_BYTES, COPY_BYTES) => {}
            () = self.used.make_room.notified() => {}
        }
    }

    /// Runs something else in this place, under the same rule.
    pub(crate) async fn hold<T>(&self, running: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            done = running => Some(done),
            () = self.used.make_room.notified() => None,
        }
    }
}

/// A stream whose traffic is noted.
struct Noted<'a, S> {
    inner: S,
    used: &'a Use,
}

impl<S: AsyncRead + Unpin> AsyncRead for Noted<'_, S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        let polled = Pin::new(&mut self.inner).poll_read(cx, buf);
        if polled.is_ready() {
            self.used.touch();
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Noted<'_, S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        self.used.touch();
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
    async fn the_idlest_connection_gives_its_place_to_one_that_waits() {
        let tunnels = Arc::new(Tunnels::with_places(2));
        let busy = tunnels.place().await.unwrap();
        let idle = tunnels.place().await.unwrap();
        let ((_, near), (far, _)) = (tokio::io::duplex(64), tokio::io::duplex(64));
        let idle = tokio::spawn(async move { idle.hold(std::future::pending::<()>()).await });
        tokio::time::advance(Duration::from_millis(IDLE_MS_MIN + 1)).await;
        busy.used.touch();
        assert!(tunnels.place().await.is_some(), "the idle one went");
        assert_eq!(idle.await.unwrap(), None);
        busy.carry(near, far).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_does_not_wait_for_ever() {
        let tunnels = Arc::new(Tunnels::with_places(1));
        let busy = tunnels.place().await.unwrap();
        let keep = async {
            loop {
                busy.used.touch();
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::select! {
            none = tunnels.place() => assert!(none.is_none()),
            () = keep => {}
        }
    }
}
