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
#[derive(Debug)]
pub struct GoogleIssuer {
    server: TlsServer,
    desk: Arc<Mutex<Office>>,
}

/// Its memory.
#[derive(Debug)]
struct Office {
    desk: Desk,
    account: Account,
}

fn office(shared: &Mutex<Office>) -> MutexGuard<'_, Office> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl GoogleIssuer {
    /// Listens on a free loopback port.
    ///
    /// # Errors
    /// No port, or no certificate.
    pub async fn start(ca: &TestCa, account: Account) -> io::Result<Self> {
        let desk = Arc::new(Mutex::new(Office { desk: Desk::default(), account }));
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

    /// What it was asked, in order: `POST oauth2.googleapis.com/token`. Queries are left out.
    pub fn calls(&self) -> Vec<String> {
        office(&self.desk).desk.calls.clone()
    }

    /// Secrets it has issued: none of these may be found in a log, a database, an API answer or a page.
    pub fn canaries(&self) -> Vec<String> {
        office(&self.desk).desk.canaries.clone()
    }

    /// Why the authorize page or the token endpoint refused, in order.
    pub fn refusals(&self) -> Vec<String> {
        office(&self.desk).desk.refusals.clone()
    }

    /// What was asked for and this issuer does not have: a sign that the tool has changed.
    pub fn strangers(&self) -> Vec<String> {
        office(&self.desk).desk.strangers.clone()
    }

    /// From now on the authorize page asks the person.
    pub fn ask_the_person(&self) {
        office(&self.desk).desk.consent = Consent::Asked;
    }

    /// How often the page that asks was shown in a browser that runs scripts.
    pub fn shown(&self) -> u32 {
        office(&self.desk).desk.shown
    }

    /// How many codes were handed out at the authorize page.
    pub fn granted(&self) -> usize {
        office(&self.desk).desk.granted_count()
    }

    /// Stops listening; done when it has.
    pub async fn finish(self) {
        self.server.finish().await;
    }
}

async fn answer(
    State(shared): State<Arc<Mutex<Office>>>,
    method: Method,
    headers: HeaderMap,
    uri: Uri,
    body: Bytes,
) -> Response {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let query = pairs(uri.query().unwrap_or_default());
    let mut office = office(&shared);
    let call = format!("{method} {}{}", text(header::HOST), uri.path());
    office.desk.calls.push(call.clone());
    let bearer = text(header::AUTHORIZATION);
    if uri.path() == SHOWN {
        office.desk.shown += 1;
        return StatusCode::NO_CONTENT.into_response();
    }
    let form = || pairs(&String::from_utf8_lossy(&body));
    match call.as_str() {
        "GET accounts.google.com/o/oauth2/v2/auth" => oauth::authorize(&mut office.desk, &query),
        "GET codeassist.google.com/authcode" => oauth::code(&office.desk, &query),
        "GET developers.google.com/gemini-code-assist/auth_success_gemini" => {
            oauth::outcome("Authentication successful")
        }
        "GET developers.google.com/gemini-code-assist/auth_failure_gemini" => oauth::outcome("Authentication failed"),
        "POST oauth2.googleapis.com/token" => oauth::exchange(&mut office.desk, &form()),
        "POST oauth2.googleapis.com/tokeninfo" => oauth::token_info(&office.desk, bearer),
        "GET www.googleapis.com/oauth2/v2/userinfo" => oauth::user_info(&office.desk, bearer),
        "POST cloudcode-pa.googleapis.com/v1internal:loadCodeAssist" => assist::loaded(&office, bearer),
        "POST cloudcode-pa.googleapis.com/v1internal:onboardUser" => assist::onboarded(&mut office, bearer),
        "POST cloudcode-pa.googleapis.com/v1internal:retrieveUserQuota" => assist::quota(&office, bearer),
        "POST cloudcode-pa.googleapis.com/v1internal:listExperiments" => assist::experiments(&office, bearer),
        _ if uri.path() == "/favicon.ico" => StatusCode::NOT_FOUND.into_response(),
        _ => {
            office.desk.strangers.push(call);
            StatusCode::NOT_FOUND.into_response()
        }
    }
}
