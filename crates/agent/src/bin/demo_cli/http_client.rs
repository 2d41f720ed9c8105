//! One request over plain HTTP/1.1, through the proxy of the environment when there is one (absolute form, RFC 9112 §3.2.2).

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Request, StatusCode, Uri, header};
use hyper_util::rt::TokioIo;
use std::{io, time::Duration};
use tokio::net::TcpStream;

/// The longest that one request may take (an emulated machine is slow).
const REQUEST: Duration = Duration::from_secs(60);
/// The largest answer that is read.
const ANSWER_BYTES_MAX: usize = 256 * 1024;

/// What a server said.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: Bytes,
}

/// Why there is no answer.
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
    #[error("{at} answered with more than {ANSWER_BYTES_MAX} bytes, or broke off")]
    Body { at: String, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("{at} did not answer within {} seconds", REQUEST.as_secs())]
    TooLong { at: String },
}

/// What a request does.
pub(crate) enum Method<'a> {
    /// `GET`, with this bearer token.
    Get { bearer: Option<&'a str> },
    /// `POST` of a form.
    Form(String),
}

/// Sends one request to `address` and reads the whole answer.
pub(crate) async fn request(address: &str, method: Method<'_>) -> Result<Answer, HttpError> {
    let uri: Uri = address.parse().map_err(|_| HttpError::Address(address.to_owned()))?;
    let (Some("http"), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return Err(HttpError::Address(address.to_owned()));
    };
    let proxy = proxy_for(authority.host())?;
    let at = match &proxy {
        Some(proxy) => format!("{} (through the proxy {proxy})", authority),
        None => authority.to_string(),
    };
    let target = proxy.clone().unwrap_or_else(|| with_port(authority.host(), authority.port_u16()));
    // A proxy needs the whole address, a server its path.
    let form =
        if proxy.is_some() { uri.to_string() } else { uri.path_and_query().map_or("/", |path| path.as_str()).into() };
    let request = build(&form, authority.as_str(), method).map_err(|_| HttpError::Address(address.to_owned()))?;
    match tokio::time::timeout(REQUEST, exchange(&target, &at, request)).await {
        Ok(answer) => answer,
        Err(_) => Err(HttpError::TooLong { at }),
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

async fn exchange(target: &str, at: &str, request: Request<Full<Bytes>>) -> Result<Answer, HttpError> {
    let connect = |source| HttpError::Connect { at: at.to_owned(), source };
    let failed = |source| HttpError::Exchange { at: at.to_owned(), source };
    let stream = TcpStream::connect(target).await.map_err(connect)?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
    let answer = async {
        let answer = sender.send_request(request).await.map_err(failed)?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|source| HttpError::Body { at: at.to_owned(), source })?;
        Ok(Answer { status, body: body.to_bytes() })
    };
    tokio::pin!(connection, answer);
    tokio::select! {
        answer = &mut answer => answer,
        ended = &mut connection => {
            // The server closed: whatever it had sent is still there to be read.
            let answer = answer.await;
            match (answer, ended) {
                (Err(HttpError::Exchange { at, .. }), Err(source)) => Err(HttpError::Exchange { at, source }),
                (answer, _) => answer,
            }
        }
    }
}

/// The proxy for `host` as the environment says: `host:port`; `None`: go there directly.
fn proxy_for(host: &str) -> Result<Option<String>, HttpError> {
    // Upper case is read too, since nothing else here is a CGI program (where it would come from a request's header).
    let found = ["http_proxy", "HTTP_PROXY"]
        .into_iter()
        .find_map(|variable| Some((variable, std::env::var(variable).ok().filter(|value| !value.is_empty())?)));
    let Some((variable, value)) = found else { return Ok(None) };
    let direct = ["no_proxy", "NO_PROXY"].into_iter().find_map(|name| std::env::var(name).ok()).unwrap_or_default();
    if goes_direct(host, &direct) {
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

/// Whether `no_proxy` names this host, or a domain above it.
fn goes_direct(host: &str, no_proxy: &str) -> bool {
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
    fn no_proxy_names_hosts_and_what_is_below_them() {
        assert!(goes_direct("127.0.0.1", "localhost,127.0.0.1"));
        assert!(goes_direct("a.example.test", ".example.test"));
        assert!(goes_direct("A.Example.test", "example.test"));
        assert!(goes_direct("anything", "*"));
        assert!(!goes_direct("badexample.test", "example.test"));
        assert!(!goes_direct("id.anteroom.test", ""));
    }
}
