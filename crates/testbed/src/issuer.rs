//! A fake identity provider that serves all host names of a provider over TLS. Each provider implements its endpoints.

use crate::{
    code_flow::{CONSENT_SHOWN_PATH, ConsentRequirement, IssuerState},
    test_ca::{TestCa, TlsServer},
};
use anyhow::Context;
use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, Method, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use parking_lot::Mutex;
use std::{collections::BTreeMap, io, net::SocketAddr, sync::Arc};

/// The issuer of a provider. `P` is the state that only this provider has. Stops when dropped.
#[derive(Debug)]
pub struct Issuer<P> {
    server: TlsServer,
    state: SharedState<P>,
}

type SharedState<P> = Arc<Mutex<(IssuerState, P)>>;

/// A request.
pub(crate) struct IssuerRequest<'a> {
    /// Method, host and path: `POST platform.claude.com/v1/oauth/token`.
    pub(crate) request_line: &'a str,
    pub(crate) query: &'a str,
    /// The `Authorization` header.
    pub(crate) authorization: &'a str,
    pub(crate) body: &'a [u8],
}

/// The endpoints of a provider; `None`: there is no such endpoint.
pub(crate) type Endpoints<P> = fn(&mut IssuerState, &mut P, &IssuerRequest<'_>) -> Option<Response>;

impl<P> Issuer<P> {
    /// Listens on a free loopback port.
    pub(crate) async fn start_with_endpoints(
        ca: &TestCa,
        names: &[&str],
        provider: P,
        endpoints: Endpoints<P>,
    ) -> io::Result<Self>
    where
        P: Send + 'static,
    {
        let state = Arc::new(Mutex::new((IssuerState::default(), provider)));
        let router = Router::new().fallback(serve).with_state((state.clone(), endpoints));
        Ok(Self { server: TlsServer::start(ca, names, router).await?, state })
    }

    /// The address that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// The egress gate's overrides for this issuer: `name:443` for every name.
    pub fn host_overrides(&self) -> BTreeMap<String, SocketAddr> {
        self.server.host_overrides()
    }

    /// The requests it received, in order, without their queries: `POST platform.claude.com/v1/oauth/token`.
    pub fn requests(&self) -> Vec<String> {
        self.state.lock().0.requests.clone()
    }

    /// The secrets it has issued. None of these may be found in a log, a database, an API response or a page.
    pub fn issued_secrets(&self) -> Vec<String> {
        self.state.lock().0.issued_secrets.clone()
    }

    /// The reasons why the authorize page or the token endpoint rejected requests, in order.
    pub fn rejections(&self) -> Vec<String> {
        self.state.lock().0.rejections.clone()
    }

    /// Requests for which this issuer has no endpoint: a sign that the tool has changed.
    pub fn unknown_requests(&self) -> Vec<String> {
        self.state.lock().0.unknown_requests.clone()
    }

    /// Makes the authorize page show the consent page.
    pub fn require_consent(&self) {
        self.state.lock().0.consent_page = ConsentRequirement::Required;
    }

    /// How many times a browser that runs scripts, and is not driven by a program, has displayed the consent page.
    pub fn consent_view_count(&self) -> u32 {
        self.state.lock().0.consent_views
    }

    /// The number of codes that the authorize page has granted.
    pub fn issued_code_count(&self) -> usize {
        self.state.lock().0.issued_code_count()
    }

    /// Requests a page as a browser does; returns the status, the `Location` header and the body.
    ///
    /// # Errors
    /// There is no response.
    pub async fn get(&self, ca: &TestCa, url: &str, bearer: &str) -> anyhow::Result<(StatusCode, String, String)> {
        let request = axum::http::Request::get(url).header(header::AUTHORIZATION, format!("Bearer {bearer}"));
        let response = ca.request(self.address(), request.body(String::new())?).await?;
        let location =
            response.headers().get(header::LOCATION).map_or(Ok(""), |location| location.to_str())?.to_owned();
        Ok((response.status(), location, String::from_utf8_lossy(response.body()).into_owned()))
    }

    /// Opens an authorize URL, which grants access; returns the code that the page shows.
    ///
    /// # Errors
    /// The authorize page does not redirect to a page with a code.
    pub async fn code(&self, ca: &TestCa, url: &str) -> anyhow::Result<String> {
        let (status, location, page) = self.get(ca, url, "").await?;
        anyhow::ensure!(status == StatusCode::FOUND, "{page}");
        let (_, _, page) = self.get(ca, &location, "").await?;
        let code = page.split_once("id=\"text\">").and_then(|(_, rest)| rest.split_once("</pre>"));
        Ok(code.context("no code")?.0.to_owned())
    }

    /// Stops, and returns when the port is closed.
    pub async fn stop(self) {
        self.server.stop().await;
    }
}

async fn serve<P>(
    State((state, endpoints)): State<(SharedState<P>, Endpoints<P>)>,
    method: Method,
    headers: HeaderMap,
    uri: Uri,
    body: Bytes,
) -> Response {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let line = format!("{method} {}{}", text(header::HOST), uri.path());
    let mut state = state.lock();
    let (issuer, provider) = &mut *state;
    issuer.requests.push(line.clone());
    if uri.path() == CONSENT_SHOWN_PATH {
        issuer.consent_views += u32::from(uri.query().is_none());
        return StatusCode::NO_CONTENT.into_response();
    }
    let query = uri.query().unwrap_or_default();
    let call = IssuerRequest { request_line: &line, query, authorization: text(header::AUTHORIZATION), body: &body };
    if let Some(response) = endpoints(issuer, provider, &call) {
        return response;
    }
    if uri.path() != "/favicon.ico" {
        issuer.unknown_requests.push(line);
    }
    StatusCode::NOT_FOUND.into_response()
}
