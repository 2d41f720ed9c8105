//! An OpenID provider for tests of the server's sign-in: authorization code flow with PKCE (RFC 6749, RFC 7636), OpenID Connect Core 1.0
//! and Discovery 1.0, on loopback with plain HTTP.
//!
//! ```text
//!  GET  /.well-known/openid-configuration ─▶ the endpoints         GET /keys ─▶ the public key that signs ID tokens
//!  GET  /authorize?… ─▶ a page with one button for each person ── POST ──▶ 303 redirect_uri?code&state&iss
//!                                                   └─ Deny ──▶ 303 redirect_uri?error=access_denied&state&iss
//!  POST /token (form, client authenticated) ─▶ { access_token, id_token, … }, once per code; code_verifier checked
//!  GET  /userinfo: Bearer ─▶ claims        GET /sign-out?post_logout_redirect_uri ─▶ 303, and the browser is forgotten
//! ```
//!
//! All paths are below the path of the issuer. A browser that has a cookie of the provider is not asked again, unless the request has
//! `prompt=login` or a `max_age` that has passed. A test switches faults on ([`OidcFault`]). Codes, tokens and the client secret are
//! random, so that a test can search for them where they must not be ([`OidcIssuer::issued_secrets`]).

mod authorize;
mod fault;
mod id_token;
mod provider;
mod signing_keys;
mod token;

pub use fault::OidcFault;
pub use provider::Person;

use crate::code_flow::{IssuerState, random_hex};
use anyhow::{Context, ensure};
use axum::{
    Json, Router,
    extract::{Request, State},
    http::StatusCode,
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use parking_lot::Mutex;
use provider::{Provider, RegisteredClient, SharedProvider};
use reqwest::{Client, Url, header, redirect::Policy};
use serde_json::json;
use signing_keys::SigningKeys;
use std::{collections::BTreeMap, io, sync::Arc, time::Duration};
use tokio::{net::TcpListener, task::AbortHandle};

/// The path of the issuer, as of providers with many tenants.
const ISSUER_PATH: &str = "/tenant";
const CLIENT_ID: &str = "anteroom at a test";
const ANSWER_MAX: Duration = Duration::from_secs(60);

/// The provider. Stops when dropped.
#[derive(Debug)]
pub struct OidcIssuer {
    provider: SharedProvider,
    url: String,
    task: AbortHandle,
}

/// What a person does on the page of the authorization endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision<'a> {
    /// The person with this subject signs in.
    SignIn(&'a str),
    /// The person denies access.
    Deny,
}

impl OidcIssuer {
    /// Listens on a free loopback port.
    ///
    /// # Errors
    /// No port, or no random bytes.
    pub async fn start(people: impl IntoIterator<Item = Person>) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}{ISSUER_PATH}", listener.local_addr()?);
        let client = RegisteredClient {
            id: CLIENT_ID.to_owned(),
            // Characters that must be encoded in HTTP Basic.
            secret: format!("s:+%/ {}", random_hex(24)?),
            redirect_uris: Default::default(),
            post_logout_redirect_uris: Default::default(),
        };
        let provider = Arc::new(Mutex::new(Provider {
            url: url.clone(),
            client,
            people: people.into_iter().collect(),
            keys: SigningKeys::load()?,
            faults: Default::default(),
            issuer: IssuerState::default(),
            pending: BTreeMap::new(),
            grants: BTreeMap::new(),
            token_subjects: BTreeMap::new(),
            browsers: BTreeMap::new(),
            endless_bytes: 0,
        }));
        let router = router(&provider);
        let task = tokio::spawn(async move { axum::serve(listener, router).await }).abort_handle();
        Ok(Self { provider, url, task })
    }

    /// The issuer identifier.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The id of the registered client.
    pub fn client_id(&self) -> &'static str {
        CLIENT_ID
    }

    /// The secret of the registered client.
    pub fn client_secret(&self) -> String {
        self.provider.lock().client.secret.clone()
    }

    /// Registers a redirect URI of the client. Others are rejected.
    pub fn register_redirect_uri(&self, uri: &str) {
        self.provider.lock().client.redirect_uris.insert(uri.to_owned());
    }

    /// Registers a URI to which the browser is redirected after it has signed out.
    pub fn register_post_logout_redirect_uri(&self, uri: &str) {
        self.provider.lock().client.post_logout_redirect_uris.insert(uri.to_owned());
    }

    /// Replaces the faults that are switched on.
    pub fn set_faults(&self, faults: impl IntoIterator<Item = OidcFault>) {
        self.provider.lock().faults = faults.into_iter().collect();
    }

    /// Signs with another key, which replaces the published one.
    pub fn rotate_key(&self) {
        self.provider.lock().keys.rotate();
    }

    /// Replaces the person with the same subject, or adds it.
    pub fn set_person(&self, person: Person) {
        let mut provider = self.provider.lock();
        provider.people.retain(|known| known.subject != person.subject);
        provider.people.push(person);
    }

    /// The requests so far: method and path below the issuer.
    pub fn requests(&self) -> Vec<String> {
        self.provider.lock().issuer.requests.clone()
    }

    /// How many of the requests so far have this method and path.
    pub fn count_requests(&self, method_and_path: &str) -> usize {
        self.provider.lock().issuer.requests.iter().filter(|request| *request == method_and_path).count()
    }

    /// Why requests were rejected.
    pub fn rejections(&self) -> Vec<String> {
        self.provider.lock().issuer.rejections.clone()
    }

    /// The client secret, and every code and token so far.
    pub fn issued_secrets(&self) -> Vec<String> {
        let provider = self.provider.lock();
        let mut secrets = provider.issuer.issued_secrets.clone();
        secrets.push(provider.client.secret.clone());
        secrets
    }

    /// How many bytes of endless bodies were sent.
    pub fn endless_bytes(&self) -> u64 {
        self.provider.lock().endless_bytes
    }

    /// Requests the page at an authorization URL and submits its form, as a browser without cookies. Returns the URL that the browser
    /// is redirected to.
    ///
    /// # Errors
    /// The provider rejects a request.
    pub async fn decide(&self, authorization_url: &str, decision: Decision<'_>) -> anyhow::Result<Url> {
        let client = Client::builder().no_proxy().timeout(ANSWER_MAX).redirect(Policy::none()).build()?;
        let response = client.get(authorization_url).send().await?;
        if let Some(location) = response.headers().get(header::LOCATION) {
            return Ok(location.to_str()?.parse()?);
        }
        let (status, page) = (response.status(), response.text().await?);
        ensure!(status == StatusCode::OK, "{authorization_url}: {status} {page}");
        let field = page.split_once("name=\"request\" value=\"").and_then(|(_, rest)| rest.split('"').next());
        let request = field.context("the page has no form")?;
        let choice = match decision {
            Decision::SignIn(subject) => ("subject", subject),
            Decision::Deny => ("deny", "1"),
        };
        let form = Url::parse_with_params("http://form.invalid/", [("request", request), choice])?;
        let submit = client.post(format!("{}/authorize", self.url)).body(form.query().unwrap_or_default().to_owned());
        let response = submit.header(header::CONTENT_TYPE, "application/x-www-form-urlencoded").send().await?;
        let Some(location) = response.headers().get(header::LOCATION) else {
            anyhow::bail!("{}: {}", response.status(), response.text().await?);
        };
        Ok(location.to_str()?.parse()?)
    }
}

impl Drop for OidcIssuer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn router(provider: &SharedProvider) -> Router {
    let endpoints = Router::new()
        .route("/.well-known/openid-configuration", get(get_discovery))
        .route("/keys", get(get_keys))
        .route("/authorize", get(authorize::get_authorize_page).post(authorize::submit_authorize_page))
        .route("/token", axum::routing::post(token::exchange_code))
        .route("/userinfo", get(token::get_user_info))
        .route("/sign-out", get(authorize::end_session))
        .layer(middleware::from_fn_with_state(provider.clone(), record_request));
    Router::new().nest(ISSUER_PATH, endpoints).fallback(record_unknown_request).with_state(provider.clone())
}

async fn record_request(State(shared): State<SharedProvider>, request: Request, next: Next) -> Response {
    let unavailable = {
        let mut provider = shared.lock();
        provider.issuer.requests.push(format!("{} {}", request.method(), request.uri().path()));
        provider.has(OidcFault::Unavailable)
    };
    if unavailable { StatusCode::SERVICE_UNAVAILABLE.into_response() } else { next.run(request).await }
}

async fn record_unknown_request(State(shared): State<SharedProvider>, request: Request) -> StatusCode {
    shared.lock().issuer.requests.push(format!("{} {}", request.method(), request.uri().path()));
    StatusCode::NOT_FOUND
}

/// The discovery document (OpenID Connect Discovery section 4.2).
async fn get_discovery(State(shared): State<SharedProvider>) -> Response {
    let provider = shared.lock();
    if provider.has(OidcFault::DiscoveryUnavailable) {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    if provider.has(OidcFault::DiscoveryEndless) {
        drop(provider);
        return token::endless_body(&shared);
    }
    let url = &provider.url;
    let another = provider.has(OidcFault::DiscoveryOfAnotherIssuer);
    let response_modes: &[&str] =
        if provider.has(OidcFault::QueryResponsesOnly) { &["query"] } else { &["query", "fragment"] };
    Json(json!({
        "issuer": if another { "https://elsewhere.test" } else { url },
        "authorization_endpoint": format!("{url}/authorize"),
        "token_endpoint": format!("{url}/token"),
        "userinfo_endpoint": format!("{url}/userinfo"),
        "end_session_endpoint": format!("{url}/sign-out"),
        "jwks_uri": format!("{url}/keys"),
        "scopes_supported": ["openid", "profile", "email", "groups"],
        "response_types_supported": ["code"],
        "response_modes_supported": response_modes,
        "grant_types_supported": ["authorization_code"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["RS256"],
        "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
        "claims_supported": ["iss", "sub", "aud", "exp", "iat", "auth_time", "nonce", "name", "groups"],
        "code_challenge_methods_supported": ["S256"],
        "authorization_response_iss_parameter_supported": true,
    }))
    .into_response()
}

/// The published key.
async fn get_keys(State(shared): State<SharedProvider>) -> Response {
    let provider = shared.lock();
    if provider.has(OidcFault::KeysUnavailable) {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    Json(provider.keys.jwk_set()).into_response()
}
