//! A client for `anteroom bench` and the tests. Viewers' connections are proxied as bytes and do not use
//! it.
//!
//! It supports security type None, true colour and the encodings in [`Encoding`], so that measurements correspond to a browser.
//! It works over any byte stream; [`ViewerSocket`] is the byte stream of a viewer's WebSocket.

mod encoding;
mod frame;
mod rectangles;
mod tight;
mod viewer_socket;

pub use encoding::Encoding;
pub use frame::{Frame, Rgb};
pub use viewer_socket::{ViewerConnectError, ViewerSocket, WebSocketClose};

use crate::{
    client_messages,
    handshake::{PROTOCOL_VERSION, SECURITY_NONE, ServerInitHead},
};
use std::{io, time::Duration};
use tight::TightDecoder;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::timeout,
};

/// The largest framebuffer that is accepted, pixels (the largest geometry that can be configured).
const PIXELS_MAX: usize = 3840 * 2160;
/// The longest name or clipboard text that is accepted, bytes.
const TEXT_BYTES_MAX: u32 = 1024 * 1024;

/// An error of the connection to a desktop.
#[derive(Debug, thiserror::Error)]
pub enum RfbError {
    /// The stream broke or ended.
    #[error("the desktop's stream broke while {doing}")]
    Stream {
        /// The operation.
        doing: &'static str,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The server did not answer in time.
    #[error("the desktop did not answer within {limit_ms} ms while {doing}")]
    Timeout {
        /// The operation.
        doing: &'static str,
        /// The timeout.
        limit_ms: u64,
    },
    /// The server violated RFB 3.8, sent something unsupported, or rejected the connection.
    #[error("RFB error: {0}")]
    Protocol(String),
}

/// The size of an update.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UpdateSize {
    /// Number of rectangles.
    pub rectangle_count: u16,
    /// Pixels in all rectangles.
    pub pixel_count: usize,
}

/// A connection to a desktop, with the current framebuffer.
#[derive(Debug)]
pub struct RfbClient<S> {
    stream: S,
    limit: Duration,
    name: String,
    offered: Vec<Encoding>,
    tight: TightDecoder,
    frame: Frame,
}

impl<S: AsyncRead + AsyncWrite + Unpin> RfbClient<S> {
    /// Connects in shared mode with 32-bit true colour and [`Encoding::BROWSER_DEFAULTS`]. `answer_ms_max` is the timeout of
    /// this and of every later operation.
    ///
    /// # Errors
    /// [`RfbError`]: the stream broke, a timeout, or not RFB 3.8 without a password.
    pub async fn connect(stream: S, answer_ms_max: u64) -> Result<Self, RfbError> {
        Self::connect_with_encodings(stream, answer_ms_max, Encoding::BROWSER_DEFAULTS).await
    }

    /// Like [`Self::connect`] with these encodings, the preferred ones first.
    ///
    /// # Errors
    /// Like [`Self::connect`].
    pub async fn connect_with_encodings(stream: S, answer_ms_max: u64, offered: &[Encoding]) -> Result<Self, RfbError> {
        let limit = Duration::from_millis(answer_ms_max);
        let (name, offered) = (String::new(), offered.to_vec());
        let mut client = Self { stream, limit, name, offered, tight: TightDecoder::new(), frame: Frame::new(0, 0) };
        within(limit, "doing the handshake", client.handshake()).await?;
        Ok(client)
    }

    async fn handshake(&mut self) -> Result<(), RfbError> {
        let doing = "doing the handshake";
        let mut greeting = [0; 12];
        self.stream.read_exact(&mut greeting).await.map_err(broken(doing))?;
        if &greeting != PROTOCOL_VERSION {
            return Err(RfbError::Protocol(format!(
                "the server sent {:?} instead of RFB 3.8",
                String::from_utf8_lossy(&greeting)
            )));
        }
        self.stream.write_all(PROTOCOL_VERSION).await.map_err(broken(doing))?;
        let count = self.stream.read_u8().await.map_err(broken(doing))?;
        if count == 0 {
            return Err(RfbError::Protocol(self.text(doing).await?));
        }
        let mut types = vec![0; usize::from(count)];
        self.stream.read_exact(&mut types).await.map_err(broken(doing))?;
        if !types.contains(&SECURITY_NONE) {
            return Err(RfbError::Protocol(format!("the server offers security types {types:?}, without None")));
        }
        self.stream.write_all(&[SECURITY_NONE]).await.map_err(broken(doing))?;
        if self.stream.read_u32().await.map_err(broken(doing))? != 0 {
            return Err(RfbError::Protocol(self.text(doing).await?));
        }
        let shared = 1;
        self.stream.write_all(&[shared]).await.map_err(broken(doing))?;
        let mut head = [0; ServerInitHead::BYTES];
        self.stream.read_exact(&mut head).await.map_err(broken(doing))?;
        let head = ServerInitHead::parse(&head);
        self.name = self.text_of(head.name_bytes, doing).await?;
        self.resize(head.width, head.height)?;

        let encodings = client_messages::encode_set_encodings(self.offered.iter().map(|encoding| encoding.number()));
        let messages = [client_messages::encode_set_pixel_format(), encodings].concat();
        self.stream.write_all(&messages).await.map_err(broken(doing))
    }

    /// The desktop's name.
    pub fn desktop_name(&self) -> &str {
        &self.name
    }

    /// The current framebuffer.
    pub fn frame(&self) -> &Frame {
        &self.frame
    }

    /// Requests an update: of the whole framebuffer, or incremental.
    ///
    /// # Errors
    /// [`RfbError::Stream`], [`RfbError::Timeout`].
    pub async fn send_update_request(&mut self, incremental: bool) -> Result<(), RfbError> {
        let message = client_messages::encode_update_request(incremental, self.frame.width(), self.frame.height());
        self.send("requesting an update", &message).await
    }

    /// Waits for the next update and applies it to the framebuffer.
    ///
    /// # Errors
    /// [`RfbError`]; after an error the connection cannot be used.
    pub async fn apply_next_update(&mut self) -> Result<UpdateSize, RfbError> {
        within(self.limit, "waiting for an update", self.read_and_apply_update()).await
    }

    /// Requests the whole framebuffer and waits for it.
    ///
    /// # Errors
    /// Like [`Self::apply_next_update`].
    pub async fn request_full_frame(&mut self) -> Result<&Frame, RfbError> {
        self.send_update_request(false).await?;
        loop {
            let update = self.apply_next_update().await?;
            if update.pixel_count >= usize::from(self.frame.width()) * usize::from(self.frame.height()) {
                return Ok(&self.frame);
            }
            // The framebuffer was resized: request it with the new size.
            if update.pixel_count == 0 {
                self.send_update_request(false).await?;
            }
        }
    }

    /// Moves the pointer; `buttons` is a bit mask, 1 is the left button.
    ///
    /// # Errors
    /// [`RfbError::Stream`], [`RfbError::Timeout`].
    pub async fn send_pointer_event(&mut self, x: u16, y: u16, buttons: u8) -> Result<(), RfbError> {
        self.send("moving the pointer", &client_messages::encode_pointer_event(x, y, buttons)).await
    }

    /// Clicks the left button at a position.
    ///
    /// # Errors
    /// Like [`Self::send_pointer_event`].
    pub async fn click(&mut self, x: u16, y: u16) -> Result<(), RfbError> {
        self.send_pointer_event(x, y, 0).await?;
        self.send_pointer_event(x, y, 1).await?;
        self.send_pointer_event(x, y, 0).await
    }

    /// Presses and releases a key, by its X11 keysym.
    ///
    /// # Errors
    /// [`RfbError::Stream`], [`RfbError::Timeout`].
    pub async fn press_key(&mut self, keysym: u32) -> Result<(), RfbError> {
        let events = [true, false].map(|is_down| client_messages::encode_key_event(is_down, keysym));
        self.send("pressing a key", &events.concat()).await
    }

    /// Presses keys one after the other, by their X11 keysyms, and releases them in the other order.
    ///
    /// # Errors
    /// Like [`Self::press_key`].
    pub async fn press_keys(&mut self, keysyms: &[u32]) -> Result<(), RfbError> {
        let down = keysyms.iter().map(|&keysym| client_messages::encode_key_event(true, keysym));
        let up = keysyms.iter().rev().map(|&keysym| client_messages::encode_key_event(false, keysym));
        let events: Vec<_> = down.chain(up).collect();
        self.send("pressing keys", &events.concat()).await
    }

    /// Types printable ASCII; a newline is Return.
    ///
    /// # Errors
    /// Like [`Self::press_key`].
    pub async fn type_text(&mut self, text: &str) -> Result<(), RfbError> {
        const RETURN: u32 = 0xff0d;
        for c in text.chars().filter(|c| c.is_ascii_graphic() || matches!(c, ' ' | '\n')) {
            // Latin-1 keysyms equal their code points.
            self.press_key(if c == '\n' { RETURN } else { u32::from(c) }).await?;
        }
        Ok(())
    }

    /// Returns the stream.
    pub fn into_inner(self) -> S {
        self.stream
    }

    async fn send(&mut self, doing: &'static str, message: &[u8]) -> Result<(), RfbError> {
        let stream = &mut self.stream;
        let sent = async {
            stream.write_all(message).await.map_err(broken(doing))?;
            stream.flush().await.map_err(broken(doing))
        };
        within(self.limit, doing, sent).await
    }

    async fn text(&mut self, doing: &'static str) -> Result<String, RfbError> {
        let length = self.stream.read_u32().await.map_err(broken(doing))?;
        self.text_of(length, doing).await
    }

    async fn text_of(&mut self, length: u32, doing: &'static str) -> Result<String, RfbError> {
        if length > TEXT_BYTES_MAX {
            return Err(RfbError::Protocol(format!("a text of {length} bytes is too long")));
        }
        let mut text = vec![0; length as usize];
        self.stream.read_exact(&mut text).await.map_err(broken(doing))?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    fn resize(&mut self, width: u16, height: u16) -> Result<(), RfbError> {
        if usize::from(width) * usize::from(height) > PIXELS_MAX {
            return Err(RfbError::Protocol(format!("a framebuffer of {width} × {height} is too large")));
        }
        self.frame = Frame::new(width, height);
        Ok(())
    }

    async fn read_and_apply_update(&mut self) -> Result<UpdateSize, RfbError> {
        let doing = "waiting for an update";
        loop {
            match self.stream.read_u8().await.map_err(broken(doing))? {
                0 => return self.read_rectangles(doing).await,
                2 => {} // Bell
                3 => {
                    // ServerCutText
                    let mut padding = [0; 3];
                    self.stream.read_exact(&mut padding).await.map_err(broken(doing))?;
                    self.text(doing).await?;
                }
                other => return Err(RfbError::Protocol(format!("unknown message type {other}"))),
            }
        }
    }
}

fn broken(doing: &'static str) -> impl Fn(io::Error) -> RfbError {
    move |source| RfbError::Stream { doing, source }
}

async fn within<T>(
    limit: Duration,
    doing: &'static str,
    work: impl Future<Output = Result<T, RfbError>>,
) -> Result<T, RfbError> {
    let late = |_| RfbError::Timeout { doing, limit_ms: u64::try_from(limit.as_millis()).unwrap_or(u64::MAX) };
    timeout(limit, work).await.map_err(late)?
}

#[cfg(test)]
mod tests;
