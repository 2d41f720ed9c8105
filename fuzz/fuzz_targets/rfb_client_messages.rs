//! What a viewer sends to a desktop: the view-only filter must let no input through, however the bytes arrive.
#![no_main]

use anteroom_rfb::client_messages::{MessageType, parse_message_head};
use anteroom_tunnel::ViewOnlyFilter;
use libfuzzer_sys::fuzz_target;

const DROPPED_MESSAGE_BYTES_MAX: usize = 64 * 1024;
/// Version, security type None, shared flag.
const HANDSHAKE_BYTES: usize = 12 + 1 + 1;
const HANDSHAKE: &[u8; HANDSHAKE_BYTES] = b"RFB 003.008\n\x01\x01";

/// The filtered bytes, and whether the viewer was disconnected.
fn filter<'a>(chunks: impl Iterator<Item = &'a [u8]>) -> (Vec<u8>, bool) {
    let mut filter = ViewOnlyFilter::new(DROPPED_MESSAGE_BYTES_MAX);
    // What the desktop offers: security types None and VNC authentication.
    filter.read_offer(b"RFB 003.008\n\x02\x01\x02");
    let mut passed = Vec::new();
    for chunk in chunks {
        match filter.filter(chunk) {
            Ok(bytes) => passed.extend_from_slice(&bytes),
            Err(_) => return (passed, true),
        }
    }
    (passed, false)
}

fn require_pictures_only(mut messages: &[u8]) {
    while let Some(head) = parse_message_head(messages).expect("a message of unknown length passed") {
        let harmless = matches!(
            head.message_type,
            MessageType::SetPixelFormat
                | MessageType::SetEncodings
                | MessageType::FramebufferUpdateRequest
                | MessageType::EnableContinuousUpdates
                | MessageType::Fence
        );
        assert!(harmless, "{:?} passed", head.message_type);
        messages = messages.get(head.message_bytes..).expect("a part of a message passed");
    }
    assert!(messages.is_empty(), "a part of a message passed");
}

fuzz_target!(|data: &[u8]| {
    let Some((&first, data)) = data.split_first() else { return };
    let chunk_bytes = usize::from(first % 32) + 1;
    // Most inputs get past the handshake; some fuzz the handshake itself.
    let bytes = if first < 224 { [HANDSHAKE, data].concat() } else { data.to_vec() };
    let (by_chunks, closed) = filter(bytes.chunks(chunk_bytes));
    let (by_bytes, closed_too) = filter(bytes.chunks(1));
    assert_eq!(closed, closed_too, "the size of the chunks decides whether the viewer is disconnected");
    assert!(by_bytes.starts_with(&by_chunks), "the size of the chunks changes the bytes");
    assert!(closed || by_bytes == by_chunks);
    if first < 224 && by_bytes.len() >= HANDSHAKE_BYTES {
        require_pictures_only(&by_bytes[HANDSHAKE_BYTES..]);
        // Everything that passes is already filtered.
        assert_eq!(filter([&by_bytes[..]].into_iter()), (by_bytes.clone(), false));
    }
});
