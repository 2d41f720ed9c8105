//! A stand-in for the identity provider of Gemini CLI: signing in with Google, and the first calls of Code Assist.
//!
//! ```text
//!  accounts.google.com/o/oauth2/v2/auth?…  ─▶ 302 http://127.0.0.1:PORT/oauth2callback?code=…&state=…
//!                                             or codeassist.google.com/authcode: a page that shows the code
//!  POST oauth2.googleapis.com/token (form) ─▶ { access_token, refresh_token, id_token, … }, once per code, proof key checked
//!  POST oauth2.googleapis.com/tokeninfo, GET www.googleapis.com/oauth2/v2/userinfo ─▶ for a token of ours
//!  POST cloudcode-pa.googleapis.com/v1internal:loadCodeAssist, :onboardUser, …
//! ```
//!
//! Every token is random, so that a test can look for it where it must not be ([`GoogleIssuer::canaries`]).

mod assist;
mod oauth;

use crate::{
    code_flow::{Desk, pairs},
    issuer::{Call, Issuer},
    test_ca::TestCa,
};
use axum::response::Response;
use std::io;

/// The names that it answers for.
pub const NAMES: [&str; 6] = [
    "accounts.google.com",
    "oauth2.googleapis.com",
    "www.googleapis.com",
    "cloudcode-pa.googleapis.com",
    "codeassist.google.com",
    "developers.google.com",
];

/// What Code Assist knows of the person.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Account {
    /// Has used it before.
    Onboarded,
    /// Has not: the tool asks for it to be set up.
    New,
}

/// The issuer. Stops when dropped.
pub type GoogleIssuer = Issuer<Account>;

impl GoogleIssuer {
    /// Listens on a free loopback port.
    ///
    /// # Errors
    /// No port, or no certificate.
    pub async fn start(ca: &TestCa, account: Account) -> io::Result<Self> {
        Self::open(ca, &NAMES, account, answer).await
    }
}

fn answer(desk: &mut Desk, account: &mut Account, call: &Call<'_>) -> Option<Response> {
    let (query, bearer) = (pairs(call.query), call.authorization);
    let form = || pairs(&String::from_utf8_lossy(call.body));
    Some(match call.line {
        "GET accounts.google.com/o/oauth2/v2/auth" => oauth::authorize(desk, &query),
        "GET codeassist.google.com/authcode" => oauth::code(desk, &query),
        "GET developers.google.com/gemini-code-assist/auth_success_gemini" => {
            oauth::outcome("Authentication successful")
        }
        "GET developers.google.com/gemini-code-assist/auth_failure_gemini" => oauth::outcome("Authentication failed"),
        "POST oauth2.googleapis.com/token" => oauth::exchange(desk, &form()),
        "POST oauth2.googleapis.com/tokeninfo" => oauth::token_info(desk, bearer),
        "GET www.googleapis.com/oauth2/v2/userinfo" => oauth::user_info(desk, bearer),
        "POST cloudcode-pa.googleapis.com/v1internal:loadCodeAssist" => assist::loaded(desk, *account, bearer),
        "POST cloudcode-pa.googleapis.com/v1internal:onboardUser" => assist::onboarded(desk, account, bearer),
        "POST cloudcode-pa.googleapis.com/v1internal:retrieveUserQuota" => assist::quota(desk, bearer),
        "POST cloudcode-pa.googleapis.com/v1internal:listExperiments" => assist::experiments(desk, bearer),
        _ => return None,
    })
}
