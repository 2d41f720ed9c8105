//! HTTP/2 frames that no library sends.

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PUSH_PROMISE: u8 = 5;
pub(crate) const PING: u8 = 6;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// The head of a frame with this length.
pub(crate) fn head(length: u32, kind: u8, flags: u8, stream: u32) -> Vec<u8> {
    [&length.to_be_bytes()[1..], &[kind, flags], &stream.to_be_bytes()].concat()
}

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    [head(u32::try_from(payload.len()).unwrap(), kind, flags, stream), payload.to_vec()].concat()
}

/// The preface of a client and empty settings.
pub(crate) fn preface() -> Vec<u8> {
    [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &frame(SETTINGS, 0, 0, b"")[..]].concat()
}

/// `POST /api/agent/events`, not indexed; whole, with the end of the stream if `ends`.
pub(crate) fn post_events(stream: u32, ends: bool) -> Vec<u8> {
    let path = b"/api/agent/events";
    let block = [&b"\x83\x86\x04"[..], &[u8::try_from(path.len()).unwrap()], path, b"\x01\x01x"].concat();
    frame(HEADERS, if ends { END_HEADERS | END_STREAM } else { END_HEADERS }, stream, &block)
}

/// A header that is not indexed, with a name and value of these lengths.
pub(crate) fn long_header(name: &[u8], value_bytes: usize) -> Vec<u8> {
    [&[0, u8::try_from(name.len()).unwrap()], name, &integer(value_bytes), &vec![b'a'; value_bytes]].concat()
}

/// The length of a string in HPACK (RFC 7541, section 5.1, with a prefix of seven bits).
fn integer(number: usize) -> Vec<u8> {
    if number < 127 {
        return vec![u8::try_from(number).unwrap()];
    }
    let (mut bytes, mut left) = (vec![127], number - 127);
    while left >= 128 {
        bytes.push(0x80 | u8::try_from(left % 128).unwrap());
        left /= 128;
    }
    bytes.push(u8::try_from(left).unwrap());
    bytes
}

/// The frame again and again.
pub(crate) fn repeated(kind: u8, flags: u8, stream: u32, payload: &[u8], count: usize) -> Vec<u8> {
    frame(kind, flags, stream, payload).repeat(count)
}

/// Odd numbers of streams, from the first one.
pub(crate) fn streams(count: u32) -> impl Iterator<Item = u32> {
    (0..count).map(|number| 1 + 2 * number)
}
