//! The desktop's framebuffer: a background, a moving block, and spots where a button was pressed.

/// The colour of the moving block.
pub const BLOCK_COLOUR: u32 = 0xffcc00;
/// The colour of a spot where a button was pressed.
pub const SPOT_COLOUR: u32 = 0xff00ff;
/// The side of the block and of a spot, pixels.
const SIDE: u16 = 16;

/// The background colour after a key. It contains the lower 16 bits of the keysym.
pub fn background_colour_after_key(keysym: u32) -> u32 {
    0x40_0000 | (keysym & 0xffff)
}

/// The initial background colour of a desktop with this name: dark, and different for different names.
pub fn initial_background_colour(name: &str) -> u32 {
    name.bytes().fold(0x1505_u32, |hash, byte| hash.wrapping_mul(33) ^ u32::from(byte)) & 0x3f_ffff
}

/// The pixel format that a client requests (RFC 6143 §7.4); 32 bits per pixel.
#[derive(Debug, Clone, Copy)]
pub(super) struct PixelFormat {
    pub(super) big_endian: bool,
    pub(super) shifts: [u8; 3],
}

impl Default for PixelFormat {
    fn default() -> Self {
        Self { big_endian: false, shifts: [16, 8, 0] }
    }
}

impl PixelFormat {
    fn bytes(self, rgb: u32) -> [u8; 4] {
        let [_, red, green, blue] = rgb.to_be_bytes();
        let [r, g, b] = self.shifts;
        let pixel = u32::from(red) << (r & 31) | u32::from(green) << (g & 31) | u32::from(blue) << (b & 31);
        if self.big_endian { pixel.to_be_bytes() } else { pixel.to_le_bytes() }
    }
}

/// The framebuffer of one connection.
#[derive(Debug)]
pub(super) struct Framebuffer {
    pub(super) width: u16,
    pub(super) height: u16,
    background: u32,
    block: (u16, u16),
    spots: Vec<(u16, u16)>,
    /// The rows that changed since the last update: the first, and one past the last.
    dirty: (u16, u16),
}

impl Framebuffer {
    pub(super) fn new(name: &str, width: u16, height: u16) -> Self {
        Self {
            width,
            height,
            background: initial_background_colour(name),
            block: (0, 0),
            spots: Vec::new(),
            dirty: (0, height),
        }
    }

    /// Moves the block.
    pub(super) fn advance_animation(&mut self) {
        self.mark_dirty(self.block.1);
        let (x, y) = self.block;
        self.block = if x + 2 * SIDE <= self.width { (x + SIDE, y) } else { (0, y + SIDE) };
        if self.block.1 + SIDE > self.height {
            self.block = (0, 0);
        }
        self.mark_dirty(self.block.1);
    }

    pub(super) fn handle_key(&mut self, keysym: u32) {
        self.background = background_colour_after_key(keysym);
        self.dirty = (0, self.height);
    }

    /// Adds a spot for a pressed button. Only the last hundred spots are kept.
    pub(super) fn handle_press(&mut self, x: u16, y: u16) {
        if self.spots.len() >= 100 {
            self.spots.remove(0);
        }
        self.spots.push((x, y));
        self.mark_dirty(y);
    }

    fn mark_dirty(&mut self, y: u16) {
        let (first, end) = self.dirty;
        let (from, to) = (y.min(self.height), y.saturating_add(SIDE).min(self.height));
        self.dirty = if first >= end { (from, to) } else { (first.min(from), end.max(to)) };
    }

    pub(super) fn is_dirty(&self) -> bool {
        self.dirty.0 < self.dirty.1
    }

    /// A FramebufferUpdate message with the changed rows, or with all rows: one rectangle in Raw encoding.
    pub(super) fn encode_update(&mut self, all_rows: bool, format: PixelFormat) -> Vec<u8> {
        let (first, end) = if all_rows { (0, self.height) } else { self.dirty };
        self.dirty = (0, 0);
        let mut message = vec![0, 0, 0, 1, 0, 0];
        message.extend(first.to_be_bytes());
        message.extend(self.width.to_be_bytes());
        message.extend((end - first).to_be_bytes());
        message.extend(0_i32.to_be_bytes());
        let inside = |(left, top): (u16, u16), x: u16, y: u16| {
            (left..left.saturating_add(SIDE)).contains(&x) && (top..top.saturating_add(SIDE)).contains(&y)
        };
        for y in first..end {
            let spots: Vec<_> = self.spots.iter().filter(|spot| inside(**spot, spot.0, y)).collect();
            for x in 0..self.width {
                let colour = if inside(self.block, x, y) {
                    BLOCK_COLOUR
                } else if spots.iter().any(|spot| inside(**spot, x, y)) {
                    SPOT_COLOUR
                } else {
                    self.background
                };
                message.extend(format.bytes(colour));
            }
        }
        message
    }
}
