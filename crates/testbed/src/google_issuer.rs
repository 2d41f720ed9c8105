//! A fake identity provider for Gemini CLI: signing in with Google, and the first requests to Code Assist.
//!
//! ```text
//!  accounts.google.com/o/oauth2/v2/auth?…  ─▶ 302 http://127.0.0.1:PORT/oauth2callback?code=…&state=…
//!                                             or codeassist.google.com/authcode: a page that shows the code
//!  POST oauth2.googleapis.com/token (form) ─▶ { access_token, refresh_token, id_token, … }, once per code, PKCE checked
//!  POST oauth2.googleapis.com/tokeninfo, GET www.googleapis.com/oauth2/v2/userinfo ─▶ for an issued token
//!  POST cloudcode-pa.googleapis.com/v1internal:loadCodeAssist, :onboardUser, …
//! ```
//!
//! Every token is random, so that a test can search for it where it must not be ([`GoogleIssuer::canaries`]).

mod assist;
mod oauth;

use crate::{
    code_flow::{IssuerState, parse_form},
    issuer::{Issuer, IssuerRequest},
    test_ca::TestCa,
};
use axum::response::Response;
use std::io;

/// The host names that it serves.
pub const HOST_NAMES: [&str; 6] = [
    "accounts.google.com",
    "oauth2.googleapis.com",
    "www.googleapis.com",
    "cloudcode-pa.googleapis.com",
    "codeassist.google.com",
    "developers.google.com",
];

/// The user's account at Code Assist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Account {
    /// The account has used it before.
    Onboarded,
    /// The account has not used it: the tool requests that it be set up.
    New,
    /// The account of an organisation: it works only with a project, which the tool must send.
    Workspace,
}

/// The issuer. Stops when dropped.
pub type GoogleIssuer = Issuer<Account>;

impl GoogleIssuer {
    /// Listens on a free loopback port.
    ///
    /// # Errors
    /// No port, or no certificate.
    pub async fn start(ca: &TestCa, account: Account) -> io::Result<Self> {
        Self::start_with_endpoints(ca, &HOST_NAMES, account, answer).await
    }
}

fn answer(issuer: &mut IssuerState, account: &mut Account, call: &IssuerRequest<'_>) -> Option<Response> {
    let (query, bearer) = (parse_form(call.query), call.authorization);
    let form = || parse_form(&String::from_utf8_lossy(call.body));
    Some(match call.request_line {
        "GET accounts.google.com/o/oauth2/v2/auth" => oauth::get_authorize_page(issuer, &query),
        "GET codeassist.google.com/authcode" => oauth::get_code_page(issuer, &query),
        "GET developers.google.com/gemini-code-assist/auth_success_gemini" => {
            oauth::result_page("Authentication successful")
        }
        "GET developers.google.com/gemini-code-assist/auth_failure_gemini" => {
            oauth::result_page("Authentication failed")
        }
        "POST oauth2.googleapis.com/token" => oauth::exchange_code(issuer, &form()),
        "POST oauth2.googleapis.com/tokeninfo" => oauth::get_token_info(issuer, bearer),
        "GET www.googleapis.com/oauth2/v2/userinfo" => oauth::get_user_info(issuer, bearer),
        "POST cloudcode-pa.googleapis.com/v1internal:loadCodeAssist" => {
            assist::load_code_assist(issuer, *account, call.body, bearer)
        }
        "POST cloudcode-pa.googleapis.com/v1internal:onboardUser" => {
            assist::onboard_user(issuer, account, call.body, bearer)
        }
        "POST cloudcode-pa.googleapis.com/v1internal:retrieveUserQuota" => assist::get_quota(issuer, bearer),
        "POST cloudcode-pa.googleapis.com/v1internal:listExperiments" => assist::list_experiments(issuer, bearer),
        _ => return None,
    })
}
