//! A viewer's WebSocket as a byte stream, with the close code kept.

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

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The address or a header is not well formed.
    #[error("{0:?} cannot be asked for")]
    Malformed(String),
    /// The server answered the handshake with an HTTP status.
    #[error("the server answered {status}: {body}")]
    Refused {
        /// The status.
        status: u16,
        /// The body, a problem as JSON.
        body: String,
    },
    /// No connection.
    #[error("the server could not be reached")]
    Unreachable(#[source] Box<Error>),
    /// No answer.
    #[error("the server did not answer the handshake within {0} ms")]
    Late(u64),
}

/// How the server closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closing {
    /// The close code; 1005 when the frame had none.
    pub code: u16,
    /// The reason.
    pub reason: String,
}

/// The client side of a viewer's WebSocket. Reading ends when the server closes; [`Self::closing`] then says how.
#[derive(Debug)]
pub struct ViewerSocket {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    rest: Bytes,
    closing: Option<Closing>,
    /// Whether the last write has not left yet: whoever reads then sends it on the way, for nobody else may.
    unsent: bool,
}

impl ViewerSocket {
    fn new(socket: WebSocketStream<MaybeTlsStream<TcpStream>>) -> Self {
        Self { socket, rest: Bytes::new(), closing: None, unsent: false }
    }

    /// Sends what has not left yet, as far as the connection takes it.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let sent = Pin::new(&mut self.socket).poll_flush(cx).map_err(io::Error::other);
        self.unsent = sent.is_pending();
        sent
    }

    /// Opens `url` (`ws://…`) with these headers (`Authorization`, `Origin`, `Sec-WebSocket-Protocol`).
    ///
    /// # Errors
    /// [`DialError`].
    pub async fn dial(url: &str, headers: &[(&'static str, &str)], answer_ms_max: u64) -> Result<Self, DialError> {
        let mut request = url.into_client_request().map_err(|_| DialError::Malformed(url.to_owned()))?;
        for &(name, value) in headers {
            let value = HeaderValue::from_str(value).map_err(|_| DialError::Malformed(name.to_owned()))?;
            request.headers_mut().insert(name, value);
        }
        match timeout(Duration::from_millis(answer_ms_max), connect_async(request)).await {
            Ok(Ok((socket, _))) => Ok(Self::new(socket)),
            Ok(Err(Error::Http(response))) => Err(DialError::Refused {
                status: response.status().as_u16(),
                body: String::from_utf8_lossy(response.body().as_deref().unwrap_or_default()).into_owned(),
            }),
            Ok(Err(error)) => Err(DialError::Unreachable(Box::new(error))),
            Err(_) => Err(DialError::Late(answer_ms_max)),
        }
    }

    /// Shakes hands over a connection that is open; `url` says what is asked for there. The caller bounds the time.
    ///
    /// # Errors
    /// What was answered instead.
    pub async fn over(
        stream: TcpStream,
        url: &str,
        subprotocol: &'static str,
        message_bytes_max: usize,
    ) -> Result<Self, Error> {
        let mut request = url.into_client_request()?;
        request.headers_mut().insert("Sec-WebSocket-Protocol", HeaderValue::from_static(subprotocol));
        let config = WebSocketConfig::default()
            .max_message_size(Some(message_bytes_max))
            .max_frame_size(Some(message_bytes_max))
            .max_write_buffer_size(2 * message_bytes_max);
        let (socket, _) = client_async_with_config(request, MaybeTlsStream::Plain(stream), Some(config)).await?;
        Ok(Self::new(socket))
    }

    /// How the server closed, once reading has ended. `None`: it broke off without a word.
    pub fn closing(&self) -> Option<&Closing> {
        self.closing.as_ref()
    }

    /// Sends a text message (a terminal's control).
    ///
    /// # Errors
    /// The socket broke.
    pub async fn send_text(&mut self, text: &str) -> io::Result<()> {
        futures_util::SinkExt::send(&mut self.socket, Message::text(text)).await.map_err(io::Error::other)
    }
}

impl AsyncRead for ViewerSocket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        // What it answers may be what is waited for. A connection that is broken tells so when it is read.
        if self.unsent {
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
                    let closing = frame.map(|frame| (u16::from(frame.code), frame.reason.to_string()));
                    let (code, reason) = closing.unwrap_or((1005, String::new()));
                    self.closing = Some(Closing { code, reason });
                }
                Some(Ok(Message::Text(text))) => self.rest = Bytes::copy_from_slice(text.as_bytes()),
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
                None | Some(Err(Error::ConnectionClosed)) => return Poll::Ready(Ok(())),
                Some(Err(error)) => return Poll::Ready(Err(io::Error::other(error))),
            }
        }
    }
}

impl AsyncWrite for ViewerSocket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let mut socket = Pin::new(&mut self.socket);
        ready!(socket.as_mut().poll_ready(cx)).map_err(io::Error::other)?;
        socket.as_mut().start_send(Message::Binary(Bytes::copy_from_slice(buf))).map_err(io::Error::other)?;
        // Written as far as the connection takes it; what remains goes with the next call of any kind.
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

    /// Takes all that this task may do before it has to let others: nothing is ready for it any more.
    fn exhaust(cx: &mut Context<'_>) {
        while std::pin::pin!(tokio::task::consume_budget()).poll(cx).is_ready() {}
    }

    #[tokio::test]
    async fn what_was_written_when_the_task_had_its_share_is_sent_while_it_reads() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("ws://{}/", listener.local_addr().unwrap());
        let echo = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let mut socket = tokio_tungstenite::accept_async(stream).await.unwrap();
            let heard = futures_util::StreamExt::next(&mut socket).await.unwrap().unwrap();
            futures_util::SinkExt::send(&mut socket, heard).await.unwrap();
        });
        let mut socket = ViewerSocket::dial(&url, &[], 10_000).await.unwrap();
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
