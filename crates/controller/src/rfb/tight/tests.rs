//! Rectangles made by hand, and what is wrong with some.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use super::*;
use flate2::{Compress, Compression, FlushCompress};

/// Control bytes: basic, by stream; with a filter.
const BASIC: u8 = 0x00;
const FILTERED: u8 = 0x40;

/// One of the server's deflate streams.
struct Deflate(Compress);

impl Deflate {
    fn new() -> Self {
        Self(Compress::new(Compression::fast(), true))
    }

    fn piece(&mut self, plain: &[u8]) -> Vec<u8> {
        let mut piece = Vec::with_capacity(plain.len() + 1024);
        self.0.compress_vec(plain, &mut piece, FlushCompress::Sync).unwrap();
        piece
    }

    /// A piece with its length before it.
    fn data(&mut self, plain: &[u8]) -> Vec<u8> {
        with_length(&self.piece(plain))
    }
}

fn with_length(piece: &[u8]) -> Vec<u8> {
    let length = piece.len();
    let mut data = match length {
        0..0x80 => vec![length as u8],
        0x80..0x4000 => vec![length as u8 | 0x80, (length >> 7) as u8],
        _ => vec![length as u8 | 0x80, (length >> 7) as u8 | 0x80, (length >> 14) as u8],
    };
    data.extend(piece);
    data
}

fn bytes(pixels: &[Rgb]) -> Vec<u8> {
    pixels.iter().flat_map(|pixel| pixel.to_be_bytes().into_iter().skip(1)).collect()
}

/// Bytes without a pattern.
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

/// Decodes one rectangle, which must take all of `bytes`.
async fn read(tight: &mut Tight, mut bytes: &[u8], width: u16, height: u16) -> Result<Vec<Rgb>, RfbError> {
    let pixels = tight.read(&mut bytes, width, height).await?;
    assert!(bytes.is_empty(), "{} bytes were left", bytes.len());
    Ok(pixels)
}

async fn refusal(bytes: &[u8], width: u16, height: u16) -> String {
    match Tight::new().read(&mut &*bytes, width, height).await {
        Err(RfbError::Said(what)) => what,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_fill_is_one_colour_all_over() {
    let pixels = read(&mut Tight::new(), &[0x80, 1, 2, 3], 3, 2).await.unwrap();
    assert_eq!(pixels, [0x010203; 6]);
}

#[tokio::test]
async fn pixels_come_as_they_are_with_the_copy_filter_named_or_not() {
    let expected: Vec<Rgb> = (0..64).map(|i| i * 0x01_0305).collect();
    let mut tight = Tight::new();
    let mut deflate = Deflate::new();
    let plain = [&[BASIC][..], &deflate.data(&bytes(&expected))].concat();
    assert_eq!(read(&mut tight, &plain, 16, 4).await.unwrap(), expected);
    let named = [&[FILTERED, FILTER_COPY][..], &deflate.data(&bytes(&expected))].concat();
    assert_eq!(read(&mut tight, &named, 16, 4).await.unwrap(), expected);
}

#[tokio::test]
async fn less_than_twelve_bytes_are_not_deflated() {
    let pixels = read(&mut Tight::new(), &[BASIC, 1, 2, 3, 4, 5, 6, 7, 8, 9], 3, 1).await.unwrap();
    assert_eq!(pixels, [0x010203, 0x040506, 0x070809]);
    let pixels = [0x0a0b0c; 4];
    let twelve = [&[BASIC][..], &Deflate::new().data(&bytes(&pixels))].concat();
    assert_eq!(read(&mut Tight::new(), &twelve, 2, 2).await.unwrap(), pixels);
}

#[tokio::test]
async fn two_colours_take_a_bit_a_pixel_and_whole_bytes_a_row() {
    let head = [FILTERED, FILTER_PALETTE, 1, 0, 0, 0xaa, 0xbb, 0, 0];
    let rows = [0b1000_0000, 0b0111_1111, 0b0000_0001, 0b1000_0000]; // 9 across: seven bits of each row are no pixels
    let pixels = read(&mut Tight::new(), &[&head[..], &rows].concat(), 9, 2).await.unwrap();
    let (a, b) = (0x0000aa, 0xbb0000);
    assert_eq!(pixels, [b, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, b, b]);
    let many = Deflate::new().data(&[0xff; 40]);
    assert_eq!(read(&mut Tight::new(), &[&head[..], &many].concat(), 16, 20).await.unwrap(), [b; 320]);
}

#[tokio::test]
async fn more_colours_take_a_byte_a_pixel() {
    let mut head = vec![FILTERED, FILTER_PALETTE, 255];
    head.extend((0..=255).flat_map(|i| [i, 0, 255 - i]));
    let indices: Vec<u8> = (0..=255).rev().collect();
    let deflated = Deflate::new().data(&indices);
    let pixels = read(&mut Tight::new(), &[&head[..], &deflated].concat(), 32, 8).await.unwrap();
    let expected: Vec<Rgb> = (0..=255).rev().map(|i| i << 16 | (255 - i)).collect();
    assert_eq!(pixels, expected);
}

#[tokio::test]
async fn the_gradient_filter_adds_to_what_the_neighbours_promise() {
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
    assert_eq!(bytes(&read(&mut Tight::new(), &stream, 13, 9).await.unwrap()), pixels);
}

#[tokio::test]
async fn each_of_the_four_streams_goes_on_where_it_was_until_it_is_reset() {
    let mut tight = Tight::new();
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
    // Stream 2 anew, told in a fill, which uses none; stream 1 goes on.
    assert!(read(&mut tight, &[0x84, 0, 0, 0], 1, 1).await.is_ok());
    let fresh = [&[BASIC | 2 << 4][..], &Deflate::new().data(&pixels)].concat();
    assert_eq!(bytes(&read(&mut tight, &fresh, 8, 8).await.unwrap()), pixels);
    let old = [&[BASIC | 1 << 4][..], &streams[1].data(&pixels)].concat();
    assert_eq!(bytes(&read(&mut tight, &old, 8, 8).await.unwrap()), pixels);
    // Stream 3 starts anew without having been reset.
    let not_reset = [&[BASIC | 3 << 4][..], &Deflate::new().data(&pixels)].concat();
    assert!(matches!(read(&mut tight, &not_reset, 8, 8).await, Err(RfbError::Said(_))));
}

#[tokio::test]
async fn lengths_of_one_two_and_three_bytes_are_understood() {
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
        assert_eq!(bytes(&read(&mut Tight::new(), &sent, side, side).await.unwrap()), pixels);
    }
}

#[tokio::test]
async fn a_rectangle_that_inflates_to_more_or_less_than_its_size_is_refused() {
    let piece = Deflate::new().piece(&noise(3 * 64));
    let sent = [&[BASIC][..], &with_length(&piece)].concat();
    for (width, height) in [(8, 7), (8, 9), (1, 63), (13, 5), (100, 100)] {
        assert!(refusal(&sent, width, height).await.ends_with("due"), "{width} × {height}");
    }
    // A megabyte of nothing in a kilobyte.
    let bomb = {
        let mut piece = Vec::with_capacity(1 << 16);
        Compress::new(Compression::best(), true)
            .compress_vec(&vec![0; 1 << 20], &mut piece, FlushCompress::Sync)
            .unwrap();
        [&[BASIC][..], &with_length(&piece)].concat()
    };
    assert!(refusal(&bomb, 4, 4).await.ends_with("due"));
    let shortened = [&[BASIC][..], &with_length(&piece[..piece.len() / 2])].concat();
    assert!(refusal(&shortened, 8, 8).await.ends_with("due"));
    let longer = [&[BASIC][..], &with_length(&[&piece[..], &piece].concat())].concat();
    refusal(&longer, 8, 8).await;
    assert!(refusal(&[BASIC, 0], 8, 8).await.ends_with("due"));
}

#[tokio::test]
async fn what_is_not_tight_is_refused_by_name() {
    assert!(refusal(&[0x90, 4, 0xff, 0xd8, 0xff, 0xe0], 8, 8).await.contains("JPEG"));
    for kind in 0x0a..=0x0f_u8 {
        assert!(refusal(&[kind << 4, 0, 0, 0], 8, 8).await.contains(&format!("kind {kind} ")));
    }
    assert!(refusal(&[FILTERED, 3], 8, 8).await.contains("filter 3 "));
    assert!(refusal(&[FILTERED, FILTER_PALETTE, 0, 1, 2, 3], 8, 8).await.contains("one colour"));
    let three = [FILTERED, FILTER_PALETTE, 2, 1, 1, 1, 2, 2, 2, 3, 3, 3, /* indices */ 0, 2, 3];
    assert!(refusal(&three, 3, 1).await.contains("palette does not have"));
    assert!(refusal(&[&[BASIC][..], &with_length(&[0xee; 20])].concat(), 8, 8).await.contains("not inflate"));
}

#[tokio::test]
async fn a_stream_that_ends_anywhere_is_broken_there() {
    let deflated = Deflate::new().data(&noise(3 * 64));
    let mut palette = vec![FILTERED, FILTER_PALETTE, 2, 1, 1, 1, 2, 2, 2, 3, 3, 3];
    palette.extend(Deflate::new().data(&[1; 64]));
    for whole in [vec![0x80, 1, 2, 3], [&[BASIC][..], &deflated].concat(), palette] {
        assert!(read(&mut Tight::new(), &whole, 8, 8).await.is_ok());
        for end in 0..whole.len() {
            let broken = Tight::new().read(&mut &whole[..end], 8, 8).await;
            assert!(matches!(broken, Err(RfbError::Stream { doing: DOING, .. })), "at {end}: {broken:?}");
        }
    }
}

#[tokio::test]
async fn noise_is_read_or_refused_and_nothing_else() {
    let noise = noise(60_000);
    let mut tight = Tight::new();
    for (i, piece) in noise.chunks(29).enumerate() {
        let (width, height) = (u16::from(piece[0]) % 20, u16::from(piece[1]) % 20);
        let (deflated, kind) = (with_length(&piece[4..]), piece[3] & 0x7f);
        let sent = if i % 2 == 0 { [&[kind, piece[2] % 3][..], &deflated].concat() } else { piece.to_vec() };
        if let Ok(pixels) = tight.read(&mut &sent[..], width, height).await {
            assert_eq!(pixels.len(), usize::from(width) * usize::from(height));
        }
    }
}
