//! A connection's byte stream with its time limits, for HTTP and for a WebSocket that it becomes.

use super::connections::ConnectionSlot;
use bytes::{Buf, Bytes};
use std::{
    io,
    mem::MaybeUninit,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Instant, Sleep, sleep_until},
};
use tokio_util::sync::WaitForCancellationFutureOwned;

/// How long a closed connection is read on, so that the client receives the response to a request whose body was not read.
const LINGER_MS_MAX: u64 = 1_000;
/// Bytes that are read and dropped in that time: a request body of the largest permitted size.
const LINGER_BYTES_MAX: usize = 1 << 20;

/// A connection. Reading fails when the time limit of its phase is over or when it is closed for another one; writing fails when the client
/// accepts nothing for too long.
pub(super) struct GuardedStream {
    stream: TcpStream,
    /// Bytes that were read and put back.
    unread: Bytes,
    slot: ConnectionSlot,
    closing: Pin<Box<WaitForCancellationFutureOwned>>,
    read_timer: Timer,
    write_timer: Timer,
    linger: Option<Linger>,
}

struct Linger {
    timer: Timer,
    bytes: usize,
}

/// A timer that exists while something waits.
#[derive(Default)]
struct Timer(Option<Pin<Box<Sleep>>>);

impl Timer {
    /// Whether the deadline is over; otherwise wakes the task then.
    fn poll_elapsed(&mut self, deadline: Instant, context: &mut Context<'_>) -> bool {
        let sleep = self.0.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if sleep.deadline() != deadline {
            sleep.as_mut().reset(deadline);
        }
        sleep.as_mut().poll(context).is_ready()
    }
}

impl GuardedStream {
    pub(super) fn new(stream: TcpStream, slot: ConnectionSlot) -> Self {
        let closing = Box::pin(slot.connection().closing().clone().cancelled_owned());
        let (read_timer, write_timer) = Default::default();
        Self { stream, unread: Bytes::new(), slot, closing, read_timer, write_timer, linger: None }
    }

    /// Puts bytes back that were read first.
    pub(super) fn unread(&mut self, bytes: Bytes) {
        self.unread = bytes;
    }

    /// The error of a connection that is closed for another one.
    fn poll_closing(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        if self.closing.as_mut().poll(context).is_ready() {
            return Err(io::Error::new(
                io::ErrorKind::ConnectionAborted,
                "closed because there are too many connections",
            ));
        }
        Ok(())
    }

    /// Counts how long the client accepts nothing.
    fn check_stall<T>(&mut self, written: Poll<io::Result<T>>, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.write_timer.0 = None;
            return written;
        }
        let stall_ms_max = self.slot.connection().limits().stall_ms_max;
        let started = self.write_timer.0.as_ref().map(|sleep| sleep.deadline());
        let deadline = started.unwrap_or_else(|| Instant::now() + Duration::from_millis(stall_ms_max));
        if self.write_timer.poll_elapsed(deadline, context) {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client accepts no data")));
        }
        Poll::Pending
    }

    /// Reads and drops what the client still sends, until it closes the connection or a limit is reached.
    fn poll_linger(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let linger = self.linger.get_or_insert_with(|| Linger { timer: Timer::default(), bytes: 0 });
        let started = linger.timer.0.as_ref().map(|sleep| sleep.deadline());
        let deadline = started.unwrap_or_else(|| Instant::now() + Duration::from_millis(LINGER_MS_MAX));
        loop {
            if linger.bytes >= LINGER_BYTES_MAX || linger.timer.poll_elapsed(deadline, context) {
                return Poll::Ready(());
            }
            let mut buffer = [MaybeUninit::uninit(); 32 * 1_024];
            let mut buffer = ReadBuf::uninit(&mut buffer);
            match ready!(Pin::new(&mut self.stream).poll_read(context, &mut buffer)) {
                Ok(()) if !buffer.filled().is_empty() => linger.bytes += buffer.filled().len(),
                Ok(()) | Err(_) => return Poll::Ready(()),
            }
        }
    }
}

impl AsyncRead for GuardedStream {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.poll_closing(context)?;
        if !this.unread.is_empty() {
            let length = this.unread.len().min(buffer.remaining());
            buffer.put_slice(&this.unread[..length]);
            this.unread.advance(length);
            return Poll::Ready(Ok(()));
        }
        let connection = this.slot.connection();
        let before = buffer.filled().len();
        if let Poll::Ready(read) = Pin::new(&mut this.stream).poll_read(context, buffer) {
            if buffer.filled().len() > before {
                connection.receive();
            }
            return Poll::Ready(read);
        }
        match connection.receive_deadline() {
            Some(deadline) if this.read_timer.poll_elapsed(deadline, context) => {
                Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "no request arrived in time")))
            }
            Some(_) | None => Poll::Pending,
        }
    }
}

impl AsyncWrite for GuardedStream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.poll_closing(context)?;
        let written = Pin::new(&mut this.stream).poll_write(context, bytes);
        this.check_stall(written, context)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.poll_closing(context)?;
        let written = Pin::new(&mut this.stream).poll_write_vectored(context, slices);
        this.check_stall(written, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(Pin::new(&mut this.stream).poll_shutdown(context))?;
        this.poll_linger(context).map(Ok)
    }
}
