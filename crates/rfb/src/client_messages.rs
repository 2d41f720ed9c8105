//! The messages of a client (RFC 6143 §7.5 and the registered extensions that noVNC and TigerVNC use): built, and parsed as far as
//! their type and length. No I/O.
//!
//! [`parse_message_head`] finds where a message ends from its first bytes. It sets no limits: the reader of a stream must check the length
//! before waiting for the message.

use crate::handshake::TRUE_COLOUR_PIXEL_FORMAT;

/// The type of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessageType {
    /// Sets the format of pixels in updates.
    SetPixelFormat,
    /// Lists the supported encodings, the preferred ones first.
    SetEncodings,
    /// Requests an update of an area.
    FramebufferUpdateRequest,
    /// A key was pressed or released.
    KeyEvent,
    /// The pointer was moved, or a button pressed or released.
    PointerEvent,
    /// The client's clipboard has a new text.
    ClientCutText,
    /// Requests updates without further requests, or ends them.
    EnableContinuousUpdates,
    /// Synchronizes the two directions.
    Fence,
    /// Powers the machine off, or restarts it.
    Xvp,
    /// Requests another size of the desktop.
    SetDesktopSize,
    /// QEMU's keys and sound; its second byte is a type of its own.
    QemuExtension,
}

impl MessageType {
    /// The type of a message by its first byte; `None` if it is unknown.
    pub fn from_first_byte(first: u8) -> Option<Self> {
        Some(match first {
            0 => Self::SetPixelFormat,
            2 => Self::SetEncodings,
            3 => Self::FramebufferUpdateRequest,
            4 => Self::KeyEvent,
            5 => Self::PointerEvent,
            6 => Self::ClientCutText,
            150 => Self::EnableContinuousUpdates,
            248 => Self::Fence,
            250 => Self::Xvp,
            251 => Self::SetDesktopSize,
            255 => Self::QemuExtension,
            _ => return None,
        })
    }
}

/// The type and length of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MessageHead {
    /// The type.
    pub message_type: MessageType,
    /// The length of the whole message, bytes.
    pub message_bytes: usize,
}

/// A message whose length is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnknownMessage {
    /// The message type is unknown.
    Type(u8),
    /// The type of QEMU's message is unknown.
    QemuType(u8),
}

/// The head of the message at the start of `buffer`; `None` if the buffer has too few bytes to know the length.
///
/// # Errors
/// The message is unknown, so the stream cannot be parsed any further.
pub fn parse_message_head(buffer: &[u8]) -> Result<Option<MessageHead>, UnknownMessage> {
    let Some(&first) = buffer.first() else { return Ok(None) };
    let message_type = MessageType::from_first_byte(first).ok_or(UnknownMessage::Type(first))?;
    let bytes = match message_type {
        MessageType::SetPixelFormat => Some(20),
        MessageType::SetEncodings => u16_at(buffer, 2).map(|encodings| 4 + 4 * usize::from(encodings)),
        MessageType::FramebufferUpdateRequest | MessageType::EnableContinuousUpdates => Some(10),
        MessageType::KeyEvent => Some(8),
        MessageType::PointerEvent => Some(6),
        // The extended clipboard sends its length as a negative number.
        MessageType::ClientCutText => parse_cut_text_length(buffer).map(|length| 8 + length.unsigned_abs() as usize),
        MessageType::Fence => buffer.get(8).map(|&payload| 9 + usize::from(payload)),
        MessageType::Xvp => Some(4),
        MessageType::SetDesktopSize => buffer.get(6).map(|&screens| 8 + 16 * usize::from(screens)),
        MessageType::QemuExtension => qemu_bytes(buffer)?,
    };
    Ok(bytes.map(|bytes| MessageHead { message_type, message_bytes: bytes }))
}

fn qemu_bytes(buffer: &[u8]) -> Result<Option<usize>, UnknownMessage> {
    match (buffer.get(1), u16_at(buffer, 2)) {
        (Some(0), _) => Ok(Some(12)),
        (None, _) | (Some(1), None) => Ok(None),
        (Some(1), Some(0 | 1)) => Ok(Some(4)),
        (Some(1), Some(2)) => Ok(Some(10)),
        (Some(&other), _) => Err(UnknownMessage::QemuType(other)),
    }
}

/// The length field of a ClientCutText message, if it has arrived. It is negative for the extended clipboard.
pub fn parse_cut_text_length(buffer: &[u8]) -> Option<i32> {
    Some(i32::from_be_bytes(buffer.get(4..8)?.try_into().ok()?))
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

/// A SetPixelFormat message for [`TRUE_COLOUR_PIXEL_FORMAT`].
pub fn encode_set_pixel_format() -> Vec<u8> {
    [&[0; 4][..], &TRUE_COLOUR_PIXEL_FORMAT].concat()
}

/// A SetEncodings message, the preferred encodings first; at most 65535 of them.
pub fn encode_set_encodings(numbers: impl IntoIterator<Item = i32>) -> Vec<u8> {
    let numbers: Vec<i32> = numbers.into_iter().take(usize::from(u16::MAX)).collect();
    let mut message = vec![2, 0];
    message.extend(u16::try_from(numbers.len()).unwrap_or(u16::MAX).to_be_bytes());
    message.extend(numbers.iter().flat_map(|number| number.to_be_bytes()));
    message
}

/// A FramebufferUpdateRequest for the area of this size in the top left corner.
pub fn encode_update_request(incremental: bool, width: u16, height: u16) -> Vec<u8> {
    let mut message = vec![3, u8::from(incremental), 0, 0, 0, 0];
    message.extend(width.to_be_bytes());
    message.extend(height.to_be_bytes());
    message
}

/// A KeyEvent, by the key's X11 keysym.
pub fn encode_key_event(is_down: bool, keysym: u32) -> [u8; 8] {
    let [a, b, c, d] = keysym.to_be_bytes();
    [4, u8::from(is_down), 0, 0, a, b, c, d]
}

/// A PointerEvent; `buttons` is a bit mask, 1 is the left button.
pub fn encode_pointer_event(x: u16, y: u16, buttons: u8) -> [u8; 6] {
    let ([x1, x0], [y1, y0]) = (x.to_be_bytes(), y.to_be_bytes());
    [5, buttons, x1, x0, y1, y0]
}

/// A SetDesktopSize message for one screen.
pub fn encode_set_desktop_size(width: u16, height: u16) -> Vec<u8> {
    let size = [width.to_be_bytes(), height.to_be_bytes()].concat();
    let (one_screen, id_and_position, flags) = ([1, 0], [0; 8], [0; 4]);
    [&[251, 0], &size[..], &one_screen, &id_and_position, &size, &flags].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(message: &[u8]) -> Option<usize> {
        parse_message_head(message).unwrap().map(|head| head.message_bytes)
    }

    #[test]
    fn built_messages_have_the_length_that_is_parsed() {
        for message in [
            encode_set_pixel_format(),
            encode_set_encodings([7, 1, -223]),
            encode_update_request(true, 1280, 800),
            encode_key_event(true, 0xff0d).to_vec(),
            encode_pointer_event(1, 2, 1).to_vec(),
            encode_set_desktop_size(1280, 800),
        ] {
            assert_eq!(bytes(&message), Some(message.len()), "{message:?}");
        }
    }

    #[test]
    fn length_is_unknown_until_the_bytes_that_determine_it_have_arrived() {
        for (message, needed) in [
            (&[2, 0, 0, 1][..], 4),
            (&[6, 0, 0, 0, 0, 0, 0, 1], 8),
            (&[248, 0, 0, 0, 0, 0, 0, 0, 3], 9),
            (&[251, 0, 0, 0, 0, 0, 1], 7),
            (&[255, 0], 2),
            (&[255, 1, 0, 2], 4),
        ] {
            assert_eq!(bytes(&message[..needed - 1]), None, "{message:?}");
            assert!(bytes(message).is_some(), "{message:?}");
        }
        assert_eq!(bytes(&[]), None);
    }

    #[test]
    fn length_of_an_extended_clipboard_text_is_negative() {
        let message = [&[6, 0, 0, 0][..], &(-5_i32).to_be_bytes()].concat();
        assert_eq!((bytes(&message), parse_cut_text_length(&message)), (Some(13), Some(-5)));
    }

    #[test]
    fn unknown_messages_are_errors() {
        for first in [1, 7, 99, 249, 252, 253, 254] {
            assert_eq!(parse_message_head(&[first]), Err(UnknownMessage::Type(first)));
        }
        assert_eq!(parse_message_head(&[255, 9]), Err(UnknownMessage::QemuType(9)));
    }
}
