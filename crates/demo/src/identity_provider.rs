//! A small identity provider for the demo.
//!
//! `anteroom serve --demo` runs it on a free loopback port, and the egress gate routes `id.anteroom.test:80` to it.
//! The demo tool in the machine signs in as real tools do: OAuth 2.0 authorization code (RFC 6749) with PKCE (RFC 7636,
//! only S256), metadata (RFC 8414), a loopback redirect (RFC 8252).
//!
//! ```text
//!  GET /authorize ─▶ sign-in page ── name ──▶ consent page ── Allow ──▶ 302 redirect_uri?code&state
//!                                                          ── Deny ───▶ 302 redirect_uri?error=access_denied&state
//!  POST /token: code + verifier ─▶ demo_at_…, demo_rt_…          GET /userinfo: Bearer demo_at_… ─▶ name
//! ```
//!
//! A program without a browser shows a page with a code to paste (`redirect_uri` is `urn:ietf:wg:oauth:2.0:oob`) or uses a device code
//! (RFC 8628): `POST /device_authorization`, the page `/device`, `POST /token`. The page `/key` makes API keys.
//!
//! Programs decide without a page: `POST /decide` with `user_code` or `url`, `name` and `decision`; `POST /keys` with `name`.
//!
//! Any name is accepted without a password, and a few behave differently (`accounts`); the tokens are valid only for `/userinfo`. State is in memory and
//! bounded. Pages are plain HTML without scripts, since an emulated machine's browser renders them.

mod accounts;
mod authorize;
mod device;
mod expiring_map;
mod pages;
mod program;
#[cfg(test)]
mod tests;
mod token;

use anteroom_wire::Secret;
use axum::{
    Router,
    http::{HeaderName, HeaderValue, header},
    routing::{get, post},
};
use device::DeviceRequest;
use expiring_map::ExpiringMap;
use parking_lot::{Mutex, MutexGuard};
use std::{sync::Arc, time::Duration};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tower_http::{limit::RequestBodyLimitLayer, set_header::SetResponseHeaderLayer};

/// The provider's host name in machines.
pub const DEMO_HOST: &str = "id.anteroom.test";
/// The provider's port in machines.
pub const DEMO_PORT: u16 = 80;
/// The issuer in the metadata.
pub const DEMO_ISSUER: &str = "http://id.anteroom.test";

/// Content Security Policy: no scripts and no external resources; a form may redirect to a program on loopback.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'; \
     form-action 'self' http://127.0.0.1:* http://localhost:*";

/// Limits of the demo provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DemoLimits {
    /// Lifetime of a page's form, seconds.
    pub page_s_max: u64,
    /// Lifetime of an authorization code, seconds; long because an emulated machine is slow.
    pub code_s_max: u64,
    /// Lifetime of a device code, seconds.
    pub device_s_max: u64,
    /// How much later the tokens of the slow account come, milliseconds.
    pub slow_ms: u64,
    /// Lifetime of an access token, seconds.
    pub token_s_max: u64,
    /// Number of simultaneous sign-ins; the same limit holds for codes and tokens.
    pub entries_max: usize,
    /// Maximum size of a form, bytes.
    pub form_bytes_max: usize,
}

impl Default for DemoLimits {
    fn default() -> Self {
        Self {
            page_s_max: 1_800,
            code_s_max: 300,
            device_s_max: 900,
            slow_ms: 20_000,
            token_s_max: 3_600,
            entries_max: 1_000,
            form_bytes_max: 16 * 1024,
        }
    }
}

/// A validated authorization request.
#[derive(Debug, Clone)]
struct AuthorizationRequest {
    client: String,
    redirect: String,
    state: String,
    challenge: String,
    scope: String,
    /// The name of the signed-in user; `None` on the first page.
    name: Option<String>,
}

/// The client, user and scope of a token.
#[derive(Debug, Clone)]
struct Grant {
    client: String,
    name: String,
    scope: String,
}

/// The demo identity provider.
#[derive(Debug)]
pub struct DemoIdp {
    settings: DemoLimits,
    issuer: String,
    /// Where people's own browsers reach the pages.
    public_url: String,
    /// Access and refresh token to issue instead of random ones.
    fixed_tokens: Option<(Secret, Secret)>,
    state: Mutex<IdpState>,
}

impl Default for DemoIdp {
    fn default() -> Self {
        Self::new(DEMO_ISSUER, DemoLimits::default())
    }
}

/// The pending pages, codes and tokens.
#[derive(Debug)]
struct IdpState {
    pages: ExpiringMap<AuthorizationRequest>,
    codes: ExpiringMap<AuthorizationRequest>,
    devices: ExpiringMap<DeviceRequest>,
    /// User code → device code.
    user_codes: ExpiringMap<String>,
    access_tokens: ExpiringMap<Grant>,
    refresh_tokens: ExpiringMap<Grant>,
}

impl DemoIdp {
    /// A provider with this issuer, such as [`DEMO_ISSUER`].
    pub fn new(issuer: impl Into<String>, settings: DemoLimits) -> Self {
        let refresh_s_max = settings.token_s_max.saturating_mul(24);
        let state = IdpState {
            pages: ExpiringMap::new(settings.entries_max, Duration::from_secs(settings.page_s_max)),
            codes: ExpiringMap::new(settings.entries_max, Duration::from_secs(settings.code_s_max)),
            devices: ExpiringMap::new(settings.entries_max, Duration::from_secs(settings.device_s_max)),
            user_codes: ExpiringMap::new(settings.entries_max, Duration::from_secs(settings.device_s_max)),
            access_tokens: ExpiringMap::new(settings.entries_max, Duration::from_secs(settings.token_s_max)),
            refresh_tokens: ExpiringMap::new(settings.entries_max, Duration::from_secs(refresh_s_max)),
        };
        let issuer = issuer.into();
        Self { settings, public_url: issuer.clone(), issuer, fixed_tokens: None, state: Mutex::new(state) }
    }

    /// People's own browsers reach the pages below this address, without a slash at its end.
    #[must_use]
    pub fn with_public_url(mut self, url: impl Into<String>) -> Self {
        self.public_url = url.into();
        self
    }

    /// Issues these tokens instead of random ones, so that tests can search for leaked tokens.
    #[must_use]
    pub fn with_fixed_tokens(mut self, access: Secret, refresh: Secret) -> Self {
        self.fixed_tokens = Some((access, refresh));
        self
    }

    /// The provider's HTTP routes.
    pub fn router(self) -> Router {
        let form_max = self.settings.form_bytes_max;
        let header = |name: HeaderName, value: &'static str| {
            SetResponseHeaderLayer::overriding(name, HeaderValue::from_static(value))
        };
        Router::new()
            .route("/", get(pages::get_index_page))
            .route("/.well-known/oauth-authorization-server", get(token::get_metadata))
            .route("/authorize", get(authorize::get_authorize_page).post(authorize::submit_sign_in_form))
            .route("/consent", post(authorize::submit_consent_form))
            .route("/device_authorization", post(device::authorize_device))
            .route("/device", get(device::get_device_page).post(device::submit_device_form))
            .route("/key", get(program::get_key_page).post(program::submit_key_form))
            .route("/keys", post(program::create_key))
            .route("/decide", post(program::decide))
            .route("/token", post(token::exchange_code))
            .route("/userinfo", get(token::get_userinfo))
            .fallback(pages::get_not_found_page)
            .layer(RequestBodyLimitLayer::new(form_max))
            .layer(header(header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY))
            .layer(header(header::CACHE_CONTROL, "no-store"))
            .layer(header(header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
            .layer(header(header::REFERRER_POLICY, "same-origin"))
            .with_state(Arc::new(self))
    }

    /// Serves on `listener` until `shutdown` is cancelled, then finishes the requests in progress.
    ///
    /// # Errors
    /// The listener failed.
    pub async fn serve(self, listener: TcpListener, shutdown: CancellationToken) -> std::io::Result<()> {
        axum::serve(listener, self.router()).with_graceful_shutdown(shutdown.cancelled_owned()).await
    }

    fn state(&self) -> MutexGuard<'_, IdpState> {
        // A panic cannot leave the state inconsistent, because each change is a single call.
        self.state.lock()
    }

    fn new_tokens(&self) -> (Secret, Secret) {
        self.fixed_tokens.clone().unwrap_or_else(|| (random_token("demo_at_"), random_token("demo_rt_")))
    }
}

/// 256 random bits as hex, after a prefix that names the kind of token.
///
/// # Panics
/// When the operating system provides no random bytes.
#[allow(clippy::expect_used, reason = "without random bytes no token is secret, so the process must stop")]
fn random_token(prefix: &str) -> Secret {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).expect("the operating system provides random bytes");
    Secret::new(format!("{prefix}{}", hex::encode(bytes)))
}
