//! The messages of the exec channel: what a machine sends of a command, and what the controller sends to it.
#![no_main]

use anteroom_wire::exec::{PAYLOAD_BYTES_MAX, START_BYTES_MAX, complete_message_length, length_prefix};
use libfuzzer_sys::fuzz_target;

/// The messages in the order of the stream, and whether it was refused. `chunk_bytes` arrive at a time.
fn messages(data: &[u8], chunk_bytes: usize, payload_bytes_max: usize) -> (Vec<Vec<u8>>, bool) {
    let (mut buffer, mut found) = (Vec::new(), Vec::new());
    for chunk in data.chunks(chunk_bytes) {
        buffer.extend_from_slice(chunk);
        loop {
            match complete_message_length(&buffer, payload_bytes_max) {
                Ok(None) => break,
                Ok(Some(length)) => {
                    assert!((1..=payload_bytes_max + 1).contains(&length), "a message of {length} bytes");
                    let message = buffer.get(4..4 + length).expect("a message is complete").to_vec();
                    assert_eq!(length_prefix(length), buffer[..4], "its length is what was sent");
                    buffer.drain(..4 + length);
                    found.push(message);
                }
                Err(error) => {
                    assert!(error.0 == 0 || error.0 > payload_bytes_max + 1, "{error} is refused");
                    return (found, true);
                }
            }
        }
    }
    (found, false)
}

fuzz_target!(|data: &[u8]| {
    let Some((&first, data)) = data.split_first() else { return };
    let chunk_bytes = usize::from(first % 64) + 1;
    for payload_bytes_max in [0, 8, PAYLOAD_BYTES_MAX, START_BYTES_MAX] {
        let whole = messages(data, data.len().max(1), payload_bytes_max);
        assert_eq!(messages(data, chunk_bytes, payload_bytes_max), whole, "the size of the chunks changes nothing");
        let written: Vec<u8> = whole
            .0
            .iter()
            .flat_map(|message| [&length_prefix(message.len())[..], message.as_slice()].concat())
            .collect();
        assert!(data.starts_with(&written), "what was read is written as the same");
    }
});
