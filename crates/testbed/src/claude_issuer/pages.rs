//! What the person's browser is shown. The person always allows.

use crate::code_flow::{Asked, Desk, chance, page};
use axum::{
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use std::collections::BTreeMap;

const MANUAL: &str = "https://platform.claude.com/oauth/code/callback";
const CLIENT_ID: &str = "9d1c250a-e61b-44d9-88ed-5944d1962f5e";
/// Digits of the short form's scopes.
const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
/// The scopes that the short form has a bit for, from the second on.
const SCOPES: [&str; 11] = [
    "org:create_api_key",
    "user:profile",
    "user:inference",
    "user:sessions:claude_code",
    "user:mcp_servers",
    "user:file_upload",
    "user:plugins",
    "user:projects:read",
    "user:projects:write",
    "user:privacy_consents:write",
    "org:desktop_config",
];
const CHALLENGE_CHARS: usize = 43;

/// The authorize page with its whole address.
pub(super) fn authorize(desk: &mut Desk, query: &BTreeMap<String, String>) -> Response {
    if let Some(page) = desk.asks(query) {
        return page.into_response();
    }
    match Asked::read(query) {
        Ok(asked) if asked.challenge.is_none() => refused(desk, "code_challenge is missing"),
        Ok(asked) if !asked.is_loopback() && asked.redirect_uri != MANUAL => refused(desk, "an unknown redirect_uri"),
        Ok(asked) => granted(desk, asked),
        Err(why) => refused(desk, &why),
    }
}

/// The authorize page with the short address that the terminal shows: scopes and challenge in one word, no state, and the
/// code is always shown for pasting.
pub(super) fn authorize_short(desk: &mut Desk, query: &str) -> Response {
    let short = query.split('&').next().unwrap_or_default();
    let Some((scopes, challenge)) = short.len().checked_sub(CHALLENGE_CHARS).and_then(|at| short.split_at_checked(at))
    else {
        return refused(desk, "the short address holds no challenge");
    };
    let digit = |bits: usize, c: u8| DIGITS.iter().position(|&digit| digit == c).map(|value| bits << 6 | value);
    let Some(bits) = scopes.bytes().try_fold(0, digit).filter(|_| (1..=4).contains(&scopes.len())) else {
        return refused(desk, "the short address holds no scopes");
    };
    let scope: Vec<_> = SCOPES.iter().enumerate().filter(|(at, _)| bits & (2 << at) != 0).map(|(_, &s)| s).collect();
    let asked = Asked {
        client_id: CLIENT_ID.to_owned(),
        redirect_uri: MANUAL.to_owned(),
        scope: scope.join(" "),
        state: None,
        challenge: Some(challenge.to_owned()),
    };
    granted(desk, asked)
}

fn granted(desk: &mut Desk, asked: Asked) -> Response {
    let Ok(code) = chance(16) else { return StatusCode::INTERNAL_SERVER_ERROR.into_response() };
    let back = match asked.back(&code, &[]) {
        Ok(back) => back,
        Err(why) => return refused(desk, &why),
    };
    desk.grant(code, asked);
    (StatusCode::FOUND, [(header::LOCATION, back)]).into_response()
}

fn refused(desk: &mut Desk, why: &str) -> Response {
    desk.refusals.push(why.to_owned());
    (StatusCode::BAD_REQUEST, page("Invalid OAuth Request", why)).into_response()
}

/// The page that shows the code, for pasting.
pub(super) fn code(desk: &Desk, query: &BTreeMap<String, String>) -> Response {
    let part = |key: &str| query.get(key).map(String::as_str).unwrap_or_default();
    if !desk.knows(part("code")) {
        return (StatusCode::BAD_REQUEST, page("Invalid OAuth Request", "unknown code")).into_response();
    }
    // The tool takes nothing without the second half, and does not read it.
    let state = if part("state").is_empty() { "stateless" } else { part("state") };
    page("Authentication Code", &format!("{}#{state}", part("code"))).into_response()
}

/// Where the tool sends the browser in the end.
pub(super) fn success() -> Response {
    page("You’re all set up for Claude Code", "You can now close this window.").into_response()
}
