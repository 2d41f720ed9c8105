//! An issuer that answers under all names of its provider, over TLS: what it remembers, and what a test asks it. Which calls it has
//! an answer to is the provider's own.

use crate::{
    code_flow::{Consent, Desk, SHOWN},
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

/// The issuer of the provider `P`, which is also what this provider alone remembers. Stops when dropped.
#[derive(Debug)]
pub struct Issuer<P> {
    server: TlsServer,
    memory: Memory<P>,
}

type Memory<P> = Arc<Mutex<(Desk, P)>>;

/// A request.
pub(crate) struct Call<'a> {
    /// `POST platform.claude.com/v1/oauth/token`.
    pub(crate) line: &'a str,
    pub(crate) query: &'a str,
    /// The header.
    pub(crate) authorization: &'a str,
    pub(crate) body: &'a [u8],
}

/// What a provider answers; `None`: it has no such thing.
pub(crate) type Answers<P> = fn(&mut Desk, &mut P, &Call<'_>) -> Option<Response>;

fn lock<P>(memory: &Mutex<(Desk, P)>) -> MutexGuard<'_, (Desk, P)> {
    memory.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<P> Issuer<P> {
    /// Listens on a free loopback port.
    pub(crate) async fn open(ca: &TestCa, names: &[&str], provider: P, answers: Answers<P>) -> io::Result<Self>
    where
        P: Send + 'static,
    {
        let memory = Arc::new(Mutex::new((Desk::default(), provider)));
        let router = Router::new().fallback(hear).with_state((memory.clone(), answers));
        Ok(Self { server: TlsServer::start(ca, names, router).await?, memory })
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
        lock(&self.memory).0.calls.clone()
    }

    /// Secrets it has issued: none of these may be found in a log, a database, an API answer or a page.
    pub fn canaries(&self) -> Vec<String> {
        lock(&self.memory).0.canaries.clone()
    }

    /// Why the authorize page or the token endpoint refused, in order.
    pub fn refusals(&self) -> Vec<String> {
        lock(&self.memory).0.refusals.clone()
    }

    /// What was asked for and this issuer does not have: a sign that the tool has changed.
    pub fn strangers(&self) -> Vec<String> {
        lock(&self.memory).0.strangers.clone()
    }

    /// From now on the authorize page asks the person.
    pub fn ask_the_person(&self) {
        lock(&self.memory).0.consent = Consent::Asked;
    }

    /// How often the page that asks was shown in a browser that runs scripts.
    pub fn shown(&self) -> u32 {
        lock(&self.memory).0.shown
    }

    /// How many codes were handed out at the authorize page.
    pub fn granted(&self) -> usize {
        lock(&self.memory).0.granted_count()
    }

    /// Stops listening; done when it has.
    pub async fn finish(self) {
        self.server.finish().await;
    }
}

async fn hear<P>(
    State((memory, answers)): State<(Memory<P>, Answers<P>)>,
    method: Method,
    headers: HeaderMap,
    uri: Uri,
    body: Bytes,
) -> Response {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let line = format!("{method} {}{}", text(header::HOST), uri.path());
    let mut memory = lock(&memory);
    let (desk, provider) = &mut *memory;
    desk.calls.push(line.clone());
    if uri.path() == SHOWN {
        desk.shown += 1;
        return StatusCode::NO_CONTENT.into_response();
    }
    let query = uri.query().unwrap_or_default();
    let call = Call { line: &line, query, authorization: text(header::AUTHORIZATION), body: &body };
    if let Some(answer) = answers(desk, provider, &call) {
        return answer;
    }
    if uri.path() != "/favicon.ico" {
        desk.strangers.push(line);
    }
    StatusCode::NOT_FOUND.into_response()
}
