//! Properties of the parsers of desktops' answers.

#![allow(clippy::expect_used, reason = "a target panics to report a fault")]

use super::{dial::read_greeting, vencrypt::select_subtype};
use anteroom_rfb::handshake::{SECURITY_NONE, SECURITY_VNC_AUTHENTICATION};
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
    let pieces = runtime.block_on(select_subtype(&mut join(head.chain(tail), sink())));
    let whole = runtime.block_on(select_subtype(&mut join(data, sink())));
    assert_eq!(pieces.as_ref().ok(), whole.as_ref().ok(), "where the bytes are cut changes the result");
    if let Ok(security_type) = whole {
        assert!([SECURITY_NONE, SECURITY_VNC_AUTHENTICATION].contains(&security_type), "{security_type}");
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
