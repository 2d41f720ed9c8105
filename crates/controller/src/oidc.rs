//! Sign-in of people with an OpenID provider: the authorization code flow with PKCE (OpenID Connect Core §3.1, RFC 7636, RFC 9700).
//!
//! ```text
//!  page ── begin ──▶ server: state, nonce and verifier, bound to the browser's key
//!   │ navigates to the provider, which sends it back with state and code
//!   └──── finish ──▶ server ── code, verifier ──▶ provider ── ID token ──▶ verify: who it is, groups ──▶ role
//! ```

mod http;
mod pending;
mod provider;
pub mod settings;
mod token;

pub use crate::https_client::ClientSetupError;
pub use anteroom_store::Person;
pub use http::{CONCURRENT_REQUESTS_MAX, RESPONSE_BYTES_MAX};
pub use pending::{PENDING_BY_NETWORK_MAX, PENDING_MAX};
pub use provider::ProviderStatus;
pub use settings::{OidcSettings, PersonRole};
pub use token::{NAME_BYTES_MAX, SUBJECT_BYTES_MAX};

use crate::{api_error::ApiError, audit, config::Config, limits::OidcLimits, random, unix_time};
use anteroom_audit::Action;
use anteroom_store::{Sha256Hex, UnixMs};
use anteroom_wire::{CallerId, HostId, Problem, guest_text::clean_line};
use http::ProviderHttp;
use openidconnect::{
    ClientId, ClientSecret, CsrfToken, IssuerUrl, LogoutRequest, Nonce, PkceCodeChallenge, PostLogoutRedirectUrl,
    RedirectUrl, Scope,
    core::{CoreAuthPrompt, CoreAuthenticationFlow},
};
use pending::{PendingSignIn, PendingSignIns, Purpose};
use provider::Provider;
use settings::{InvalidIssuer, SecretFileError, parse_issuer};
use std::{net::IpAddr, path::Path, sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;

/// The path of the page to which the provider sends browsers back.
pub const REDIRECT_PATH: &str = "/sign-in/callback";
/// How far the provider's clock may be ahead of this host's, milliseconds.
pub const CLOCK_AHEAD_MS_MAX: u64 = 60_000;
/// How long before the sign-in was begun its ID token may claim to be issued, milliseconds. Entra ID dates tokens back by five minutes.
/// The nonce ensures that the token belongs to this sign-in.
pub const ISSUED_BEFORE_MS_MAX: u64 = 600_000;
/// How long before the confirmation was begun the person may have authenticated for it, milliseconds: `auth_time` has whole seconds, and
/// the clocks of two synchronized hosts differ by less than the rest.
pub const AUTHENTICATED_BEFORE_MS_MAX: u64 = 3_000;
/// Longest error text of the provider that is shown, bytes.
const PROVIDER_TEXT_BYTES_MAX: usize = 300;

/// The OpenID provider with which people sign in.
pub struct Oidc {
    settings: OidcSettings,
    client_id: ClientId,
    secret: Option<ClientSecret>,
    redirect_uri: RedirectUrl,
    signed_out_uri: PostLogoutRedirectUrl,
    provider: Provider,
    pending: PendingSignIns,
}

/// Why the configured provider cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Its issuer identifier is invalid.
    #[error(transparent)]
    Issuer(#[from] InvalidIssuer),
    /// The client's secret cannot be read.
    #[error(transparent)]
    SecretFile(#[from] SecretFileError),
    /// The HTTP client cannot be made.
    #[error(transparent)]
    Client(#[from] ClientSetupError),
    /// An address of this server is not a URL.
    #[error("the address of this server cannot be a redirect URI")]
    OwnAddress(#[source] url::ParseError),
}

/// Who a verified ID token names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The person.
    pub person: Person,
    /// The person's name, clean and short.
    pub name: String,
    /// The role that the groups give; `None`: the person may not use this server.
    pub role: Option<PersonRole>,
    /// When the person authenticated at the provider; `None`: the provider does not report it.
    pub authenticated_at_ms: Option<UnixMs>,
}

/// Separates the host from the rest of a `state`.
const HOST_END: char = '.';

/// The browser that begins or finishes a sign-in.
#[derive(Debug, Clone)]
pub struct RequestingBrowser {
    /// The hash of its key.
    pub key: Sha256Hex,
    /// Its network; `None`: no limit applies.
    pub network: Option<IpAddr>,
    /// This host of a cluster, which holds the sign-in; `None`: this server is alone.
    pub host: Option<HostId>,
}

/// The host that began the sign-in with this `state`; `None`: this server, which is alone.
pub fn host_of_state(state: &str) -> Option<HostId> {
    state.split_once(HOST_END)?.0.parse().ok()
}

/// What the provider answered, as the page received it.
pub struct AuthorizationAnswer {
    /// The value that the request contained.
    pub state: String,
    /// The issuer, if the provider names it (RFC 9207).
    pub issuer: Option<String>,
    /// The code or the error.
    pub result: AuthorizationResult,
}

/// The result in the provider's answer.
pub enum AuthorizationResult {
    /// The authorization code.
    Code(String),
    /// The person was not signed in.
    Error {
        /// The code of the error (RFC 6749 §4.1.2.1, OpenID Connect Core §3.1.2.6).
        code: String,
        /// The provider's description.
        description: Option<String>,
    },
}

/// A sign-in that is finished.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finished {
    /// The person wants to sign this browser in.
    SignIn(Identity),
    /// The person who signed this browser in is present.
    Confirmation {
        /// The browser's caller.
        caller: CallerId,
        /// The person, with the current role.
        identity: Identity,
        /// When the person authenticated.
        confirmed_at_ms: UnixMs,
    },
}

impl Oidc {
    /// The configured provider; `None`: none is configured. Nothing is requested from it. `base_url` is that of this server's pages.
    ///
    /// # Errors
    /// A file cannot be read, or a setting is invalid; the error names it.
    pub fn open(config: &Config, limits: &OidcLimits, base_url: &str) -> Result<Option<Self>, OpenError> {
        let settings = config.oidc.clone();
        let (Some(issuer), Some(client_id)) = (&settings.issuer, &settings.client_id) else { return Ok(None) };
        let url = parse_issuer(issuer)?;
        let ca_file = settings.ca_file.as_deref().map(Path::new);
        let http = ProviderHttp::new(url, ca_file, Duration::from_millis(limits.request_ms_max))?;
        // The identifier as it is configured: issuers are compared as texts.
        let issuer = IssuerUrl::new(issuer.clone()).map_err(InvalidIssuer::NotAUrl)?;
        let own = |path: &str| format!("{base_url}{path}");
        Ok(Some(Self {
            client_id: ClientId::new(client_id.clone()),
            secret: settings.read_secret()?,
            redirect_uri: RedirectUrl::new(own(REDIRECT_PATH)).map_err(OpenError::OwnAddress)?,
            signed_out_uri: PostLogoutRedirectUrl::new(own("/")).map_err(OpenError::OwnAddress)?,
            provider: Provider::new(issuer, http, limits.clone()),
            pending: PendingSignIns::new(limits.sign_in_ms_max),
            settings,
        }))
    }

    /// The issuer identifier.
    pub fn issuer(&self) -> &str {
        self.provider.issuer.as_str()
    }

    /// The redirect URI that the provider must know.
    pub fn redirect_uri(&self) -> &str {
        self.redirect_uri.as_str()
    }

    /// Whether the provider answers.
    pub fn status(&self) -> ProviderStatus {
        self.provider.status()
    }

    /// Where people sign out of the provider; `None`: not known, or the provider has no such address. It contains nothing about a person.
    pub fn end_session_url(&self) -> Option<String> {
        let request = LogoutRequest::from(self.provider.known()?.end_session_endpoint()?)
            .set_client_id(self.client_id.clone())
            .set_post_logout_redirect_uri(self.signed_out_uri.clone());
        Some(request.http_get_url().to_string())
    }

    /// Begins a sign-in. Returns the address of the provider to which the browser goes.
    ///
    /// # Errors
    /// The provider does not answer.
    pub async fn begin_sign_in(&self, browser: RequestingBrowser) -> Result<String, ApiError> {
        self.begin(Purpose::SignIn, browser).await
    }

    /// Begins a confirmation: the person who signed the browser in authenticates again. Returns the address of the provider.
    ///
    /// # Errors
    /// The provider does not answer.
    pub async fn begin_confirmation(
        &self,
        caller: CallerId,
        person: Person,
        browser: RequestingBrowser,
    ) -> Result<String, ApiError> {
        self.begin(Purpose::Confirm { caller, person }, browser).await
    }

    async fn begin(&self, purpose: Purpose, browser: RequestingBrowser) -> Result<String, ApiError> {
        let known = self.provider.get().await?;
        let client = self.client(&known);
        let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
        let RequestingBrowser { key, network, host } = browser;
        // The answer may come to another host, which passes it on to this one.
        let prefix = host.map_or_else(String::new, |host| format!("{host}{HOST_END}"));
        let state = random::random_token(&prefix).expose().to_owned();
        let nonce = random::random_token("").expose().to_owned();
        let (sent_state, sent_nonce) = (CsrfToken::new(state.clone()), Nonce::new(nonce.clone()));
        let mut request = client
            .authorize_url(CoreAuthenticationFlow::AuthorizationCode, move || sent_state, move || sent_nonce)
            .add_scope(Scope::new("profile".to_owned()))
            .add_scopes(self.settings.extra_scopes.iter().cloned().map(Scope::new))
            .set_pkce_challenge(challenge);
        if known.answers_in_fragment() {
            request = request.add_extra_param("response_mode", "fragment");
        }
        if matches!(purpose, Purpose::Confirm { .. }) {
            request = request.add_prompt(CoreAuthPrompt::Login).set_max_age(Duration::ZERO);
        }
        let (url, _, _) = request.url();
        let begun_at_ms = unix_time::now_unix_ms();
        let sign_in = PendingSignIn { purpose, nonce: Nonce::new(nonce), verifier, key, begun_at_ms, network };
        self.pending.insert(&state, sign_in);
        Ok(url.to_string())
    }

    /// Finishes what the browser with this key has begun. Whatever the outcome is, it cannot be finished again.
    ///
    /// # Errors
    /// It was not begun, is used or expired; the provider refused or does not answer; the ID token is not valid.
    pub async fn finish(&self, answer: AuthorizationAnswer, key: &Sha256Hex) -> Result<Finished, ApiError> {
        let taken = self.pending.take(&answer.state, key, unix_time::now_unix_ms());
        let PendingSignIn { purpose, nonce, verifier, begun_at_ms, .. } = taken.ok_or(Problem::SignInExpired)?;
        if matches!(purpose, Purpose::Confirm { .. }) {
            audit::note_action(Action::Confirm);
        }
        if answer.issuer.is_some_and(|issuer| issuer != self.issuer()) {
            return Err(ApiError::new(Problem::IssuerError, "the answer names another issuer"));
        }
        let code = match answer.result {
            AuthorizationResult::Code(code) => code,
            AuthorizationResult::Error { code, description } => return Err(refusal(&code, description.as_deref())),
        };
        let known = self.provider.get().await?;
        let exchanged = self.exchange_code(&known, code, verifier).await?;
        let identity = self.verify(known, &exchanged, &nonce, begun_at_ms).await?;
        match purpose {
            Purpose::SignIn => Ok(Finished::SignIn(identity)),
            Purpose::Confirm { person, .. } if person != identity.person => Err(Problem::OtherPerson.into()),
            Purpose::Confirm { caller, .. } => {
                let confirmed_at_ms = fresh_authentication(&identity, begun_at_ms)?;
                Ok(Finished::Confirmation { caller, identity, confirmed_at_ms })
            }
        }
    }
}

/// Reads what is known about the provider from time to time, until the server stops.
pub async fn keep_current(oidc: Arc<Oidc>, stop: CancellationToken) {
    oidc.provider.keep_current(stop).await;
}

/// When the person authenticated, which must not be before the confirmation was begun, except for the difference of the clocks.
fn fresh_authentication(identity: &Identity, begun_at_ms: UnixMs) -> Result<UnixMs, ApiError> {
    let Some(at_ms) = identity.authenticated_at_ms else {
        let detail = "the ID token has no auth_time: the provider must send it when max_age is requested";
        return Err(ApiError::new(Problem::ConfirmationNotFresh, detail));
    };
    if at_ms.saturating_add(AUTHENTICATED_BEFORE_MS_MAX) < begun_at_ms {
        return Err(ApiError::new(
            Problem::ConfirmationNotFresh,
            "auth_time is before the confirmation was begun; if the person has just authenticated, synchronize the clocks of both hosts",
        ));
    }
    Ok(at_ms.min(unix_time::now_unix_ms()))
}

/// The error that the provider's answer describes.
fn refusal(code: &str, description: Option<&str>) -> ApiError {
    let code = clean_line(code, PROVIDER_TEXT_BYTES_MAX);
    let detail = match description.map(|text| clean_line(text, PROVIDER_TEXT_BYTES_MAX)) {
        Some(description) if !description.is_empty() => format!("{code}: {description}"),
        Some(_) | None => code.clone(),
    };
    let problem = if code == "access_denied" { Problem::SignInDenied } else { Problem::IssuerError };
    ApiError::new(problem, detail)
}
