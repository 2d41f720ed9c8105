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
//! The filter is strict: if it parsed the stream differently than the machine does, a key event could be hidden in a picture
//! request. So every byte belongs to a message of known length, the extensions that change the length of a known message are
//! never offered to the machine, and an unknown message closes the connection. Memory is bounded: at most one message is
//! buffered.

use anteroom_wire::{Problem, ProblemBody};
use bytes::{Buf, Bytes, BytesMut};

/// Supported security types: None, and VNC authentication, which external desktops may require.
const NONE: u8 = 1;
const VNC_AUTHENTICATION: u8 = 2;
const CHALLENGE_RESPONSE_BYTES: usize = 16;
/// Encodings of one SetEncodings; noVNC and TigerVNC send about thirty.
const ENCODINGS_MAX: usize = 256;
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
    dropped_bytes_max: usize,
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
    /// A message that is dropped has at most `dropped_bytes_max` bytes.
    pub fn new(dropped_bytes_max: usize) -> Self {
        Self { expected: Expected::Version, buffer: BytesMut::new(), skip: 0, dropped_bytes_max }
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
            Expected::Version => match &buffer[..12] {
                b"RFB 003.008\n" | b"RFB 003.007\n" => Ok(Action::Pass(12)),
                _ => Err(malformed("a view-only viewer must use RFB 3.7 or 3.8")),
            },
            Expected::SecurityType | Expected::ClientInit if buffer.is_empty() => Ok(Action::Wait),
            Expected::SecurityType if ![NONE, VNC_AUTHENTICATION].contains(&buffer[0]) => {
                Err(malformed(format!("a view-only viewer must use security type 1 or 2, not {}", buffer[0])))
            }
            Expected::SecurityType | Expected::ClientInit => Ok(Action::Pass(1)),
            Expected::ChallengeResponse if buffer.len() < CHALLENGE_RESPONSE_BYTES => Ok(Action::Wait),
            Expected::ChallengeResponse => Ok(Action::Pass(CHALLENGE_RESPONSE_BYTES)),
            Expected::Message => self.message_action(),
        }
    }

    /// Client messages of RFC 6143 §7.5 and of the registered extensions that noVNC and TigerVNC use.
    fn message_action(&self) -> Result<Action, ProblemBody> {
        let buffer = &self.buffer[..];
        let Some(&kind) = buffer.first() else { return Ok(Action::Wait) };
        let pass_if_complete = |count: usize| if buffer.len() < count { Action::Wait } else { Action::Pass(count) };
        Ok(match kind {
            0 => pass_if_complete(20),
            2 => {
                let Some(count) = u16_at(buffer, 2) else { return Ok(Action::Wait) };
                if count > ENCODINGS_MAX {
                    return Err(too_large(format!("{count} encodings in SetEncodings; the limit is {ENCODINGS_MAX}")));
                }
                let count = 4 + 4 * count;
                if buffer.len() < count { Action::Wait } else { Action::FilterEncodings(count) }
            }
            3 | 150 => pass_if_complete(10),
            248 => match buffer.get(8) {
                None => Action::Wait,
                Some(&length) if usize::from(length) > FENCE_BYTES_MAX => {
                    return Err(too_large(format!("a Fence with {length} bytes")));
                }
                Some(&length) => pass_if_complete(9 + usize::from(length)),
            },
            4 => Action::Drop(8),
            5 => Action::Drop(6),
            6 => match u32_at(buffer, 4) {
                None => Action::Wait,
                // The extended clipboard sends its length as a negative number.
                Some(length) => self.drop_clipboard(8, length.cast_signed().unsigned_abs() as usize)?,
            },
            250 => Action::Drop(4),
            251 => match buffer.get(6) {
                None => Action::Wait,
                Some(&screens) => Action::Drop(8 + 16 * usize::from(screens)),
            },
            255 => match (buffer.get(1), u16_at(buffer, 2)) {
                (Some(0), _) => Action::Drop(12),
                (None, _) | (Some(1), None) => Action::Wait,
                (Some(1), Some(0 | 1)) => Action::Drop(4),
                (Some(1), Some(2)) => Action::Drop(10),
                (Some(other), _) => return Err(malformed(format!("a view-only viewer sent QEMU's message {other}"))),
            },
            other => return Err(malformed(format!("a view-only viewer sent message type {other}"))),
        })
    }

    fn drop_clipboard(&self, header: usize, length: usize) -> Result<Action, ProblemBody> {
        if length > self.dropped_bytes_max {
            let limit = self.dropped_bytes_max;
            return Err(too_large(format!("{length} bytes of clipboard text; the limit is {limit}")));
        }
        Ok(Action::Drop(header + length))
    }
}

impl Expected {
    /// The element after this one, whose first byte is `first`.
    fn after(self, first: u8) -> Self {
        match self {
            Self::Version => Self::SecurityType,
            Self::SecurityType if first == VNC_AUTHENTICATION => Self::ChallengeResponse,
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

fn u16_at(bytes: &[u8], at: usize) -> Option<usize> {
    Some(usize::from(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?)))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn malformed(detail: impl Into<String>) -> ProblemBody {
    Problem::Malformed.with(detail)
}

fn too_large(detail: impl Into<String>) -> ProblemBody {
    Problem::TooLarge.with(detail)
}

#[cfg(test)]
mod tests;
