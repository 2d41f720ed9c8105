//! One message of an RFB client.

use anteroom_rfb::client_messages::{MessageType, parse_cut_text_length};
use bytes::{BufMut, Bytes, BytesMut};

/// A complete message.
#[derive(Debug)]
pub(super) struct ClientMessage {
    message_type: MessageType,
    bytes: Bytes,
    /// Whether it is a PointerEvent that presses or releases a button.
    changes_buttons: bool,
}

impl ClientMessage {
    /// The message with these bytes, whose first byte is a known type. `buttons` are those of the PointerEvent before it.
    pub(super) fn new(bytes: BytesMut, buttons: u8) -> Self {
        let first = bytes.first().and_then(|first| MessageType::from_first_byte(*first));
        // A message that is not known waits like a key and is never dropped.
        let message_type = first.unwrap_or(MessageType::KeyEvent);
        let message = Self { message_type, bytes: bytes.freeze(), changes_buttons: false };
        Self { changes_buttons: message.buttons().is_some_and(|pressed| pressed != buttons), ..message }
    }

    /// The pressed buttons, if it is a PointerEvent.
    pub(super) fn buttons(&self) -> Option<u8> {
        self.bytes.get(1).copied().filter(|_| self.message_type == MessageType::PointerEvent)
    }

    /// The action and formats of a message of the extended clipboard; `None` for a plain text.
    fn extended_clipboard_step(&self) -> Option<[u8; 4]> {
        let is_extended = parse_cut_text_length(&self.bytes).is_some_and(|length| length < 0);
        self.bytes.get(8..12).filter(|_| is_extended).and_then(|flags| flags.try_into().ok())
    }

    pub(super) fn message_type(&self) -> MessageType {
        self.message_type
    }

    pub(super) fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Whether it is input of the user; else it is about pictures.
    pub(super) fn is_input(&self) -> bool {
        match self.message_type {
            MessageType::KeyEvent
            | MessageType::PointerEvent
            | MessageType::ClientCutText
            | MessageType::Xvp
            | MessageType::QemuExtension => true,
            MessageType::SetPixelFormat
            | MessageType::SetEncodings
            | MessageType::FramebufferUpdateRequest
            | MessageType::EnableContinuousUpdates
            | MessageType::Fence
            | MessageType::SetDesktopSize => false,
        }
    }

    /// This and the next message as one, if only the newest counts; else the next one.
    pub(super) fn merge(&mut self, next: Self) -> Result<(), Self> {
        if self.message_type != next.message_type {
            return Err(next);
        }
        match self.message_type {
            // Messages of the extended clipboard are steps of an exchange: one replaces another of the same step only.
            MessageType::ClientCutText if self.extended_clipboard_step() != next.extended_clipboard_step() => Err(next),
            // A press or release of a button is never lost, nor its position.
            MessageType::PointerEvent if self.changes_buttons || next.changes_buttons => Err(next),
            MessageType::FramebufferUpdateRequest => {
                self.bytes = joined_request(&self.bytes, &next.bytes);
                Ok(())
            }
            MessageType::PointerEvent
            | MessageType::ClientCutText
            | MessageType::SetDesktopSize
            | MessageType::SetPixelFormat
            | MessageType::SetEncodings
            | MessageType::EnableContinuousUpdates => {
                *self = next;
                Ok(())
            }
            MessageType::KeyEvent | MessageType::Fence | MessageType::Xvp | MessageType::QemuExtension => Err(next),
        }
    }
}

/// One FramebufferUpdateRequest for the areas of two; it is incremental if both are.
fn joined_request(first: &[u8], second: &[u8]) -> Bytes {
    let number = |message: &[u8], at: usize| {
        let bytes = message.get(at..at + 2).and_then(|bytes| bytes.try_into().ok());
        u32::from(bytes.map_or(0, u16::from_be_bytes))
    };
    let edge = |at: usize| {
        let (first_start, second_start) = (number(first, at), number(second, at));
        let start = first_start.min(second_start);
        let end = (first_start + number(first, at + 4)).max(second_start + number(second, at + 4));
        [start, end - start].map(|number| u16::try_from(number).unwrap_or(u16::MAX))
    };
    let ([x, width], [y, height]) = (edge(2), edge(4));
    let is_incremental =
        [first, second].iter().all(|message| message.get(1).is_some_and(|incremental| *incremental != 0));
    let mut joined = BytesMut::with_capacity(10);
    joined.put_slice(&[3, u8::from(is_incremental)]);
    [x, y, width, height].into_iter().for_each(|number| joined.put_u16(number));
    joined.freeze()
}

/// The message, without these encodings if it is SetEncodings.
pub(super) fn without_encodings(message: BytesMut, removed: &[i32]) -> BytesMut {
    let is_set_encodings =
        message.first().and_then(|first| MessageType::from_first_byte(*first)) == Some(MessageType::SetEncodings);
    if !is_set_encodings || message.len() < 4 {
        return message;
    }
    let kept = message[4..].chunks_exact(4).filter(|number| {
        <[u8; 4]>::try_from(*number).is_ok_and(|number| !removed.contains(&i32::from_be_bytes(number)))
    });
    let mut output = BytesMut::with_capacity(message.len());
    output.extend_from_slice(&[2, 0, 0, 0]);
    kept.for_each(|number| output.extend_from_slice(number));
    let count = u16::try_from((output.len() - 4) / 4).unwrap_or(u16::MAX);
    output[2..4].copy_from_slice(&count.to_be_bytes());
    output
}
