//! Finds the frames in one direction of an HTTP/2 connection, without keeping their payloads.

/// Bytes of a frame's head (RFC 9113, section 4.1).
const HEAD_BYTES: usize = 9;
/// What a client sends before its first frame (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Bytes of a GOAWAY frame that are kept: the last stream, the error code and the start of the debug data.
const GOAWAY_BYTES_MAX: usize = 8 + 60;
/// The frame types that are distinguished.
const DATA: u8 = 0;
const GOAWAY: u8 = 7;

/// Which end wrote the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Writer {
    /// HTTP/2's client: a preface precedes the frames.
    Client,
    /// HTTP/2's server.
    Server,
}

/// A GOAWAY frame: the end that sent it gives the connection up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct GoAway {
    pub(super) error_code: u32,
    pub(super) debug_data: String,
}

/// What was found in the bytes of one call.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct FoundFrames {
    /// Frames that carry no data of a stream: all but DATA frames with a payload.
    pub(super) without_data: usize,
    pub(super) goaway: Option<GoAway>,
    /// The client's preface is another one.
    pub(super) wrong_preface: bool,
}

/// Follows one direction of a connection. The size of the pieces changes nothing.
#[derive(Debug)]
pub(super) struct FrameFinder {
    preface_left: &'static [u8],
    head: [u8; HEAD_BYTES],
    head_bytes: usize,
    payload_left: usize,
    /// The payload of a GOAWAY frame so far.
    goaway: Option<Vec<u8>>,
}

impl FrameFinder {
    pub(super) fn new(writer: Writer) -> Self {
        let preface_left = match writer {
            Writer::Client => PREFACE,
            Writer::Server => &[],
        };
        Self { preface_left, head: [0; HEAD_BYTES], head_bytes: 0, payload_left: 0, goaway: None }
    }

    /// Whether the preface is complete.
    pub(super) fn has_preface(&self) -> bool {
        self.preface_left.is_empty()
    }

    /// The frames that begin or, for GOAWAY, end in these next bytes.
    pub(super) fn find(&mut self, mut bytes: &[u8]) -> FoundFrames {
        let mut found = FoundFrames::default();
        let skipped = self.preface_left.len().min(bytes.len());
        let (expected, left) = self.preface_left.split_at(skipped);
        found.wrong_preface = !bytes.starts_with(expected);
        self.preface_left = left;
        bytes = bytes.get(skipped..).unwrap_or_default();
        while !bytes.is_empty() {
            let used = if self.payload_left > 0 { self.take_payload(bytes) } else { self.take_head(bytes, &mut found) };
            bytes = bytes.get(used..).unwrap_or_default();
            if self.payload_left == 0
                && let Some(payload) = self.goaway.take_if(|_| self.head_bytes == 0)
            {
                found.goaway = Some(parse_goaway(&payload));
            }
        }
        found
    }

    /// Takes the part of `bytes` that belongs to the current payload; returns its length.
    fn take_payload(&mut self, bytes: &[u8]) -> usize {
        let used = self.payload_left.min(bytes.len());
        if let Some(goaway) = &mut self.goaway {
            let kept = used.min(GOAWAY_BYTES_MAX.saturating_sub(goaway.len()));
            goaway.extend_from_slice(bytes.get(..kept).unwrap_or_default());
        }
        self.payload_left -= used;
        used
    }

    /// Takes the part of `bytes` that belongs to the next head; returns its length.
    fn take_head(&mut self, bytes: &[u8], found: &mut FoundFrames) -> usize {
        let used = (HEAD_BYTES - self.head_bytes).min(bytes.len());
        for (to, from) in self.head.iter_mut().skip(self.head_bytes).zip(bytes) {
            *to = *from;
        }
        self.head_bytes += used;
        if self.head_bytes == HEAD_BYTES {
            self.head_bytes = 0;
            let [high, middle, low, kind, ..] = self.head;
            let length = u32::from_be_bytes([0, high, middle, low]);
            self.payload_left = usize::try_from(length).unwrap_or(usize::MAX);
            if kind != DATA || length == 0 {
                found.without_data += 1;
            }
            self.goaway = (kind == GOAWAY).then(Vec::new);
        }
        used
    }
}

fn parse_goaway(payload: &[u8]) -> GoAway {
    let code = payload.get(4..8).and_then(|code| <[u8; 4]>::try_from(code).ok());
    let debug_data = String::from_utf8_lossy(payload.get(8..).unwrap_or_default()).into_owned();
    GoAway { error_code: code.map_or(0, u32::from_be_bytes), debug_data }
}

/// The name of an error code (RFC 9113, section 7).
pub(super) fn error_name(code: u32) -> &'static str {
    match code {
        0x1 => "PROTOCOL_ERROR",
        0x2 => "INTERNAL_ERROR",
        0x3 => "FLOW_CONTROL_ERROR",
        0x4 => "SETTINGS_TIMEOUT",
        0x5 => "STREAM_CLOSED",
        0x6 => "FRAME_SIZE_ERROR",
        0x7 => "REFUSED_STREAM",
        0x8 => "CANCEL",
        0x9 => "COMPRESSION_ERROR",
        0xa => "CONNECT_ERROR",
        0xb => "ENHANCE_YOUR_CALM",
        0xc => "INADEQUATE_SECURITY",
        0xd => "HTTP_1_1_REQUIRED",
        _ => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, 0, 0, 0, 0, 1], payload].concat()
    }

    /// All that is found when the bytes arrive in pieces of this size.
    fn find(writer: Writer, bytes: &[u8], piece_bytes: usize) -> (usize, Vec<GoAway>) {
        let mut finder = FrameFinder::new(writer);
        let found: Vec<_> = bytes.chunks(piece_bytes).map(|piece| finder.find(piece)).collect();
        (
            found.iter().map(|found| found.without_data).sum(),
            found.into_iter().filter_map(|found| found.goaway).collect(),
        )
    }

    #[test]
    fn frames_without_data_are_counted_whatever_the_size_of_the_pieces() {
        let goaway = [&[0, 0, 0, 9, 0, 0, 0, 0xb][..], b"too_many_resets"].concat();
        let frames = [frame(4, b""), frame(0, &[7; 300]), frame(0, b""), frame(6, &[7; 8]), frame(7, &goaway)].concat();
        let preface = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &frames[..]].concat();
        let expected = (4, vec![GoAway { error_code: 0xb, debug_data: "too_many_resets".into() }]);
        for piece_bytes in [1, 2, 8, 9, 10, 31, 10_000] {
            assert_eq!(find(Writer::Server, &frames, piece_bytes), expected, "{piece_bytes}");
            assert_eq!(find(Writer::Client, &preface, piece_bytes), expected, "{piece_bytes}");
        }
    }

    #[test]
    fn another_preface_is_found_at_its_first_wrong_byte() {
        let mut finder = FrameFinder::new(Writer::Client);
        assert!(!finder.find(b"PRI * HTTP").wrong_preface);
        assert!(finder.find(b"/1").wrong_preface);
        assert!(!FrameFinder::new(Writer::Server).find(b"x").wrong_preface);
    }

    #[test]
    fn goaway_without_a_whole_payload_and_endless_debug_data_are_bounded() {
        assert_eq!(
            find(Writer::Server, &frame(7, b""), 3).1,
            vec![GoAway { error_code: 0, debug_data: String::new() }]
        );
        let (_, found) = find(Writer::Server, &frame(7, &vec![b'x'; 1_000_000]), 4096);
        assert_eq!(found[0].debug_data.len(), GOAWAY_BYTES_MAX - 8);
    }
}
