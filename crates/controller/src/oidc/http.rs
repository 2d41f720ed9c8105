//! Requests to the provider: bounded in time and size, never redirected.

use super::settings::is_permitted_for;
use crate::https_client::{CaFile, ClientSetupError, HttpsClient, RequestError, https_client};
use bytes::Bytes;
use http::{StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use openidconnect::{HttpRequest, HttpResponse};
use std::{error::Error, path::Path, time::Duration};
use tokio::sync::Semaphore;
use url::Url;

/// Maximum size of a response, bytes. Metadata and keys of large providers have some 10 KiB.
pub const RESPONSE_BYTES_MAX: usize = 256 * 1_024;
/// Concurrent requests to the provider.
pub const CONCURRENT_REQUESTS_MAX: usize = 16;

/// Why there is no answer of the provider. The text is for operators and contains no secret.
#[derive(Debug, thiserror::Error)]
pub(super) enum ExchangeError {
    /// The metadata names an address that is not encrypted.
    #[error("its metadata names an address that is not https")]
    NotEncrypted,
    /// No connection, or no TLS connection.
    #[error("no connection")]
    NotConnected(#[source] RequestError),
    /// The connection was lost before the response.
    #[error("the connection broke")]
    ConnectionLost(#[source] RequestError),
    /// The response cannot be read, or is too large.
    #[error("its answer was cut off or is larger than {} KiB", RESPONSE_BYTES_MAX / 1_024)]
    Body(#[source] Box<dyn Error + Send + Sync>),
    /// There was no complete response in time.
    #[error("no answer within {0} ms")]
    Timeout(u128),
    /// A status that no provider that works answers.
    #[error("it answered {}{}", .0.as_u16(), if .0.is_redirection() { "; redirects are not followed" } else { "" })]
    Status(StatusCode),
}

/// The HTTP client of the provider.
pub(super) struct ProviderHttp {
    client: HttpsClient,
    issuer: Url,
    timeout: Duration,
    permits: Semaphore,
}

impl std::fmt::Debug for ProviderHttp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProviderHttp").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

impl ProviderHttp {
    /// A client of this issuer. Loads the trusted certificates.
    ///
    /// # Errors
    /// No certificate is trusted, or `ca_file` cannot be read.
    pub(super) fn new(issuer: Url, ca_file: Option<&Path>, timeout: Duration) -> Result<Self, ClientSetupError> {
        let client = https_client(issuer.scheme() == "https", CaFile { section: "oidc", path: ca_file })?;
        Ok(Self { client, issuer, timeout, permits: Semaphore::new(CONCURRENT_REQUESTS_MAX) })
    }

    /// Sends a request. Answers with a client error are returned: the provider describes errors in their bodies.
    pub(super) async fn send(&self, request: HttpRequest) -> Result<HttpResponse, ExchangeError> {
        if !Url::parse(&request.uri().to_string()).is_ok_and(|url| is_permitted_for(&self.issuer, &url)) {
            return Err(ExchangeError::NotEncrypted);
        }
        let exchange = async {
            let _permit = self.permits.acquire().await;
            self.exchange(request).await
        };
        let result = tokio::time::timeout(self.timeout, exchange).await;
        result.unwrap_or_else(|_| Err(ExchangeError::Timeout(self.timeout.as_millis())))
    }

    async fn exchange(&self, request: HttpRequest) -> Result<HttpResponse, ExchangeError> {
        let (mut head, body) = request.into_parts();
        let agent = http::HeaderValue::from_static(concat!("anteroom/", env!("CARGO_PKG_VERSION")));
        head.headers.insert(header::USER_AGENT, agent);
        let request = http::Request::from_parts(head, Full::new(Bytes::from(body)));
        let response = self.client.request(request).await.map_err(|error| {
            if error.is_connect() {
                ExchangeError::NotConnected(RequestError(error))
            } else {
                ExchangeError::ConnectionLost(RequestError(error))
            }
        })?;
        let (head, body) = response.into_parts();
        if !head.status.is_success() && !head.status.is_client_error() {
            return Err(ExchangeError::Status(head.status));
        }
        let body = Limited::new(body, RESPONSE_BYTES_MAX).collect().await.map_err(ExchangeError::Body)?;
        Ok(HttpResponse::from_parts(head, body.to_bytes().to_vec()))
    }
}
