//! The viewer that only looks: of its side of RFB (RFC 6143), what makes pictures passes and what acts does not.
//!
//! ```text
//!  version ─▶ security type ─▶ (answer to the password's challenge) ─▶ shared flag (always set) ─▶ messages
//!                                                                 pass: SetPixelFormat, SetEncodings (without the
//!                                                                   extensions for acting), FramebufferUpdateRequest,
//!                                                                   EnableContinuousUpdates, Fence
//!                                                                 drop: KeyEvent, PointerEvent, ClientCutText,
//!                                                                   xvp, SetDesktopSize, QEMU's events
//!                                                                 anything else: an error that names it
//! ```
//!
//! Strict: a stream that this reader takes for something else than the machine does could hide a key in a picture request. So
//! every byte belongs to a message whose length is known, the extensions that change the length of a known message are
//! never offered to the machine, and what is unknown ends the connection. Bounded: at most one message is kept.

use anteroom_wire::{Problem, ProblemBody};
use bytes::{Buf, Bytes, BytesMut};

/// Security types whose handshake is known here: None, and VNC authentication, which external desktops may want.
const NONE: u8 = 1;
const VNC_AUTHENTICATION: u8 = 2;
const ANSWER_BYTES: usize = 16;
/// Encodings of one SetEncodings; noVNC and TigerVNC send about thirty.
const ENCODINGS_MAX: usize = 256;
/// Fence: "the payload … at most 64 bytes".
const FENCE_BYTES_MAX: usize = 64;

/// Extensions that a viewer could only use to act: extended pointer buttons (they make a PointerEvent longer), QEMU's pointer
/// motion, keys and sound, gii, xvp (switches the machine off), the extended clipboard.
const ACTING: [i32; 7] = [-316, -257, -258, -259, -305, -309, 0xC0A1_E5CE_u32.cast_signed()];

/// Reads what such a viewer sends, in pieces of any size.
#[derive(Debug)]
pub struct Watch {
    phase: Phase,
    /// The beginning of something that is not whole yet.
    kept: BytesMut,
    /// Bytes of a dropped message that are still to come.
    skip: usize,
    dropped_bytes_max: usize,
}

#[derive(Debug, Clone, Copy)]
enum Phase {
    Version,
    Security,
    Answer,
    Init,
    Messages,
}

/// What to do with the next thing in the stream.
enum Next {
    /// More bytes are needed to tell.
    Short,
    /// These many bytes go to the machine.
    Pass(usize),
    /// These many do not.
    Drop(usize),
    /// A SetEncodings of these many bytes.
    Encodings(usize),
}

impl Watch {
    /// A message that is dropped has at most `dropped_bytes_max` bytes.
    pub fn new(dropped_bytes_max: usize) -> Self {
        Self { phase: Phase::Version, kept: BytesMut::new(), skip: 0, dropped_bytes_max }
    }

    /// What of `bytes`, together with what came before, goes to the machine.
    ///
    /// # Errors
    /// It is not RFB as such a viewer may speak it; the connection is to be closed.
    pub fn pass(&mut self, bytes: &[u8]) -> Result<Bytes, ProblemBody> {
        let mut bytes = bytes;
        let skipped = self.skip.min(bytes.len());
        self.skip -= skipped;
        bytes.advance(skipped);
        self.kept.extend_from_slice(bytes);
        let mut passed = BytesMut::new();
        loop {
            match self.next()? {
                Next::Short => return Ok(passed.freeze()),
                Next::Pass(count) => {
                    let mut message = self.kept.split_to(count);
                    if matches!(self.phase, Phase::Init) {
                        // Not shared would be: the others are thrown out.
                        message[0] = 1;
                    }
                    self.phase = self.phase.after(message[0]);
                    passed.extend_from_slice(&message);
                }
                Next::Encodings(count) => without_acting(&self.kept.split_to(count), &mut passed),
                Next::Drop(count) => {
                    let here = count.min(self.kept.len());
                    self.kept.advance(here);
                    self.skip = count - here;
                    if self.skip > 0 {
                        return Ok(passed.freeze());
                    }
                }
            }
        }
    }

    fn next(&self) -> Result<Next, ProblemBody> {
        let kept = &self.kept[..];
        match self.phase {
            Phase::Version if kept.len() < 12 => Ok(Next::Short),
            Phase::Version => match &kept[..12] {
                b"RFB 003.008\n" | b"RFB 003.007\n" => Ok(Next::Pass(12)),
                _ => Err(wrong("a view-only viewer speaks RFB 3.7 or 3.8")),
            },
            Phase::Security | Phase::Init if kept.is_empty() => Ok(Next::Short),
            Phase::Security if ![NONE, VNC_AUTHENTICATION].contains(&kept[0]) => {
                Err(wrong(format!("a view-only viewer asks for security type 1 or 2, not {}", kept[0])))
            }
            Phase::Security | Phase::Init => Ok(Next::Pass(1)),
            Phase::Answer if kept.len() < ANSWER_BYTES => Ok(Next::Short),
            Phase::Answer => Ok(Next::Pass(ANSWER_BYTES)),
            Phase::Messages => self.message(),
        }
    }

    /// The client's messages: RFC 6143 §7.5, and the registered extensions that noVNC and TigerVNC use.
    fn message(&self) -> Result<Next, ProblemBody> {
        let kept = &self.kept[..];
        let Some(&kind) = kept.first() else { return Ok(Next::Short) };
        let whole = |count: usize| if kept.len() < count { Next::Short } else { Next::Pass(count) };
        Ok(match kind {
            0 => whole(20),
            2 => {
                let Some(count) = short_at(kept, 2) else { return Ok(Next::Short) };
                if count > ENCODINGS_MAX {
                    return Err(too_large(format!("{count} encodings; at most {ENCODINGS_MAX} are taken")));
                }
                let count = 4 + 4 * count;
                if kept.len() < count { Next::Short } else { Next::Encodings(count) }
            }
            3 | 150 => whole(10),
            248 => match kept.get(8) {
                None => Next::Short,
                Some(&length) if usize::from(length) > FENCE_BYTES_MAX => {
                    return Err(too_large(format!("a Fence with {length} bytes")));
                }
                Some(&length) => whole(9 + usize::from(length)),
            },
            4 => Next::Drop(8),
            5 => Next::Drop(6),
            6 => match long_at(kept, 4) {
                None => Next::Short,
                // A negative length is that of the extended clipboard.
                Some(length) => self.drop(8, length.cast_signed().unsigned_abs() as usize)?,
            },
            250 => Next::Drop(4),
            251 => match kept.get(6) {
                None => Next::Short,
                Some(&screens) => Next::Drop(8 + 16 * usize::from(screens)),
            },
            255 => match (kept.get(1), short_at(kept, 2)) {
                (Some(0), _) => Next::Drop(12),
                (None, _) | (Some(1), None) => Next::Short,
                (Some(1), Some(0 | 1)) => Next::Drop(4),
                (Some(1), Some(2)) => Next::Drop(10),
                (Some(other), _) => return Err(wrong(format!("a view-only viewer sent QEMU's message {other}"))),
            },
            other => return Err(wrong(format!("a view-only viewer sent message type {other}"))),
        })
    }

    fn drop(&self, head: usize, length: usize) -> Result<Next, ProblemBody> {
        if length > self.dropped_bytes_max {
            return Err(too_large(format!("{length} bytes of clipboard; at most {} are read", self.dropped_bytes_max)));
        }
        Ok(Next::Drop(head + length))
    }
}

impl Phase {
    /// What follows something that began with this byte.
    fn after(self, first: u8) -> Self {
        match self {
            Self::Version => Self::Security,
            Self::Security if first == VNC_AUTHENTICATION => Self::Answer,
            Self::Security | Self::Answer => Self::Init,
            Self::Init | Self::Messages => Self::Messages,
        }
    }
}

/// SetEncodings without the extensions for acting.
fn without_acting(message: &[u8], out: &mut BytesMut) {
    let harmless = message[4..].chunks_exact(4).filter(|number| {
        let number = <[u8; 4]>::try_from(*number).map(i32::from_be_bytes);
        number.is_ok_and(|number| !ACTING.contains(&number))
    });
    let start = out.len();
    out.extend_from_slice(&message[..4]);
    let mut count: u16 = 0;
    for number in harmless {
        out.extend_from_slice(number);
        count += 1;
    }
    out[start + 2..start + 4].copy_from_slice(&count.to_be_bytes());
}

fn short_at(bytes: &[u8], at: usize) -> Option<usize> {
    Some(usize::from(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?)))
}

fn long_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn wrong(detail: impl Into<String>) -> ProblemBody {
    Problem::Malformed.with(detail)
}

fn too_large(detail: impl Into<String>) -> ProblemBody {
    Problem::TooLarge.with(detail)
}

#[cfg(test)]
mod tests;
