//! Encodings that a client offers, with their numbers (RFC 6143 §7.7 and the registry of the RFB community).

/// An encoding of rectangles, or a pseudo-encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// Fills, palettes and true colour, mostly compressed with deflate.
    Tight,
    /// A copy of another rectangle of the framebuffer.
    CopyRect,
    /// Uncompressed pixels. A server may always use it.
    Raw,
    /// Announces a new size of the framebuffer.
    DesktopSize,
    /// Ends an update whose number of rectangles was not known at its start.
    LastRect,
    /// The requested compression level: 0 (fast) to 9 (small).
    CompressLevel(u8),
}

impl Encoding {
    /// The encodings that noVNC 1.7 offers, except those that this client does not support, so that a server uses the same
    /// code path as for a browser. There are two differences. CopyRect is second, which servers ignore: they use it in addition to
    /// the preferred encoding. And no quality level is sent: with one, a server may send JPEG, which is not decoded here;
    /// without one, Tight is lossless.
    pub const BROWSER_DEFAULTS: &[Self] =
        &[Self::Tight, Self::CopyRect, Self::Raw, Self::CompressLevel(2), Self::DesktopSize, Self::LastRect];

    /// The number in the protocol. A level above 9 is sent as 9.
    pub(super) fn number(self) -> i32 {
        match self {
            Self::Raw => 0,
            Self::CopyRect => 1,
            Self::Tight => 7,
            Self::DesktopSize => -223,
            Self::LastRect => -224,
            Self::CompressLevel(level) => -256 + i32::from(level.min(9)),
        }
    }

    /// The encoding of a rectangle with this number; `None` if it is not supported or was not offered.
    pub(super) fn from_rectangle_number(number: i32, offered: &[Self]) -> Option<Self> {
        if number == Self::Raw.number() {
            return Some(Self::Raw);
        }
        offered.iter().copied().find(|encoding| encoding.number() == number)
    }
}
