//! Relays the OAuth callback of the user's browser to the tool's listener on the loopback of this machine.
//!
//! The user's browser cannot reach that listener, so it ends on a page that does not load; its URL contains everything that the tool waits
//! for. The URL is requested here unchanged, but only after it was compared with the URL of the sign-in: a tool that gets the `state` of
//! another sign-in gives up.

mod callback_url;
mod pasted_callback;

pub(crate) use callback_url::CallbackUrl;
pub(crate) use pasted_callback::{find_callback, is_sign_in_page, waits_for_callback};

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};
use tokio::net::TcpStream;

const CONNECT_MS_MAX: u64 = 5_000;
/// The whole exchange: many tools fetch their tokens before they answer. The controller waits longer than this.
const ANSWER_MS_MAX: u64 = 40_000;
const BODY_BYTES_MAX: usize = 256 * 1024;
/// A tool may redirect the browser to a final page.
const REDIRECTS_MAX: u32 = 5;

/// Why a URL was not relayed, or the relay failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallbackError {
    /// These parts differ from those of this sign-in.
    #[error("not the same as in this sign-in: {}", .0.join(", "))]
    Mismatch(Vec<&'static str>),
    /// This sign-in has no URL with such a callback.
    #[error("the tool does not wait for an address of this kind in this sign-in")]
    NotExpected,
    /// It cannot be requested.
    #[error("the address has characters that no browser sends")]
    InvalidUrl(#[source] http::Error),
    /// The tool does not listen.
    #[error("no connection to the tool's listener")]
    NotConnected(#[source] io::Error),
    /// The tool closed the connection.
    #[error("the tool's answer broke off")]
    BrokeOff(#[source] hyper::Error),
    /// The tool did not answer in time.
    #[error("the tool did not answer within {ANSWER_MS_MAX} ms")]
    Timeout,
}

/// Checks that the `pasted` address belongs to one of the sign-in's URLs: it has the port and path of that URL's `redirect_uri` and the
/// same `state`; and the path in the descriptor, if there is one.
///
/// # Errors
/// [`CallbackError::Mismatch`] with the parts that differ from the best match, [`CallbackError::NotExpected`].
pub(crate) fn check_callback_url(
    pasted: &CallbackUrl<'_>,
    sign_in_urls: &[&str],
    descriptor_path: Option<&str>,
) -> Result<(), CallbackError> {
    let mut best_match: Option<Vec<&'static str>> = None;
    for sign_in_url in sign_in_urls.iter().filter_map(|url| CallbackUrl::parse(url)) {
        let Some(uri) = sign_in_url.query_value("redirect_uri") else { continue };
        let Some(expected) = CallbackUrl::parse(&uri).filter(CallbackUrl::is_loopback) else { continue };
        let path = |url: &CallbackUrl<'_>| if url.path.is_empty() { "/".to_owned() } else { url.path.to_owned() };
        let same_path = path(&expected) == path(pasted) && descriptor_path.is_none_or(|path| path == pasted.path);
        let parts = [
            (expected.port == pasted.port, "port"),
            (same_path, "path"),
            (sign_in_url.query_value("state") == pasted.query_value("state"), "state"),
        ];
        let differing: Vec<&str> = parts.into_iter().filter(|(same, _)| !same).map(|(_, name)| name).collect();
        if best_match.as_ref().is_none_or(|best| differing.len() < best.len()) {
            best_match = Some(differing);
        }
    }
    match best_match {
        Some(differing) if differing.is_empty() => Ok(()),
        Some(differing) => Err(CallbackError::Mismatch(differing)),
        None => Err(CallbackError::NotExpected),
    }
}

/// Requests `address` as a browser in this machine would, and follows redirects to the tool. Returns the status of the last response.
///
/// # Errors
/// The URL is invalid, or the tool does not answer in time.
pub(crate) async fn request_callback(address: &CallbackUrl<'_>) -> Result<StatusCode, CallbackError> {
    let exchange = async {
        let mut target = address.request_target();
        let mut redirects = 0;
        loop {
            let response = request(address, &target).await?;
            let next = response.next.filter(|_| redirects < REDIRECTS_MAX);
            let Some(next) = next else { return Ok(response.status) };
            redirects += 1;
            target = next;
        }
    };
    let in_time = tokio::time::timeout(Duration::from_millis(ANSWER_MS_MAX), exchange).await;
    in_time.map_err(|_| CallbackError::Timeout)?
}

struct CallbackResponse {
    status: StatusCode,
    /// The target of a redirect to the tool's listener.
    next: Option<String>,
}

async fn request(address: &CallbackUrl<'_>, target: &str) -> Result<CallbackResponse, CallbackError> {
    let request = Request::get(target)
        .header(header::HOST, address.authority)
        .header(header::ACCEPT, "text/html,*/*")
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(CallbackError::InvalidUrl)?;
    let stream = connect(address).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(CallbackError::BrokeOff)?;
    let exchange = async {
        let response = sender.send_request(request).await.map_err(CallbackError::BrokeOff)?;
        let status = response.status();
        let next = status.is_redirection().then(|| redirect_target(address, target, &response)).flatten();
        // The page is read to its end, so that the tool completes its response. The content does not matter.
        let _ = Limited::new(response.into_body(), BODY_BYTES_MAX).collect().await;
        Ok(CallbackResponse { status, next })
    };
    tokio::pin!(exchange);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        answer = &mut exchange => answer,
        _ = &mut connection => exchange.await,
    }
}

async fn connect(address: &CallbackUrl<'_>) -> Result<TcpStream, CallbackError> {
    let (v4, v6) = (IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST));
    let addresses: &[IpAddr] = match address.host {
        "127.0.0.1" => &[v4],
        "[::1]" => &[v6],
        _ => &[v4, v6],
    };
    let mut first_error = None;
    for ip in addresses {
        let connecting = TcpStream::connect(SocketAddr::new(*ip, address.port));
        match tokio::time::timeout(Duration::from_millis(CONNECT_MS_MAX), connecting).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => first_error = first_error.or(Some(error)),
            Err(_) => {
                first_error = first_error.or_else(|| Some(io::Error::new(io::ErrorKind::TimedOut, "no answer in time")))
            }
        }
    }
    Err(CallbackError::NotConnected(first_error.unwrap_or_else(|| io::ErrorKind::AddrNotAvailable.into())))
}

/// The target of a redirect to the tool's listener; `None` for any other redirect.
fn redirect_target(address: &CallbackUrl<'_>, from: &str, response: &http::Response<Incoming>) -> Option<String> {
    let location = response.headers().get(header::LOCATION)?.to_str().ok()?;
    resolve_redirect(address, from, location)
}

pub(crate) fn resolve_redirect(address: &CallbackUrl<'_>, from: &str, location: &str) -> Option<String> {
    if let Some(absolute) = CallbackUrl::parse(location) {
        return (absolute.is_loopback() && absolute.port == address.port).then(|| absolute.request_target());
    }
    let location = location.split('#').next()?;
    let path_only = from.split('?').next()?;
    match location {
        _ if location.is_empty() || location.starts_with("//") || location.contains("://") => None,
        _ if location.starts_with('/') => Some(location.to_owned()),
        _ if location.starts_with('?') => Some(format!("{path_only}{location}")),
        _ => Some(format!("{}/{location}", path_only.rsplit_once('/')?.0)),
    }
}

#[cfg(test)]
mod tests;
