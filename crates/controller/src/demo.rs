//! A small identity provider for the demo: a whole sign-in, with no account and no Internet.
//!
//! `anteroom serve --demo` runs it on a free loopback port and answers `id.anteroom.test:80` with it in the egress gate.
//! The demo tool in the machine signs in as real tools do: OAuth 2.0 authorization code (RFC 6749) with PKCE (RFC 7636,
//! S256 alone), metadata (RFC 8414), a loopback redirect (RFC 8252).
//!
//! ```text
//!  GET /authorize ─▶ sign-in page ── name ──▶ consent page ── Allow ──▶ 302 redirect_uri?code&state
//!                                                          ── Deny ───▶ 302 redirect_uri?error=access_denied&state
//!  POST /token: code + verifier ─▶ demo_at_…, demo_rt_…          GET /userinfo: Bearer demo_at_… ─▶ who
//! ```
//!
//! Anybody may sign in under any name, and what it issues opens nothing but its own `/userinfo`. State is in memory and
//! bounded. Pages are plain HTML without scripts: they are drawn by a browser in an emulated machine.

mod authorize;
mod pages;
mod shelf;
#[cfg(test)]
mod tests;
mod token;

use crate::random;
use anteroom_wire::Secret;
use axum::{
    Router,
    http::{HeaderName, HeaderValue, header},
    routing::{get, post},
};
use shelf::Shelf;
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tower_http::{limit::RequestBodyLimitLayer, set_header::SetResponseHeaderLayer};

/// The name under which machines know it.
pub const DEMO_HOST: &str = "id.anteroom.test";
/// The port under which machines know it.
pub const DEMO_PORT: u16 = 80;
/// Its issuer, as in the metadata.
pub const DEMO_ISSUER: &str = "http://id.anteroom.test";

/// No scripts, nothing from elsewhere; a form may lead to a program that listens on loopback.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'; \
     form-action 'self' http://127.0.0.1:* http://localhost:*";

/// The limits of the provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DemoSettings {
    /// How long a person may take for one page, seconds.
    pub page_s_max: u64,
    /// How long a code may wait for its exchange, seconds (an emulated machine is slow).
    pub code_s_max: u64,
    /// How long a token is good, seconds.
    pub token_s_max: u64,
    /// Sign-ins, codes and tokens at once, of each.
    pub entries_max: usize,
    /// The largest form, bytes.
    pub form_bytes_max: usize,
}

impl Default for DemoSettings {
    fn default() -> Self {
        Self { page_s_max: 1_800, code_s_max: 300, token_s_max: 3_600, entries_max: 1_000, form_bytes_max: 16 * 1024 }
    }
}

/// What the program behind `/authorize` asked for; all of it was checked.
#[derive(Debug, Clone)]
struct Asked {
    client: String,
    redirect: String,
    state: String,
    challenge: String,
    scope: String,
    /// Who signed in; `None` on the first page.
    name: Option<String>,
}

/// Whom a token speaks for.
#[derive(Debug, Clone)]
struct Grant {
    client: String,
    name: String,
    scope: String,
}

/// The provider.
#[derive(Debug)]
pub struct DemoIdp {
    settings: DemoSettings,
    issuer: String,
    tokens: Option<(Secret, Secret)>,
    desk: Mutex<Desk>,
}

impl Default for DemoIdp {
    fn default() -> Self {
        Self::new(DEMO_ISSUER, DemoSettings::default())
    }
}

/// Everything it remembers.
#[derive(Debug)]
struct Desk {
    pages: Shelf<Asked>,
    codes: Shelf<Asked>,
    access: Shelf<Grant>,
    refresh: Shelf<Grant>,
}

impl DemoIdp {
    /// A provider that calls itself `issuer` ([`DEMO_ISSUER`]).
    pub fn new(issuer: impl Into<String>, settings: DemoSettings) -> Self {
        let shelf = |seconds| Duration::from_secs(seconds);
        let desk = Desk {
            pages: Shelf::new(settings.entries_max, shelf(settings.page_s_max)),
            codes: Shelf::new(settings.entries_max, shelf(settings.code_s_max)),
            access: Shelf::new(settings.entries_max, shelf(settings.token_s_max)),
            refresh: Shelf::new(settings.entries_max, shelf(settings.token_s_max.saturating_mul(24))),
        };
        Self { settings, issuer: issuer.into(), tokens: None, desk: Mutex::new(desk) }
    }

    /// Issues these tokens instead of random ones, so that one can search for them where they must not be.
    #[must_use]
    pub fn issuing(mut self, access: Secret, refresh: Secret) -> Self {
        self.tokens = Some((access, refresh));
        self
    }

    /// Its routes.
    pub fn router(self) -> Router {
        let form_max = self.settings.form_bytes_max;
        let header = |name: HeaderName, value: &'static str| {
            SetResponseHeaderLayer::overriding(name, HeaderValue::from_static(value))
        };
        Router::new()
            .route("/", get(pages::front))
            .route("/.well-known/oauth-authorization-server", get(token::metadata))
            .route("/authorize", get(authorize::ask).post(authorize::sign_in))
            .route("/consent", post(authorize::consent))
            .route("/token", post(token::exchange))
            .route("/userinfo", get(token::userinfo))
            .fallback(pages::nothing_here)
            .layer(RequestBodyLimitLayer::new(form_max))
            .layer(header(header::CONTENT_SECURITY_POLICY, POLICY))
            .layer(header(header::CACHE_CONTROL, "no-store"))
            .layer(header(header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
            .layer(header(header::REFERRER_POLICY, "no-referrer"))
            .with_state(Arc::new(self))
    }

    /// Serves on `listener` until `shutdown`, then finishes the answers it has begun.
    ///
    /// # Errors
    /// The listener broke.
    pub async fn serve(self, listener: TcpListener, shutdown: CancellationToken) -> std::io::Result<()> {
        axum::serve(listener, self.router()).with_graceful_shutdown(shutdown.cancelled_owned()).await
    }

    fn desk(&self) -> MutexGuard<'_, Desk> {
        // Nothing in there can be left half-done by a panic: every change is one call.
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn new_tokens(&self) -> (Secret, Secret) {
        self.tokens.clone().unwrap_or_else(|| (random::token("demo_at_"), random::token("demo_rt_")))
    }
}
