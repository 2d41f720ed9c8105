//! The pages in the user's browser. The user always grants access.

use crate::code_flow::{AuthorizationRequest, IssuerState, html_page, random_hex};
use axum::{
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use std::collections::BTreeMap;

const MANUAL: &str = "https://platform.claude.com/oauth/code/callback";
const CLIENT_ID: &str = "9d1c250a-e61b-44d9-88ed-5944d1962f5e";
/// The digits of the scopes in a short URL.
const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
/// The scopes with a bit in a short URL, from the second bit on.
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

/// The authorize page with a complete URL.
pub(super) fn get_authorize_page(issuer: &mut IssuerState, query: &BTreeMap<String, String>) -> Response {
    if let Some(page) = issuer.consent_prompt(query) {
        return page.into_response();
    }
    match AuthorizationRequest::parse(query) {
        Ok(authorization) if authorization.challenge.is_none() => reject(issuer, "code_challenge is missing"),
        Ok(authorization) if !authorization.is_loopback() && authorization.redirect_uri != MANUAL => {
            reject(issuer, "an unknown redirect_uri")
        }
        Ok(authorization) => granted(issuer, authorization),
        Err(why) => reject(issuer, &why),
    }
}

/// The authorize page with the short URL that the terminal shows: scopes and challenge are one parameter, there is no state, and
/// the code is always shown for pasting.
pub(super) fn redirect_to_authorize(issuer: &mut IssuerState, query: &str) -> Response {
    let short = query.split('&').next().unwrap_or_default();
    let Some((scopes, challenge)) = short.len().checked_sub(CHALLENGE_CHARS).and_then(|at| short.split_at_checked(at))
    else {
        return reject(issuer, "the short URL contains no challenge");
    };
    let digit = |bits: usize, c: u8| DIGITS.iter().position(|&digit| digit == c).map(|value| bits << 6 | value);
    let Some(bits) = scopes.bytes().try_fold(0, digit).filter(|_| (1..=4).contains(&scopes.len())) else {
        return reject(issuer, "the short URL contains no scopes");
    };
    let scope: Vec<_> = SCOPES.iter().enumerate().filter(|(at, _)| bits & (2 << at) != 0).map(|(_, &s)| s).collect();
    let authorization = AuthorizationRequest {
        client_id: CLIENT_ID.to_owned(),
        redirect_uri: MANUAL.to_owned(),
        scope: scope.join(" "),
        state: None,
        challenge: Some(challenge.to_owned()),
    };
    granted(issuer, authorization)
}

fn granted(issuer: &mut IssuerState, authorization: AuthorizationRequest) -> Response {
    let Ok(code) = random_hex(16) else { return StatusCode::INTERNAL_SERVER_ERROR.into_response() };
    let back = match authorization.redirect_url(&code, &[]) {
        Ok(back) => back,
        Err(why) => return reject(issuer, &why),
    };
    issuer.issue_code(code, authorization);
    (StatusCode::FOUND, [(header::LOCATION, back)]).into_response()
}

fn reject(issuer: &mut IssuerState, why: &str) -> Response {
    issuer.rejections.push(why.to_owned());
    (StatusCode::BAD_REQUEST, html_page("Invalid OAuth Request", why)).into_response()
}

/// The page that shows the code for pasting.
pub(super) fn get_code_page(issuer: &IssuerState, query: &BTreeMap<String, String>) -> Response {
    let part = |key: &str| query.get(key).map(String::as_str).unwrap_or_default();
    if !issuer.has_issued_code(part("code")) {
        return (StatusCode::BAD_REQUEST, html_page("Invalid OAuth Request", "unknown code")).into_response();
    }
    // The tool requires the second half but does not check it.
    let state = if part("state").is_empty() { "stateless" } else { part("state") };
    html_page("Authentication Code", &format!("{}#{state}", part("code"))).into_response()
}

/// The page that the tool opens after the sign-in.
pub(super) fn get_success_page() -> Response {
    html_page("You’re all set up for Claude Code", "You can now close this window.").into_response()
}
