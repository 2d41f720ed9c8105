//! Decoder of the Tight encoding (number 7 in the registry of the RFB community), for pixels of 32 bits and depth 24: a pixel
//! is three bytes, red, green, blue.
//!
//! ```text
//!  control ── 1000….  fill      one pixel
//!     │    ── 1001….  JPEG      rejected: is sent only to clients that request a quality level
//!     │    ── 0fss….  basic     [filter, when f]  [palette]  data
//!     └ ….rrrr  streams that are reset
//!
//!  data: fewer than 12 bytes uncompressed; else a compact length and that many bytes of deflate stream ss
//! ```
//!
//! The four streams span rectangles: each rectangle continues the deflate stream that it uses. The inflated size is known
//! from the size of the rectangle, and inflating stops there.

use super::{RfbError, Rgb, broken};
use flate2::{Decompress, FlushDecompress};
use tokio::io::{AsyncRead, AsyncReadExt};

const DOING: &str = "reading a Tight rectangle";
/// Shorter data is not compressed, bytes.
const DEFLATED_BYTES_MIN: usize = 12;
/// Bytes per pixel.
const PIXEL_BYTES: usize = 3;

const FILL: u8 = 0b1000;
const JPEG: u8 = 0b1001;
const WITH_FILTER: u8 = 0b0100;
const STREAM: u8 = 0b0011;

const FILTER_COPY: u8 = 0;
const FILTER_PALETTE: u8 = 1;
const FILTER_GRADIENT: u8 = 2;

/// The state between rectangles: the deflate streams.
#[derive(Debug)]
pub(super) struct TightDecoder {
    streams: [Decompress; 4],
}

impl TightDecoder {
    pub(super) fn new() -> Self {
        Self { streams: std::array::from_fn(|_| Decompress::new(true)) }
    }

    /// Reads one rectangle after its header and returns its pixels, row by row. Uses at most seven bytes of memory per pixel and
    /// 4 MiB for compressed data; the caller has checked that the rectangle is inside the framebuffer.
    pub(super) async fn read_rectangle<R>(
        &mut self,
        from: &mut R,
        width: u16,
        height: u16,
    ) -> Result<Vec<Rgb>, RfbError>
    where
        R: AsyncRead + Unpin,
    {
        let (width, height) = (usize::from(width), usize::from(height));
        let control = from.read_u8().await.map_err(broken(DOING))?;
        for (i, stream) in self.streams.iter_mut().enumerate() {
            if control & (1 << i) != 0 {
                stream.reset(true);
            }
        }
        match control >> 4 {
            FILL => {
                let mut pixel = [0; PIXEL_BYTES];
                from.read_exact(&mut pixel).await.map_err(broken(DOING))?;
                Ok(vec![rgb(pixel); width * height])
            }
            JPEG => Err(protocol_error("a JPEG in Tight, but no quality level was requested")),
            kind if kind < FILL => self.read_basic(from, kind, width, height).await,
            kind => Err(RfbError::Protocol(format!("a Tight rectangle of unknown kind {kind}"))),
        }
    }

    async fn read_basic<R>(&mut self, from: &mut R, kind: u8, width: usize, height: usize) -> Result<Vec<Rgb>, RfbError>
    where
        R: AsyncRead + Unpin,
    {
        let filter = match kind & WITH_FILTER {
            0 => FILTER_COPY,
            _ => from.read_u8().await.map_err(broken(DOING))?,
        };
        let stream = &mut self.streams[usize::from(kind & STREAM)];
        match filter {
            FILTER_COPY => {
                let data = read_data(from, stream, width * height * PIXEL_BYTES).await?;
                Ok(data.chunks_exact(PIXEL_BYTES).map(|p| rgb([p[0], p[1], p[2]])).collect())
            }
            FILTER_PALETTE => {
                let palette = read_palette(from).await?;
                if let [zero, one] = palette[..] {
                    let data = read_data(from, stream, width.div_ceil(8) * height).await?;
                    return Ok(two_colours(&data, width, zero, one));
                }
                let data = read_data(from, stream, width * height).await?;
                let colours = data.iter().map(|&index| palette.get(usize::from(index)).copied());
                colours
                    .collect::<Option<_>>()
                    .ok_or_else(|| protocol_error("a colour index in Tight that its palette does not have"))
            }
            FILTER_GRADIENT => {
                let data = read_data(from, stream, width * height * PIXEL_BYTES).await?;
                Ok(from_differences(&data, width))
            }
            other => Err(RfbError::Protocol(format!("unknown filter {other} in Tight"))),
        }
    }
}

async fn read_palette<R: AsyncRead + Unpin>(from: &mut R) -> Result<Vec<Rgb>, RfbError> {
    let colours = usize::from(from.read_u8().await.map_err(broken(DOING))?) + 1;
    if colours < 2 {
        // Decoders disagree whether this has one or eight bits per pixel, and servers send a fill instead.
        return Err(protocol_error("a palette of one colour in Tight"));
    }
    let mut bytes = vec![0; colours * PIXEL_BYTES];
    from.read_exact(&mut bytes).await.map_err(broken(DOING))?;
    Ok(bytes.chunks_exact(PIXEL_BYTES).map(|p| rgb([p[0], p[1], p[2]])).collect())
}

/// Reads data that inflates to `bytes` bytes.
async fn read_data<R>(from: &mut R, stream: &mut Decompress, bytes: usize) -> Result<Vec<u8>, RfbError>
where
    R: AsyncRead + Unpin,
{
    if bytes < DEFLATED_BYTES_MIN {
        let mut plain = vec![0; bytes];
        from.read_exact(&mut plain).await.map_err(broken(DOING))?;
        return Ok(plain);
    }
    let mut deflated = vec![0; read_compact_length(from).await?];
    from.read_exact(&mut deflated).await.map_err(broken(DOING))?;
    inflate(stream, &deflated, bytes)
}

/// A length of seven, seven and eight bits, the low ones first; in the first two bytes a set top bit means that another byte
/// follows.
async fn read_compact_length<R: AsyncRead + Unpin>(from: &mut R) -> Result<usize, RfbError> {
    let mut length = 0;
    for shift in [0, 7, 14] {
        let byte = from.read_u8().await.map_err(broken(DOING))?;
        let last = shift == 14 || byte & 0x80 == 0;
        length |= usize::from(if shift == 14 { byte } else { byte & 0x7f }) << shift;
        if last {
            break;
        }
    }
    Ok(length)
}

/// Inflates this part of the stream to exactly `bytes` bytes.
fn inflate(stream: &mut Decompress, deflated: &[u8], bytes: usize) -> Result<Vec<u8>, RfbError> {
    // One byte more than expected, so that the stream can consume its last empty block and too much data is detected.
    let mut plain = vec![0; bytes + 1];
    let (mut consumed, mut produced) = (0, 0);
    loop {
        let (before_in, before_out) = (stream.total_in(), stream.total_out());
        stream
            .decompress(&deflated[consumed..], &mut plain[produced..], FlushDecompress::Sync)
            .map_err(|error| RfbError::Protocol(format!("Tight data does not inflate: {error}")))?;
        let (more_in, more_out) = (stream.total_in() - before_in, stream.total_out() - before_out);
        if (more_in, more_out) == (0, 0) {
            break;
        }
        // Both are lengths of parts of the two slices.
        (consumed, produced) = (consumed + more_in as usize, produced + more_out as usize);
    }
    if (consumed, produced) != (deflated.len(), bytes) {
        return Err(RfbError::Protocol(format!(
            "{} bytes of Tight data do not inflate to {bytes} bytes",
            deflated.len()
        )));
    }
    plain.truncate(bytes);
    Ok(plain)
}

/// One bit per pixel, the top bit first; every row starts with a new byte.
fn two_colours(data: &[u8], width: usize, zero: Rgb, one: Rgb) -> Vec<Rgb> {
    let rows = data.chunks_exact(width.div_ceil(8).max(1));
    rows.flat_map(|row| (0..width).map(|x| if row[x / 8] & (0x80 >> (x % 8)) == 0 { zero } else { one })).collect()
}

/// Undoes the gradient filter: every byte is the difference to the prediction left + above - above left.
fn from_differences(data: &[u8], width: usize) -> Vec<Rgb> {
    let mut row_above = vec![[0_u8; PIXEL_BYTES]; width];
    let mut pixels = Vec::with_capacity(data.len() / PIXEL_BYTES);
    for row in data.chunks_exact((width * PIXEL_BYTES).max(1)) {
        let (mut left, mut above_left) = ([0; PIXEL_BYTES], [0; PIXEL_BYTES]);
        for (difference, above) in row.chunks_exact(PIXEL_BYTES).zip(&mut row_above) {
            let here = std::array::from_fn(|c| {
                let prediction = i16::from(left[c]) + i16::from(above[c]) - i16::from(above_left[c]);
                let prediction = u8::try_from(prediction.max(0)).unwrap_or(u8::MAX);
                difference[c].wrapping_add(prediction)
            });
            (above_left, left) = (*above, here);
            *above = here;
            pixels.push(rgb(here));
        }
    }
    pixels
}

fn rgb([red, green, blue]: [u8; PIXEL_BYTES]) -> Rgb {
    u32::from_be_bytes([0, red, green, blue])
}

fn protocol_error(message: &str) -> RfbError {
    RfbError::Protocol(message.to_owned())
}

#[cfg(test)]
mod tests;
