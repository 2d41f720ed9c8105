//! Notices the first input of a viewer in the bytes that go to the machine.

use anteroom_tunnel::ViewOnlyFilter;
use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What counts as input.
pub(super) enum InputKind {
    /// Every byte: a terminal's stream.
    EveryByte,
    /// The RFB messages that a view-only viewer may not send.
    Rfb(Box<ViewOnlyFilter>),
}

/// A stream to a machine that calls a function once, at the first input.
pub(super) struct ObservedInput<S, F> {
    stream: S,
    observer: Option<(InputKind, F)>,
}

impl<S, F: FnOnce()> ObservedInput<S, F> {
    /// Calls `on_first_input` at the first input of this kind.
    pub(super) fn new(stream: S, kind: InputKind, on_first_input: F) -> Self {
        Self { stream, observer: Some((kind, on_first_input)) }
    }

    fn observe(&mut self, written: &[u8]) {
        let Some((kind, _)) = &mut self.observer else { return };
        let is_input = match kind {
            InputKind::EveryByte => !written.is_empty(),
            InputKind::Rfb(filter) => filter.finds_input(written),
        };
        if is_input && let Some((_, on_first_input)) = self.observer.take() {
            on_first_input();
        }
    }
}

impl<S: AsyncRead + Unpin, F: Unpin> AsyncRead for ObservedInput<S, F> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if let Some((InputKind::Rfb(filter), _)) = &self.observer {
            filter.read_offer(buf.filled().get(before..).unwrap_or_default());
        }
        read
    }
}

impl<S: AsyncWrite + Unpin, F: FnOnce() + Unpin> AsyncWrite for ObservedInput<S, F> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        if let Poll::Ready(Ok(count)) = written {
            self.observe(bytes.get(..count).unwrap_or_default());
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
