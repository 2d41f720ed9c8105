//! The agent's half of the resync that begins every connection on a byte channel (`anteroom_wire::channel` has the
//! picture and the reasons).
//!
//! ```text
//!            nonce: echo it                          go: the nonce's own
//!   ┌────────────◀──────┐                     ┌──────────────▶ Connection (HTTP/2)
//!   │   Line::handshake ┴─── other bytes: ✗ ──┘                      │
//!   └──────────────────────────◀── nonce in mid-connection, error, end ┘
//! ```
//!
//! The agent must find a nonce wherever it stands, also when HTTP/2 has swallowed half of it. Instead of searching the
//! last bytes again, every byte that is read passes one [`Spotter`], whose state outlives the connection.

use anteroom_wire::channel::{NONCE_BYTES, PAD_BYTES, echo_line};
use std::{
    future::poll_fn,
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Any byte stream a channel can be.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

const HEX_LEN: usize = NONCE_BYTES * 2;
const READ_BYTES: usize = 16 * 1024;
/// A host that does not read for this long while the agent greets it is no host.
const GREETING_MS_MAX: u64 = 5_000;

/// A line that the host wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Mark {
    /// `\nN <hex>\n`.
    Nonce(String),
    /// `\nG <hex>\n`.
    Go(String),
}

/// Finds marks in a stream, however it is cut.
#[derive(Debug, Default)]
pub(crate) struct Spotter {
    /// What of `\n`, letter, space, digits has been matched.
    seen: Vec<u8>,
}

impl Spotter {
    /// The first mark in `bytes` and how many bytes it took to see it.
    pub(crate) fn find(&mut self, bytes: &[u8]) -> Option<(Mark, usize)> {
        let mut at = 0;
        while at < bytes.len() {
            if self.seen.is_empty() {
                match bytes[at..].iter().position(|&b| b == b'\n') {
                    Some(skip) => at += skip,
                    None => return None,
                }
            } else if self.seen.len() == 1 {
                // After a newline more of them change nothing: a pad is tens of thousands.
                match bytes[at..].iter().position(|&b| b != b'\n') {
                    Some(skip) => at += skip,
                    None => return None,
                }
            }
            let mark = self.push(bytes[at]);
            at += 1;
            if let Some(mark) = mark {
                return Some((mark, at));
            }
        }
        None
    }

    fn push(&mut self, byte: u8) -> Option<Mark> {
        let fits = match self.seen.len() {
            0 => byte == b'\n',
            1 => byte == b'N' || byte == b'G',
            2 => byte == b' ',
            n if n < 3 + HEX_LEN => byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte),
            _ => byte == b'\n',
        };
        if fits && self.seen.len() == 3 + HEX_LEN {
            let hex = String::from_utf8_lossy(&self.seen[3..]).into_owned();
            let letter = self.seen[1];
            self.seen.clear();
            self.seen.push(b'\n'); // the end of one line may begin the next
            return Some(if letter == b'N' { Mark::Nonce(hex) } else { Mark::Go(hex) });
        }
        if !fits {
            self.seen.clear();
        }
        if fits || byte == b'\n' {
            self.seen.push(byte);
        }
        None
    }
}

struct Inner {
    io: Box<dyn Stream>,
    spotter: Spotter,
    /// Bytes read but not yet handed on.
    pending: Vec<u8>,
    /// A nonce seen in mid-connection and not yet answered.
    nonce: Option<String>,
    /// Which connection may still use the stream.
    turn: u64,
    broken: bool,
}

impl Inner {
    fn poll_fill(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut read = ReadBuf::new(buf);
        ready!(Pin::new(&mut self.io).poll_read(cx, &mut read))?;
        Poll::Ready(Ok(read.filled().len()))
    }

    /// A nonce in mid-connection: the host is another one now.
    fn note_nonce(&mut self, bytes: &[u8]) -> bool {
        let mut rest = bytes;
        while let Some((mark, used)) = self.spotter.find(rest) {
            rest = &rest[used..];
            if let Mark::Nonce(hex) = mark {
                self.nonce = Some(hex);
                self.pending = rest.to_vec();
                self.broken = true;
                return true;
            }
        }
        false
    }
}

/// One byte stream to a host, over which connections follow one another.
pub(crate) struct Line {
    inner: Arc<Mutex<Inner>>,
}

fn lock(inner: &Mutex<Inner>) -> MutexGuard<'_, Inner> {
    inner.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Line {
    pub(crate) fn new(io: Box<dyn Stream>) -> Self {
        let inner = Inner { io, spotter: Spotter::default(), pending: Vec::new(), nonce: None, turn: 0, broken: false };
        Self { inner: Arc::new(Mutex::new(inner)) }
    }

    /// Waits for a host's nonce, echoes it (each, if there are several) and waits for its go.
    ///
    /// `pad` first sends newlines that end a decoder which still waits for the rest of a frame of ours.
    /// Errors: the stream ended or cannot be written. Waits for a host without limit: that is a machine's normal state.
    pub(crate) async fn handshake(&self, pad: bool) -> io::Result<Connection> {
        if pad {
            self.write_all(&[b'\n'; PAD_BYTES]).await?;
        }
        let mut expected = None;
        let pending = {
            let mut inner = lock(&self.inner);
            expected.clone_from(&inner.nonce);
            inner.nonce = None;
            std::mem::take(&mut inner.pending)
        };
        if let Some(hex) = &expected {
            self.write_all(echo_line(hex).as_bytes()).await?;
        }
        let mut chunk = pending;
        loop {
            let mut rest = &chunk[..];
            while let Some((mark, used)) = self.find(rest) {
                rest = &rest[used..];
                match mark {
                    Mark::Nonce(hex) => {
                        self.write_all(echo_line(&hex).as_bytes()).await?;
                        expected = Some(hex);
                    }
                    Mark::Go(hex) if expected.as_ref() == Some(&hex) => return Ok(self.connection(rest)),
                    Mark::Go(_) => {}
                }
            }
            chunk = self.read().await?;
        }
    }

    /// After a connection: whether the host may still wait for the rest of a frame, because nothing said it is another.
    pub(crate) fn wants_pad(&self) -> bool {
        lock(&self.inner).nonce.is_none()
    }

    fn find(&self, bytes: &[u8]) -> Option<(Mark, usize)> {
        lock(&self.inner).spotter.find(bytes)
    }

    fn connection(&self, rest: &[u8]) -> Connection {
        let mut inner = lock(&self.inner);
        inner.turn += 1;
        inner.broken = false;
        // What came after the go passes the spotter here; what comes later, when it is read.
        if !inner.note_nonce(rest) {
            inner.pending = rest.to_vec();
        }
        Connection { inner: self.inner.clone(), turn: inner.turn }
    }

    async fn read(&self) -> io::Result<Vec<u8>> {
        let mut buf = vec![0; READ_BYTES];
        let n = poll_fn(|cx| lock(&self.inner).poll_fill(cx, &mut buf)).await?;
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
                let n = poll_fn(|cx| Pin::new(&mut lock(&self.inner).io).poll_write(cx, &bytes[at..])).await?;
                if n == 0 {
                    return Err(io::Error::from(io::ErrorKind::WriteZero));
                }
                at += n;
            }
            poll_fn(|cx| Pin::new(&mut lock(&self.inner).io).poll_flush(cx)).await
        };
        tokio::time::timeout(Duration::from_millis(GREETING_MS_MAX), write).await?
    }
}

/// One connection: HTTP/2 runs on it until the host is another one or the stream ends.
pub(crate) struct Connection {
    inner: Arc<Mutex<Inner>>,
    turn: u64,
}

impl Connection {
    fn inner(&self) -> io::Result<MutexGuard<'_, Inner>> {
        let inner = lock(&self.inner);
        if inner.broken || inner.turn != self.turn {
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
        if inner.note_nonce(&buf.initialize_unfilled()[..n]) {
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
        // The stream belongs to the line: the next connection needs it.
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests;
