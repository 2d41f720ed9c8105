//! The address at which the person's own browser ended, carried to where the tool waits for it: on the loopback of this machine.
//!
//! The person's browser cannot reach that listener, so it ends on a page that does not open; its address holds all that the tool waits
//! for. It is asked for here as it is, but only after it was compared with the address of the sign-in: a tool that gets the `state` of
//! another sign-in gives up.

mod address;

pub(crate) use address::Address;

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};
use tokio::net::TcpStream;

const CONNECT_MS_MAX: u64 = 5_000;
/// The whole exchange: many tools fetch their tokens before they answer. Less than the controller waits for this.
const ANSWER_MS_MAX: u64 = 40_000;
const BODY_BYTES_MAX: usize = 256 * 1024;
/// A tool may end its sign-in on a page of its own, to which it sends the browser.
const REDIRECTS_MAX: u32 = 5;

/// Why an address was not carried on, or led to nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallbackError {
    /// It is not this sign-in's. The text names parts, never values.
    #[error("{0}")]
    Wrong(String),
    /// It cannot be asked for.
    #[error("the address has characters that no browser sends")]
    NotAsked,
    /// Nobody answered. The text says how far it came.
    #[error("{0}")]
    Failed(String),
}

/// Whether `address` belongs to one of the sign-in's addresses `known`: the same port and path as in its `redirect_uri`, the same
/// `state`; and the path that the descriptor gives, if it does.
///
/// # Errors
/// [`CallbackError::Wrong`] names the parts that differ from the sign-in that fits best.
pub(crate) fn check(address: &Address<'_>, known: &[&str], path: Option<&str>) -> Result<(), CallbackError> {
    let mut best: Option<Vec<&str>> = None;
    for known in known.iter().filter_map(|known| Address::parse(known)) {
        let Some(uri) = known.value("redirect_uri") else { continue };
        let Some(waits) = Address::parse(&uri).filter(Address::is_loopback) else { continue };
        let same_path = waits.path == address.path && path.is_none_or(|path| path == address.path);
        let parts = [
            (waits.port == address.port, "port"),
            (same_path, "path"),
            (known.value("state") == address.value("state"), "state"),
        ];
        let differ: Vec<&str> = parts.into_iter().filter(|(same, _)| !same).map(|(_, name)| name).collect();
        if best.as_ref().is_none_or(|best| differ.len() < best.len()) {
            best = Some(differ);
        }
    }
    match best {
        Some(differ) if differ.is_empty() => Ok(()),
        Some(differ) => Err(CallbackError::Wrong(format!("not the same as in this sign-in: {}", differ.join(", ")))),
        None => {
            Err(CallbackError::Wrong("the tool does not wait for an address of this kind in this sign-in".to_owned()))
        }
    }
}

/// Asks for `address` as a browser in this machine would, and says with which status the tool answered in the end.
///
/// # Errors
/// [`CallbackError::NotAsked`], or [`CallbackError::Failed`] when the tool does not answer in time.
pub(crate) async fn relay(address: &Address<'_>) -> Result<StatusCode, CallbackError> {
    let exchange = async {
        let mut target = address.target();
        let mut redirects = 0;
        loop {
            let answer = ask(address, &target).await?;
            let next = answer.next.filter(|_| redirects < REDIRECTS_MAX);
            let Some(next) = next else { return Ok(answer.status) };
            redirects += 1;
            target = next;
        }
    };
    let in_time = tokio::time::timeout(Duration::from_millis(ANSWER_MS_MAX), exchange).await;
    in_time.map_err(|_| CallbackError::Failed(format!("the tool did not answer within {ANSWER_MS_MAX} ms")))?
}

struct Answer {
    status: StatusCode,
    /// Where the tool sends the browser next, if that is to the tool again.
    next: Option<String>,
}

async fn ask(address: &Address<'_>, target: &str) -> Result<Answer, CallbackError> {
    let request = Request::get(target)
        .header(header::HOST, address.authority)
        .header(header::ACCEPT, "text/html,*/*")
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|_| CallbackError::NotAsked)?;
    let broke = |error: hyper::Error| CallbackError::Failed(format!("the tool's answer broke off: {error}"));
    let stream = connect(address).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broke)?;
    let exchange = async {
        let response = sender.send_request(request).await.map_err(broke)?;
        let status = response.status();
        let next = status.is_redirection().then(|| next_target(address, target, &response)).flatten();
        // The whole page is taken, so that the tool sees its answer through; what is in it does not matter.
        let _ = Limited::new(response.into_body(), BODY_BYTES_MAX).collect().await;
        Ok(Answer { status, next })
    };
    tokio::pin!(exchange);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        answer = &mut exchange => answer,
        _ = &mut connection => exchange.await,
    }
}

async fn connect(address: &Address<'_>) -> Result<TcpStream, CallbackError> {
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
            Ok(Err(error)) => first_error = first_error.or_else(|| Some(error.to_string())),
            Err(_) => first_error = first_error.or_else(|| Some("no answer in time".to_owned())),
        }
    }
    let why = first_error.unwrap_or_default();
    Err(CallbackError::Failed(format!("nothing takes the connection where the tool waited: {why}")))
}

/// The target of a redirect that stays with the tool's own listener.
fn next_target(address: &Address<'_>, from: &str, response: &http::Response<Incoming>) -> Option<String> {
    let location = response.headers().get(header::LOCATION)?.to_str().ok()?;
    stays(address, from, location)
}

fn stays(address: &Address<'_>, from: &str, location: &str) -> Option<String> {
    if let Some(absolute) = Address::parse(location) {
        return (absolute.is_loopback() && absolute.port == address.port).then(|| absolute.target());
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
