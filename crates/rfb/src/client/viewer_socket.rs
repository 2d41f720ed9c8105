//! A viewer's WebSocket as a byte stream that also returns the close code.

use bytes::{Buf, Bytes};
use futures_util::{Sink, Stream};
use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::timeout,
};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, client_async_with_config, connect_async,
    tungstenite::{Error, Message, client::IntoClientRequest, http::HeaderValue, protocol::WebSocketConfig},
};

/// Why a WebSocket was not opened.
#[derive(Debug, thiserror::Error)]
pub enum ViewerConnectError {
    /// The URL or a header is malformed.
    #[error("{0:?} is not a valid URL or header value")]
    Malformed(String),
    /// The server answered the handshake with an HTTP status.
    #[error("the server answered {status}: {body}")]
    Rejected {
        /// The status.
        status: u16,
        /// The body, a problem as JSON.
        body: String,
    },
    /// The connection failed.
    #[error("the server could not be reached")]
    Unreachable(#[source] Box<Error>),
    /// The handshake timed out.
    #[error("the server did not answer the handshake within {0} ms")]
    Timeout(u64),
}

/// The status of the server's close frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebSocketClose {
    /// The close code; 1005 when the frame had none.
    pub code: u16,
    /// The reason.
    pub reason: String,
}

/// The client side of a viewer's WebSocket. Reading ends when the server closes; [`Self::close_reason`] then returns the status.
#[derive(Debug)]
pub struct ViewerSocket<S = MaybeTlsStream<TcpStream>> {
    socket: WebSocketStream<S>,
    /// Bytes of the last message that were not read yet.
    rest: Bytes,
    close_reason: Option<WebSocketClose>,
    /// Whether a write is not flushed yet. Reading then flushes it, because the caller may not call anything else.
    needs_flush: bool,
}

impl ViewerSocket {
    /// Opens `url` (`ws://…`) with these headers (`Authorization`, `Origin`, `Sec-WebSocket-Protocol`).
    ///
    /// # Errors
    /// [`ViewerConnectError`].
    pub async fn connect(
        url: &str,
        headers: &[(&'static str, &str)],
        answer_ms_max: u64,
    ) -> Result<Self, ViewerConnectError> {
        let mut request = url.into_client_request().map_err(|_| ViewerConnectError::Malformed(url.to_owned()))?;
        for &(name, value) in headers {
            let value = HeaderValue::from_str(value).map_err(|_| ViewerConnectError::Malformed(name.to_owned()))?;
            request.headers_mut().insert(name, value);
        }
        match timeout(Duration::from_millis(answer_ms_max), connect_async(request)).await {
            Ok(Ok((socket, _))) => Ok(Self::new(socket)),
            Ok(Err(Error::Http(response))) => Err(ViewerConnectError::Rejected {
                status: response.status().as_u16(),
                body: String::from_utf8_lossy(response.body().as_deref().unwrap_or_default()).into_owned(),
            }),
            Ok(Err(error)) => Err(ViewerConnectError::Unreachable(Box::new(error))),
            Err(_) => Err(ViewerConnectError::Timeout(answer_ms_max)),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> ViewerSocket<S> {
    fn new(socket: WebSocketStream<S>) -> Self {
        Self { socket, rest: Bytes::new(), close_reason: None, needs_flush: false }
    }

    /// Flushes as much as the connection accepts.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let sent = Pin::new(&mut self.socket).poll_flush(cx).map_err(io::Error::other);
        self.needs_flush = sent.is_pending();
        sent
    }

    /// Does the WebSocket handshake on an open connection, for `url`, with these additional headers. The caller must set a timeout.
    ///
    /// # Errors
    /// The connection broke or the answer is not a WebSocket handshake.
    pub async fn connect_over(
        stream: S,
        url: &str,
        headers: &[(&'static str, HeaderValue)],
        message_bytes_max: usize,
    ) -> Result<Self, Error> {
        let mut request = url.into_client_request()?;
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.clone());
        }
        let config = WebSocketConfig::default()
            .max_message_size(Some(message_bytes_max))
            .max_frame_size(Some(message_bytes_max))
            .max_write_buffer_size(2 * message_bytes_max);
        let (socket, _) = client_async_with_config(request, stream, Some(config)).await?;
        Ok(Self::new(socket))
    }

    /// The status of the server's close frame, after reading has ended. `None`: the connection ended without a close frame.
    pub fn close_reason(&self) -> Option<&WebSocketClose> {
        self.close_reason.as_ref()
    }

    /// Sends a text message (a terminal's control).
    ///
    /// # Errors
    /// The socket broke.
    pub async fn send_text(&mut self, text: &str) -> io::Result<()> {
        futures_util::SinkExt::send(&mut self.socket, Message::text(text)).await.map_err(io::Error::other)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for ViewerSocket<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        // The caller may wait for the answer to an unflushed write. If the connection is broken, the read below fails.
        if self.needs_flush {
            let _ = self.poll_send(cx);
        }
        loop {
            if !self.rest.is_empty() {
                let count = self.rest.len().min(buf.remaining());
                buf.put_slice(&self.rest[..count]);
                self.rest.advance(count);
                return Poll::Ready(Ok(()));
            }
            match ready!(Pin::new(&mut self.socket).poll_next(cx)) {
                Some(Ok(Message::Binary(bytes))) => self.rest = bytes,
                Some(Ok(Message::Close(frame))) => {
                    let status = frame.map(|frame| (u16::from(frame.code), frame.reason.to_string()));
                    let (code, reason) = status.unwrap_or((1005, String::new()));
                    self.close_reason = Some(WebSocketClose { code, reason });
                }
                Some(Ok(Message::Text(text))) => self.rest = Bytes::copy_from_slice(text.as_bytes()),
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
                None | Some(Err(Error::ConnectionClosed)) => return Poll::Ready(Ok(())),
                Some(Err(error)) => return Poll::Ready(Err(io::Error::other(error))),
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for ViewerSocket<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let mut socket = Pin::new(&mut self.socket);
        ready!(socket.as_mut().poll_ready(cx)).map_err(io::Error::other)?;
        socket.as_mut().start_send(Message::Binary(Bytes::copy_from_slice(buf))).map_err(io::Error::other)?;
        // Flush as much as the connection accepts; the next read or flush sends the rest.
        let _ = self.poll_send(cx)?;
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_send(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_close(cx).map_err(io::Error::other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    /// Uses up the task's cooperative budget, so that no I/O is ready for it.
    fn exhaust(cx: &mut Context<'_>) {
        while std::pin::pin!(tokio::task::consume_budget()).poll(cx).is_ready() {}
    }

    #[tokio::test]
    async fn write_without_task_budget_is_flushed_while_reading() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("ws://{}/", listener.local_addr().unwrap());
        let echo = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let mut socket = tokio_tungstenite::accept_async(stream).await.unwrap();
            let message = futures_util::StreamExt::next(&mut socket).await.unwrap().unwrap();
            futures_util::SinkExt::send(&mut socket, message).await.unwrap();
        });
        let mut socket = ViewerSocket::connect(&url, &[], 10_000).await.unwrap();
        let written = poll_fn(|cx| {
            exhaust(cx);
            Pin::new(&mut socket).poll_write(cx, b"greeting")
        });
        assert_eq!(written.await.unwrap(), 8);
        let mut back = [0; 8];
        timeout(Duration::from_secs(30), socket.read_exact(&mut back)).await.expect("it was sent").unwrap();
        assert_eq!(&back, b"greeting");
        echo.await.unwrap();
        let _ = socket.shutdown().await;
    }
}
