//! Messages of the exec channel on a byte stream.

use anteroom_wire::exec::{
    ExecStart, PAYLOAD_BYTES_MAX, START, START_BYTES_MAX, complete_message_length, length_prefix,
};
use bytes::{Buf, Bytes, BytesMut};
use std::io;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::Mutex,
};

/// Bytes before a payload: length and channel.
const HEADER_BYTES: usize = 5;

/// Reads messages.
pub(super) struct MessageReader<R> {
    stream: R,
    buffer: BytesMut,
}

impl<R: AsyncRead + Unpin> MessageReader<R> {
    pub(super) fn new(stream: R) -> Self {
        Self { stream, buffer: BytesMut::new() }
    }

    /// The first message.
    ///
    /// # Errors
    /// It is something else, or the stream ended.
    pub(super) async fn next_start(&mut self) -> io::Result<ExecStart> {
        match self.next_up_to(START_BYTES_MAX).await? {
            // Line and column only: the parser's message could quote the command.
            Some((START, payload)) => serde_json::from_slice(&payload).map_err(|error| {
                io::Error::other(format!("malformed start at line {}, column {}", error.line(), error.column()))
            }),
            Some((channel, _)) => Err(io::Error::other(format!("began with channel {channel}"))),
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    /// The next message: channel and payload; `None`: the peer has closed the stream. Cancel-safe.
    pub(super) async fn next(&mut self) -> io::Result<Option<(u8, Bytes)>> {
        self.next_up_to(PAYLOAD_BYTES_MAX).await
    }

    async fn next_up_to(&mut self, payload_bytes_max: usize) -> io::Result<Option<(u8, Bytes)>> {
        loop {
            if let Some(length) = complete_message_length(&self.buffer, payload_bytes_max).map_err(io::Error::other)? {
                self.buffer.advance(size_of::<u32>());
                let mut message = self.buffer.split_to(length);
                return Ok(Some((message.get_u8(), message.freeze())));
            }
            self.buffer.reserve(PAYLOAD_BYTES_MAX + HEADER_BYTES);
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Ok(None);
            }
        }
    }
}

/// Writes messages, each as a whole.
pub(super) struct MessageWriter<W>(Mutex<W>);

impl<W: AsyncWrite + Unpin> MessageWriter<W> {
    pub(super) fn new(stream: W) -> Self {
        Self(Mutex::new(stream))
    }

    /// Writes a message. It waits until the peer has room for it.
    pub(super) async fn send(&self, channel: u8, payload: &[u8]) -> io::Result<()> {
        let mut message = Vec::with_capacity(HEADER_BYTES + payload.len());
        message.extend_from_slice(&length_prefix(1 + payload.len()));
        message.push(channel);
        message.extend_from_slice(payload);
        let mut stream = self.0.lock().await;
        stream.write_all(&message).await?;
        stream.flush().await
    }

    /// Closes the stream's own direction.
    pub(super) async fn shutdown(&self) -> io::Result<()> {
        self.0.lock().await.shutdown().await
    }
}
