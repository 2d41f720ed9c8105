//! A connection that is read in large pieces: TLS asks for 4 KiB at a time, which would be a system call each.

use bytes::Buf;
use std::{
    future::Future,
    io,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

/// Bytes that are read at once: a message to a viewer with its records.
const READ_BYTES: usize = 72 * 1_024;

/// The connection. It has a buffer only while there is something to read, so that an idle one holds none.
pub(crate) struct ReadAhead<S> {
    stream: S,
    unread: io::Cursor<Vec<u8>>,
}

impl<S> ReadAhead<S> {
    /// Reads this connection ahead.
    pub(crate) fn new(stream: S) -> Self {
        Self { stream, unread: io::Cursor::default() }
    }
}

impl<S: AsyncRead + Unpin> ReadAhead<S> {
    /// Fills the empty buffer; it stays empty at the end of the stream.
    fn poll_fill(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut bytes = std::mem::take(&mut self.unread).into_inner();
        bytes.clear();
        bytes.reserve_exact(READ_BYTES);
        let read = ready!(pin!(self.stream.read_buf(&mut bytes)).poll(context));
        self.unread = io::Cursor::new(bytes);
        Poll::Ready(read.map(drop))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for ReadAhead<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.unread.has_remaining() {
            ready!(self.poll_fill(context))?;
        }
        let bytes = self.unread.remaining().min(buffer.remaining());
        buffer.put_slice(&self.unread.chunk()[..bytes]);
        self.unread.advance(bytes);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for ReadAhead<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    };
    use tokio::io::{AsyncWriteExt, duplex};
    use tokio_util::io::InspectReader;

    #[tokio::test]
    async fn every_byte_arrives_with_few_reads_and_an_idle_connection_has_no_buffer() {
        const BYTES: usize = 3 * READ_BYTES + 5;
        let (near, mut far) = duplex(BYTES);
        let sent: Vec<u8> = (0..BYTES).map(|at| at.to_le_bytes()[0] ^ at.to_le_bytes()[1]).collect();
        far.write_all(&sent).await.unwrap();
        let reads = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&reads);
        let mut stream = ReadAhead::new(InspectReader::new(near, move |_| _ = counted.fetch_add(1, Relaxed)));
        let (mut received, mut part) = (Vec::new(), [0; 1_000]);
        while received.len() < BYTES {
            let read = stream.read(&mut part).await.unwrap();
            received.extend_from_slice(&part[..read]);
        }
        assert!(received == sent);
        assert!(reads.load(Relaxed) <= 5, "{reads:?}");
        let waiting = tokio::time::timeout(std::time::Duration::from_millis(1), stream.read(&mut part)).await;
        assert!(waiting.is_err() && stream.unread.get_ref().capacity() == 0);
        drop(far);
        assert_eq!(stream.read(&mut part).await.unwrap(), 0);
    }
}
