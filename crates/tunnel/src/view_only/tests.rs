//! The view-only filter against a model: messages with their expected output, split into chunks of any size.

use super::*;
use proptest::prelude::*;

const HANDSHAKE: &[u8] = b"RFB 003.008\n\x01\x01";

/// A message, and the bytes of it that are sent to the machine.
type FilteredMessage = (Vec<u8>, Vec<u8>);

fn passed(message: Vec<u8>) -> FilteredMessage {
    (message.clone(), message)
}

fn dropped(message: Vec<u8>) -> FilteredMessage {
    (message, Vec::new())
}

fn with_body(head: &[u8], length: usize) -> Vec<u8> {
    let mut message = head.to_vec();
    message.resize(length, 0x55);
    message
}

fn encodings(numbers: &[i32]) -> Vec<u8> {
    let mut message = vec![2, 0];
    message.extend(u16::try_from(numbers.len()).unwrap().to_be_bytes());
    numbers.iter().for_each(|number| message.extend(number.to_be_bytes()));
    message
}

fn clipboard(length: i32) -> Vec<u8> {
    let mut message = vec![6, 0, 0, 0];
    message.extend(length.to_be_bytes());
    let total = 8 + length.unsigned_abs() as usize;
    with_body(&message, total)
}

fn fence(length: u8) -> Vec<u8> {
    with_body(&[248, 0, 0, 0, 0x80, 0, 0, 1, length], 9 + usize::from(length))
}

fn any_message() -> impl Strategy<Value = FilteredMessage> {
    prop_oneof![
        Just(passed(with_body(&[0], 20))),
        proptest::collection::vec(
            any::<i32>().prop_filter("not an input extension", |number| !INPUT_EXTENSIONS.contains(number)),
            0..40
        )
        .prop_map(|numbers| passed(encodings(&numbers))),
        (any::<u8>(), any::<u16>()).prop_map(|(a, b)| {
            let [hi, lo] = b.to_be_bytes();
            passed(with_body(&[3, a, hi, lo], 10))
        }),
        Just(passed(with_body(&[150, 1], 10))),
        (0..=64_u8).prop_map(|length| passed(fence(length))),
        any::<u32>().prop_map(|key| dropped([&[4, 1, 0, 0][..], &key.to_be_bytes()].concat())),
        any::<[u8; 5]>().prop_map(|rest| dropped([&[5][..], &rest].concat())),
        (-300..300_i32).prop_map(|length| dropped(clipboard(length))),
        Just(dropped(vec![250, 0, 1, 2])),
        (0..5_u8)
            .prop_map(|screens| dropped(with_body(&[251, 0, 4, 0, 3, 0, screens, 0], 8 + 16 * usize::from(screens)))),
        Just(dropped(with_body(&[255, 0], 12))),
        Just(dropped(vec![255, 1, 0, 1])),
        Just(dropped(with_body(&[255, 1, 0, 2], 10))),
    ]
}

/// Filters the stream in chunks of these sizes, repeated.
fn feed(stream: &[u8], sizes: &[usize]) -> Result<Vec<u8>, ProblemBody> {
    feed_after(b"RFB 003.008\n\x02\x01\x02", stream, sizes)
}

/// As [`feed`], after the machine has sent `offer`.
fn feed_after(offer: &[u8], stream: &[u8], sizes: &[usize]) -> Result<Vec<u8>, ProblemBody> {
    let (mut filter, mut output, mut at) = (ViewOnlyFilter::new(1_000), Vec::new(), 0);
    filter.read_offer(offer);
    for size in sizes.iter().cycle() {
        let end = (at + size).min(stream.len());
        output.extend(filter.filter(&stream[at..end])?);
        assert!(filter.buffer.len() <= 4 + 4 * ENCODINGS_MAX, "at most one message is buffered");
        at = end;
        if at == stream.len() {
            return Ok(output);
        }
    }
    Ok(output)
}

proptest! {
    #[test]
    fn only_picture_requests_pass_for_any_chunk_sizes(
        messages in proptest::collection::vec(any_message(), 0..30),
        sizes in proptest::collection::vec(1..50_usize, 1..10),
    ) {
        let (mut sent, mut expected) = (HANDSHAKE.to_vec(), HANDSHAKE.to_vec());
        for (message, output) in messages {
            sent.extend(message);
            expected.extend(output);
        }
        prop_assert_eq!(feed(&sent, &sizes).unwrap(), expected);
    }

    #[test]
    fn buffer_is_bounded_and_filter_does_not_panic_on_any_input(
        noise in proptest::collection::vec(any::<u8>(), 0..2_000),
        sizes in proptest::collection::vec(1..50_usize, 1..10),
    ) {
        let stream = [HANDSHAKE, &noise].concat();
        if let Ok(output) = feed(&stream, &sizes) {
            prop_assert!(output.len() <= stream.len());
        }
    }
}

fn rejection(stream: &[u8]) -> (String, String) {
    let body = feed(stream, &[7]).unwrap_err();
    (body.code, body.detail.unwrap_or_default())
}

#[test]
fn unknown_message_is_rejected_and_named() {
    for kind in [1, 7, 99, 249, 252, 253, 254] {
        let (code, detail) = rejection(&[HANDSHAKE, &[kind, 0, 0, 0]].concat());
        assert_eq!(code, "malformed");
        assert!(detail.contains(&format!("message type {kind}")), "{detail}");
    }
    let (_, detail) = rejection(&[HANDSHAKE, &[255, 9, 0, 0]].concat());
    assert!(detail.contains("QEMU's message 9"), "{detail}");
    for version in [b"RFB 003.003\n", b"RFB 004.001\n", b"GET / HTTP/1"] {
        assert_eq!(rejection(version).0, "malformed");
    }
    assert_eq!(rejection(b"RFB 003.008\n\x10").0, "malformed", "an unsupported security type");
}

#[test]
fn too_long_message_is_rejected() {
    let huge = [6, 0, 0, 0, 0x80, 0, 0, 0].to_vec();
    for message in [clipboard(1_001), huge, encodings(&vec![0; ENCODINGS_MAX + 1]), fence(65)] {
        assert_eq!(rejection(&[HANDSHAKE, &message].concat()).0, "too_large");
    }
}

#[test]
fn challenge_response_passes_and_is_not_parsed_as_a_message() {
    let stream = [&b"RFB 003.008\n\x02"[..], &[5; 16], &[1], &[5, 1, 0, 9, 0, 9], &[3; 10]].concat();
    let expected = [&b"RFB 003.008\n\x02"[..], &[5; 16], &[1], &[3; 10]].concat();
    assert_eq!(feed(&stream, &[4]).unwrap(), expected);
}

#[test]
fn exclusive_access_is_changed_to_shared_access() {
    assert_eq!(feed(b"RFB 003.008\n\x01\x00", &[1]).unwrap(), HANDSHAKE);
}

#[test]
fn input_extensions_are_never_offered_to_the_machine() {
    let offered = [&[16, 7], &INPUT_EXTENSIONS[..], &[-223, -308]].concat();
    let stream = [HANDSHAKE, &encodings(&offered)].concat();
    assert_eq!(feed(&stream, &[3]).unwrap(), [HANDSHAKE, &encodings(&[16, 7, -223, -308])].concat());
}

#[test]
fn security_type_that_the_machine_does_not_offer_is_rejected() {
    let keys = [&b"RFB 003.008\n\x02"[..], &[4; 16], &[1], &[4, 1, 0, 0, 0, 0, 0, 97]].concat();
    for (offer, reason) in [
        (&b"RFB 003.008\n\x01\x01"[..], "which the desktop does not offer"),
        (b"RFB 003.008\n\x00", "which the desktop does not offer"),
        (b"RFB 003.003\n\x01\x02", "only for desktops with RFB 3.7 or 3.8"),
        (b"RFB 003.008\n\x02\x02", "before the desktop offered any"),
        (b"", "before the desktop offered any"),
    ] {
        let body = feed_after(offer, &keys, &[7]).unwrap_err();
        assert!(body.detail.as_deref().unwrap_or_default().contains(reason), "{offer:?} {body:?}");
    }
    let offered = feed_after(b"RFB 003.008\n\x01\x02", &keys, &[7]).unwrap();
    assert_eq!(offered, keys[..30], "the response to the challenge passes, the key does not");
}
