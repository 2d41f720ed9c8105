//! Follows the frames of a WebSocket, so that a close frame can be added where a frame ends.

/// The operation code of a close frame (RFC 6455 §5.2).
const CLOSE: u8 = 8;
/// The longest head of a frame, bytes.
const HEAD_BYTES_MAX: usize = 14;
/// The most bytes of a close frame's reason.
const REASON_BYTES_MAX: usize = 123;

/// Where in the frames a stream is.
#[derive(Debug, Default)]
pub(super) struct Frames {
    head: Vec<u8>,
    /// Bytes of the payload that are still to come.
    payload: u64,
    has_closed: bool,
}

impl Frames {
    /// Takes the next bytes of the stream.
    pub(super) fn follow(&mut self, mut bytes: &[u8]) {
        while let Some((first, rest)) = bytes.split_first() {
            if self.payload > 0 {
                let skipped = bytes.len().min(usize::try_from(self.payload).unwrap_or(usize::MAX));
                self.payload -= skipped as u64;
                bytes = &bytes[skipped..];
                continue;
            }
            self.head.push(*first);
            bytes = rest;
            if let Some(payload) = self.head_is_complete() {
                self.has_closed |= self.head[0] & 0x0f == CLOSE;
                self.payload = payload;
                self.head.clear();
            }
        }
    }

    /// Whether a close frame can be added: the stream is between two frames and has none yet.
    pub(super) fn permits_close(&self) -> bool {
        self.head.is_empty() && self.payload == 0 && !self.has_closed
    }

    /// Whether the last frame was a close frame.
    pub(super) fn has_closed(&self) -> bool {
        self.has_closed
    }

    /// The length of the payload, once the head is complete.
    fn head_is_complete(&self) -> Option<u64> {
        let [_, second, length @ ..] = self.head.as_slice() else { return None };
        let mask = if second & 0x80 == 0 { 0 } else { 4 };
        let (bytes, payload) = match second & 0x7f {
            126 => (2, u64::from(u16::from_be_bytes(length.get(..2)?.try_into().ok()?))),
            127 => (8, u64::from_be_bytes(length.get(..8)?.try_into().ok()?)),
            short => (0, u64::from(short)),
        };
        debug_assert!(self.head.len() <= HEAD_BYTES_MAX);
        (length.len() >= bytes + mask).then_some(payload)
    }
}

/// The bytes of a close frame from a server.
pub(super) fn close_frame(code: u16, reason: &str) -> Vec<u8> {
    let mut end = reason.len().min(REASON_BYTES_MAX);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    let length = u8::try_from(end + 2).unwrap_or(2);
    [&[0x80 | CLOSE, length], code.to_be_bytes().as_slice(), &reason.as_bytes()[..end]].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame(operation: u8, payload: usize) -> Vec<u8> {
        let mut bytes = vec![0x80 | operation];
        match payload {
            0..126 => bytes.push(u8::try_from(payload).unwrap()),
            126..65_536 => {
                bytes.push(126);
                bytes.extend(u16::try_from(payload).unwrap().to_be_bytes());
            }
            _ => {
                bytes.push(127);
                bytes.extend((payload as u64).to_be_bytes());
            }
        }
        bytes.extend(std::iter::repeat_n(0x88, payload));
        bytes
    }

    proptest! {
        /// However the bytes are split: only between frames, and never after a close frame.
        #[test]
        fn a_close_frame_is_permitted_exactly_between_frames(
            lengths in prop::collection::vec(prop_oneof![0usize..200, 60_000usize..70_000], 1..5),
            piece in 1usize..5_000,
        ) {
            let mut frames = Frames::default();
            prop_assert!(frames.permits_close());
            for length in &lengths {
                let bytes = frame(2, *length);
                let (last, rest) = bytes.split_last().unwrap();
                for part in rest.chunks(piece) {
                    frames.follow(part);
                    prop_assert!(!frames.permits_close());
                }
                frames.follow(&[*last]);
                prop_assert!(frames.permits_close());
            }
            frames.follow(&close_frame(4511, "reason"));
            prop_assert!(!frames.permits_close());
        }
    }

    #[test]
    fn close_frame_has_code_and_reason() {
        assert_eq!(close_frame(4511, "ab"), [0x88, 4, 0x11, 0x9f, b'a', b'b']);
        let long = close_frame(1000, &"ä".repeat(100));
        assert_eq!((long.len(), long[1]), (2 + 2 + 122, 124), "no character is cut");
    }
}
