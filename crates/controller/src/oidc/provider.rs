//! What is known about the provider: its metadata and keys. They are read when they are needed and kept; a provider that does not
//! answer delays nothing else.

use super::{
    http::{ExchangeError, ProviderHttp},
    settings::is_permitted_for,
};
use crate::{
    api_error::{ApiError, chain},
    limits::OidcLimits,
};
use anteroom_wire::{Problem, backoff::Backoff};
use futures_util::future::BoxFuture;
use openidconnect::{
    EndSessionUrl, HttpRequest, HttpResponse, IssuerUrl, ProviderMetadataWithLogout,
    core::{CoreJsonWebKeySet, CoreResponseMode},
};
use parking_lot::Mutex;
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// First delay before failed requests for the metadata are repeated, milliseconds.
const RETRY_MS_MIN: u64 = 1_000;

/// The provider.
pub(super) struct Provider {
    pub(super) issuer: IssuerUrl,
    pub(super) http: Arc<ProviderHttp>,
    limits: OidcLimits,
    state: Mutex<State>,
    /// Held while the metadata or keys are read, so that they are read once for all that wait.
    reading: tokio::sync::Mutex<()>,
}

/// What was read.
#[derive(Clone)]
pub(super) struct Known {
    pub(super) metadata: Arc<ProviderMetadataWithLogout>,
    pub(super) keys: Arc<CoreJsonWebKeySet>,
    read_at: Instant,
    keys_read_at: Instant,
}

struct State {
    known: Option<Known>,
    /// When keys were requested because a token was signed with an unknown one.
    keys_requested_at: Option<Instant>,
    failure: Option<Failure>,
    backoff: Backoff,
}

#[derive(Clone)]
struct Failure {
    detail: String,
    retry_at: Instant,
}

/// The result of the last request for the metadata.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProviderStatus {
    /// The server has just started.
    NotAsked,
    /// It answered.
    Answers,
    /// It did not answer as it must.
    Failed {
        /// Why.
        detail: String,
    },
}

impl Provider {
    pub(super) fn new(issuer: IssuerUrl, http: ProviderHttp, limits: OidcLimits) -> Self {
        let backoff = Backoff::new(Duration::from_millis(RETRY_MS_MIN), Duration::from_millis(limits.retry_ms_max));
        let state = Mutex::new(State { known: None, keys_requested_at: None, failure: None, backoff });
        Self { issuer, http: Arc::new(http), limits, state, reading: tokio::sync::Mutex::default() }
    }

    /// The metadata and keys, if they were read.
    pub(super) fn known(&self) -> Option<Known> {
        self.state.lock().known.clone()
    }

    pub(super) fn status(&self) -> ProviderStatus {
        let state = self.state.lock();
        match (&state.failure, &state.known) {
            (Some(failure), _) => ProviderStatus::Failed { detail: failure.detail.clone() },
            (None, Some(_)) => ProviderStatus::Answers,
            (None, None) => ProviderStatus::NotAsked,
        }
    }

    /// The metadata and keys; reads them if they are not known yet. After a failure the next request is made when its delay is over.
    ///
    /// # Errors
    /// The provider does not answer as it must.
    pub(super) async fn get(&self) -> Result<Known, ApiError> {
        if let Some(known) = self.known() {
            return Ok(known);
        }
        let _reading = self.reading.lock().await;
        if let Some(known) = self.known() {
            return Ok(known);
        }
        let failure = self.state.lock().failure.clone();
        if let Some(failure) = failure.filter(|failure| failure.retry_at > Instant::now()) {
            return Err(unavailable(&failure.detail));
        }
        self.read().await
    }

    /// The keys, read again if that was not done for the same cause just before: the provider may have signed with a new one.
    ///
    /// # Errors
    /// The provider does not answer as it must.
    pub(super) async fn get_newer_keys(&self, than: &Known) -> Result<Option<Known>, ApiError> {
        let _reading = self.reading.lock().await;
        let Some(known) = self.known() else { return Ok(None) };
        if known.keys_read_at > than.keys_read_at {
            return Ok(Some(known));
        }
        let limit = Duration::from_millis(self.limits.keys_ms_min);
        let requested_at = self.state.lock().keys_requested_at.replace(Instant::now());
        if requested_at.is_some_and(|at| at.elapsed() < limit) {
            self.state.lock().keys_requested_at = requested_at;
            return Ok(None);
        }
        let keys = CoreJsonWebKeySet::fetch_async(known.metadata.jwks_uri(), &self.client()).await;
        let keys = keys.map_err(|error| unavailable(&chain(&error)))?;
        let known = Known { keys: Arc::new(keys), keys_read_at: Instant::now(), ..known };
        self.state.lock().known = Some(known.clone());
        Ok(Some(known))
    }

    /// Reads the metadata from time to time, until the server stops: the health report then names a provider that does not answer,
    /// and keys that the provider withdrew are not accepted any more.
    pub(super) async fn keep_current(&self, stop: CancellationToken) {
        let every = Duration::from_millis(self.limits.metadata_every_ms);
        loop {
            let next = tokio::select! {
                next = self.read_if_old(every) => next,
                () = stop.cancelled() => return,
            };
            tokio::select! {
                () = tokio::time::sleep_until(next) => {}
                () = stop.cancelled() => return,
            }
        }
    }

    /// Reads metadata and keys if they are older than that. Returns when they are to be read next.
    async fn read_if_old(&self, every: Duration) -> Instant {
        let _reading = self.reading.lock().await;
        let (known, failure) = {
            let state = self.state.lock();
            (state.known.clone(), state.failure.clone())
        };
        if failure.is_none()
            && let Some(known) = known.filter(|known| known.read_at.elapsed() < every)
        {
            return known.read_at + every;
        }
        // The state has the result.
        let _ = self.read().await;
        self.state.lock().failure.as_ref().map_or_else(|| Instant::now() + every, |failure| failure.retry_at)
    }

    /// Reads metadata and keys. What was known before stays if that fails.
    async fn read(&self) -> Result<Known, ApiError> {
        let client = self.client();
        let found = ProviderMetadataWithLogout::discover_async(self.issuer.clone(), &client).await;
        let found = found.map_err(|error| chain(&error)).and_then(require_protected_addresses);
        let mut state = self.state.lock();
        match found {
            Ok(metadata) => {
                let keys = Arc::new(metadata.jwks().clone());
                let now = Instant::now();
                let known = Known { metadata: Arc::new(metadata), keys, read_at: now, keys_read_at: now };
                state.known = Some(known.clone());
                state.backoff.reset();
                if state.failure.take().is_some() {
                    tracing::info!(outcome = "provider_answers", issuer = %self.issuer.as_str(), "the identity provider answers again");
                }
                Ok(known)
            }
            Err(detail) => {
                let retry_at = Instant::now() + state.backoff.next_delay();
                if state.failure.is_none() {
                    tracing::warn!(outcome = "provider_failed", issuer = %self.issuer.as_str(), error = detail, "the identity provider does not answer as it must");
                }
                state.failure = Some(Failure { detail: detail.clone(), retry_at });
                Err(unavailable(&detail))
            }
        }
    }

    /// The client as the library calls it.
    pub(super) fn client(
        &self,
    ) -> impl Fn(HttpRequest) -> BoxFuture<'static, Result<HttpResponse, ExchangeError>> + Send + Sync + use<> {
        let http = Arc::clone(&self.http);
        move |request| {
            let http = Arc::clone(&http);
            Box::pin(async move { http.send(request).await })
        }
    }
}

impl Known {
    /// Whether the provider lists that it can answer in the fragment, which browsers send to no server.
    pub(super) fn answers_in_fragment(&self) -> bool {
        let modes = self.metadata.response_modes_supported();
        modes.is_some_and(|modes| modes.contains(&CoreResponseMode::Fragment))
    }

    /// Where people sign out of the provider.
    pub(super) fn end_session_endpoint(&self) -> Option<EndSessionUrl> {
        self.metadata.additional_metadata().end_session_endpoint.clone()
    }
}

/// Requires that browsers and requests are sent only to addresses that are as protected as the issuer.
fn require_protected_addresses(metadata: ProviderMetadataWithLogout) -> Result<ProviderMetadataWithLogout, String> {
    let issuer = metadata.issuer().url();
    let end_session = metadata.additional_metadata().end_session_endpoint.as_ref();
    let Some(token_endpoint) = metadata.token_endpoint() else {
        return Err("its metadata has no token_endpoint".to_owned());
    };
    let addresses = [
        ("authorization_endpoint", metadata.authorization_endpoint().url()),
        ("token_endpoint", token_endpoint.url()),
        ("jwks_uri", metadata.jwks_uri().url()),
    ];
    let end_session = end_session.map(|url| ("end_session_endpoint", url.url()));
    let unprotected = addresses.into_iter().chain(end_session).find(|(_, url)| !is_permitted_for(issuer, url));
    match unprotected.map(|(name, _)| name) {
        Some(name) => Err(format!("{name} in its metadata is not https")),
        None => Ok(metadata),
    }
}

/// The provider does not answer as it must.
pub(super) fn unavailable(detail: &str) -> ApiError {
    ApiError::new(Problem::IssuerUnavailable, detail)
}
