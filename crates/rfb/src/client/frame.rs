//! A framebuffer with queries on its pixels.

/// A colour as `0xRRGGBB`.
pub type Rgb = u32;

/// A true-colour framebuffer.
#[derive(Clone, PartialEq, Eq)]
pub struct Frame {
    width: u16,
    height: u16,
    pixels: Vec<Rgb>,
}

impl std::fmt::Debug for Frame {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Frame({} × {})", self.width, self.height)
    }
}

impl Frame {
    /// A black framebuffer.
    pub fn new(width: u16, height: u16) -> Self {
        Self { width, height, pixels: vec![0; usize::from(width) * usize::from(height)] }
    }

    /// Width in pixels.
    pub fn width(&self) -> u16 {
        self.width
    }

    /// Height in pixels.
    pub fn height(&self) -> u16 {
        self.height
    }

    /// The colour of a pixel; `None` outside the framebuffer.
    pub fn pixel(&self, x: u16, y: u16) -> Option<Rgb> {
        let inside = x < self.width && y < self.height;
        inside.then(|| self.pixels[self.index(x, y)])
    }

    /// The number of pixels with exactly this colour.
    pub fn count_pixels(&self, colour: Rgb) -> usize {
        self.pixels.iter().filter(|&&pixel| pixel == colour).count()
    }

    /// The number of different colours, counted up to `max`.
    pub fn count_colours(&self, max: usize) -> usize {
        let mut seen = std::collections::HashSet::new();
        for &pixel in &self.pixels {
            seen.insert(pixel);
            if seen.len() >= max {
                break;
            }
        }
        seen.len()
    }

    /// The center of the bounding box of all pixels with this colour, if there are at least `pixels_min`.
    pub fn center_of_colour(&self, colour: Rgb, pixels_min: usize) -> Option<(u16, u16)> {
        let (mut left, mut top, mut right, mut bottom, mut count) = (u16::MAX, u16::MAX, 0, 0, 0);
        for y in 0..self.height {
            for x in 0..self.width {
                if self.pixels[self.index(x, y)] == colour {
                    (left, top, right, bottom) = (left.min(x), top.min(y), right.max(x), bottom.max(y));
                    count += 1;
                }
            }
        }
        (count >= pixels_min.max(1)).then(|| (left + (right - left) / 2, top + (bottom - top) / 2))
    }

    fn index(&self, x: u16, y: u16) -> usize {
        usize::from(y) * usize::from(self.width) + usize::from(x)
    }

    /// Paints one row of little-endian 32-bit pixels; the caller has checked that it fits.
    pub(super) fn paint_row(&mut self, x: u16, y: u16, line: &[u8]) {
        let start = self.index(x, y);
        for (pixel, bytes) in self.pixels[start..].iter_mut().zip(line.chunks_exact(4)) {
            *pixel = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], 0]);
        }
    }

    /// Paints a rectangle of this width, row by row; the caller has checked that it fits.
    pub(super) fn paint_rectangle(&mut self, x: u16, y: u16, width: u16, pixels: &[Rgb]) {
        let width = usize::from(width);
        for (line, row) in pixels.chunks_exact(width.max(1)).zip(y..) {
            let start = self.index(x, row);
            self.pixels[start..start + width].copy_from_slice(line);
        }
    }

    /// Copies a rectangle within the framebuffer; the caller has checked that source and target fit.
    pub(super) fn copy_rectangle(&mut self, from: (u16, u16), to: (u16, u16), (width, height): (u16, u16)) {
        let source: Vec<Rgb> = (0..height)
            .flat_map(|row| {
                let start = self.index(from.0, from.1 + row);
                self.pixels[start..start + usize::from(width)].iter().copied()
            })
            .collect();
        if width == 0 {
            return;
        }
        for (row, line) in (0..height).zip(source.chunks_exact(usize::from(width))) {
            let start = self.index(to.0, to.1 + row);
            self.pixels[start..start + usize::from(width)].copy_from_slice(line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rectangle_is_found_by_its_colour_after_a_copy() {
        let mut frame = Frame::new(20, 10);
        for y in 2..5 {
            frame.paint_row(3, y, &[0x33, 0x7d, 0x0a, 0xff].repeat(5));
        }
        assert_eq!(frame.count_pixels(0x0a7d33), 15);
        assert_eq!(frame.center_of_colour(0x0a7d33, 15), Some((5, 3)));
        assert_eq!(frame.center_of_colour(0x0a7d33, 16), None);
        frame.copy_rectangle((3, 2), (4, 3), (5, 3));
        assert_eq!(frame.pixel(8, 5), Some(0x0a7d33));
        assert_eq!(frame.pixel(20, 0), None);
    }
}
