//! The agent's half of the resync that begins every connection on a byte channel (`anteroom_wire::channel` has the
//! picture and the reasons).
//!
//! ```text
//!              nonce: echo it                            go with the same nonce
//!   ┌──────────────◀──────────────┐                     ┌──────────────▶ Connection (HTTP/2)
//!   │  HandshakeStream::handshake ┴─── other bytes: ✗ ──┘                      │
//!   └────────────────────────────────◀── nonce in mid-connection, error, end ──┘
//! ```
//!
//! The agent must find a nonce at any position, also when HTTP/2 has already read half of it. Instead of searching the last bytes again,
//! every byte that is read passes one [`MarkerScanner`], whose state outlives the connection.

use anteroom_wire::channel::{NONCE_BYTES, PADDING_BYTES, format_echo_line};
use parking_lot::{Mutex, MutexGuard};
use std::{
    future::poll_fn,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A byte stream that can be a channel.
pub(crate) trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for T {}

const HEX_LEN: usize = NONCE_BYTES * 2;
const READ_BYTES: usize = 16 * 1024;
/// The handshake fails when the peer does not read the agent's bytes for this long.
const WRITE_MS_MAX: u64 = 5_000;

/// A line with which the peer starts a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Marker {
    /// `\nN <hex>\n`.
    Nonce(String),
    /// `\nG <hex>\n`.
    Go(String),
}

/// Finds markers in a stream that is read in pieces.
#[derive(Debug, Default)]
pub(crate) struct MarkerScanner {
    /// The bytes of a possible marker (`\n`, letter, space, digits) that have matched so far.
    matched: Vec<u8>,
}

impl MarkerScanner {
    /// The first marker in `bytes` and how many bytes were consumed up to its end.
    pub(crate) fn find_first(&mut self, bytes: &[u8]) -> Option<(Marker, usize)> {
        let mut at = 0;
        while at < bytes.len() {
            if self.matched.is_empty() {
                match bytes[at..].iter().position(|&b| b == b'\n') {
                    Some(skip) => at += skip,
                    None => return None,
                }
            } else if self.matched.len() == 1 {
                // More newlines after a newline change nothing: the padding is tens of thousands of them.
                match bytes[at..].iter().position(|&b| b != b'\n') {
                    Some(skip) => at += skip,
                    None => return None,
                }
            }
            let marker = self.push(bytes[at]);
            at += 1;
            if let Some(marker) = marker {
                return Some((marker, at));
            }
        }
        None
    }

    fn push(&mut self, byte: u8) -> Option<Marker> {
        let fits = match self.matched.len() {
            0 => byte == b'\n',
            1 => byte == b'N' || byte == b'G',
            2 => byte == b' ',
            n if n < 3 + HEX_LEN => byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte),
            _ => byte == b'\n',
        };
        if fits && self.matched.len() == 3 + HEX_LEN {
            let hex = String::from_utf8_lossy(&self.matched[3..]).into_owned();
            let letter = self.matched[1];
            self.matched.clear();
            self.matched.push(b'\n'); // the end of one line may be the start of the next
            return Some(if letter == b'N' { Marker::Nonce(hex) } else { Marker::Go(hex) });
        }
        if !fits {
            self.matched.clear();
        }
        if fits || byte == b'\n' {
            self.matched.push(byte);
        }
        None
    }
}

struct Inner {
    io: Box<dyn ByteStream>,
    scanner: MarkerScanner,
    /// Bytes that were read and not yet returned.
    pending: Vec<u8>,
    /// A nonce that arrived in mid-connection and is not yet echoed.
    nonce: Option<String>,
    /// The number of the connection that may use the stream.
    current: u64,
    /// Whether that connection was ended by a nonce.
    reset: bool,
}

impl Inner {
    fn poll_fill(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut read = ReadBuf::new(buf);
        ready!(Pin::new(&mut self.io).poll_read(cx, &mut read))?;
        Poll::Ready(Ok(read.filled().len()))
    }

    /// Looks for a nonce in mid-connection, with which a new peer ends this connection.
    fn detect_nonce(&mut self, bytes: &[u8]) -> bool {
        let mut rest = bytes;
        while let Some((marker, used)) = self.scanner.find_first(rest) {
            rest = &rest[used..];
            if let Marker::Nonce(hex) = marker {
                self.nonce = Some(hex);
                self.pending = rest.to_vec();
                self.reset = true;
                return true;
            }
        }
        false
    }
}

/// One byte stream to the controller, on which connections follow one another.
pub(crate) struct HandshakeStream {
    inner: Arc<Mutex<Inner>>,
}

impl HandshakeStream {
    pub(crate) fn new(io: Box<dyn ByteStream>) -> Self {
        let inner =
            Inner { io, scanner: MarkerScanner::default(), pending: Vec::new(), nonce: None, current: 0, reset: false };
        Self { inner: Arc::new(Mutex::new(inner)) }
    }

    /// Waits for the peer's nonce, echoes it (each, if there are several) and waits for its go. The wait has no limit: a machine without
    /// a controller is normal.
    ///
    /// `pad`: first sends newlines that end a decoder which still waits for the rest of a frame of the agent.
    ///
    /// # Errors
    /// The stream ended or cannot be written.
    pub(crate) async fn handshake(&self, pad: bool) -> io::Result<Connection> {
        if pad {
            self.write_all(&[b'\n'; PADDING_BYTES]).await?;
        }
        let mut expected = None;
        let pending = {
            let mut inner = self.inner.lock();
            expected.clone_from(&inner.nonce);
            inner.nonce = None;
            std::mem::take(&mut inner.pending)
        };
        if let Some(hex) = &expected {
            self.write_all(format_echo_line(hex).as_bytes()).await?;
        }
        let mut chunk = pending;
        loop {
            let mut rest = &chunk[..];
            while let Some((marker, used)) = self.find(rest) {
                rest = &rest[used..];
                match marker {
                    Marker::Nonce(hex) => {
                        self.write_all(format_echo_line(&hex).as_bytes()).await?;
                        expected = Some(hex);
                    }
                    Marker::Go(hex) if expected.as_ref() == Some(&hex) => return Ok(self.connection(rest)),
                    Marker::Go(_) => {}
                }
            }
            chunk = self.read().await?;
        }
    }

    /// After a connection: whether the peer may still wait for the rest of a frame, because it has not started a new connection.
    pub(crate) fn needs_padding(&self) -> bool {
        self.inner.lock().nonce.is_none()
    }

    fn find(&self, bytes: &[u8]) -> Option<(Marker, usize)> {
        self.inner.lock().scanner.find_first(bytes)
    }

    fn connection(&self, rest: &[u8]) -> Connection {
        let mut inner = self.inner.lock();
        inner.current += 1;
        inner.reset = false;
        // The bytes after the go pass the scanner here; later bytes pass it when they are read.
        if !inner.detect_nonce(rest) {
            inner.pending = rest.to_vec();
        }
        Connection { inner: self.inner.clone(), number: inner.current }
    }

    async fn read(&self) -> io::Result<Vec<u8>> {
        let mut buf = vec![0; READ_BYTES];
        let n = poll_fn(|cx| self.inner.lock().poll_fill(cx, &mut buf)).await?;
        if n == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        buf.truncate(n);
        Ok(buf)
    }

    async fn write_all(&self, bytes: &[u8]) -> io::Result<()> {
        let mut at = 0;
        let write = async {
            while at < bytes.len() {
                let n = poll_fn(|cx| Pin::new(&mut self.inner.lock().io).poll_write(cx, &bytes[at..])).await?;
                if n == 0 {
                    return Err(io::Error::from(io::ErrorKind::WriteZero));
                }
                at += n;
            }
            poll_fn(|cx| Pin::new(&mut self.inner.lock().io).poll_flush(cx)).await
        };
        tokio::time::timeout(Duration::from_millis(WRITE_MS_MAX), write).await?
    }
}

/// One connection: HTTP/2 runs on it until a peer starts a new one or the stream ends.
pub(crate) struct Connection {
    inner: Arc<Mutex<Inner>>,
    number: u64,
}

impl Connection {
    fn inner(&self) -> io::Result<MutexGuard<'_, Inner>> {
        let inner = self.inner.lock();
        if inner.reset || inner.current != self.number {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        Ok(inner)
    }
}

impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut inner = self.inner()?;
        if !inner.pending.is_empty() {
            let n = buf.remaining().min(inner.pending.len());
            let head: Vec<u8> = inner.pending.drain(..n).collect();
            buf.put_slice(&head);
            return Poll::Ready(Ok(()));
        }
        let n = ready!(inner.poll_fill(cx, buf.initialize_unfilled()))?;
        if inner.detect_nonce(&buf.initialize_unfilled()[..n]) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        buf.advance(n);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let mut inner = self.inner()?;
        Pin::new(&mut inner.io).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut inner = self.inner()?;
        Pin::new(&mut inner.io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The stream stays open for the next connection.
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests;
