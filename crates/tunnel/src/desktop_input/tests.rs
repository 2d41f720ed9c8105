use super::*;
use anteroom_rfb::client_messages::{
    encode_key_event, encode_pointer_event, encode_set_desktop_size, encode_set_encodings, encode_update_request,
};
use proptest::prelude::*;
use std::time::Duration;

/// A filter after the handshake without a password.
fn after_handshake() -> DesktopInput {
    let mut input = DesktopInput::new(1024 * 1024);
    input.push(b"RFB 003.008\n\x01\x01", Instant::now()).unwrap();
    assert_eq!(&input.take_ready(Instant::now()).unwrap()[..], b"RFB 003.008\n\x01\x01");
    input
}

fn push_all(input: &mut DesktopInput, messages: impl IntoIterator<Item = impl AsRef<[u8]>>) {
    let now = Instant::now();
    for message in messages {
        input.push(message.as_ref(), now).unwrap();
    }
}

/// Everything that is sent until nothing waits, and when the last of it was sent.
fn drain(input: &mut DesktopInput, start: Instant) -> (Vec<u8>, Duration) {
    let (mut sent, mut now) = (Vec::new(), start);
    loop {
        sent.extend_from_slice(&input.take_ready(now).unwrap());
        match input.ready_at(now) {
            Some(ready) => now = ready.max(now + Duration::from_micros(1)),
            None => return (sent, now - start),
        }
    }
}

#[test]
fn what_a_person_sends_passes_at_once_and_unchanged() {
    let mut input = after_handshake();
    let start = Instant::now();
    let mut sent = Vec::new();
    // Ten seconds of drawing with 125 moves a second, fast typing, and an update request for each of 60 pictures a second.
    for step in 0..1_250_u16 {
        let now = start + Duration::from_millis(u64::from(step) * 8);
        let mut expected = Vec::new();
        expected.extend(encode_pointer_event(step, step, u8::from(step % 40 < 30)));
        if step % 2 == 0 {
            expected.extend(encode_update_request(true, 1280, 800));
        }
        if step % 5 == 0 {
            expected.extend(encode_key_event(step % 10 == 0, 0x61));
        }
        input.push(&expected, now).unwrap();
        sent.clear();
        sent.extend_from_slice(&input.take_ready(now).unwrap());
        assert_eq!(sent, expected, "step {step}");
    }
}

#[test]
fn of_a_flood_of_moves_the_newest_arrives_and_no_button_is_lost() {
    let mut input = after_handshake();
    let start = Instant::now();
    push_all(&mut input, (0..50_000_u16).map(|x| encode_pointer_event(x, 1, 0)));
    push_all(&mut input, [encode_pointer_event(7, 7, 1), encode_pointer_event(7, 7, 0)]);
    let (sent, took) = drain(&mut input, start);
    let expected = [encode_pointer_event(49_999, 1, 0), encode_pointer_event(7, 7, 1), encode_pointer_event(7, 7, 0)];
    assert!(sent.ends_with(&expected.concat()));
    assert!(sent.len() < 1_000 * 6, "{} bytes", sent.len());
    assert!(took < Duration::from_secs(1), "{took:?}");
}

#[test]
fn of_a_flood_of_sizes_and_texts_only_the_newest_arrive() {
    let mut input = after_handshake();
    let text = |number: u32| [&[6, 0, 0, 0, 0, 0, 0, 4][..], &number.to_be_bytes()].concat();
    for number in 0..10_000 {
        push_all(&mut input, [encode_set_desktop_size(100 + number, 100), text(u32::from(number))]);
    }
    let (sent, _) = drain(&mut input, Instant::now());
    let sent = messages_in(&sent);
    assert_eq!(sent.iter().rfind(|message| message[0] == 251), Some(&encode_set_desktop_size(10_099, 100)));
    assert_eq!(sent.iter().rfind(|message| message[0] == 6), Some(&text(9_999)));
    assert!(sent.len() < 20, "{} messages", sent.len());
}

#[test]
fn of_the_extended_clipboard_no_step_replaces_another() {
    let mut input = after_handshake();
    let step = |action: u8, last: u8| [&[6, 0, 0, 0][..], &(-5_i32).to_be_bytes(), &[action, 0, 0, 1, last]].concat();
    let (notify, provide, request) = (8, 16, 2);
    for last in 0..50 {
        // The first ones exhaust the rate.
        push_all(&mut input, [step(notify, last)]);
    }
    push_all(&mut input, [step(provide, 50), step(provide, 51), step(notify, 52), step(request, 53)]);
    let (sent, _) = drain(&mut input, Instant::now());
    let expected = [step(notify, 49), step(provide, 51), step(notify, 52), step(request, 53)];
    assert!(messages_in(&sent).ends_with(&expected));
}

#[test]
fn update_requests_over_the_rate_become_one_for_all_their_areas() {
    let mut input = after_handshake();
    let request = |incremental: u8, x: u8, width: u8| [3, incremental, 0, x, 0, 0, 0, width, 0, 5];
    let now = Instant::now();
    while input.ready_at(now).is_none() {
        input.push(&request(1, 10, 5), now).unwrap();
    }
    let permitted = input.take_ready(now).unwrap();
    assert!(permitted.chunks(10).all(|sent| sent == request(1, 10, 5)));
    for request in [request(0, 100, 50), request(1, 0, 1)] {
        input.push(&request, now).unwrap();
    }
    assert_eq!(drain(&mut input, now).0, request(0, 0, 150));
}

#[test]
fn keys_over_the_rate_wait_and_the_viewer_is_not_read() {
    let mut input = after_handshake();
    let start = Instant::now();
    let keys: Vec<u8> = (0..5_000_u32).flat_map(|key| encode_key_event(key % 2 == 0, key)).collect();
    input.push(&keys, Instant::now()).unwrap();
    assert!(input.is_full());
    let (sent, took) = drain(&mut input, start);
    assert!(sent == keys, "every key in order");
    assert!((Duration::from_secs(9)..Duration::from_secs(11)).contains(&took), "{took:?}");
}

#[test]
fn the_last_keys_of_a_viewer_that_ends_are_not_lost() {
    let mut input = after_handshake();
    let keys: Vec<u8> = (0..1_000_u32).flat_map(|key| encode_key_event(true, key)).collect();
    input.push(&keys, Instant::now()).unwrap();
    let sent = [input.take_ready(Instant::now()).unwrap(), input.finish()].concat();
    assert!(sent == keys);
}

#[test]
fn extended_pointer_buttons_are_not_offered() {
    let mut input = after_handshake();
    input.push(&encode_set_encodings([7, EXTENDED_POINTER_BUTTONS, -223]), Instant::now()).unwrap();
    assert_eq!(drain(&mut input, Instant::now()).0, encode_set_encodings([7, -223]));
}

#[test]
fn streams_that_cannot_be_parsed_pass_unchanged() {
    for (version, rest) in
        [(&b"RFB 003.008\n"[..], &b"\x13\x00\x02opaque"[..]), (b"RFB 003.003\n", b"\x01\x05\x05\x05")]
    {
        let mut input = DesktopInput::new(1024);
        push_all(&mut input, [version, rest]);
        assert_eq!(input.take_ready(Instant::now()).unwrap(), [version, rest].concat());
    }
    let mut input = after_handshake();
    push_all(&mut input, [&encode_key_event(true, 1)[..], b"\x63unknown"]);
    assert_eq!(drain(&mut input, Instant::now()).0, [&encode_key_event(true, 1)[..], b"\x63unknown"].concat());
}

#[test]
fn a_text_longer_than_a_message_may_be_is_rejected() {
    let mut input = after_handshake();
    let rejected = input.push(&[6, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff], Instant::now()).unwrap_err();
    assert_eq!(rejected.problem(), Some(Problem::TooLarge));
}

fn message() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        (any::<bool>(), any::<u32>()).prop_map(|(down, key)| encode_key_event(down, key).to_vec()),
        (0_u16..50, 0_u8..3).prop_map(|(x, buttons)| encode_pointer_event(x, 1, buttons).to_vec()),
        any::<bool>().prop_map(|incremental| encode_update_request(incremental, 10, 10)),
        (1_u16..50).prop_map(|width| encode_set_desktop_size(width, 10)),
        prop::collection::vec(any::<u8>(), 0..20).prop_map(|text| {
            let length = u8::try_from(text.len()).unwrap();
            [&[6, 0, 0, 0, 0, 0, 0, length][..], &text].concat()
        }),
        prop::collection::vec(-500_i32..500, 0..5).prop_map(encode_set_encodings),
    ]
}

/// The messages of a stream of known messages.
fn messages_in(mut stream: &[u8]) -> Vec<Vec<u8>> {
    let mut messages = Vec::new();
    while let Some(head) = parse_message_head(stream).unwrap() {
        let (message, rest) = stream.split_at(head.message_bytes);
        messages.push(message.to_vec());
        stream = rest;
    }
    assert!(stream.is_empty(), "an incomplete message: {stream:?}");
    messages
}

/// Keys, and the pointer events that change a button, with their positions.
fn keys_and_buttons(messages: &[Vec<u8>]) -> Vec<(u8, Vec<u8>)> {
    let mut buttons = 0;
    let mut kept = Vec::new();
    for message in messages {
        match message[0] {
            4 => kept.push((4, message[1..].to_vec())),
            5 if message[1] != buttons => {
                buttons = message[1];
                kept.push((5, message[1..].to_vec()));
            }
            _ => {}
        }
    }
    kept
}

proptest! {
    /// In chunks of any size, at any speed: keys and buttons arrive in order, the last message of each kind arrives, memory is bounded.
    #[test]
    fn keys_and_buttons_arrive_in_order_and_so_does_the_last_message_of_each_kind(
        messages in prop::collection::vec(message(), 0..600),
        chunk_bytes in 1_usize..200,
        step_us in 0_u64..5_000,
    ) {
        let mut input = after_handshake();
        let (mut now, mut sent) = (Instant::now(), Vec::new());
        for chunk in messages.concat().chunks(chunk_bytes) {
            while input.is_full() {
                now = input.ready_at(now).unwrap().max(now + Duration::from_micros(1));
                sent.extend_from_slice(&input.take_ready(now).unwrap());
            }
            input.push(chunk, now).unwrap();
            sent.extend_from_slice(&input.take_ready(now).unwrap());
            now += Duration::from_micros(step_us);
        }
        sent.extend(drain(&mut input, now).0);
        let sent = messages_in(&sent);
        prop_assert_eq!(keys_and_buttons(&sent), keys_and_buttons(&messages));
        for kind in [4, 5, 6, 251] {
            let last = |messages: &[Vec<u8>]| messages.iter().rfind(|message| message[0] == kind).cloned();
            prop_assert_eq!(last(&sent), last(&messages));
        }
    }
}
