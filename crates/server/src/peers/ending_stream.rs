//! A connection that ends when it is said, also after it was upgraded: then no task of this listener has it any more.

use super::Directory;
use anteroom_cluster::peer::certificate_validity;
use anteroom_controller::unix_time::now_unix_ms;
use anteroom_wire::HostId;
use std::{
    future::Future,
    io,
    pin::{Pin, pin},
    task::{Context, Poll},
    time::Duration,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::rustls::CommonState;
use tokio_util::{
    sync::{CancellationToken, DropGuard, WaitForCancellationFutureOwned},
    task::TaskTracker,
};

/// When the other side's certificate ends, milliseconds since 1970; `None`: it has shown none.
pub(crate) fn certificate_end_ms(connection: &CommonState) -> Option<u64> {
    let certificate = connection.peer_certificates()?.first()?;
    certificate_validity(certificate).map(|(_, ends_at_ms)| ends_at_ms)
}

/// The stream. Reading and writing wait for the end each on their own, since two tasks may do them.
pub(crate) struct EndingStream<S> {
    stream: S,
    read_end: Pin<Box<WaitForCancellationFutureOwned>>,
    write_end: Pin<Box<WaitForCancellationFutureOwned>>,
    /// Says that nothing uses the stream any more.
    _dropped: DropGuard,
}

impl<S> EndingStream<S> {
    /// A connection with a host, which breaks off when the host is removed or its certificate ends.
    pub(crate) fn of_member(
        stream: S,
        host: HostId,
        certificate_ends_at_ms: u64,
        directory: Directory,
        tasks: &TaskTracker,
    ) -> Self {
        let end = CancellationToken::new();
        let stream = Self::new(stream, &end);
        tasks.spawn(async move {
            let left = Duration::from_millis(certificate_ends_at_ms.saturating_sub(now_unix_ms()));
            tokio::select! {
                () = directory.wait_removed(&host) => {}
                () = tokio::time::sleep(left) => {}
                () = end.cancelled() => return,
            }
            end.cancel();
        });
        stream
    }

    /// A stream that breaks off when `end` is cancelled; `end` is cancelled when the stream is dropped.
    fn new(stream: S, end: &CancellationToken) -> Self {
        let wait = || Box::pin(end.clone().cancelled_owned());
        Self { stream, read_end: wait(), write_end: wait(), _dropped: end.clone().drop_guard() }
    }

    fn poll_write_end(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        has_ended(&mut self.write_end, context)
    }
}

fn has_ended(end: &mut Pin<Box<WaitForCancellationFutureOwned>>, context: &mut Context<'_>) -> io::Result<()> {
    match pin!(end).poll(context) {
        Poll::Ready(()) => Err(io::ErrorKind::ConnectionAborted.into()),
        Poll::Pending => Ok(()),
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for EndingStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        has_ended(&mut self.read_end, context)?;
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for EndingStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_end(context)?;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_end(context)?;
        Pin::new(&mut self.stream).poll_write_vectored(context, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_write_end(context)?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_write_end(context)?;
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex, split};

    #[tokio::test]
    async fn both_halves_end_at_once_and_a_dropped_stream_says_so() {
        let (near, mut far) = duplex(8);
        let end = CancellationToken::new();
        let (mut reading, mut writing) = split(EndingStream::new(near, &end));
        far.write_all(b"in").await.unwrap();
        let mut bytes = [0; 2];
        reading.read_exact(&mut bytes).await.unwrap();
        let read = tokio::spawn(async move { reading.read(&mut [0; 1]).await.unwrap_err().kind() });
        // More than the other side takes.
        let written = tokio::spawn(async move { writing.write_all(&[0; 64]).await.unwrap_err().kind() });
        tokio::task::yield_now().await;
        end.cancel();
        assert_eq!(read.await.unwrap(), io::ErrorKind::ConnectionAborted);
        assert_eq!(written.await.unwrap(), io::ErrorKind::ConnectionAborted);

        let end = CancellationToken::new();
        drop(EndingStream::new(duplex(8).0, &end));
        assert!(end.is_cancelled());
    }
}
