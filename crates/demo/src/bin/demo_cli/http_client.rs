//! Sends a request over plain HTTP/1.1, through the proxy in the environment variables if there is one (absolute form, RFC 9112 §3.2.2).

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Request, StatusCode, Uri, header};
use hyper_util::rt::TokioIo;
use std::{io, time::Duration};
use tokio::net::TcpStream;

/// How long one request may take (an emulated machine is slow).
const REQUEST_LIMIT: Duration = Duration::from_secs(60);
/// The largest response body.
const RESPONSE_BYTES_MAX: usize = 256 * 1024;

/// A response.
pub(crate) struct HttpResponse {
    pub(crate) status: StatusCode,
    pub(crate) body: Bytes,
}

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HttpError {
    #[error("{0} is not an address that begins with http://")]
    Address(String),
    #[error("{variable} is {value:?}, which is not the address of a proxy (http://host:port)")]
    Proxy { variable: &'static str, value: String },
    #[error("{at} cannot be reached")]
    Connect { at: String, source: io::Error },
    #[error("{at} does not answer in HTTP")]
    Exchange { at: String, source: hyper::Error },
    #[error("{at} answered with more than {RESPONSE_BYTES_MAX} bytes, or broke off")]
    Body { at: String, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("{at} did not answer within {} seconds", REQUEST_LIMIT.as_secs())]
    Timeout { at: String },
}

/// The method of a request, with what belongs to it.
pub(crate) enum Method<'a> {
    /// `GET`, with this bearer token.
    Get { bearer: Option<&'a str> },
    /// `POST` of a form.
    Form(String),
}

/// Sends one request to the URL `address` and reads the whole response.
pub(crate) async fn request(address: &str, method: Method<'_>) -> Result<HttpResponse, HttpError> {
    let uri: Uri = address.parse().map_err(|_| HttpError::Address(address.to_owned()))?;
    let (Some("http"), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return Err(HttpError::Address(address.to_owned()));
    };
    let proxy = proxy_for(authority.host())?;
    let at = match &proxy {
        Some(proxy) => format!("{} (through the proxy {proxy})", authority),
        None => authority.to_string(),
    };
    let peer = proxy.clone().unwrap_or_else(|| with_port(authority.host(), authority.port_u16()));
    // A proxy needs the whole URL, a server the path.
    let request_target =
        if proxy.is_some() { uri.to_string() } else { uri.path_and_query().map_or("/", |path| path.as_str()).into() };
    let request =
        build(&request_target, authority.as_str(), method).map_err(|_| HttpError::Address(address.to_owned()))?;
    match tokio::time::timeout(REQUEST_LIMIT, exchange(&peer, &at, request)).await {
        Ok(answer) => answer,
        Err(_) => Err(HttpError::Timeout { at }),
    }
}

fn build(target: &str, host: &str, method: Method<'_>) -> Result<Request<Full<Bytes>>, hyper::http::Error> {
    let request = Request::builder()
        .uri(target)
        .header(header::HOST, host)
        .header(header::ACCEPT, "application/json")
        .header(header::USER_AGENT, concat!("anteroom-demo/", env!("CARGO_PKG_VERSION")));
    match method {
        Method::Get { bearer } => {
            let request = match bearer {
                Some(token) => request.header(header::AUTHORIZATION, format!("Bearer {token}")),
                None => request,
            };
            request.body(Full::default())
        }
        Method::Form(form) => request
            .method("POST")
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(Full::new(form.into())),
    }
}

async fn exchange(peer: &str, at: &str, request: Request<Full<Bytes>>) -> Result<HttpResponse, HttpError> {
    let connect = |source| HttpError::Connect { at: at.to_owned(), source };
    let failed = |source| HttpError::Exchange { at: at.to_owned(), source };
    let stream = TcpStream::connect(peer).await.map_err(connect)?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
    let answer = async {
        let answer = sender.send_request(request).await.map_err(failed)?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), RESPONSE_BYTES_MAX).collect().await;
        let body = body.map_err(|source| HttpError::Body { at: at.to_owned(), source })?;
        Ok(HttpResponse { status, body: body.to_bytes() })
    };
    tokio::pin!(connection, answer);
    tokio::select! {
        answer = &mut answer => answer,
        ended = &mut connection => {
            // The server has closed the connection: what it sent before can still be read.
            let answer = answer.await;
            match (answer, ended) {
                (Err(HttpError::Exchange { at, .. }), Err(source)) => Err(HttpError::Exchange { at, source }),
                (answer, _) => answer,
            }
        }
    }
}

/// The proxy for `host` from the environment variables, as `host:port`; `None`: no proxy.
fn proxy_for(host: &str) -> Result<Option<String>, HttpError> {
    // Upper case is read too, since nothing else here is a CGI program (where it would come from a request's header).
    let found = ["http_proxy", "HTTP_PROXY"]
        .into_iter()
        .find_map(|variable| Some((variable, std::env::var(variable).ok().filter(|value| !value.is_empty())?)));
    let Some((variable, value)) = found else { return Ok(None) };
    let no_proxy = ["no_proxy", "NO_PROXY"].into_iter().find_map(|name| std::env::var(name).ok()).unwrap_or_default();
    if bypasses_proxy(host, &no_proxy) {
        return Ok(None);
    }
    let address = if value.contains("://") { value.clone() } else { format!("http://{value}") };
    match address.parse::<Uri>() {
        Ok(uri) if uri.scheme_str() == Some("http") && uri.host().is_some() => {
            Ok(Some(with_port(uri.host().unwrap_or_default(), uri.port_u16())))
        }
        Ok(_) | Err(_) => Err(HttpError::Proxy { variable, value }),
    }
}

/// Whether `no_proxy` names this host or a parent domain.
fn bypasses_proxy(host: &str, no_proxy: &str) -> bool {
    no_proxy.split(',').map(str::trim).filter(|entry| !entry.is_empty()).any(|entry| {
        let entry = entry.trim_start_matches("*.").trim_start_matches('.');
        entry == "*"
            || host.eq_ignore_ascii_case(entry)
            || host.to_ascii_lowercase().ends_with(&format!(".{}", entry.to_ascii_lowercase()))
    })
}

fn with_port(host: &str, port: Option<u16>) -> String {
    format!("{host}:{}", port.unwrap_or(80))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_proxy_names_hosts_and_domains() {
        assert!(bypasses_proxy("127.0.0.1", "localhost,127.0.0.1"));
        assert!(bypasses_proxy("a.example.test", ".example.test"));
        assert!(bypasses_proxy("A.Example.test", "example.test"));
        assert!(bypasses_proxy("anything", "*"));
        assert!(!bypasses_proxy("badexample.test", "example.test"));
        assert!(!bypasses_proxy("id.anteroom.test", ""));
    }
}
