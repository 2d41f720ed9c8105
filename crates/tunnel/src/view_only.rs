//! Filter for view-only viewers: of the client's RFB messages (RFC 6143), requests for pictures pass and input is dropped.
//!
//! ```text
//!  version ─▶ security type ─▶ (answer to the password's challenge) ─▶ shared flag (always set) ─▶ messages
//!                                                                 pass: SetPixelFormat, SetEncodings (without
//!                                                                   input extensions), FramebufferUpdateRequest,
//!                                                                   EnableContinuousUpdates, Fence
//!                                                                 drop: KeyEvent, PointerEvent, ClientCutText,
//!                                                                   xvp, SetDesktopSize, QEMU's events
//!                                                                 anything else: an error that names it
//! ```
//!
//! The viewer can select only a security type that the machine offered ([`SecurityOffer`]).
//!
//! The filter is strict: if it parsed the stream differently than the machine does, a key event could be hidden in a picture
//! request. So every byte belongs to a message of known length, the extensions that change the length of a known message are
//! never offered to the machine, and an unknown message closes the connection. Memory is bounded: at most one message is
//! buffered.

use crate::security_offer::SecurityOffer;
use anteroom_rfb::{
    client_messages::{self, MessageType, UnknownMessage},
    handshake::{CHALLENGE_RESPONSE_BYTES, PROTOCOL_VERSION, SECURITY_NONE, SECURITY_VNC_AUTHENTICATION},
};
use anteroom_wire::{Problem, ProblemBody};
use bytes::{Buf, Bytes, BytesMut};

/// Supported security types. External desktops may require VNC authentication.
const SECURITY_TYPES: [u8; 2] = [SECURITY_NONE, SECURITY_VNC_AUTHENTICATION];
const VERSION_3_7: &[u8; 12] = b"RFB 003.007\n";
/// Encodings of one SetEncodings; noVNC and TigerVNC send about thirty.
pub const ENCODINGS_MAX: usize = 256;
/// Fence: "the payload … at most 64 bytes".
const FENCE_BYTES_MAX: usize = 64;

/// Pseudo-encodings of input extensions: extended pointer buttons (they make a PointerEvent longer), QEMU's pointer motion,
/// keys and sound, gii, xvp (powers the machine off), the extended clipboard.
const INPUT_EXTENSIONS: [i32; 7] = [-316, -257, -258, -259, -305, -309, 0xC0A1_E5CE_u32.cast_signed()];

/// Incremental filter of the bytes that a view-only viewer sends, in chunks of any size.
#[derive(Debug)]
pub struct ViewOnlyFilter {
    expected: Expected,
    /// Bytes of an incomplete message.
    buffer: BytesMut,
    /// Bytes of a dropped message that have not arrived yet.
    skip: usize,
    dropped_message_bytes_max: usize,
    /// Whether a message was dropped.
    has_dropped: bool,
    offer: SecurityOffer,
}

#[derive(Debug, Clone, Copy)]
/// The next element that the client sends.
enum Expected {
    Version,
    SecurityType,
    ChallengeResponse,
    ClientInit,
    Message,
}

/// What to do with the element at the start of the buffer. The numbers are bytes.
enum Action {
    /// Wait: the buffer does not hold enough bytes.
    Wait,
    /// Send the element to the machine.
    Pass(usize),
    /// Drop the element.
    Drop(usize),
    /// Send this SetEncodings message without input extensions.
    FilterEncodings(usize),
}

impl ViewOnlyFilter {
    /// A message that is dropped has at most `dropped_message_bytes_max` bytes.
    pub fn new(dropped_message_bytes_max: usize) -> Self {
        Self {
            expected: Expected::Version,
            buffer: BytesMut::new(),
            skip: 0,
            dropped_message_bytes_max,
            has_dropped: false,
            offer: SecurityOffer::default(),
        }
    }

    /// Consumes the next bytes from a viewer that may send input. Returns whether input was among the bytes so far: a message that
    /// [`Self::filter`] would drop or not accept.
    pub fn finds_input(&mut self, bytes: &[u8]) -> bool {
        self.filter(bytes).is_err() || self.has_dropped
    }

    /// Reads the bytes that the machine sends, before the viewer receives them: the viewer must select what the machine offers.
    pub fn read_offer(&self, bytes: &[u8]) {
        self.offer.read(bytes);
    }

    /// The offer, to be read by the other half of the tunnel.
    pub(crate) fn offer(&self) -> SecurityOffer {
        self.offer.clone()
    }

    /// Consumes the next bytes from the viewer and returns the bytes to send to the machine.
    ///
    /// # Errors
    /// The bytes are not a supported RFB message; the connection must be closed.
    pub fn filter(&mut self, bytes: &[u8]) -> Result<Bytes, ProblemBody> {
        let mut bytes = bytes;
        let skipped = self.skip.min(bytes.len());
        self.skip -= skipped;
        bytes.advance(skipped);
        self.buffer.extend_from_slice(bytes);
        let mut output = BytesMut::new();
        loop {
            match self.next_action()? {
                Action::Wait => return Ok(output.freeze()),
                Action::Pass(count) => {
                    let mut message = self.buffer.split_to(count);
                    if matches!(self.expected, Expected::ClientInit) {
                        // Set the shared flag: without it the server disconnects the other viewers.
                        message[0] = 1;
                    }
                    self.expected = self.expected.after(message[0]);
                    output.extend_from_slice(&message);
                }
                Action::FilterEncodings(count) => {
                    write_without_input_extensions(&self.buffer.split_to(count), &mut output);
                }
                Action::Drop(count) => {
                    self.has_dropped = true;
                    let available = count.min(self.buffer.len());
                    self.buffer.advance(available);
                    self.skip = count - available;
                    if self.skip > 0 {
                        return Ok(output.freeze());
                    }
                }
            }
        }
    }

    fn next_action(&self) -> Result<Action, ProblemBody> {
        let buffer = &self.buffer[..];
        match self.expected {
            Expected::Version if buffer.len() < 12 => Ok(Action::Wait),
            Expected::Version if buffer.starts_with(PROTOCOL_VERSION) || buffer.starts_with(VERSION_3_7) => {
                Ok(Action::Pass(12))
            }
            Expected::Version => Err(malformed("a view-only viewer must use RFB 3.7 or 3.8")),
            Expected::SecurityType | Expected::ClientInit if buffer.is_empty() => Ok(Action::Wait),
            Expected::SecurityType => self.security_type_action(buffer[0]),
            Expected::ClientInit => Ok(Action::Pass(1)),
            Expected::ChallengeResponse if buffer.len() < CHALLENGE_RESPONSE_BYTES => Ok(Action::Wait),
            Expected::ChallengeResponse => Ok(Action::Pass(CHALLENGE_RESPONSE_BYTES)),
            Expected::Message => self.message_action(),
        }
    }

    /// Passes the type that the viewer selects only if the machine offers it and speaks a version in which viewers select a type.
    fn security_type_action(&self, selected: u8) -> Result<Action, ProblemBody> {
        let (Some(version), Some(types)) = (self.offer.version(), self.offer.types()) else {
            return Err(malformed("a view-only viewer selected a security type before the desktop offered any"));
        };
        if !SECURITY_TYPES.contains(&selected) {
            return Err(malformed(format!("a view-only viewer must use security type 1 or 2, not {selected}")));
        }
        if version != *PROTOCOL_VERSION && version != *VERSION_3_7 {
            return Err(malformed("view-only is supported only for desktops with RFB 3.7 or 3.8"));
        }
        if !types.contains(&selected) {
            return Err(malformed(format!(
                "a view-only viewer selected security type {selected}, which the desktop does not offer"
            )));
        }
        Ok(Action::Pass(1))
    }

    fn message_action(&self) -> Result<Action, ProblemBody> {
        let buffer = &self.buffer[..];
        let head = client_messages::parse_message_head(buffer).map_err(|unknown| match unknown {
            UnknownMessage::Type(other) => malformed(format!("a view-only viewer sent message type {other}")),
            UnknownMessage::QemuType(other) => malformed(format!("a view-only viewer sent QEMU's message {other}")),
        })?;
        let Some(head) = head else { return Ok(Action::Wait) };
        let is_complete = buffer.len() >= head.message_bytes;
        match head.message_type {
            MessageType::SetEncodings if (head.message_bytes - 4) / 4 > ENCODINGS_MAX => {
                let count = (head.message_bytes - 4) / 4;
                Err(too_large(format!("{count} encodings in SetEncodings; the limit is {ENCODINGS_MAX}")))
            }
            MessageType::Fence if head.message_bytes - 9 > FENCE_BYTES_MAX => {
                Err(too_large(format!("a Fence with {} bytes", head.message_bytes - 9)))
            }
            MessageType::ClientCutText if head.message_bytes - 8 > self.dropped_message_bytes_max => {
                let (length, limit) = (head.message_bytes - 8, self.dropped_message_bytes_max);
                Err(too_large(format!("{length} bytes of clipboard text; the limit is {limit}")))
            }
            MessageType::SetPixelFormat
            | MessageType::SetEncodings
            | MessageType::FramebufferUpdateRequest
            | MessageType::EnableContinuousUpdates
            | MessageType::Fence
                if !is_complete =>
            {
                Ok(Action::Wait)
            }
            MessageType::SetEncodings => Ok(Action::FilterEncodings(head.message_bytes)),
            MessageType::SetPixelFormat
            | MessageType::FramebufferUpdateRequest
            | MessageType::EnableContinuousUpdates
            | MessageType::Fence => Ok(Action::Pass(head.message_bytes)),
            MessageType::KeyEvent
            | MessageType::PointerEvent
            | MessageType::ClientCutText
            | MessageType::Xvp
            | MessageType::SetDesktopSize
            | MessageType::QemuExtension => Ok(Action::Drop(head.message_bytes)),
        }
    }
}

impl Expected {
    /// The element after this one, whose first byte is `first`.
    fn after(self, first: u8) -> Self {
        match self {
            Self::Version => Self::SecurityType,
            Self::SecurityType if first == SECURITY_VNC_AUTHENTICATION => Self::ChallengeResponse,
            Self::SecurityType | Self::ChallengeResponse => Self::ClientInit,
            Self::ClientInit | Self::Message => Self::Message,
        }
    }
}

/// Writes a SetEncodings message without [`INPUT_EXTENSIONS`].
fn write_without_input_extensions(message: &[u8], out: &mut BytesMut) {
    let allowed = message[4..].chunks_exact(4).filter(|number| {
        let number = <[u8; 4]>::try_from(*number).map(i32::from_be_bytes);
        number.is_ok_and(|number| !INPUT_EXTENSIONS.contains(&number))
    });
    let start = out.len();
    out.extend_from_slice(&message[..4]);
    let mut count: u16 = 0;
    for number in allowed {
        out.extend_from_slice(number);
        count += 1;
    }
    out[start + 2..start + 4].copy_from_slice(&count.to_be_bytes());
}

fn malformed(detail: impl Into<String>) -> ProblemBody {
    Problem::Malformed.with_detail(detail)
}

fn too_large(detail: impl Into<String>) -> ProblemBody {
    Problem::TooLarge.with_detail(detail)
}

#[cfg(test)]
mod tests;
