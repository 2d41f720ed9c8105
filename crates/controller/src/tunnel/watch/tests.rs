//! The view-only reader against a model: messages with what must become of them, in pieces of any size.

use super::*;
use proptest::prelude::*;

const HELLO: &[u8] = b"RFB 003.008\n\x01\x01";

/// A message and what of it goes to the machine.
type Told = (Vec<u8>, Vec<u8>);

fn same(message: Vec<u8>) -> Told {
    (message.clone(), message)
}

fn nothing(message: Vec<u8>) -> Told {
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

fn text(length: i32) -> Vec<u8> {
    let mut message = vec![6, 0, 0, 0];
    message.extend(length.to_be_bytes());
    let whole = 8 + length.unsigned_abs() as usize;
    with_body(&message, whole)
}

fn fence(length: u8) -> Vec<u8> {
    with_body(&[248, 0, 0, 0, 0x80, 0, 0, 1, length], 9 + usize::from(length))
}

fn any_message() -> impl Strategy<Value = Told> {
    prop_oneof![
        Just(same(with_body(&[0], 20))),
        proptest::collection::vec(any::<i32>().prop_filter("harmless", |number| !ACTING.contains(number)), 0..40)
            .prop_map(|numbers| same(encodings(&numbers))),
        (any::<u8>(), any::<u16>()).prop_map(|(a, b)| {
            let [hi, lo] = b.to_be_bytes();
            same(with_body(&[3, a, hi, lo], 10))
        }),
        Just(same(with_body(&[150, 1], 10))),
        (0..=64_u8).prop_map(|length| same(fence(length))),
        any::<u32>().prop_map(|key| nothing([&[4, 1, 0, 0][..], &key.to_be_bytes()].concat())),
        any::<[u8; 5]>().prop_map(|rest| nothing([&[5][..], &rest].concat())),
        (-300..300_i32).prop_map(|length| nothing(text(length))),
        Just(nothing(vec![250, 0, 1, 2])),
        (0..5_u8)
            .prop_map(|screens| nothing(with_body(&[251, 0, 4, 0, 3, 0, screens, 0], 8 + 16 * usize::from(screens)))),
        Just(nothing(with_body(&[255, 0], 12))),
        Just(nothing(vec![255, 1, 0, 1])),
        Just(nothing(with_body(&[255, 1, 0, 2], 10))),
    ]
}

/// Feeds the stream in pieces of these sizes, again and again.
fn feed(stream: &[u8], sizes: &[usize]) -> Result<Vec<u8>, ProblemBody> {
    let (mut watch, mut passed, mut at) = (Watch::new(1_000), Vec::new(), 0);
    for size in sizes.iter().cycle() {
        let end = (at + size).min(stream.len());
        passed.extend(watch.pass(&stream[at..end])?);
        assert!(watch.kept.len() <= 4 + 4 * ENCODINGS_MAX, "at most one message is kept");
        at = end;
        if at == stream.len() {
            return Ok(passed);
        }
    }
    Ok(passed)
}

proptest! {
    #[test]
    fn whatever_the_pieces_only_what_makes_pictures_passes(
        messages in proptest::collection::vec(any_message(), 0..30),
        sizes in proptest::collection::vec(1..50_usize, 1..10),
    ) {
        let (mut sent, mut expected) = (HELLO.to_vec(), HELLO.to_vec());
        for (message, passes) in messages {
            sent.extend(message);
            expected.extend(passes);
        }
        prop_assert_eq!(feed(&sent, &sizes).unwrap(), expected);
    }

    #[test]
    fn whatever_comes_the_reader_keeps_little_and_does_not_fail_otherwise(
        noise in proptest::collection::vec(any::<u8>(), 0..2_000),
        sizes in proptest::collection::vec(1..50_usize, 1..10),
    ) {
        let stream = [HELLO, &noise].concat();
        if let Ok(passed) = feed(&stream, &sizes) {
            prop_assert!(passed.len() <= stream.len());
        }
    }
}

fn refused(stream: &[u8]) -> (String, String) {
    let body = feed(stream, &[7]).unwrap_err();
    (body.code, body.detail.unwrap_or_default())
}

#[test]
fn what_is_unknown_ends_the_connection_by_name() {
    for kind in [1, 7, 99, 249, 252, 253, 254] {
        let (code, detail) = refused(&[HELLO, &[kind, 0, 0, 0]].concat());
        assert_eq!(code, "malformed");
        assert!(detail.contains(&format!("message type {kind}")), "{detail}");
    }
    let (_, detail) = refused(&[HELLO, &[255, 9, 0, 0]].concat());
    assert!(detail.contains("QEMU's message 9"), "{detail}");
    for version in [b"RFB 003.003\n", b"RFB 004.001\n", b"GET / HTTP/1"] {
        assert_eq!(refused(version).0, "malformed");
    }
    assert_eq!(refused(b"RFB 003.008\n\x10").0, "malformed", "a security type whose words are not known here");
}

#[test]
fn what_is_too_long_ends_the_connection() {
    let huge = [6, 0, 0, 0, 0x80, 0, 0, 0].to_vec();
    for message in [text(1_001), huge, encodings(&vec![0; ENCODINGS_MAX + 1]), fence(65)] {
        assert_eq!(refused(&[HELLO, &message].concat()).0, "too_large");
    }
}

#[test]
fn the_answer_to_a_desktops_password_passes_and_is_not_taken_for_a_message() {
    let stream = [&b"RFB 003.008\n\x02"[..], &[5; 16], &[1], &[5, 1, 0, 9, 0, 9], &[3; 10]].concat();
    let expected = [&b"RFB 003.008\n\x02"[..], &[5; 16], &[1], &[3; 10]].concat();
    assert_eq!(feed(&stream, &[4]).unwrap(), expected);
}

#[test]
fn a_viewer_that_wants_the_desktop_alone_shares_it() {
    assert_eq!(feed(b"RFB 003.008\n\x01\x00", &[1]).unwrap(), HELLO);
}

#[test]
fn extensions_for_acting_are_never_offered_to_the_machine() {
    let offered = [&[16, 7], &ACTING[..], &[-223, -308]].concat();
    let stream = [HELLO, &encodings(&offered)].concat();
    assert_eq!(feed(&stream, &[3]).unwrap(), [HELLO, &encodings(&[16, 7, -223, -308])].concat());
}
