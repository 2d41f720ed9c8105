//! HTTP/1.1 connections to the public URL, one for each request, as browsers use them for WebSockets.

use super::StepFailure;
use anteroom_wire::chain;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use rustls::{CertificateError, ClientConfig, Error as TlsError, RootCertStore, crypto::ring, pki_types::ServerName};
use std::{io, sync::Arc};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;
use url::Url;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum WayError {
    #[error("{host} cannot be reached: {why}")]
    Unreachable { host: String, why: io::Error },
    #[error("the certificate of {0} is by an authority that is not trusted here")]
    UnknownAuthority(String),
    #[error("TLS failed: {0}")]
    Tls(String),
    #[error("no answer in time")]
    NoAnswer,
    #[error("the answer is incomplete: {0}")]
    Http(String),
}

impl From<WayError> for StepFailure {
    fn from(error: WayError) -> Self {
        let (cause, remedy) = match &error {
            WayError::Unreachable { .. } => {
                ("unreachable", "Check that the name resolves here, and that the proxy listens on that port.")
            }
            WayError::UnknownAuthority(_) => (
                "unknown_authority",
                "Let the proxy send the whole chain of its certificate; for an authority of your own, add it to \
                 egress.extra_ca_files, and to the browsers of all people.",
            ),
            WayError::Tls(_) => ("tls_failed", "Compare the name and the dates of the proxy's certificate."),
            WayError::NoAnswer => {
                ("no_answer", "The proxy accepts the connection: compare its upstream with `listen`.")
            }
            WayError::Http(_) => ("unexpected_answer", "Something on the way ends the connection early."),
        };
        Self { cause: cause.to_owned(), detail: error.to_string(), remedy: remedy.to_owned() }
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

pub(super) struct Connector {
    /// Name and port to connect to.
    address: (String, u16),
    /// The `Host` header.
    host: String,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

impl Connector {
    pub(super) fn new(url: &Url, roots: RootCertStore) -> Result<Self, rustls::Error> {
        let name = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let port = url.port_or_known_default().unwrap_or(443);
        let host = url.port().map_or_else(
            || url.host_str().unwrap_or_default().to_owned(),
            |port| format!("{}:{port}", url.host_str().unwrap_or_default()),
        );
        let mut tls = None;
        if url.scheme() == "https" {
            let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
                .with_safe_default_protocol_versions()?
                .with_root_certificates(roots)
                .with_no_client_auth();
            let server = ServerName::try_from(name.clone()).map_err(|error| TlsError::General(error.to_string()))?;
            tls = Some((TlsConnector::from(Arc::new(config)), server));
        }
        Ok(Self { address: (name, port), host, tls })
    }

    pub(super) fn host(&self) -> &str {
        &self.host
    }

    async fn connect(&self) -> Result<Box<dyn Stream>, WayError> {
        let (name, port) = (&*self.address.0, self.address.1);
        let stream = TcpStream::connect((name, port)).await;
        let stream = stream.map_err(|why| WayError::Unreachable { host: self.host.clone(), why })?;
        match &self.tls {
            None => Ok(Box::new(stream)),
            Some((tls, server)) => match tls.connect(server.clone(), stream).await {
                Ok(stream) => Ok(Box::new(stream)),
                Err(error) => Err(self.tls_error(&error)),
            },
        }
    }

    fn tls_error(&self, error: &io::Error) -> WayError {
        match error.get_ref().and_then(|error| error.downcast_ref::<TlsError>()) {
            Some(TlsError::InvalidCertificate(CertificateError::UnknownIssuer)) => {
                WayError::UnknownAuthority(self.host.clone())
            }
            Some(_) | None => WayError::Tls(chain(error)),
        }
    }

    /// Sends a request on a new connection, which ends with the response's body.
    pub(super) async fn send(&self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, WayError> {
        let stream = self.connect().await?;
        let failed = |error: hyper::Error| WayError::Http(chain(&error));
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
        tokio::spawn(connection.with_upgrades());
        sender.send_request(request).await.map_err(failed)
    }
}
