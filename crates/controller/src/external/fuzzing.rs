//! Properties of the parsers of desktops' answers.

#![allow(clippy::expect_used, reason = "a target panics to report a fault")]

use super::{
    dial::read_greeting,
    handshake::{Authentication, Version, read_result, read_types},
    vencrypt::select_subtype,
};
use tokio::io::{AsyncReadExt, join, sink};

/// What a desktop answers: the first byte selects where the rest is cut in two.
pub(crate) fn check_answers(data: &[u8]) {
    let Some((&first, data)) = data.split_first() else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime can be made");
    let (head, tail) = data.split_at(data.len() * usize::from(first) / 256);
    let greeting = runtime.block_on(read_greeting(&mut head.chain(tail)));
    assert_eq!(greeting.is_ok(), is_greeting(data), "{greeting:?}");
    if let Ok(greeting) = greeting {
        assert!(data.starts_with(&greeting), "the greeting is not passed on");
    }
    for has_user in [false, true] {
        let pieces = runtime.block_on(select_subtype(&mut join(head.chain(tail), sink()), has_user));
        let whole = runtime.block_on(select_subtype(&mut join(data, sink()), has_user));
        assert_eq!(pieces.as_ref().ok(), whole.as_ref().ok(), "where the bytes are cut changes the result");
        if let Ok(authentication) = whole {
            assert!(has_user || authentication != Authentication::Plain, "no user is configured");
        }
    }
    for version in [Version::V3_3, Version::V3_7, Version::V3_8] {
        let types = |result: Result<Vec<u8>, _>| result.map_err(|error: super::DialError| error.to_string());
        let pieces = types(runtime.block_on(read_types(&mut head.chain(tail), version)));
        let whole = types(runtime.block_on(read_types(&mut &*data, version)));
        assert_eq!(pieces, whole, "where the bytes are cut changes the result");
        match whole {
            Ok(types) => assert!(!types.is_empty(), "an offer without a type"),
            Err(reason) => assert!(reason.len() < 600, "an unbounded reason"),
        }
        if let Ok(Some(reason)) = runtime.block_on(read_result(&mut &*data, version)) {
            assert!(reason.len() < 600 && !reason.contains(char::is_control), "{reason:?}");
        }
    }
}

fn is_greeting(data: &[u8]) -> bool {
    data.get(..12).is_some_and(|greeting| {
        let is_digits = |part: &[u8]| part.iter().all(u8::is_ascii_digit);
        greeting.starts_with(b"RFB ")
            && is_digits(&greeting[4..7])
            && greeting[7] == b'.'
            && is_digits(&greeting[8..11])
            && greeting[11] == b'\n'
    })
}
