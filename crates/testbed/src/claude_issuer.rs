//! A stand-in for the identity provider of Claude Code, as `claude auth login` and `claude setup-token` speak to it.
//!
//! ```text
//!  claude.com/cai/oauth/authorize?…       ─▶ 302 http://localhost:PORT/callback?code=…&state=…
//!   (platform.claude.com/oauth/authorize)     or platform.claude.com/oauth/code/callback: a page that shows CODE#STATE
//!  claude.ai/oauth/authorize?SHORT        ─▶ the same; the short form that the terminal shows
//!  POST platform.claude.com/v1/oauth/token (JSON) ─▶ { access_token, refresh_token, … }, once per code, proof key checked
//!  GET  api.anthropic.com/api/oauth/profile, …/claude_cli/roles ─▶ the account, for a token of ours
//! ```
//!
//! Every token is random, so that a test can look for it where it must not be ([`ClaudeIssuer::canaries`]).

mod pages;
mod tokens;

use crate::{
    code_flow::{Desk, pairs},
    issuer::{Call, Issuer},
    test_ca::TestCa,
};
use axum::{
    http::StatusCode,
    response::{IntoResponse, Response},
};
use std::io;

/// The names that it answers for.
pub const NAMES: [&str; 4] = ["platform.claude.com", "claude.ai", "claude.com", "api.anthropic.com"];

/// The issuer. Stops when dropped.
pub type ClaudeIssuer = Issuer<Claude>;

/// Its provider, which remembers nothing else.
#[derive(Debug)]
pub struct Claude;

impl ClaudeIssuer {
    /// Listens on a free loopback port.
    ///
    /// # Errors
    /// No port, or no certificate.
    pub async fn start(ca: &TestCa) -> io::Result<Self> {
        Self::open(ca, &NAMES, Claude, answer).await
    }
}

fn answer(desk: &mut Desk, _: &mut Claude, call: &Call<'_>) -> Option<Response> {
    let (query, bearer) = (call.query, call.authorization);
    Some(match call.line {
        "GET claude.com/cai/oauth/authorize" | "GET platform.claude.com/oauth/authorize" => {
            pages::authorize(desk, &pairs(query))
        }
        "GET claude.ai/oauth/authorize" => pages::authorize_short(desk, query),
        "GET platform.claude.com/oauth/code/callback" => pages::code(desk, &pairs(query)),
        "GET platform.claude.com/oauth/code/success" => pages::success(),
        "POST platform.claude.com/v1/oauth/token" => tokens::exchange(desk, call.body),
        "GET api.anthropic.com/api/oauth/profile" => tokens::profile(desk, bearer),
        "GET api.anthropic.com/api/oauth/claude_cli/roles" => tokens::roles(desk, bearer),
        // A tool that runs for a while asks for these too; nobody has set any.
        "GET api.anthropic.com/api/claude_code/policy_limits" | "GET api.anthropic.com/api/claude_code/settings" => {
            StatusCode::NOT_FOUND.into_response()
        }
        _ => return None,
    })
}
