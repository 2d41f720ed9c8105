//! Properties of the agent's parsers, for the fuzz targets: each function panics where one does not hold.

#![allow(clippy::expect_used, reason = "a target panics to report a fault")]

use crate::{
    channel::resync::{Marker, MarkerScanner},
    sign_in::{answer, callback},
};
use anteroom_wire::{
    channel::{NONCE_BYTES, format_go_line, format_nonce_line},
    provider::PromptQuestion,
};
use callback::CallbackUrl;

fn find_markers<'a>(chunks: impl Iterator<Item = &'a [u8]>) -> Vec<Marker> {
    let mut scanner = MarkerScanner::default();
    let mut found = Vec::new();
    for mut chunk in chunks {
        while let Some((marker, used)) = scanner.find_first(chunk) {
            assert!((1..=chunk.len()).contains(&used), "{used} of {} bytes", chunk.len());
            chunk = &chunk[used..];
            found.push(marker);
        }
    }
    found
}

/// The start of a connection on a channel: the first byte selects the size of the pieces in which the rest arrives.
pub fn check_channel_markers(data: &[u8]) {
    let Some((&first, data)) = data.split_first() else { return };
    let whole = find_markers([data].into_iter());
    assert_eq!(find_markers(data.chunks(usize::from(first) + 1)), whole, "the size of the pieces changes the result");
    let is_nonce = |hex: &String| hex.len() == 2 * NONCE_BYTES && hex.bytes().all(|byte| byte.is_ascii_hexdigit());
    assert!(whole.iter().all(|marker| match marker {
        Marker::Nonce(hex) | Marker::Go(hex) => is_nonce(hex),
    }));
    // A controller is found whatever is in the pipe before it.
    let hex = "0f".repeat(NONCE_BYTES);
    let lines = [format_nonce_line(&hex), format_go_line(&hex)];
    let found = find_markers([data, lines[0].as_bytes(), lines[1].as_bytes()].into_iter());
    assert_eq!(found[found.len() - 2..], [Marker::Nonce(hex.clone()), Marker::Go(hex)]);
}

/// The text that a user pastes, after it the sign-in address of the tool and the target of a redirect, each on a line.
pub fn check_pasted_text(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let mut lines = text.split('\n');
    let pasted = lines.next().unwrap_or_default().trim();
    let sign_in_url = lines.next().unwrap_or_default();
    let redirect = lines.next().unwrap_or_default();
    check_answer(pasted, sign_in_url);
    check_found_callback(&text, sign_in_url);
    let Some(address) = CallbackUrl::parse(pasted) else { return };
    assert!(!address.host.is_empty() && address.authority.starts_with(address.host));
    assert!(address.path.is_empty() || address.path.starts_with('/'));
    let target = address.request_target();
    assert!(target.starts_with('/') && !target.chars().any(|c| c.is_control() || c.is_whitespace()), "{target:?}");
    require_origin_form(&target);
    if let Some(next) = callback::resolve_redirect(&address, &target, redirect) {
        require_origin_form(&next);
    }
    if callback::check_callback_url(&address, &[sign_in_url], None).is_ok() {
        let sign_in = CallbackUrl::parse(sign_in_url).expect("the address of the sign-in was parsed");
        let uri = sign_in.query_value("redirect_uri").expect("it has a redirect_uri");
        let expected = CallbackUrl::parse(&uri).expect("which is an address");
        assert!(expected.is_loopback() && (expected.port, expected.path) == (address.port, address.path));
        assert_eq!(sign_in.query_value("state"), address.query_value("state"));
        // The address itself is then the callback of its own sign-in.
        assert!(callback::check_callback_url(&address, &[], None).is_err(), "without a sign-in nothing is accepted");
    }
}

/// A callback that is found anywhere in the text is one of this sign-in, on this computer.
fn check_found_callback(text: &str, sign_in_url: &str) {
    let Ok(Some(found)) = callback::find_callback(text, &[sign_in_url], None) else { return };
    let address = CallbackUrl::parse(&found).expect("what is found is an address");
    assert!(address.is_loopback(), "{found:?}");
    assert!(callback::check_callback_url(&address, &[sign_in_url], None).is_ok(), "{found:?}");
    require_origin_form(&address.request_target());
}

/// A request target that can be sent names no other host.
fn require_origin_form(target: &str) {
    if let Ok(request) = http::Request::get(target).body(()) {
        assert!(request.uri().authority().is_none(), "{target:?} leads to another host");
    }
}

fn check_answer(text: &str, known_url: &str) {
    for pattern in [None, Some("[A-Za-z0-9_/-]+"), Some(r"[A-Za-z0-9_-]+#[A-Za-z0-9_-]+"), Some(r"[\s\S]*")] {
        let question = PromptQuestion {
            label: String::new(),
            secret: true,
            pattern: pattern.map(str::to_owned),
            expected_format: None,
            rejected: None,
        };
        if let Ok(answer) = answer::matching_answer(text, &question, &[known_url]) {
            let answer = answer.expose();
            assert!(!answer.is_empty() && !answer.chars().any(char::is_control), "{answer:?}");
            assert!(
                crate::sign_in::tool::matches_pattern(pattern, answer).expect("the pattern is valid"),
                "{answer:?}"
            );
        }
    }
}
