//! Valid and invalid rectangles.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use super::*;
use flate2::{Compress, Compression, FlushCompress};

/// Control bytes of basic compression, without and with a filter.
const BASIC: u8 = 0x00;
const FILTERED: u8 = 0x40;

/// A deflate stream of the server.
struct Deflate(Compress);

impl Deflate {
    fn new() -> Self {
        Self(Compress::new(Compression::fast(), true))
    }

    fn chunk(&mut self, plain: &[u8]) -> Vec<u8> {
        let mut chunk = Vec::with_capacity(plain.len() + 1024);
        self.0.compress_vec(plain, &mut chunk, FlushCompress::Sync).unwrap();
        chunk
    }

    /// A chunk with its length before it.
    fn data(&mut self, plain: &[u8]) -> Vec<u8> {
        with_length(&self.chunk(plain))
    }
}

fn with_length(chunk: &[u8]) -> Vec<u8> {
    let length = chunk.len();
    let mut data = match length {
        0..0x80 => vec![length as u8],
        0x80..0x4000 => vec![length as u8 | 0x80, (length >> 7) as u8],
        _ => vec![length as u8 | 0x80, (length >> 7) as u8 | 0x80, (length >> 14) as u8],
    };
    data.extend(chunk);
    data
}

fn bytes(pixels: &[Rgb]) -> Vec<u8> {
    pixels.iter().flat_map(|pixel| pixel.to_be_bytes().into_iter().skip(1)).collect()
}

/// Pseudo-random bytes.
fn noise(count: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_u32;
    let next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as u8
    };
    std::iter::repeat_with(next).take(count).collect()
}

/// Decodes one rectangle, which must consume all of `bytes`.
async fn read(tight: &mut TightDecoder, mut bytes: &[u8], width: u16, height: u16) -> Result<Vec<Rgb>, RfbError> {
    let pixels = tight.read_rectangle(&mut bytes, width, height).await?;
    assert!(bytes.is_empty(), "{} bytes were left", bytes.len());
    Ok(pixels)
}

async fn protocol_error_of(bytes: &[u8], width: u16, height: u16) -> String {
    match TightDecoder::new().read_rectangle(&mut &*bytes, width, height).await {
        Err(RfbError::Protocol(message)) => message,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn tight_fill_rectangle_has_one_colour() {
    let pixels = read(&mut TightDecoder::new(), &[0x80, 1, 2, 3], 3, 2).await.unwrap();
    assert_eq!(pixels, [0x010203; 6]);
}

#[tokio::test]
async fn tight_copy_filter_is_the_default_and_can_be_explicit() {
    let expected: Vec<Rgb> = (0..64).map(|i| i * 0x01_0305).collect();
    let mut tight = TightDecoder::new();
    let mut deflate = Deflate::new();
    let plain = [&[BASIC][..], &deflate.data(&bytes(&expected))].concat();
    assert_eq!(read(&mut tight, &plain, 16, 4).await.unwrap(), expected);
    let named = [&[FILTERED, FILTER_COPY][..], &deflate.data(&bytes(&expected))].concat();
    assert_eq!(read(&mut tight, &named, 16, 4).await.unwrap(), expected);
}

#[tokio::test]
async fn less_than_twelve_bytes_are_not_compressed() {
    let pixels = read(&mut TightDecoder::new(), &[BASIC, 1, 2, 3, 4, 5, 6, 7, 8, 9], 3, 1).await.unwrap();
    assert_eq!(pixels, [0x010203, 0x040506, 0x070809]);
    let pixels = [0x0a0b0c; 4];
    let twelve = [&[BASIC][..], &Deflate::new().data(&bytes(&pixels))].concat();
    assert_eq!(read(&mut TightDecoder::new(), &twelve, 2, 2).await.unwrap(), pixels);
}

#[tokio::test]
async fn two_colours_use_one_bit_per_pixel_and_whole_bytes_per_row() {
    let head = [FILTERED, FILTER_PALETTE, 1, 0, 0, 0xaa, 0xbb, 0, 0];
    let rows = [0b1000_0000, 0b0111_1111, 0b0000_0001, 0b1000_0000]; // 9 across: seven bits of each row are padding
    let pixels = read(&mut TightDecoder::new(), &[&head[..], &rows].concat(), 9, 2).await.unwrap();
    let (a, b) = (0x0000aa, 0xbb0000);
    assert_eq!(pixels, [b, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, b, b]);
    let many = Deflate::new().data(&[0xff; 40]);
    assert_eq!(read(&mut TightDecoder::new(), &[&head[..], &many].concat(), 16, 20).await.unwrap(), [b; 320]);
}

#[tokio::test]
async fn more_colours_use_one_byte_per_pixel() {
    let mut head = vec![FILTERED, FILTER_PALETTE, 255];
    head.extend((0..=255).flat_map(|i| [i, 0, 255 - i]));
    let indices: Vec<u8> = (0..=255).rev().collect();
    let deflated = Deflate::new().data(&indices);
    let pixels = read(&mut TightDecoder::new(), &[&head[..], &deflated].concat(), 32, 8).await.unwrap();
    let expected: Vec<Rgb> = (0..=255).rev().map(|i| i << 16 | (255 - i)).collect();
    assert_eq!(pixels, expected);
}

#[tokio::test]
async fn gradient_filter_adds_to_the_prediction_from_neighbours() {
    let (width, pixels) = (13_usize, noise(13 * 9 * 3));
    let at = |x: usize, y: usize, c: usize| i32::from(pixels[(y * width + x) * 3 + c]);
    let mut differences = Vec::new();
    for (i, &value) in pixels.iter().enumerate() {
        let (x, y, c) = (i / 3 % width, i / 3 / width, i % 3);
        let left = if x > 0 { at(x - 1, y, c) } else { 0 };
        let above = if y > 0 { at(x, y - 1, c) } else { 0 };
        let above_left = if x > 0 && y > 0 { at(x - 1, y - 1, c) } else { 0 };
        differences.push(value.wrapping_sub((left + above - above_left).clamp(0, 255) as u8));
    }
    let stream = [&[FILTERED, FILTER_GRADIENT][..], &Deflate::new().data(&differences)].concat();
    assert_eq!(bytes(&read(&mut TightDecoder::new(), &stream, 13, 9).await.unwrap()), pixels);
}

#[tokio::test]
async fn each_of_the_four_streams_continues_until_it_is_reset() {
    let mut tight = TightDecoder::new();
    let mut streams = [Deflate::new(), Deflate::new(), Deflate::new(), Deflate::new()];
    let pixels = noise(3 * 64);
    for round in 0..3 {
        for (i, stream) in streams.iter_mut().enumerate() {
            let data = stream.data(&pixels);
            assert_eq!(data.len() < 100, round > 0, "later pieces refer to the first: {}", data.len());
            let sent = [&[BASIC | (i as u8) << 4][..], &data].concat();
            assert_eq!(bytes(&read(&mut tight, &sent, 8, 8).await.unwrap()), pixels);
        }
    }
    // Reset stream 2 in a fill, which uses no stream; stream 1 continues.
    assert!(read(&mut tight, &[0x84, 0, 0, 0], 1, 1).await.is_ok());
    let fresh = [&[BASIC | 2 << 4][..], &Deflate::new().data(&pixels)].concat();
    assert_eq!(bytes(&read(&mut tight, &fresh, 8, 8).await.unwrap()), pixels);
    let old = [&[BASIC | 1 << 4][..], &streams[1].data(&pixels)].concat();
    assert_eq!(bytes(&read(&mut tight, &old, 8, 8).await.unwrap()), pixels);
    // Stream 3 restarts without a reset.
    let not_reset = [&[BASIC | 3 << 4][..], &Deflate::new().data(&pixels)].concat();
    assert!(matches!(read(&mut tight, &not_reset, 8, 8).await, Err(RfbError::Protocol(_))));
}

#[tokio::test]
async fn lengths_of_one_two_and_three_bytes_are_decoded() {
    for (encoded, length) in [
        (&[0x00][..], 0),
        (&[0x7f], 127),
        (&[0x80, 0x01], 128),
        (&[0xff, 0x7f], 16_383),
        (&[0x80, 0x80, 0x01], 16_384),
        (&[0xff, 0xff, 0xff], 4_194_303),
    ] {
        assert_eq!(read_compact_length(&mut &*encoded).await.unwrap(), length);
    }
    for side in [4_u16, 20, 120] {
        let pixels = noise(usize::from(side) * usize::from(side) * 3);
        let sent = [&[BASIC][..], &Deflate::new().data(&pixels)].concat();
        assert_eq!(bytes(&read(&mut TightDecoder::new(), &sent, side, side).await.unwrap()), pixels);
    }
}

#[tokio::test]
async fn rectangle_that_inflates_to_a_wrong_size_is_rejected() {
    let chunk = Deflate::new().chunk(&noise(3 * 64));
    let sent = [&[BASIC][..], &with_length(&chunk)].concat();
    for (width, height) in [(8, 7), (8, 9), (1, 63), (13, 5), (100, 100)] {
        assert!(protocol_error_of(&sent, width, height).await.contains("do not inflate to"), "{width} × {height}");
    }
    // A megabyte of zeros, compressed to a kilobyte.
    let bomb = {
        let mut chunk = Vec::with_capacity(1 << 16);
        Compress::new(Compression::best(), true)
            .compress_vec(&vec![0; 1 << 20], &mut chunk, FlushCompress::Sync)
            .unwrap();
        [&[BASIC][..], &with_length(&chunk)].concat()
    };
    assert!(protocol_error_of(&bomb, 4, 4).await.contains("do not inflate to"));
    let shortened = [&[BASIC][..], &with_length(&chunk[..chunk.len() / 2])].concat();
    assert!(protocol_error_of(&shortened, 8, 8).await.contains("do not inflate to"));
    let longer = [&[BASIC][..], &with_length(&[&chunk[..], &chunk].concat())].concat();
    protocol_error_of(&longer, 8, 8).await;
    assert!(protocol_error_of(&[BASIC, 0], 8, 8).await.contains("do not inflate to"));
}

#[tokio::test]
async fn invalid_tight_data_is_rejected_with_its_reason() {
    assert!(protocol_error_of(&[0x90, 4, 0xff, 0xd8, 0xff, 0xe0], 8, 8).await.contains("JPEG"));
    for kind in 0x0a..=0x0f_u8 {
        assert!(protocol_error_of(&[kind << 4, 0, 0, 0], 8, 8).await.contains(&format!("kind {kind}")));
    }
    assert!(protocol_error_of(&[FILTERED, 3], 8, 8).await.contains("filter 3"));
    assert!(protocol_error_of(&[FILTERED, FILTER_PALETTE, 0, 1, 2, 3], 8, 8).await.contains("one colour"));
    let three = [FILTERED, FILTER_PALETTE, 2, 1, 1, 1, 2, 2, 2, 3, 3, 3, /* indices */ 0, 2, 3];
    assert!(protocol_error_of(&three, 3, 1).await.contains("palette does not have"));
    assert!(
        protocol_error_of(&[&[BASIC][..], &with_length(&[0xee; 20])].concat(), 8, 8).await.contains("does not inflate")
    );
}

#[tokio::test]
async fn truncated_stream_is_a_stream_error() {
    let deflated = Deflate::new().data(&noise(3 * 64));
    let mut palette = vec![FILTERED, FILTER_PALETTE, 2, 1, 1, 1, 2, 2, 2, 3, 3, 3];
    palette.extend(Deflate::new().data(&[1; 64]));
    for whole in [vec![0x80, 1, 2, 3], [&[BASIC][..], &deflated].concat(), palette] {
        assert!(read(&mut TightDecoder::new(), &whole, 8, 8).await.is_ok());
        for end in 0..whole.len() {
            let broken = TightDecoder::new().read_rectangle(&mut &whole[..end], 8, 8).await;
            assert!(matches!(broken, Err(RfbError::Stream { doing: DOING, .. })), "at {end}: {broken:?}");
        }
    }
}

#[tokio::test]
async fn random_data_never_panics() {
    let noise = noise(60_000);
    let mut tight = TightDecoder::new();
    for (i, chunk) in noise.chunks(29).enumerate() {
        let (width, height) = (u16::from(chunk[0]) % 20, u16::from(chunk[1]) % 20);
        let (deflated, kind) = (with_length(&chunk[4..]), chunk[3] & 0x7f);
        let sent = if i % 2 == 0 { [&[kind, chunk[2] % 3][..], &deflated].concat() } else { chunk.to_vec() };
        if let Ok(pixels) = tight.read_rectangle(&mut &sent[..], width, height).await {
            assert_eq!(pixels.len(), usize::from(width) * usize::from(height));
        }
    }
}
