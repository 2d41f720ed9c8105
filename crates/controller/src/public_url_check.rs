//! The check of this server's own address, as a browser reaches it: through the reverse proxy in front of it, with TLS.
//! `anteroom doctor --public-url`.
//!
//! ```text
//!  page ─▶ sign-in (a login link of this server) ─▶ large request ─▶ live updates ─▶ WebSocket ─▶ sign-out
//! ```
//!
//! A step that needs the sign-in is skipped without it.

mod answer;
mod connection;

use crate::{config::Config, egress, random};
use answer::Answer;
use anteroom_wire::{Problem, Secret, SessionId, time::to_millis};
use connection::{Connector, WayError};
use http::{Method, Request, StatusCode, header};
use http_body_util::BodyExt;
use serde::Serialize;
use std::time::Duration;
use tokio::time::{Instant, timeout};
use url::Url;

/// The longest wait for one answer, milliseconds.
const ANSWER_MS_MAX: u64 = 10_000;
/// The longest wait for the first event of an open stream, milliseconds. The server sends it at once.
const FIRST_EVENT_MS_MAX: u64 = 4_000;
/// Bytes of the large request: nearly what the server accepts of a page.
const LARGE_BODY_BYTES: usize = 48 * 1_024;
/// A page that needs no sign-in here, and to which links lead.
const PAGE: &str = "/dashboard/remote-cli/auth";
/// The header with the browser's key.
const KEY_HEADER: &str = "x-anteroom";

/// The result of all steps.
#[derive(Debug, Serialize)]
pub struct PublicUrlReport {
    /// The address.
    pub public_url: String,
    /// In their order.
    pub steps: Vec<StepReport>,
}

/// The result of one step.
#[derive(Debug, Serialize)]
pub struct StepReport {
    /// `page`, `sign-in`, `large request`, `live updates`, `WebSocket`.
    pub name: &'static str,
    /// The result.
    pub status: StepStatus,
    /// Time of the step, milliseconds.
    pub took_ms: u64,
    /// Why it failed.
    pub failure: Option<StepFailure>,
}

/// Whether a step succeeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StepStatus {
    /// It did.
    Ok,
    /// It did not.
    Failed,
    /// An earlier step failed that it needs.
    Skipped,
}

/// Why a step failed.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct StepFailure {
    /// A problem's code, or `unreachable`, `unknown_authority`, `tls_failed`, `no_answer`, `unexpected_answer`.
    pub cause: String,
    /// What was found.
    pub detail: String,
    /// What to do.
    pub remedy: String,
}

impl StepFailure {
    fn of(problem: Problem, detail: impl std::fmt::Display) -> Self {
        let detail = format!("{} {detail}", problem.sentence());
        Self { cause: problem.code().to_owned(), detail, remedy: problem.remedy().to_owned() }
    }
}

/// Why the check cannot run.
#[derive(Debug, thiserror::Error)]
pub enum PublicUrlCheckError {
    /// The setting is missing.
    #[error("public_url is not set: without a reverse proxy there is nothing to check")]
    NotSet,
    /// The setting is invalid.
    #[error("{0}")]
    Invalid(String),
    /// A certificate file cannot be read.
    #[error(transparent)]
    Authorities(#[from] egress::EgressSetupError),
    /// TLS is not supported.
    #[error("TLS")]
    Tls(#[from] rustls::Error),
}

/// A client that behaves as a browser with the pages of this server.
struct Browser {
    connector: Connector,
    origin: String,
    key: Secret,
    cookie: Option<Secret>,
}

/// Checks `public_url` with a login token that this server has created for it. The browser is signed out at the end.
///
/// # Errors
/// `public_url` is missing or invalid, or the trusted certificates cannot be read.
pub async fn check_public_url(config: &Config, login_token: &Secret) -> Result<PublicUrlReport, PublicUrlCheckError> {
    let public_url = config.public_url.as_deref().ok_or(PublicUrlCheckError::NotSet)?;
    let origin = crate::config::normalise_public_url(public_url).map_err(PublicUrlCheckError::Invalid)?;
    let url = Url::parse(&origin).map_err(|error| PublicUrlCheckError::Invalid(error.to_string()))?;
    let connector = Connector::new(&url, egress::trusted_authorities(config)?)?;
    let key = Secret::new(hex::encode(random::random_bytes::<32>()));
    let mut browser = Browser { connector, origin: origin.clone(), key, cookie: None };
    let mut steps = vec![step("page", browser.open_page()).await];
    if steps[0].status == StepStatus::Ok {
        steps.push(step("sign-in", browser.sign_in(login_token)).await);
    } else {
        steps.push(skipped("sign-in"));
    }
    if browser.cookie.is_some() {
        steps.push(step("large request", browser.send_large_request()).await);
        steps.push(step("live updates", browser.receive_first_event()).await);
        steps.push(step("WebSocket", browser.open_websocket()).await);
        browser.sign_out().await;
    } else {
        steps.extend(["large request", "live updates", "WebSocket"].map(skipped));
    }
    Ok(PublicUrlReport { public_url: origin, steps })
}

async fn step(name: &'static str, run: impl Future<Output = Result<(), StepFailure>>) -> StepReport {
    let started = Instant::now();
    let failure = run.await.err();
    let status = if failure.is_some() { StepStatus::Failed } else { StepStatus::Ok };
    StepReport { name, status, took_ms: to_millis(started.elapsed()), failure }
}

fn skipped(name: &'static str) -> StepReport {
    StepReport { name, status: StepStatus::Skipped, took_ms: 0, failure: None }
}

impl Browser {
    fn request(&self, method: Method, path: &str) -> http::request::Builder {
        let builder = Request::builder().method(method).uri(path).header(header::HOST, self.connector.host());
        let builder = builder.header(header::ORIGIN, &self.origin).header(KEY_HEADER, self.key.expose());
        match &self.cookie {
            Some(cookie) => builder.header(header::COOKIE, cookie.expose()),
            None => builder,
        }
    }

    async fn exchange(&self, request: http::request::Builder, body: String) -> Result<Answer, StepFailure> {
        let request = request.body(body.into()).map_err(|error| WayError::Http(error.to_string()))?;
        let exchange = async {
            let response = self.connector.send(request).await?;
            Answer::read(response).await
        };
        timeout(Duration::from_millis(ANSWER_MS_MAX), exchange)
            .await
            .unwrap_or(Err(WayError::NoAnswer))
            .map_err(Into::into)
    }

    async fn post(&self, path: &str, body: &serde_json::Value) -> Result<Answer, StepFailure> {
        let request = self.request(Method::POST, path).header(header::CONTENT_TYPE, "application/json");
        self.exchange(request.header(header::ACCEPT, "application/json"), body.to_string()).await
    }

    /// A proxy with a sign-in of its own answers with a redirect, or wants to know who asks.
    async fn open_page(&self) -> Result<(), StepFailure> {
        let request = self.request(Method::GET, PAGE).header(header::ACCEPT, "application/json");
        let answer = self.exchange(request, String::new()).await?;
        match answer.status {
            StatusCode::OK => Ok(()),
            status if status.is_redirection() => {
                let to = answer.redirect_host.unwrap_or_else(|| "another page".to_owned());
                Err(StepFailure::of(Problem::LinkWithoutFragment, format!("The page answers with a redirect to {to}.")))
            }
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN if answer.problem.is_none() => {
                let detail = format!("The page answers {}: the proxy wants a sign-in of its own.", answer.status);
                Err(StepFailure::of(Problem::LinkWithoutFragment, detail))
            }
            _ => Err(answer.failure()),
        }
    }

    async fn sign_in(&mut self, login_token: &Secret) -> Result<(), StepFailure> {
        let body = serde_json::json!({
            "login_token": login_token.expose(), "browser_key": self.key.expose(), "embedded": false,
        });
        let answer = self.post("/api/login", &body).await?;
        if answer.status != StatusCode::NO_CONTENT {
            return Err(answer.failure());
        }
        self.cookie = answer.cookie;
        match self.cookie {
            Some(_) => Ok(()),
            None => Err(StepFailure {
                cause: "unexpected_answer".to_owned(),
                detail: "The answer to the sign-in has no cookie.".to_owned(),
                remedy: "Let the proxy pass on Set-Cookie.".to_owned(),
            }),
        }
    }

    /// The session does not exist, so the server's own answer is 404.
    async fn send_large_request(&self) -> Result<(), StepFailure> {
        let path = format!("/api/auth/session/{}/paste", SessionId::from_parts(0, [0; 10]));
        let answer = self.post(&path, &serde_json::json!({ "text": "x".repeat(LARGE_BODY_BYTES) })).await?;
        if answer.status != StatusCode::PAYLOAD_TOO_LARGE && answer.problem.is_some() {
            Ok(())
        } else {
            Err(answer.failure())
        }
    }

    async fn receive_first_event(&self) -> Result<(), StepFailure> {
        let request = self.request(Method::GET, "/api/sessions/events").header(header::ACCEPT, "text/event-stream");
        let request = request.body(String::new().into()).map_err(|error| WayError::Http(error.to_string()))?;
        let first = async {
            let mut response = self.connector.send(request).await?;
            if response.status() != StatusCode::OK {
                return Answer::read(response).await.map(|answer| Some(answer.failure()));
            }
            match response.body_mut().frame().await {
                Some(Ok(_)) => Ok(None),
                Some(Err(error)) => Err(WayError::Http(error.to_string())),
                None => Err(WayError::Http("the stream ended without an event".to_owned())),
            }
        };
        match timeout(Duration::from_millis(FIRST_EVENT_MS_MAX), first).await {
            Ok(Ok(None)) => Ok(()),
            Ok(Ok(Some(failure))) => Err(failure),
            Ok(Err(error)) => Err(error.into()),
            Err(_) => Err(StepFailure::of(
                Problem::ProxyBuffers,
                format!("No event of an open stream arrived within {FIRST_EVENT_MS_MAX} ms."),
            )),
        }
    }

    /// Without a valid ticket the server accepts a browser's WebSocket and closes it: that it was accepted is enough.
    async fn open_websocket(&self) -> Result<(), StepFailure> {
        let path = format!("/api/auth/session/{}/novnc/websock", SessionId::from_parts(0, [0; 10]));
        let request = self.request(Method::GET, &path).header(header::CONNECTION, "Upgrade");
        let request = request.header(header::UPGRADE, "websocket").header(header::SEC_WEBSOCKET_VERSION, "13");
        let request = request.header(header::SEC_WEBSOCKET_KEY, "dGhlIHNhbXBsZSBub25jZQ==");
        let request = request.header(header::SEC_WEBSOCKET_PROTOCOL, "binary, ticket.none");
        let answer = self.exchange(request, String::new()).await?;
        match answer.status {
            StatusCode::SWITCHING_PROTOCOLS => Ok(()),
            StatusCode::TOO_MANY_REQUESTS => Err(answer.failure()),
            status => Err(StepFailure::of(
                Problem::ProxyWithoutUpgrade,
                format!("The request for a WebSocket was answered with {status}."),
            )),
        }
    }

    async fn sign_out(&self) {
        // The cookie is dropped in any case, and the browser's entry ends by itself.
        let _ = self.post("/api/logout", &serde_json::json!({})).await;
    }
}
