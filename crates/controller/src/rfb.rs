//! The client side of RFB 3.8 (RFC 6143), as much as it takes to look at a desktop and to use it: for `anteroom bench`,
//! `doctor` and the tests. The live path never speaks RFB; it carries bytes.
//!
//! Security type None, true colour, the encodings in [`Encoding`]: what is measured with it is what a browser would see.
//! Works over any byte stream; [`ViewerSocket`] makes one of a viewer's WebSocket.

mod encoding;
mod frame;
mod rectangles;
mod socket;
mod tight;

pub use encoding::Encoding;
pub use frame::{Frame, Rgb};
pub use socket::{Closing, DialError, ViewerSocket};

use std::{io, time::Duration};
use tight::Tight;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::timeout,
};

/// The greeting of both sides (RFC 6143 §7.1.1).
const VERSION: &[u8; 12] = b"RFB 003.008\n";
const SECURITY_NONE: u8 = 1;
/// The largest picture that is believed, pixels (the largest geometry there is).
const PIXELS_MAX: usize = 3840 * 2160;
/// The longest name or clipboard text that is believed, bytes.
const TEXT_BYTES_MAX: u32 = 1024 * 1024;

/// Why a desktop could not be looked at.
#[derive(Debug, thiserror::Error)]
pub enum RfbError {
    /// The stream broke or ended.
    #[error("the desktop's stream broke while {doing}")]
    Stream {
        /// What was being done.
        doing: &'static str,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// Nothing came in time.
    #[error("the desktop did not answer within {limit_ms} ms while {doing}")]
    Late {
        /// What was being done.
        doing: &'static str,
        /// The limit.
        limit_ms: u64,
    },
    /// The server said something that RFB 3.8 does not allow here, or refused.
    #[error("the desktop's server said: {0}")]
    Said(String),
}

/// What an update changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Update {
    /// Rectangles in it.
    pub rectangles: u16,
    /// Pixels they covered.
    pub pixels: usize,
}

/// A connection to a desktop and the picture as it is known.
#[derive(Debug)]
pub struct RfbClient<S> {
    stream: S,
    limit: Duration,
    name: String,
    offered: Vec<Encoding>,
    tight: Tight,
    frame: Frame,
}

impl<S: AsyncRead + AsyncWrite + Unpin> RfbClient<S> {
    /// Shakes hands, shared, and asks for 32-bit true colour, encoded [as for a browser](Encoding::AS_A_BROWSER).
    /// `answer_ms_max` bounds every later wait too.
    ///
    /// # Errors
    /// [`RfbError`]: broken, late, or not RFB 3.8 without a password.
    pub async fn connect(stream: S, answer_ms_max: u64) -> Result<Self, RfbError> {
        Self::connect_with(stream, answer_ms_max, Encoding::AS_A_BROWSER).await
    }

    /// As [`Self::connect`], with the encodings that are offered, the preferred ones first.
    ///
    /// # Errors
    /// As [`Self::connect`].
    pub async fn connect_with(stream: S, answer_ms_max: u64, offered: &[Encoding]) -> Result<Self, RfbError> {
        let limit = Duration::from_millis(answer_ms_max);
        let (name, offered) = (String::new(), offered.to_vec());
        let mut client = Self { stream, limit, name, offered, tight: Tight::new(), frame: Frame::new(0, 0) };
        within(limit, "shaking hands", client.shake_hands()).await?;
        Ok(client)
    }

    async fn shake_hands(&mut self) -> Result<(), RfbError> {
        let doing = "shaking hands";
        let mut greeting = [0; 12];
        self.stream.read_exact(&mut greeting).await.map_err(broken(doing))?;
        if &greeting != VERSION {
            return Err(RfbError::Said(format!("{:?} instead of RFB 3.8", String::from_utf8_lossy(&greeting))));
        }
        self.stream.write_all(VERSION).await.map_err(broken(doing))?;
        let count = self.stream.read_u8().await.map_err(broken(doing))?;
        if count == 0 {
            return Err(RfbError::Said(self.text(doing).await?));
        }
        let mut types = vec![0; usize::from(count)];
        self.stream.read_exact(&mut types).await.map_err(broken(doing))?;
        if !types.contains(&SECURITY_NONE) {
            return Err(RfbError::Said(format!("security types {types:?}, without None")));
        }
        self.stream.write_all(&[SECURITY_NONE]).await.map_err(broken(doing))?;
        if self.stream.read_u32().await.map_err(broken(doing))? != 0 {
            return Err(RfbError::Said(self.text(doing).await?));
        }
        let shared = 1;
        self.stream.write_all(&[shared]).await.map_err(broken(doing))?;
        let width = self.stream.read_u16().await.map_err(broken(doing))?;
        let height = self.stream.read_u16().await.map_err(broken(doing))?;
        let mut their_format = [0; 16];
        self.stream.read_exact(&mut their_format).await.map_err(broken(doing))?;
        self.name = self.text(doing).await?;
        self.resize(width, height)?;

        // SetPixelFormat: 32 bits, depth 24, little endian, true colour, 8 bits each, red << 16, green << 8, blue << 0.
        let format = [0, 0, 0, 0, 32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 16, 8, 0, 0, 0, 0];
        let mut hello = format.to_vec();
        let count = u16::try_from(self.offered.len()).unwrap_or(u16::MAX);
        hello.extend([2, 0]); // SetEncodings
        hello.extend(count.to_be_bytes());
        for encoding in self.offered.iter().take(usize::from(count)) {
            hello.extend(encoding.number().to_be_bytes());
        }
        self.stream.write_all(&hello).await.map_err(broken(doing))
    }

    /// The desktop's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The picture as it is known.
    pub fn frame(&self) -> &Frame {
        &self.frame
    }

    /// Asks for the picture: all of it, or what changed.
    ///
    /// # Errors
    /// [`RfbError::Stream`], [`RfbError::Late`].
    pub async fn request(&mut self, incremental: bool) -> Result<(), RfbError> {
        let mut message = vec![3, u8::from(incremental), 0, 0, 0, 0];
        message.extend(self.frame.width().to_be_bytes());
        message.extend(self.frame.height().to_be_bytes());
        self.tell("asking for the picture", &message).await
    }

    /// Waits for the next update and paints it into the picture.
    ///
    /// # Errors
    /// [`RfbError`]; after one the connection is of no more use.
    pub async fn update(&mut self) -> Result<Update, RfbError> {
        within(self.limit, "waiting for the picture", self.read_update()).await
    }

    /// Asks for the whole picture and waits until it is there.
    ///
    /// # Errors
    /// As [`Self::update`].
    pub async fn whole_frame(&mut self) -> Result<&Frame, RfbError> {
        self.request(false).await?;
        loop {
            let update = self.update().await?;
            if update.pixels >= usize::from(self.frame.width()) * usize::from(self.frame.height()) {
                return Ok(&self.frame);
            }
            // A resize came first: ask again for what there is now.
            if update.pixels == 0 {
                self.request(false).await?;
            }
        }
    }

    /// Moves the pointer; `buttons` is a bit mask, 1 is the left button.
    ///
    /// # Errors
    /// [`RfbError::Stream`], [`RfbError::Late`].
    pub async fn pointer(&mut self, x: u16, y: u16, buttons: u8) -> Result<(), RfbError> {
        let ([x1, x0], [y1, y0]) = (x.to_be_bytes(), y.to_be_bytes());
        self.tell("moving the pointer", &[5, buttons, x1, x0, y1, y0]).await
    }

    /// Presses and lets go of the left button at a place.
    ///
    /// # Errors
    /// As [`Self::pointer`].
    pub async fn click(&mut self, x: u16, y: u16) -> Result<(), RfbError> {
        self.pointer(x, y, 0).await?;
        self.pointer(x, y, 1).await?;
        self.pointer(x, y, 0).await
    }

    /// Presses and lets go of a key, by its X11 keysym.
    ///
    /// # Errors
    /// [`RfbError::Stream`], [`RfbError::Late`].
    pub async fn key(&mut self, keysym: u32) -> Result<(), RfbError> {
        let [a, b, c, d] = keysym.to_be_bytes();
        self.tell("pressing a key", &[4, 1, 0, 0, a, b, c, d, 4, 0, 0, 0, a, b, c, d]).await
    }

    /// Types printable ASCII; a newline is Return.
    ///
    /// # Errors
    /// As [`Self::key`].
    pub async fn type_text(&mut self, text: &str) -> Result<(), RfbError> {
        const RETURN: u32 = 0xff0d;
        for c in text.chars().filter(|c| c.is_ascii_graphic() || matches!(c, ' ' | '\n')) {
            // Latin-1 keysyms equal their code points.
            self.key(if c == '\n' { RETURN } else { u32::from(c) }).await?;
        }
        Ok(())
    }

    /// Gives the stream back.
    pub fn into_inner(self) -> S {
        self.stream
    }

    async fn tell(&mut self, doing: &'static str, message: &[u8]) -> Result<(), RfbError> {
        let stream = &mut self.stream;
        let told = async {
            stream.write_all(message).await.map_err(broken(doing))?;
            stream.flush().await.map_err(broken(doing))
        };
        within(self.limit, doing, told).await
    }

    async fn text(&mut self, doing: &'static str) -> Result<String, RfbError> {
        let length = self.stream.read_u32().await.map_err(broken(doing))?;
        if length > TEXT_BYTES_MAX {
            return Err(RfbError::Said(format!("a text of {length} bytes")));
        }
        let mut text = vec![0; length as usize];
        self.stream.read_exact(&mut text).await.map_err(broken(doing))?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    fn resize(&mut self, width: u16, height: u16) -> Result<(), RfbError> {
        if usize::from(width) * usize::from(height) > PIXELS_MAX {
            return Err(RfbError::Said(format!("a picture of {width} × {height}")));
        }
        self.frame = Frame::new(width, height);
        Ok(())
    }

    async fn read_update(&mut self) -> Result<Update, RfbError> {
        let doing = "waiting for the picture";
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
                other => return Err(RfbError::Said(format!("message type {other}, which was not asked for"))),
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
    let late = |_| RfbError::Late { doing, limit_ms: u64::try_from(limit.as_millis()).unwrap_or(u64::MAX) };
    timeout(limit, work).await.map_err(late)?
}

#[cfg(test)]
mod tests;
