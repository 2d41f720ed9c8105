//! The controlling side of a pseudo-terminal, or the reading end of a pipe, as a stream.

use super::async_fd;
use std::{
    io,
    os::fd::OwnedFd,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf, unix::AsyncFd},
    time::{Instant, Sleep},
};

/// A read of fewer bytes is small.
const SMALL_BYTES: usize = 256;
/// The average time between small reads that follow one another.
const SMALL_READ_EVERY: Duration = Duration::from_millis(50);
/// So many small reads may come at once: what a person types is echoed without delay.
const SMALL_READS_BURST: u32 = 20;

/// The controlling side of a pseudo-terminal, or the reading end of a pipe.
///
/// Output in many small pieces is collected. Each piece would be an HTTP/2 frame, and a peer that does not read at the moment ends the
/// connection when it has to keep thousands of small frames.
pub(crate) struct FdStream {
    fd: AsyncFd<Arc<OwnedFd>>,
    small_reads: SmallReads,
    pause: Pin<Box<Sleep>>,
}

impl FdStream {
    pub(crate) fn new(fd: Arc<OwnedFd>) -> io::Result<Self> {
        let fd = async_fd::register_fd(fd, Interest::READABLE | Interest::WRITABLE)?;
        let now = Instant::now();
        Ok(Self { fd, small_reads: SmallReads { full_at: now }, pause: Box::pin(tokio::time::sleep_until(now)) })
    }
}

/// A bucket of [`SMALL_READS_BURST`] small reads that is refilled by one each [`SMALL_READ_EVERY`].
struct SmallReads {
    /// When the bucket is full again.
    full_at: Instant,
}

impl SmallReads {
    /// Counts a small read. Returns the time before which there should be no other.
    fn count(&mut self, now: Instant) -> Instant {
        self.full_at = self.full_at.max(now) + SMALL_READ_EVERY;
        self.full_at.checked_sub(SMALL_READ_EVERY * SMALL_READS_BURST).unwrap_or(now)
    }
}

impl AsyncRead for FdStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.pause.as_mut().poll(cx));
        loop {
            let mut guard = ready!(this.fd.poll_read_ready(cx))?;
            let unfilled = buf.initialize_unfilled();
            match guard.try_io(|fd| Ok(rustix::io::read(fd.get_ref(), unfilled)?)) {
                Ok(Ok(n)) => {
                    buf.advance(n);
                    if n < SMALL_BYTES {
                        let until = this.small_reads.count(Instant::now());
                        this.pause.as_mut().reset(until);
                    }
                    return Poll::Ready(Ok(()));
                }
                // Linux returns EIO when the last program has closed the other side: that is the end.
                Ok(Err(error)) if error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()) => {
                    return Poll::Ready(Ok(()));
                }
                Ok(Err(error)) => return Poll::Ready(Err(error)),
                Err(_would_block) => {}
            }
        }
    }
}

impl AsyncWrite for FdStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            let mut guard = ready!(self.fd.poll_write_ready(cx))?;
            match guard.try_io(|fd| Ok(rustix::io::write(fd.get_ref(), buf)?)) {
                Ok(result) => return Poll::Ready(result),
                Err(_would_block) => {}
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
