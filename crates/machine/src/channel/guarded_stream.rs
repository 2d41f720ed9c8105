//! A machine's HTTP/2 connection with limits that the HTTP/2 library does not have: frames a second, and time.
//!
//! The library bounds memory: header lists, windows, send buffers, streams that were reset. Frames without data cost the machine nothing
//! and the server a little each, so they have a rate. The library answers what it does not accept with GOAWAY; that frame is looked for on its
//! way out, because it is the same for both roles and names the cause.

use super::frames::{FoundFrames, FrameFinder, Writer, error_name};
use anteroom_wire::{rate::Rate, time::to_millis};
use parking_lot::Mutex;
use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep},
};

/// Frames without data of one channel: a second, and at once after a pause. A browser that opens a hundred connections and downloads at
/// the session's highest rate causes a few hundred a second.
pub const FRAMES_PER_S: u32 = 2_000;
/// See [`FRAMES_PER_S`].
pub const FRAMES_BURST: u32 = 20_000;

/// What a machine did on a channel that no agent does.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ChannelViolation {
    /// The HTTP/2 library gave the connection up.
    #[error("it broke HTTP/2: {error_name}{}", detail_in_parentheses(.detail))]
    Http2 {
        /// The name of the error code.
        error_name: &'static str,
        /// More about it, if the library names it.
        detail: String,
    },
    /// Too many frames without data.
    #[error("it sent more than {FRAMES_PER_S} HTTP/2 frames without data a second")]
    TooManyFrames,
    /// It sent something else than HTTP/2.
    #[error("it broke HTTP/2: its first bytes are not the preface")]
    WrongPreface,
    /// It did not begin HTTP/2.
    #[error("it sent no HTTP/2 preface for {ms_max} ms")]
    NoPreface {
        /// The time that it had, milliseconds.
        ms_max: u64,
    },
    /// It did not read.
    #[error("it read nothing for {ms_max} ms")]
    ReadsNothing {
        /// The time that it had, milliseconds.
        ms_max: u64,
    },
    /// It sent bytes instead of the echo of a nonce.
    #[error("it sent {bytes_max} bytes without the echo of a nonce")]
    NoEcho {
        /// The bytes that it may send before it.
        bytes_max: usize,
    },
    /// Its connections ended again and again.
    #[error("its connections ended within seconds, more than {count_max} times")]
    ShortConnections {
        /// How many of them are accepted at once.
        count_max: u32,
    },
}

fn detail_in_parentheses(detail: &str) -> String {
    if detail.is_empty() { String::new() } else { format!(" ({detail})") }
}

/// The first violation of a connection. Cheap to clone; clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct FirstViolation(Arc<Mutex<Option<ChannelViolation>>>);

impl FirstViolation {
    fn set(&self, violation: ChannelViolation) {
        self.0.lock().get_or_insert(violation);
    }

    /// The violation, if there was one.
    pub(crate) fn take(&self) -> Option<ChannelViolation> {
        self.0.lock().take()
    }
}

/// The role of the machine in HTTP/2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MachineRole {
    /// On the controller channel.
    Client,
    /// On the agent channel.
    Server,
}

/// A resynchronized stream with the limits. An exceeded one is an error of the next read or write.
#[derive(Debug)]
pub(crate) struct GuardedStream<S> {
    stream: S,
    received: FrameFinder,
    sent: FrameFinder,
    frames: Rate,
    /// How long the machine may take for its preface, and may read nothing.
    time_max: Duration,
    preface_timer: Option<Pin<Box<Sleep>>>,
    write_timer: Option<Pin<Box<Sleep>>>,
    violation: FirstViolation,
}

impl<S> GuardedStream<S> {
    pub(crate) fn new(stream: S, machine: MachineRole, time_max: Duration) -> Self {
        let (machine, ours) = match machine {
            MachineRole::Client => (Writer::Client, Writer::Server),
            MachineRole::Server => (Writer::Server, Writer::Client),
        };
        let received = FrameFinder::new(machine);
        Self {
            stream,
            preface_timer: (!received.has_preface()).then(|| Box::pin(sleep(time_max))),
            received,
            sent: FrameFinder::new(ours),
            frames: Rate::new(FRAMES_PER_S, FRAMES_BURST),
            time_max,
            write_timer: None,
            violation: FirstViolation::default(),
        }
    }

    /// Where the violation of this connection will be.
    pub(crate) fn violation(&self) -> FirstViolation {
        self.violation.clone()
    }

    fn fail<T>(&self, violation: ChannelViolation) -> Poll<io::Result<T>> {
        let error = io::Error::other(violation.clone());
        self.violation.set(violation);
        Poll::Ready(Err(error))
    }

    /// Counts the frames in bytes that were read.
    fn count_received(&mut self, bytes: &[u8]) -> Result<(), ChannelViolation> {
        let FoundFrames { without_data, goaway: _, wrong_preface } = self.received.find(bytes);
        if wrong_preface {
            return Err(ChannelViolation::WrongPreface);
        }
        if self.received.has_preface() {
            self.preface_timer = None;
        }
        let now = Instant::now().into_std();
        let permitted = self.frames.ready_at(now) <= now;
        self.frames.take(without_data, now);
        if without_data > 0 && !permitted { Err(ChannelViolation::TooManyFrames) } else { Ok(()) }
    }

    /// Looks for our GOAWAY in bytes that were written.
    fn inspect_sent(&mut self, bytes: &[u8]) {
        if let Some(goaway) = self.sent.find(bytes).goaway
            && goaway.error_code != 0
        {
            let error_name = error_name(goaway.error_code);
            self.violation.set(ChannelViolation::Http2 { error_name, detail: goaway.debug_data });
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for GuardedStream<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if read.is_ready() {
            ready!(read)?;
            return match self.count_received(buf.filled().get(before..).unwrap_or_default()) {
                Ok(()) => Poll::Ready(Ok(())),
                Err(violation) => self.fail(violation),
            };
        }
        if let Some(timer) = &mut self.preface_timer {
            ready!(timer.as_mut().poll(cx));
            let ms_max = to_millis(self.time_max);
            return self.fail(ChannelViolation::NoPreface { ms_max });
        }
        Poll::Pending
    }
}

impl<S: AsyncWrite + Unpin> GuardedStream<S> {
    /// A result of a write, unless the machine has read nothing for too long.
    fn check_write<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.write_timer = None;
            return written;
        }
        let time_max = self.time_max;
        ready!(self.write_timer.get_or_insert_with(|| Box::pin(sleep(time_max))).as_mut().poll(cx));
        self.fail(ChannelViolation::ReadsNothing { ms_max: to_millis(time_max) })
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for GuardedStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        if let Poll::Ready(Ok(count)) = &written {
            self.inspect_sent(bytes.get(..*count).unwrap_or_default());
        }
        self.check_write(cx, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        if flushed.is_ready() { flushed } else { self.check_write(cx, flushed) }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    const TIME_MAX: Duration = Duration::from_secs(20);
    const PING: [u8; 17] = *b"\0\0\x08\x06\0\0\0\0\x0012345678";

    #[tokio::test]
    async fn machine_that_floods_frames_is_stopped_and_one_that_sends_data_is_not() {
        let (mut machine, ours) = duplex(64 * 1024);
        let mut ours = GuardedStream::new(ours, MachineRole::Server, TIME_MAX);
        let violation = ours.violation();
        let sender = tokio::spawn(async move {
            let data = [&b"\0\x40\0\0\0\0\0\0\x01"[..], &[7; 0x4000]].concat();
            for _ in 0..30_000 {
                machine.write_all(&data).await.unwrap();
            }
            while machine.write_all(&PING.repeat(1_000)).await.is_ok() {}
        });
        let (mut bytes, mut read, mut error) = (vec![0; 1 << 20], 0, None);
        while error.is_none() {
            match ours.read(&mut bytes).await {
                Ok(count) => read += count,
                Err(found) => error = Some(found),
            }
        }
        drop(ours);
        sender.await.unwrap();
        assert!(read > 30_000 * 0x4000, "{read}");
        assert_eq!(violation.take(), Some(ChannelViolation::TooManyFrames), "{error:?}");
    }

    #[tokio::test]
    async fn our_goaway_names_the_violation() {
        let (_machine, ours) = duplex(1024);
        let mut ours = GuardedStream::new(ours, MachineRole::Client, TIME_MAX);
        let violation = ours.violation();
        ours.write_all(b"\0\0\x08\x07\0\0\0\0\0\0\0\0\0\0\0\0\0").await.unwrap();
        assert_eq!(violation.take(), None, "a graceful end");
        ours.write_all(b"\0\0\x0b\x07\0\0\0\0\0\0\0\0\0\0\0\0\x01why").await.unwrap();
        let text = violation.take().unwrap().to_string();
        assert_eq!(text, "it broke HTTP/2: PROTOCOL_ERROR (why)");
    }

    #[tokio::test(start_paused = true)]
    async fn machine_that_never_reads_or_never_sends_its_preface_is_given_up() {
        let (_machine, ours) = duplex(16);
        let mut ours = GuardedStream::new(ours, MachineRole::Client, TIME_MAX);
        assert!(ours.read_u8().await.is_err());
        assert_eq!(ours.violation().take(), Some(ChannelViolation::NoPreface { ms_max: 20_000 }));
        assert!(ours.write_all(&[0; 64]).await.is_err());
        assert_eq!(ours.violation().take(), Some(ChannelViolation::ReadsNothing { ms_max: 20_000 }));
    }
}
