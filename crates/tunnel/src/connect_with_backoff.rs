//! Connects to a server that sends the first bytes and may be unavailable for a moment.
//!
//! A VNC server that starts or restarts refuses connections, or accepts and closes them. So an open stream does not prove
//! that the server works; its first bytes do. The stream is reopened until the server has sent bytes. The viewer's WebSocket
//! stays open during that time, and its tunnel buffers what the viewer sends.

use anteroom_wire::{Problem, ProblemBody, backoff::Backoff};
use bytes::{Buf, Bytes, BytesMut};
use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf},
    time::{Instant, sleep_until, timeout_at},
};

/// Size of the first read, bytes. The RFB greeting has 12 bytes.
const FIRST_BYTES_MAX: usize = 64;
const PAUSE_MS_MIN: u64 = 50;
const PAUSE_MS_MAX: u64 = 500;

/// A stream with bytes that were already read from it; they are returned first.
#[derive(Debug)]
pub struct PrefixedStream<S> {
    prefix: Bytes,
    stream: S,
}

impl<S> PrefixedStream<S> {
    /// `prefix` are the bytes that were already read from `stream`.
    pub fn new(prefix: Bytes, stream: S) -> Self {
        Self { prefix, stream }
    }
}

/// Opens a stream and reopens it until it has delivered bytes, for at most `ms_max` milliseconds.
///
/// `open` receives the deadline and must return by then: only it knows what it waited for. It is not cancelled here, because
/// with two timers for one deadline it would be random which error the viewer receives.
///
/// # Errors
/// An error of `open` is returned at once, except "unreachable" errors, which may be temporary. After the deadline, the last
/// such error, or [`Problem::DesktopUnreachable`] if streams were open and delivered nothing.
pub async fn connect_with_backoff<S, F, Fut>(ms_max: u64, mut open: F) -> Result<PrefixedStream<S>, ProblemBody>
where
    S: AsyncRead + AsyncWrite + Unpin,
    F: FnMut(Instant) -> Fut,
    Fut: Future<Output = Result<S, ProblemBody>>,
{
    let deadline = Instant::now() + Duration::from_millis(ms_max);
    let mut backoff = Backoff::new(Duration::from_millis(PAUSE_MS_MIN), Duration::from_millis(PAUSE_MS_MAX));
    let mut last = Problem::DesktopUnreachable.with_detail(format!("no bytes within {ms_max} ms"));
    loop {
        let temporary = [Problem::DesktopUnreachable, Problem::AgentUnreachable].map(Problem::code);
        match open(deadline).await {
            Ok(stream) => match timeout_at(deadline, read_first_bytes(stream)).await {
                Ok(Some(stream)) => return Ok(stream),
                Ok(None) => last = Problem::DesktopUnreachable.with_detail("it accepts connections and closes them"),
                Err(_) => return Err(last),
            },
            Err(body) if temporary.contains(&body.code.as_str()) => last = body,
            Err(body) => return Err(body),
        }
        let next = Instant::now() + backoff.next_delay();
        if next >= deadline {
            return Err(last);
        }
        sleep_until(next).await;
    }
}

/// `None`: the stream ended before its first byte.
async fn read_first_bytes<S: AsyncRead + Unpin>(mut stream: S) -> Option<PrefixedStream<S>> {
    let mut prefix = BytesMut::with_capacity(FIRST_BYTES_MAX);
    let count = stream.read_buf(&mut prefix).await.ok()?;
    (count > 0).then(|| PrefixedStream { prefix: prefix.freeze(), stream })
}

impl<S: AsyncRead + Unpin> AsyncRead for PrefixedStream<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.prefix.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buf);
        }
        let count = self.prefix.len().min(buf.remaining());
        buf.put_slice(&self.prefix[..count]);
        self.prefix.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for PrefixedStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anteroom_wire::EndReason;
    use tokio::io::{AsyncWriteExt, DuplexStream, duplex};

    /// Runs with one entry of `script` per attempt: the bytes that the stream delivers, or the error of `open`. Returns the
    /// number of attempts and the result.
    async fn run_attempts(script: Vec<Result<&[u8], Problem>>) -> (usize, Result<Vec<u8>, String>) {
        let (mut count, limit) = (0, 20_000);
        let result = connect_with_backoff(limit, |_| {
            let step = script[count].map_err(|problem| problem.with_detail(""));
            count += 1;
            async move {
                let (mut machine, stream): (DuplexStream, _) = duplex(64);
                machine.write_all(step?).await.unwrap();
                Ok(stream)
            }
        });
        let result = match result.await {
            Ok(mut stream) => {
                let mut all = Vec::new();
                stream.read_to_end(&mut all).await.unwrap();
                Ok(all)
            }
            Err(body) => Err(body.code),
        };
        (count, result)
    }

    #[tokio::test]
    async fn server_that_refuses_and_closes_is_reached_when_it_sends_bytes_and_none_is_lost() {
        let script = vec![
            Err(Problem::DesktopUnreachable),
            Err(Problem::AgentUnreachable),
            Ok(&b""[..]),
            Ok(&b"RFB 003.008\n"[..]),
        ];
        assert_eq!(run_attempts(script).await, (4, Ok(b"RFB 003.008\n".to_vec())));
    }

    #[tokio::test]
    async fn permanent_error_is_returned_at_once() {
        let script = vec![Err(Problem::DesktopUnreachable), Err(Problem::Ended(EndReason::Cancelled))];
        assert_eq!(run_attempts(script).await, (2, Err("cancelled".to_owned())));
    }

    #[tokio::test]
    async fn silent_server_fails_at_the_deadline() {
        let mut kept = Vec::new();
        let silent = connect_with_backoff(100, |_| {
            let (machine, stream) = duplex(64);
            kept.push(machine);
            async { Ok(stream) }
        });
        assert_eq!(silent.await.unwrap_err().code, "desktop_unreachable");
        let refusing =
            connect_with_backoff(100, |_| async { Err::<DuplexStream, _>(Problem::AgentUnreachable.with_detail("")) });
        assert_eq!(refusing.await.unwrap_err().code, "agent_unreachable");
    }

    #[tokio::test(start_paused = true)]
    async fn error_of_an_attempt_that_ends_at_the_deadline_is_returned() {
        let started = Instant::now();
        let mut attempts = 0;
        let waiting = connect_with_backoff(1_000, |deadline| {
            attempts += 1;
            let first = attempts == 1;
            async move {
                if first {
                    return Err::<DuplexStream, _>(Problem::AgentUnreachable.with_detail("connection lost"));
                }
                // Like an attempt whose timer fires at the deadline and whose task is scheduled a moment later.
                sleep_until(deadline + Duration::from_millis(1)).await;
                Err(Problem::NotReady.with_detail("waiting for capacity"))
            }
        });
        let error = waiting.await.unwrap_err();
        assert_eq!((error.code.as_str(), error.detail.as_deref()), ("not_ready", Some("waiting for capacity")));
        assert_eq!(started.elapsed(), Duration::from_millis(1_001), "both attempts share one deadline");
    }
}
