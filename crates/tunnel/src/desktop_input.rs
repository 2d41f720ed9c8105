//! The client's RFB messages on their path to a desktop, at a limited rate for each kind of message.
//!
//! | messages | over the rate |
//! |---|---|
//! | pointer moves | the newest of consecutive moves is kept |
//! | buttons, keys, fences | wait; none is lost |
//! | clipboard texts, sizes of the desktop | the newest of consecutive messages is kept |
//! | requests for updates | consecutive ones become one for both areas |
//! | pixel formats, encodings, continuous updates | the newest of consecutive messages is kept |
//!
//! Messages for input and for pictures are two lanes: each keeps its order, and neither waits for the other. When a lane is full, the
//! viewer is not read. A stream that cannot be parsed (another security type, an unknown message) passes unchanged: the limits of the
//! whole tunnel remain.

mod lane;
mod message;
#[cfg(test)]
mod tests;

pub use lane::{
    CLIPBOARD_PER_S, FORMATS_PER_S, KEYS_PER_S, POINTER_PER_S, SIZES_PER_S, UPDATES_PER_S, WAITING_BYTES_MAX,
    WAITING_MESSAGES_MAX,
};

use anteroom_rfb::{
    client_messages::parse_message_head,
    handshake::{CHALLENGE_RESPONSE_BYTES, PROTOCOL_VERSION, SECURITY_NONE, SECURITY_VNC_AUTHENTICATION},
};
use anteroom_wire::{Problem, ProblemBody};
use bytes::{Bytes, BytesMut};
use lane::Lane;
use message::{ClientMessage, without_encodings};
use std::time::Instant;

const VERSION_3_7: &[u8] = b"RFB 003.007\n";
/// Extended pointer buttons: they make a PointerEvent longer, depending on what the server supports.
const EXTENDED_POINTER_BUTTONS: i32 = -316;

/// The next element that the client sends.
#[derive(Debug, Clone, Copy)]
enum Expected {
    Version,
    SecurityType,
    ChallengeResponse,
    ClientInit,
    Message,
    /// The stream cannot be parsed.
    Unknown,
}

/// Limits the rates of a viewer's messages to a desktop.
#[derive(Debug)]
pub(crate) struct DesktopInput {
    expected: Expected,
    /// Bytes that are not parsed yet.
    unparsed: BytesMut,
    /// Bytes that pass at once: the handshake, and streams that cannot be parsed.
    passing: BytesMut,
    input: Lane,
    pictures: Lane,
    /// The pressed buttons of the last PointerEvent.
    buttons: u8,
    message_bytes_max: usize,
}

impl DesktopInput {
    /// A message has at most `message_bytes_max` bytes.
    pub(crate) fn new(message_bytes_max: usize) -> Self {
        Self {
            expected: Expected::Version,
            unparsed: BytesMut::new(),
            passing: BytesMut::new(),
            input: Lane::new(),
            pictures: Lane::new(),
            buttons: 0,
            message_bytes_max,
        }
    }

    /// Adds bytes from the viewer.
    ///
    /// # Errors
    /// A message is too large; the connection must be closed.
    pub(crate) fn push(&mut self, bytes: &[u8], now: Instant) -> Result<(), ProblemBody> {
        self.unparsed.extend_from_slice(bytes);
        self.parse(now)
    }

    /// The bytes that may be sent to the desktop now.
    ///
    /// # Errors
    /// As [`Self::push`].
    pub(crate) fn take_ready(&mut self, now: Instant) -> Result<Bytes, ProblemBody> {
        let mut ready = BytesMut::new();
        loop {
            ready.unsplit(std::mem::take(&mut self.passing));
            self.pictures.take_ready(now, &mut ready);
            self.input.take_ready(now, &mut ready);
            let waiting = self.unparsed.len();
            self.parse(now)?;
            if self.unparsed.len() == waiting && self.passing.is_empty() {
                return Ok(ready.freeze());
            }
        }
    }

    /// Whether a lane is full, so that the viewer must not be read.
    pub(crate) fn is_full(&self) -> bool {
        self.input.is_full() || self.pictures.is_full()
    }

    /// When the next message may be sent; `None`: no message waits.
    pub(crate) fn ready_at(&mut self, now: Instant) -> Option<Instant> {
        self.input.ready_at(now).into_iter().chain(self.pictures.ready_at(now)).min()
    }

    /// All bytes that wait, when the viewer has ended: its last keys are not lost.
    pub(crate) fn finish(&mut self) -> Bytes {
        self.flush_lanes();
        self.passing.unsplit(self.unparsed.split());
        std::mem::take(&mut self.passing).freeze()
    }

    /// Passes complete messages, or adds them to the lanes, until one is full.
    fn parse(&mut self, now: Instant) -> Result<(), ProblemBody> {
        while !self.is_full() {
            let element_bytes = match self.expected {
                Expected::Version => 12,
                Expected::SecurityType | Expected::ClientInit => 1,
                Expected::ChallengeResponse => CHALLENGE_RESPONSE_BYTES,
                Expected::Message if self.unparsed.is_empty() => return Ok(()),
                Expected::Message => match parse_message_head(&self.unparsed) {
                    Ok(Some(head)) if head.message_bytes > self.message_bytes_max => {
                        let detail = format!("a message has at most {} bytes", self.message_bytes_max);
                        return Err(Problem::TooLarge.with_detail(detail));
                    }
                    Ok(Some(head)) => head.message_bytes,
                    Ok(None) => return Ok(()),
                    Err(_unknown) => {
                        self.expected = Expected::Unknown;
                        continue;
                    }
                },
                Expected::Unknown => {
                    self.flush_lanes();
                    self.passing.unsplit(self.unparsed.split());
                    return Ok(());
                }
            };
            if self.unparsed.len() < element_bytes {
                return Ok(());
            }
            let element = self.unparsed.split_to(element_bytes);
            self.accept(element, now);
        }
        Ok(())
    }

    /// Passes an element of the handshake, or adds a message to its lane.
    fn accept(&mut self, element: BytesMut, now: Instant) {
        if matches!(self.expected, Expected::Message) {
            let message = ClientMessage::new(without_encodings(element, &[EXTENDED_POINTER_BUTTONS]), self.buttons);
            self.buttons = message.buttons().unwrap_or(self.buttons);
            let lane = if message.is_input() { &mut self.input } else { &mut self.pictures };
            return lane.push(message, now, &mut self.passing);
        }
        self.expected = match (self.expected, element.first()) {
            (Expected::Version, _) if element[..] == PROTOCOL_VERSION[..] || element[..] == *VERSION_3_7 => {
                Expected::SecurityType
            }
            (Expected::SecurityType, Some(&SECURITY_NONE)) | (Expected::ChallengeResponse, _) => Expected::ClientInit,
            (Expected::SecurityType, Some(&SECURITY_VNC_AUTHENTICATION)) => Expected::ChallengeResponse,
            (Expected::ClientInit, _) => Expected::Message,
            (Expected::Version | Expected::SecurityType | Expected::Message | Expected::Unknown, _) => {
                Expected::Unknown
            }
        };
        self.passing.unsplit(element);
    }

    /// Passes all waiting messages: what follows them cannot be parsed.
    fn flush_lanes(&mut self) {
        self.pictures.flush(&mut self.passing);
        self.input.flush(&mut self.passing);
    }
}
