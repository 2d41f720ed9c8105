//! The handshake (RFC 6143 §7.1 to §7.3) as bytes, for security type None. No I/O.
//!
//! ```text
//!  client                            server
//!    ◀── version ───────────────────   PROTOCOL_VERSION
//!    ─── version ──────────────────▶   PROTOCOL_VERSION
//!    ◀── security types ────────────   OFFER_SECURITY_NONE
//!    ─── the selected type ────────▶   SECURITY_NONE
//!    ◀── SecurityResult ────────────   SECURITY_OK, or encode_security_failure(reason)
//!    ─── ClientInit: 1 is shared ──▶
//!    ◀── ServerInit ────────────────   encode_server_init(…)
//! ```

/// The version message of both sides.
pub const PROTOCOL_VERSION: &[u8; 12] = b"RFB 003.008\n";
/// Security type None.
pub const SECURITY_NONE: u8 = 1;
/// Security type VNC authentication: a password's challenge and response.
pub const SECURITY_VNC_AUTHENTICATION: u8 = 2;
/// The client's response to the challenge of [`SECURITY_VNC_AUTHENTICATION`], bytes.
pub const CHALLENGE_RESPONSE_BYTES: usize = 16;
/// The message in which a server offers only [`SECURITY_NONE`].
pub const OFFER_SECURITY_NONE: [u8; 2] = [1, SECURITY_NONE];
/// The SecurityResult of a successful handshake.
pub const SECURITY_OK: [u8; 4] = [0; 4];
/// The pixel format of this project's clients and of the fake server: 32 bits, depth 24, little endian, true colour, 8 bits each,
/// red << 16, green << 8, blue << 0.
pub const TRUE_COLOUR_PIXEL_FORMAT: [u8; 16] = [32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 16, 8, 0, 0, 0, 0];

/// A SecurityResult of a failed handshake, with the reason.
pub fn encode_security_failure(reason: &str) -> Vec<u8> {
    let mut message = vec![0, 0, 0, 1];
    push_text(&mut message, reason);
    message
}

/// A ServerInit message with the pixel format [`TRUE_COLOUR_PIXEL_FORMAT`].
pub fn encode_server_init(width: u16, height: u16, name: &str) -> Vec<u8> {
    let mut message = Vec::new();
    message.extend(width.to_be_bytes());
    message.extend(height.to_be_bytes());
    message.extend(TRUE_COLOUR_PIXEL_FORMAT);
    push_text(&mut message, name);
    message
}

fn push_text(message: &mut Vec<u8>, text: &str) {
    message.extend(u32::try_from(text.len()).unwrap_or(0).to_be_bytes());
    message.extend(text.as_bytes());
}

/// The part of a ServerInit message before the desktop's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerInitHead {
    /// The width of the framebuffer, pixels.
    pub width: u16,
    /// The height of the framebuffer, pixels.
    pub height: u16,
    /// The length of the name, bytes. The server may send any number.
    pub name_bytes: u32,
}

impl ServerInitHead {
    /// The length of this part, bytes.
    pub const BYTES: usize = 24;

    /// Parses it. The pixel format is ignored, because the client sets its own.
    pub fn parse(head: &[u8; Self::BYTES]) -> Self {
        Self {
            width: u16::from_be_bytes([head[0], head[1]]),
            height: u16::from_be_bytes([head[2], head[3]]),
            name_bytes: u32::from_be_bytes([head[20], head[21], head[22], head[23]]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_init_is_parsed_as_it_was_built() {
        let message = encode_server_init(1280, 800, "Desk");
        let head = message[..ServerInitHead::BYTES].try_into().unwrap();
        assert_eq!(ServerInitHead::parse(head), ServerInitHead { width: 1280, height: 800, name_bytes: 4 });
        assert_eq!(&message[ServerInitHead::BYTES..], b"Desk");
    }

    #[test]
    fn security_failure_has_the_length_and_text_of_its_reason() {
        assert_eq!(encode_security_failure("no"), [0, 0, 0, 1, 0, 0, 0, 2, b'n', b'o']);
    }
}
