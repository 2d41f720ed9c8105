//! What a viewer offers to understand, by its number (RFC 6143 §7.7, and the registry that the RFB community keeps).

/// An encoding of rectangles, or a wish that travels as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// Fills, palettes and true colour, most of it deflated.
    Tight,
    /// A rectangle that the picture already has elsewhere.
    CopyRect,
    /// Pixels as they are. A server may always use it.
    Raw,
    /// Tells when the picture gets another size.
    DesktopSize,
    /// Ends an update whose number of rectangles was not known before.
    LastRect,
    /// How hard the server shall compress: 0 (fast) to 9 (small).
    CompressLevel(u8),
}

impl Encoding {
    /// What noVNC 1.7 offers, as far as this client understands it: a server then takes the way that it takes for a person's
    /// browser. Two things differ. CopyRect comes second, which servers do not mind: they use it beside the encoding that
    /// they prefer. And no quality level is sent: with one, a server may answer in JPEG, which is not decoded here; without
    /// one, Tight is free of loss.
    pub const AS_A_BROWSER: &[Self] =
        &[Self::Tight, Self::CopyRect, Self::Raw, Self::CompressLevel(2), Self::DesktopSize, Self::LastRect];

    /// The number that is sent. A level beyond 9 counts as 9.
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

    /// How a rectangle with this number is to be read; `None` when it cannot be, or was not offered.
    pub(super) fn of_rectangle(number: i32, offered: &[Self]) -> Option<Self> {
        if number == Self::Raw.number() {
            return Some(Self::Raw);
        }
        offered.iter().copied().find(|encoding| encoding.number() == number)
    }
}
