//! Reaching a server that speaks first, and may be away for a moment.
//!
//! A desktop that is just starting, or starting again, refuses connections or takes them and closes. An open stream alone
//! is no sign of life, its first word is. So the stream is opened again and again until the other side has spoken; the
//! viewer's socket stays, and what the viewer sent meanwhile is kept by its tunnel.

use anteroom_wire::{Problem, ProblemBody};
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

/// What is read to see whether the other side speaks: RFB's greeting has 12 bytes.
const FIRST_BYTES_MAX: usize = 64;
const PAUSE_MS_MIN: u64 = 50;
const PAUSE_MS_MAX: u64 = 500;

/// A stream whose other side has spoken; what it said is read first.
#[derive(Debug)]
pub struct Spoken<S> {
    said: Bytes,
    stream: S,
}

impl<S> Spoken<S> {
    /// A stream whose other side has said this.
    pub fn new(said: Bytes, stream: S) -> Self {
        Self { said, stream }
    }
}

/// Opens a stream, again and again, until its other side has said something, at most `ms_max` milliseconds.
///
/// `open` is told the moment at which the time is over, and answers by then: it alone knows what it waited for. It is not
/// cut off here, or one of two limits that end together would decide what the viewer is told.
///
/// # Errors
/// At once what `open` says, unless that is "unreachable", which may pass. When the time is over, the last such answer,
/// or [`Problem::DesktopUnreachable`] when streams were open and nothing came.
pub async fn until_it_speaks<S, F, Fut>(ms_max: u64, mut open: F) -> Result<Spoken<S>, ProblemBody>
where
    S: AsyncRead + AsyncWrite + Unpin,
    F: FnMut(Instant) -> Fut,
    Fut: Future<Output = Result<S, ProblemBody>>,
{
    let until = Instant::now() + Duration::from_millis(ms_max);
    let mut pause = Duration::from_millis(PAUSE_MS_MIN);
    let mut last = Problem::DesktopUnreachable.with(format!("no word in {ms_max} ms"));
    loop {
        let passing = [Problem::DesktopUnreachable, Problem::AgentUnreachable].map(Problem::code);
        match open(until).await {
            Ok(stream) => match timeout_at(until, first_words(stream)).await {
                Ok(Some(spoken)) => return Ok(spoken),
                Ok(None) => last = Problem::DesktopUnreachable.with("it takes connections and closes them"),
                Err(_) => return Err(last),
            },
            Err(body) if passing.contains(&body.code.as_str()) => last = body,
            Err(body) => return Err(body),
        }
        if Instant::now() + pause >= until {
            return Err(last);
        }
        sleep_until(Instant::now() + pause).await;
        pause = (pause * 2).min(Duration::from_millis(PAUSE_MS_MAX));
    }
}

/// `None`: the stream ended before its first byte.
async fn first_words<S: AsyncRead + Unpin>(mut stream: S) -> Option<Spoken<S>> {
    let mut said = BytesMut::with_capacity(FIRST_BYTES_MAX);
    let count = stream.read_buf(&mut said).await.ok()?;
    (count > 0).then(|| Spoken { said: said.freeze(), stream })
}

impl<S: AsyncRead + Unpin> AsyncRead for Spoken<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.said.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buf);
        }
        let count = self.said.len().min(buf.remaining());
        buf.put_slice(&self.said[..count]);
        self.said.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Spoken<S> {
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
    use tokio::io::{AsyncWriteExt, DuplexStream, duplex};

    /// What happens at each try.
    async fn tries(script: Vec<Result<&[u8], Problem>>) -> (usize, Result<Vec<u8>, String>) {
        let (mut count, limit) = (0, 20_000);
        let spoken = until_it_speaks(limit, |_| {
            let step = script[count].map_err(|problem| problem.with(""));
            count += 1;
            async move {
                let (mut machine, stream): (DuplexStream, _) = duplex(64);
                machine.write_all(step?).await.unwrap();
                Ok(stream)
            }
        });
        let spoken = match spoken.await {
            Ok(mut spoken) => {
                let mut all = Vec::new();
                spoken.read_to_end(&mut all).await.unwrap();
                Ok(all)
            }
            Err(body) => Err(body.code),
        };
        (count, spoken)
    }

    #[tokio::test]
    async fn a_server_that_refuses_and_then_closes_is_reached_when_it_speaks_and_no_word_is_lost() {
        let script = vec![
            Err(Problem::DesktopUnreachable),
            Err(Problem::AgentUnreachable),
            Ok(&b""[..]),
            Ok(&b"RFB 003.008\n"[..]),
        ];
        assert_eq!(tries(script).await, (4, Ok(b"RFB 003.008\n".to_vec())));
    }

    #[tokio::test]
    async fn what_will_not_pass_is_told_at_once() {
        let script = vec![Err(Problem::DesktopUnreachable), Err(Problem::SessionOver)];
        assert_eq!(tries(script).await, (2, Err("session_over".to_owned())));
    }

    #[tokio::test]
    async fn a_server_that_never_speaks_is_given_up_in_time() {
        let mut kept = Vec::new();
        let silent = until_it_speaks(100, |_| {
            let (machine, stream) = duplex(64);
            kept.push(machine);
            async { Ok(stream) }
        });
        assert_eq!(silent.await.unwrap_err().code, "desktop_unreachable");
        let refusing = until_it_speaks(100, |_| async { Err::<DuplexStream, _>(Problem::AgentUnreachable.with("")) });
        assert_eq!(refusing.await.unwrap_err().code, "agent_unreachable");
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_to_the_very_limit_says_what_it_waited_for() {
        let began = Instant::now();
        let mut tries = 0;
        let waiting = until_it_speaks(1_000, |until| {
            tries += 1;
            let first = tries == 1;
            async move {
                if first {
                    return Err::<DuplexStream, _>(Problem::AgentUnreachable.with("it went away"));
                }
                // As a waiter does whose own timer fires with the limit, and which is run a moment later.
                sleep_until(until + Duration::from_millis(1)).await;
                Err(Problem::NotReady.with("it waits for room"))
            }
        });
        let refused = waiting.await.unwrap_err();
        assert_eq!((refused.code.as_str(), refused.detail.as_deref()), ("not_ready", Some("it waits for room")));
        assert_eq!(began.elapsed(), Duration::from_millis(1_001), "both tries had one limit between them");
    }
}
