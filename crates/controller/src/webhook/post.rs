//! One signed request and its answer: a connection of its own, TLS by this host's trusted certificates, no redirection followed, and
//! all of it within one limit.

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

/// Of an answer's body only the end of the exchange counts.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
const ADDRESSES_MAX: usize = 8;

/// A message as it goes out.
pub(super) struct Outgoing {
    pub(super) id: String,
    pub(super) timestamp_s: u64,
    pub(super) signature: String,
    pub(super) body: Bytes,
}

/// Why a message was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NotTaken {
    /// For operators; no secret.
    pub(super) why: String,
    /// The receiver will never take it.
    pub(super) for_good: bool,
    /// The receiver asks for this wait, seconds.
    pub(super) after_s: Option<u64>,
    /// It was sent, and nobody knows what became of it: it may have been taken.
    pub(super) may_be_there: bool,
}

impl NotTaken {
    /// It was not sent.
    pub(super) fn now(why: impl Into<String>) -> Self {
        Self { why: why.into(), for_good: false, after_s: None, may_be_there: false }
    }

    /// It may have been sent, and no answer came.
    fn unknown(why: impl Into<String>) -> Self {
        Self { may_be_there: true, ..Self::now(why) }
    }
}

/// The way to the receiver.
pub(super) struct Way {
    target: Target,
    tls: Option<TlsConnector>,
    limit: Duration,
}

impl std::fmt::Debug for Way {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Way").field(&self.target.shown()).finish()
    }
}

impl Way {
    /// Reads the certificates that are trusted.
    ///
    /// # Errors
    /// There are none, or the file of further ones is not readable.
    pub(super) fn new(target: Target, ca_file: Option<&Path>, timeout_ms_max: u64) -> Result<Self, String> {
        let tls = if target.tls { Some(connector(ca_file)?) } else { None };
        Ok(Self { target, tls, limit: Duration::from_millis(timeout_ms_max) })
    }

    /// For people.
    pub(super) fn shown(&self) -> String {
        self.target.shown()
    }

    /// Posts the message once.
    pub(super) async fn post(&self, message: Outgoing) -> Result<(), NotTaken> {
        let ms = self.limit.as_millis();
        let exchange = tokio::time::timeout(self.limit, self.exchange(message));
        exchange.await.unwrap_or_else(|_| Err(NotTaken::unknown(format!("no answer within {ms} ms"))))
    }

    async fn exchange(&self, message: Outgoing) -> Result<(), NotTaken> {
        let stream = self.connect().await?;
        match &self.tls {
            None => self.ask(stream, message).await,
            Some(tls) => {
                let name = ServerName::try_from(self.target.host.clone());
                let name = name.map_err(|_| NotTaken::now("the host is no name that a certificate could have"))?;
                let stream = tls.connect(name, stream).await;
                self.ask(stream.map_err(|error| NotTaken::now(format!("TLS: {error}")))?, message).await
            }
        }
    }

    async fn connect(&self) -> Result<TcpStream, NotTaken> {
        let host = self.target.host.as_str();
        let found = tokio::net::lookup_host((host, self.target.port)).await;
        let found = found.map_err(|error| NotTaken::now(format!("{host} cannot be resolved: {error}")))?;
        let addresses: Vec<SocketAddr> = found.take(ADDRESSES_MAX).collect();
        let mut last = NotTaken::now(format!("{host} has no address"));
        for address in addresses {
            match TcpStream::connect(address).await {
                Ok(stream) => return Ok(stream),
                Err(error) => last = NotTaken::now(format!("no connection: {error}")),
            }
        }
        Err(last)
    }

    async fn ask<S>(&self, stream: S, message: Outgoing) -> Result<(), NotTaken>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let broken = |error: hyper::Error| NotTaken::unknown(format!("the connection broke: {error}"));
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        // It ends with this exchange, in time or not.
        let _carried = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(connection));
        let request = self.request(message).map_err(|error| NotTaken::now(error.to_string()))?;
        let answer = sender.send_request(request).await.map_err(broken)?;
        let verdict = judge(answer.status(), answer.headers().get(header::RETRY_AFTER));
        // What it says is not read into anything; a receiver that sends without end is not waited for.
        let _ = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
        verdict
    }

    fn request(&self, message: Outgoing) -> Result<Request<Full<Bytes>>, http::Error> {
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

fn judge(status: StatusCode, retry_after: Option<&HeaderValue>) -> Result<(), NotTaken> {
    if status.is_success() {
        return Ok(());
    }
    let after_s = retry_after.and_then(|value| value.to_str().ok()).and_then(|text| text.trim().parse().ok());
    let why = if status.is_redirection() {
        format!("it answered {}, and no redirection is followed", status.as_u16())
    } else {
        format!("it answered {}", status.as_u16())
    };
    // 410: the receiver wants no more of it.
    Err(NotTaken { for_good: status == StatusCode::GONE, after_s, ..NotTaken::now(why) })
}

fn connector(ca_file: Option<&Path>) -> Result<TlsConnector, String> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = ca_file {
        let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        let read = read.map_err(|error| format!("webhook.ca_file {} cannot be read: {error}", path.display()))?;
        let (added, _) = roots.add_parsable_certificates(read);
        if added == 0 {
            return Err(format!("webhook.ca_file {} has no certificate in it", path.display()));
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
    fn only_a_good_answer_counts_and_no_redirection_is_followed() {
        let of = |status: u16| judge(StatusCode::from_u16(status).unwrap(), None);
        assert_eq!((of(200), of(204)), (Ok(()), Ok(())));
        assert!(of(307).is_err_and(|not| not.why.contains("redirection") && !not.for_good));
        assert!(of(410).is_err_and(|not| not.for_good));
        assert!(of(500).is_err_and(|not| !not.for_good && not.after_s.is_none() && !not.may_be_there));
        let wait = HeaderValue::from_static("120");
        assert_eq!(judge(StatusCode::TOO_MANY_REQUESTS, Some(&wait)).unwrap_err().after_s, Some(120));
    }
}
