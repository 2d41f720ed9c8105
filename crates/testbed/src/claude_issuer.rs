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
    code_flow::{Consent, Desk, SHOWN, pairs},
    test_ca::{TestCa, TlsServer},
};
use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, Method, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// The names that it answers for.
pub const NAMES: [&str; 4] = ["platform.claude.com", "claude.ai", "claude.com", "api.anthropic.com"];

/// The issuer. Stops when dropped.
#[derive(Debug)]
pub struct ClaudeIssuer {
    server: TlsServer,
    desk: Shared,
}

type Shared = Arc<Mutex<Desk>>;

fn desk(shared: &Mutex<Desk>) -> MutexGuard<'_, Desk> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ClaudeIssuer {
    /// Listens on a free loopback port.
    ///
    /// # Errors
    /// No port, or no certificate.
    pub async fn start(ca: &TestCa) -> io::Result<Self> {
        let desk = Shared::default();
        let router = Router::new().fallback(answer).with_state(desk.clone());
        Ok(Self { server: TlsServer::start(ca, &NAMES, router).await?, desk })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// What the egress gate is to answer: `name:443` for every name.
    pub fn answers(&self) -> BTreeMap<String, SocketAddr> {
        self.server.answers()
    }

    /// What it was asked, in order: `POST platform.claude.com/v1/oauth/token`. Queries are left out.
    pub fn calls(&self) -> Vec<String> {
        desk(&self.desk).calls.clone()
    }

    /// Secrets it has issued: none of these may be found in a log, a database, an API answer or a page.
    pub fn canaries(&self) -> Vec<String> {
        desk(&self.desk).canaries.clone()
    }

    /// Why the token endpoint refused, in order.
    pub fn refusals(&self) -> Vec<String> {
        desk(&self.desk).refusals.clone()
    }

    /// What was asked for and this issuer does not have: a sign that the tool has changed.
    pub fn strangers(&self) -> Vec<String> {
        desk(&self.desk).strangers.clone()
    }

    /// From now on the authorize page asks the person.
    pub fn ask_the_person(&self) {
        desk(&self.desk).consent = Consent::Asked;
    }

    /// How often the page that asks was shown in a browser that runs scripts.
    pub fn shown(&self) -> u32 {
        desk(&self.desk).shown
    }

    /// How many codes were handed out at the authorize page.
    pub fn granted(&self) -> usize {
        desk(&self.desk).granted_count()
    }

    /// Stops listening; done when it has.
    pub async fn finish(self) {
        self.server.finish().await;
    }
}

async fn answer(State(shared): State<Shared>, method: Method, headers: HeaderMap, uri: Uri, body: Bytes) -> Response {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let (host, query) = (text(header::HOST), uri.query().unwrap_or_default());
    let mut desk = desk(&shared);
    let call = format!("{method} {host}{}", uri.path());
    desk.calls.push(call.clone());
    let bearer = text(header::AUTHORIZATION);
    if uri.path() == SHOWN {
        desk.shown += 1;
        return StatusCode::NO_CONTENT.into_response();
    }
    match call.as_str() {
        "GET claude.com/cai/oauth/authorize" | "GET platform.claude.com/oauth/authorize" => {
            pages::authorize(&mut desk, &pairs(query))
        }
        "GET claude.ai/oauth/authorize" => pages::authorize_short(&mut desk, query),
        "GET platform.claude.com/oauth/code/callback" => pages::code(&desk, &pairs(query)),
        "GET platform.claude.com/oauth/code/success" => pages::success(),
        "POST platform.claude.com/v1/oauth/token" => tokens::exchange(&mut desk, &body),
        "GET api.anthropic.com/api/oauth/profile" => tokens::profile(&desk, bearer),
        "GET api.anthropic.com/api/oauth/claude_cli/roles" => tokens::roles(&desk, bearer),
        // A tool that runs for a while asks for these too; nobody has set any.
        "GET api.anthropic.com/api/claude_code/policy_limits" | "GET api.anthropic.com/api/claude_code/settings" => {
            StatusCode::NOT_FOUND.into_response()
        }
        _ if uri.path() == "/favicon.ico" => StatusCode::NOT_FOUND.into_response(),
        _ => {
            desk.strangers.push(call);
            StatusCode::NOT_FOUND.into_response()
        }
    }
}
