//! Properties of the filters of a viewer's messages, for the fuzz targets: each function panics where one does not hold.

#![allow(clippy::expect_used, reason = "a target panics to report a fault")]

use crate::desktop_input::DesktopInput;
use anteroom_rfb::client_messages::{MessageType, parse_message_head};
use std::time::{Duration, Instant};

const MESSAGE_BYTES_MAX: usize = 64 * 1024;
/// Version, security type None, shared flag.
const HANDSHAKE: &[u8] = b"RFB 003.008\n\x01\x01";

/// What a viewer sends: the first byte selects the size of the pieces, the second the time between them.
pub fn check_desktop_input(data: &[u8]) {
    let [first, second, data @ ..] = data else { return };
    // Most inputs get past the handshake; some fuzz the handshake itself.
    let handshake = if *first < 224 { HANDSHAKE } else { &[] };
    let bytes = [handshake, data].concat();
    let step = Duration::from_micros(u64::from(*second) * 50);
    let Some(sent) = pass(&bytes, usize::from(*first % 64) + 1, step) else { return };
    if *first < 224 && sent.len() >= HANDSHAKE.len() {
        let (before, after) = (&bytes[HANDSHAKE.len()..], &sent[HANDSHAKE.len()..]);
        let (before, after) = (keys_and_buttons(before), keys_and_buttons(after));
        assert_eq!(after, before, "a key or a button was lost or moved");
    }
}

/// Everything that reaches the desktop; `None`: the viewer was disconnected.
fn pass(bytes: &[u8], piece_bytes: usize, step: Duration) -> Option<Vec<u8>> {
    let mut input = DesktopInput::new(MESSAGE_BYTES_MAX);
    let (mut now, mut sent) = (Instant::now(), Vec::new());
    for piece in bytes.chunks(piece_bytes) {
        while input.is_full() {
            now = input.ready_at(now).expect("a full lane has a message").max(now + Duration::from_micros(1));
            sent.extend_from_slice(&input.take_ready(now).ok()?);
        }
        input.push(piece, now).ok()?;
        sent.extend_from_slice(&input.take_ready(now).ok()?);
        assert!(sent.len() <= bytes.len(), "more bytes than the viewer sent");
        now += step;
    }
    sent.extend_from_slice(&input.finish());
    Some(sent)
}

/// Keys, and the pointer events that change a button, with their positions, up to the first message that is unknown or incomplete.
fn keys_and_buttons(mut stream: &[u8]) -> Vec<Vec<u8>> {
    let (mut buttons, mut kept) = (0, Vec::new());
    while let Ok(Some(head)) = parse_message_head(stream) {
        let Some((message, rest)) = stream.split_at_checked(head.message_bytes) else { break };
        let is_kept = match head.message_type {
            MessageType::KeyEvent | MessageType::QemuExtension => true,
            MessageType::PointerEvent => std::mem::replace(&mut buttons, message[1]) != message[1],
            MessageType::SetPixelFormat
            | MessageType::SetEncodings
            | MessageType::FramebufferUpdateRequest
            | MessageType::ClientCutText
            | MessageType::EnableContinuousUpdates
            | MessageType::Fence
            | MessageType::SetDesktopSize
            | MessageType::Xvp => false,
        };
        if is_kept {
            kept.push(message.to_vec());
        }
        stream = rest;
    }
    kept
}
