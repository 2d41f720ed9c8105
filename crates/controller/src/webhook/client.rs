//! The HTTP client of the webhook. It posts one signed message on a new connection and checks the response. Redirects and the proxy
//! variables of the environment are not followed. One timeout covers everything.

use super::settings::WebhookTarget;
use crate::https_client::{CaFile, ClientSetupError, HttpsClient, RequestError, https_client};
use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::Error as ClientError;
use std::{path::Path, time::Duration};

/// Maximum size of a response body, which is read and discarded.
pub const RESPONSE_BYTES_MAX: usize = 64 * 1024;

/// A message to be posted.
pub(super) struct WebhookRequest {
    pub(super) id: String,
    pub(super) timestamp_s: u64,
    pub(super) signature: String,
    pub(super) body: Bytes,
}

/// Why a message was not delivered. The text is for operators and contains no secret.
#[derive(Debug, thiserror::Error)]
pub(super) enum DeliveryError {
    /// The request cannot be built. Nothing was sent.
    #[error(transparent)]
    InvalidRequest(#[from] http::Error),
    /// The connection failed. Nothing was sent.
    #[error("no connection")]
    NotConnected(#[source] RequestError),
    /// The TLS connection failed. Nothing was sent.
    #[error("no TLS connection")]
    NoTlsConnection(#[source] RequestError),
    /// There was no complete response within the timeout, milliseconds.
    #[error("no answer within {0} ms")]
    Timeout(u128),
    /// The connection was lost before the response.
    #[error("the connection broke")]
    ConnectionLost(#[source] RequestError),
    /// The response's status is not 2xx.
    #[error("it answered {}{}", status.as_u16(), if status.is_redirection() { "; redirects are not followed" } else { "" })]
    Rejected {
        status: StatusCode,
        /// The wait that the receiver requests, seconds.
        retry_after_s: Option<u64>,
    },
}

impl DeliveryError {
    /// Whether the receiver may have accepted the message nevertheless. When in doubt, it may.
    pub(super) fn may_be_delivered(&self) -> bool {
        match self {
            Self::Timeout(_) | Self::ConnectionLost(_) => true,
            Self::InvalidRequest(_) | Self::NotConnected(_) | Self::NoTlsConnection(_) | Self::Rejected { .. } => false,
        }
    }

    /// Whether the receiver accepts no further attempts (410).
    pub(super) fn is_permanent(&self) -> bool {
        matches!(self, Self::Rejected { status: StatusCode::GONE, .. })
    }

    /// The wait that the receiver requests, seconds.
    pub(super) fn retry_after_s(&self) -> Option<u64> {
        if let Self::Rejected { retry_after_s, .. } = self { *retry_after_s } else { None }
    }
}

/// Posts messages to the receiver.
pub(super) struct WebhookClient {
    target: WebhookTarget,
    http: HttpsClient,
    timeout: Duration,
}

impl std::fmt::Debug for WebhookClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("WebhookClient").field(&self.display_url()).finish()
    }
}

impl WebhookClient {
    /// A client of the receiver. Loads the trusted certificates.
    ///
    /// # Errors
    /// No certificate is trusted, or `ca_file` cannot be read.
    pub(super) fn new(
        target: WebhookTarget,
        ca_file: Option<&Path>,
        timeout_ms_max: u64,
    ) -> Result<Self, ClientSetupError> {
        let http = https_client(target.is_tls(), CaFile { section: "webhook", path: ca_file })?;
        Ok(Self { target, http, timeout: Duration::from_millis(timeout_ms_max) })
    }

    /// The URL without its query.
    pub(super) fn display_url(&self) -> String {
        self.target.display_url()
    }

    /// Posts the message once.
    pub(super) async fn post(&self, message: WebhookRequest) -> Result<(), DeliveryError> {
        let exchange = async {
            let request = self.request(message)?;
            let response = self.http.request(request).await.map_err(|error| self.request_error(error))?;
            let result = check_response(response.status(), response.headers().get(header::RETRY_AFTER));
            // The body is discarded; its size is limited.
            let _ = Limited::new(response.into_body(), RESPONSE_BYTES_MAX).collect().await;
            result
        };
        let result = tokio::time::timeout(self.timeout, exchange).await;
        result.unwrap_or(Err(DeliveryError::Timeout(self.timeout.as_millis())))
    }

    fn request(&self, message: WebhookRequest) -> Result<Request<Full<Bytes>>, http::Error> {
        Request::builder()
            .method(Method::POST)
            .uri(self.target.uri.clone())
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::USER_AGENT, concat!("anteroom/", env!("CARGO_PKG_VERSION")))
            .header("webhook-id", message.id)
            .header("webhook-timestamp", message.timestamp_s)
            .header("webhook-signature", message.signature)
            .body(Full::new(message.body))
    }

    fn request_error(&self, error: ClientError) -> DeliveryError {
        match (error.is_connect(), self.target.is_tls()) {
            (true, false) => DeliveryError::NotConnected(RequestError(error)),
            (true, true) => DeliveryError::NoTlsConnection(RequestError(error)),
            (false, _) => DeliveryError::ConnectionLost(RequestError(error)),
        }
    }
}

fn check_response(status: StatusCode, retry_after: Option<&HeaderValue>) -> Result<(), DeliveryError> {
    if status.is_success() {
        return Ok(());
    }
    let retry_after_s = retry_after.and_then(|value| value.to_str().ok()).and_then(|text| text.trim().parse().ok());
    Err(DeliveryError::Rejected { status, retry_after_s })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api_error::chain;
    use std::net::SocketAddr;
    use tokio::net::TcpListener;

    async fn post(address: SocketAddr) -> DeliveryError {
        let target = WebhookTarget::parse(&format!("http://{address}/in")).unwrap();
        let client = WebhookClient::new(target, None, 500).unwrap();
        let message =
            WebhookRequest { id: "1".into(), timestamp_s: 1, signature: "v1,".into(), body: Bytes::from_static(b"{}") };
        client.post(message).await.unwrap_err()
    }

    #[tokio::test]
    async fn message_may_be_delivered_unless_the_connection_failed() {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = server.local_addr().unwrap();
        let unanswered = post(address).await;
        assert!(matches!(unanswered, DeliveryError::Timeout(500)), "{unanswered}");
        drop(server.accept().await.unwrap());
        let closed = async { drop(server.accept().await.unwrap()) };
        let ((), lost) = tokio::join!(closed, post(address));
        assert!(matches!(lost, DeliveryError::ConnectionLost(_)), "{lost}");
        drop(server);
        let refused = post(address).await;
        assert!(matches!(&refused, DeliveryError::NotConnected(_)) && chain(&refused).contains("refused"), "{refused}");
        assert_eq!([&unanswered, &lost, &refused].map(DeliveryError::may_be_delivered), [true, true, false]);
    }

    #[test]
    fn only_a_success_status_counts_and_redirects_are_not_followed() {
        let of = |status: u16| check_response(StatusCode::from_u16(status).unwrap(), None);
        assert!(of(200).is_ok() && of(204).is_ok());
        assert!(of(307).is_err_and(|error| error.to_string().contains("redirects") && !error.is_permanent()));
        assert!(of(410).is_err_and(|error| error.is_permanent()));
        assert!(
            of(500).is_err_and(|error| !error.is_permanent()
                && error.retry_after_s().is_none()
                && !error.may_be_delivered())
        );
        let wait = HeaderValue::from_static("120");
        assert_eq!(check_response(StatusCode::TOO_MANY_REQUESTS, Some(&wait)).unwrap_err().retry_after_s(), Some(120));
    }
}
