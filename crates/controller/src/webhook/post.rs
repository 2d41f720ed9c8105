//! Sends one signed request and checks the response: a new connection for each request, TLS with the trusted certificates of this host,
//! no redirects, and one timeout for everything.

use super::settings::Target;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::ring,
        pki_types::{CertificateDer, ServerName, pem::PemObject},
    },
};

/// Maximum size of a response body, which is read and discarded.
const RESPONSE_BYTES_MAX: usize = 64 * 1024;
const ADDRESSES_MAX: usize = 8;

/// A message to be posted.
pub(super) struct WebhookRequest {
    pub(super) id: String,
    pub(super) timestamp_s: u64,
    pub(super) signature: String,
    pub(super) body: Bytes,
}

/// Why a message was not delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DeliveryError {
    /// For operators; no secret.
    pub(super) why: String,
    /// Whether the receiver will never accept it.
    pub(super) is_permanent: bool,
    /// The wait that the receiver requests, seconds.
    pub(super) retry_after_s: Option<u64>,
    /// Whether it was sent and may have been delivered: the result is unknown.
    pub(super) may_be_delivered: bool,
}

impl DeliveryError {
    /// The message was not sent.
    pub(super) fn not_sent(why: impl Into<String>) -> Self {
        Self { why: why.into(), is_permanent: false, retry_after_s: None, may_be_delivered: false }
    }

    /// The message may have been sent, and no response came.
    fn in_doubt(why: impl Into<String>) -> Self {
        Self { may_be_delivered: true, ..Self::not_sent(why) }
    }
}

/// The endpoint of the receiver.
pub(super) struct Endpoint {
    target: Target,
    tls: Option<TlsConnector>,
    limit: Duration,
}

impl std::fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Endpoint").field(&self.target.display_url()).finish()
    }
}

impl Endpoint {
    /// Loads the trusted certificates.
    ///
    /// # Errors
    /// No certificate is trusted, or `ca_file` cannot be read.
    pub(super) fn new(target: Target, ca_file: Option<&Path>, timeout_ms_max: u64) -> Result<Self, String> {
        let tls = if target.tls { Some(tls_connector(ca_file)?) } else { None };
        Ok(Self { target, tls, limit: Duration::from_millis(timeout_ms_max) })
    }

    /// The URL without its query.
    pub(super) fn display_url(&self) -> String {
        self.target.display_url()
    }

    /// Posts the message once.
    pub(super) async fn post(&self, message: WebhookRequest) -> Result<(), DeliveryError> {
        let ms = self.limit.as_millis();
        let deliver_once = tokio::time::timeout(self.limit, self.deliver_once(message));
        deliver_once.await.unwrap_or_else(|_| Err(DeliveryError::in_doubt(format!("no answer within {ms} ms"))))
    }

    async fn deliver_once(&self, message: WebhookRequest) -> Result<(), DeliveryError> {
        let stream = self.connect().await?;
        match &self.tls {
            None => self.send(stream, message).await,
            Some(tls) => {
                let name = ServerName::try_from(self.target.host.clone());
                let name = name.map_err(|_| DeliveryError::not_sent("the host is not a valid TLS server name"))?;
                let stream = tls.connect(name, stream).await;
                self.send(stream.map_err(|error| DeliveryError::not_sent(format!("TLS: {error}")))?, message).await
            }
        }
    }

    async fn connect(&self) -> Result<TcpStream, DeliveryError> {
        let host = self.target.host.as_str();
        let addresses = tokio::net::lookup_host((host, self.target.port)).await;
        let addresses =
            addresses.map_err(|error| DeliveryError::not_sent(format!("{host} cannot be resolved: {error}")))?;
        let addresses: Vec<SocketAddr> = addresses.take(ADDRESSES_MAX).collect();
        let mut last = DeliveryError::not_sent(format!("{host} has no address"));
        for address in addresses {
            match TcpStream::connect(address).await {
                Ok(stream) => return Ok(stream),
                Err(error) => last = DeliveryError::not_sent(format!("no connection: {error}")),
            }
        }
        Err(last)
    }

    async fn send<S>(&self, stream: S, message: WebhookRequest) -> Result<(), DeliveryError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let broken = |error: hyper::Error| DeliveryError::in_doubt(format!("the connection broke: {error}"));
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        // The connection task ends with this request.
        let _connection = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(connection));
        let request = self.request(message).map_err(|error| DeliveryError::not_sent(error.to_string()))?;
        let response = sender.send_request(request).await.map_err(broken)?;
        let verdict = check_response(response.status(), response.headers().get(header::RETRY_AFTER));
        // The body is discarded; its size is limited.
        let _ = Limited::new(response.into_body(), RESPONSE_BYTES_MAX).collect().await;
        verdict
    }

    fn request(&self, message: WebhookRequest) -> Result<Request<Full<Bytes>>, http::Error> {
        Request::builder()
            .method(Method::POST)
            .uri(&self.target.path)
            .header(header::HOST, &self.target.authority)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::USER_AGENT, concat!("anteroom/", env!("CARGO_PKG_VERSION")))
            .header("webhook-id", message.id)
            .header("webhook-timestamp", message.timestamp_s)
            .header("webhook-signature", message.signature)
            .body(Full::new(message.body))
    }
}

fn check_response(status: StatusCode, retry_after: Option<&HeaderValue>) -> Result<(), DeliveryError> {
    if status.is_success() {
        return Ok(());
    }
    let retry_after_s = retry_after.and_then(|value| value.to_str().ok()).and_then(|text| text.trim().parse().ok());
    let why = if status.is_redirection() {
        format!("it answered {}; redirects are not followed", status.as_u16())
    } else {
        format!("it answered {}", status.as_u16())
    };
    // 410: the receiver accepts no further attempts.
    Err(DeliveryError { is_permanent: status == StatusCode::GONE, retry_after_s, ..DeliveryError::not_sent(why) })
}

fn tls_connector(ca_file: Option<&Path>) -> Result<TlsConnector, String> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = ca_file {
        let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        let read = read.map_err(|error| format!("webhook.ca_file {} cannot be read: {error}", path.display()))?;
        let (added, _) = roots.add_parsable_certificates(read);
        if added == 0 {
            return Err(format!("webhook.ca_file {} contains no certificate", path.display()));
        }
    }
    if roots.is_empty() {
        return Err("webhook.url is https, and this host trusts no certificates: install ca-certificates".to_owned());
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("TLS: {error}"))?;
    Ok(TlsConnector::from(Arc::new(config.with_root_certificates(roots).with_no_client_auth())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_success_status_counts_and_redirects_are_not_followed() {
        let of = |status: u16| check_response(StatusCode::from_u16(status).unwrap(), None);
        assert_eq!((of(200), of(204)), (Ok(()), Ok(())));
        assert!(of(307).is_err_and(|error| error.why.contains("redirects") && !error.is_permanent));
        assert!(of(410).is_err_and(|error| error.is_permanent));
        assert!(
            of(500).is_err_and(|error| !error.is_permanent && error.retry_after_s.is_none() && !error.may_be_delivered)
        );
        let wait = HeaderValue::from_static("120");
        assert_eq!(check_response(StatusCode::TOO_MANY_REQUESTS, Some(&wait)).unwrap_err().retry_after_s, Some(120));
    }
}
