//! A fake identity provider for Claude Code, for `claude auth login` and `claude setup-token`.
//!
//! ```text
//!  claude.com/cai/oauth/authorize?…       ─▶ 302 http://localhost:PORT/callback?code=…&state=…
//!   (platform.claude.com/oauth/authorize)     or platform.claude.com/oauth/code/callback: a page that shows CODE#STATE
//!  claude.ai/oauth/authorize?SHORT        ─▶ the same; the short URL that the terminal shows
//!  POST platform.claude.com/v1/oauth/token (JSON) ─▶ { access_token, refresh_token, … }, once per code, PKCE checked
//!  GET  api.anthropic.com/api/oauth/profile, …/claude_cli/roles ─▶ the account, for an issued token
//! ```
//!
//! Every token is random, so that a test can search for it where it must not be ([`ClaudeIssuer::canaries`]).

mod pages;
mod tokens;

use crate::{
    code_flow::{IssuerState, parse_form},
    issuer::{Issuer, IssuerRequest},
    test_ca::TestCa,
};
use axum::{
    http::StatusCode,
    response::{IntoResponse, Response},
};
use std::io;

/// The host names that it serves.
pub const HOST_NAMES: [&str; 4] = ["platform.claude.com", "claude.ai", "claude.com", "api.anthropic.com"];

/// The issuer. Stops when dropped.
pub type ClaudeIssuer = Issuer<Claude>;

/// The provider, which has no additional state.
#[derive(Debug)]
pub struct Claude;

impl ClaudeIssuer {
    /// Listens on a free loopback port.
    ///
    /// # Errors
    /// No port, or no certificate.
    pub async fn start(ca: &TestCa) -> io::Result<Self> {
        Self::start_with_endpoints(ca, &HOST_NAMES, Claude, answer).await
    }
}

fn answer(issuer: &mut IssuerState, _: &mut Claude, call: &IssuerRequest<'_>) -> Option<Response> {
    let (query, bearer) = (call.query, call.authorization);
    Some(match call.request_line {
        "GET claude.com/cai/oauth/authorize" | "GET platform.claude.com/oauth/authorize" => {
            pages::get_authorize_page(issuer, &parse_form(query))
        }
        "GET claude.ai/oauth/authorize" => pages::redirect_to_authorize(issuer, query),
        "GET platform.claude.com/oauth/code/callback" => pages::get_code_page(issuer, &parse_form(query)),
        "GET platform.claude.com/oauth/code/success" => pages::get_success_page(),
        "POST platform.claude.com/v1/oauth/token" => tokens::exchange_code(issuer, call.body),
        "GET api.anthropic.com/api/oauth/profile" => tokens::get_profile(issuer, bearer),
        "GET api.anthropic.com/api/oauth/claude_cli/roles" => tokens::get_roles(issuer, bearer),
        // The tool also requests these after some time. The account has none.
        "GET api.anthropic.com/api/claude_code/policy_limits" | "GET api.anthropic.com/api/claude_code/settings" => {
            StatusCode::NOT_FOUND.into_response()
        }
        _ => return None,
    })
}
