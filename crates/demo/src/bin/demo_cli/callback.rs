//! The loopback listener for the callback of the browser (RFC 8252 §7.3).

use crate::{callback_page::CallbackPage, query};
use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, Response, StatusCode, body::Incoming, header, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{convert::Infallible, io, time::Duration};
use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot},
    task::JoinSet,
};

/// Connections at once; a browser opens a few that it never uses.
const CONNECTIONS_MAX: usize = 32;
/// How long the browser may take to read the last page.
const LAST_PAGE: Duration = Duration::from_secs(3);

/// A callback of the browser.
pub(crate) struct CallbackRequest {
    pub(crate) outcome: CallbackOutcome,
    /// The page that the browser is shown.
    pub(crate) reply: oneshot::Sender<CallbackPage>,
}

/// The outcome in the callback.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum CallbackOutcome {
    /// A code.
    Code(String),
    /// The provider denied the request: error code and description.
    Denied(String, Option<String>),
}

/// Listens for the callback.
pub(crate) struct CallbackListener {
    listener: TcpListener,
    callbacks: (mpsc::Sender<CallbackRequest>, mpsc::Receiver<CallbackRequest>),
    connections: JoinSet<()>,
}

impl CallbackListener {
    /// Listens on a free port.
    pub(crate) async fn listen() -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        Ok(Self { listener, callbacks: mpsc::channel(1), connections: JoinSet::new() })
    }

    /// The URL to which the provider redirects the browser.
    pub(crate) fn redirect_uri(&self) -> io::Result<String> {
        Ok(format!("http://127.0.0.1:{}/callback", self.listener.local_addr()?.port()))
    }

    /// Serves until the browser sends a callback with `state`. A callback with another state gets an error page.
    pub(crate) async fn wait_callback(&mut self, state: &str) -> io::Result<CallbackRequest> {
        loop {
            tokio::select! {
                Some(callback) = self.callbacks.1.recv() => return Ok(callback),
                Some(_) = self.connections.join_next() => {}
                accepted = self.listener.accept(), if self.connections.len() < CONNECTIONS_MAX => {
                    let (stream, _) = accepted?;
                    let callbacks = self.callbacks.0.clone();
                    let state = state.to_owned();
                    self.connections.spawn(async move {
                        let service = service_fn(|request| answer(request, &state, &callbacks));
                        // A browser that disconnects early is not an error.
                        let _ = hyper::server::conn::http1::Builder::new()
                            .timer(TokioTimer::new())
                            .serve_connection(TokioIo::new(stream), service)
                            .await;
                    });
                }
            }
        }
    }

    /// Lets the browser read the last page, then closes all connections.
    pub(crate) async fn close(mut self) {
        drop(self.listener);
        let read = async { while self.connections.join_next().await.is_some() {} };
        // Connections that the browser never used are closed when the set is dropped.
        let _ = tokio::time::timeout(LAST_PAGE, read).await;
    }
}

async fn answer(
    request: Request<Incoming>,
    state: &str,
    callbacks: &mpsc::Sender<CallbackRequest>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let page = match parse_outcome(request.uri().path(), request.uri().query().unwrap_or_default(), state) {
        Ok(outcome) => {
            let (reply, page) = oneshot::channel();
            match callbacks.send(CallbackRequest { outcome, reply }).await {
                Ok(()) => page.await.unwrap_or_else(|_| too_late()),
                Err(_) => too_late(),
            }
        }
        Err(page) => page,
    };
    let mut response = Response::new(Full::new(page.to_html().into()));
    *response.status_mut() = page.status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("text/html; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
    headers.insert(header::REFERRER_POLICY, header::HeaderValue::from_static("no-referrer"));
    headers.insert(header::CONNECTION, header::HeaderValue::from_static("close"));
    Ok(response)
}

/// Parses a request. The error is the page to show.
fn parse_outcome(path: &str, query: &str, state: &str) -> Result<CallbackOutcome, CallbackPage> {
    if path != "/callback" {
        return Err(CallbackPage::new(
            StatusCode::NOT_FOUND,
            "Nothing here",
            "This address is only used at the end of a sign-in.",
        ));
    }
    // RFC 6749 §10.12: a response to another request is ignored.
    if query::query_value(query, "state").is_none_or(|found| found != state) {
        return Err(CallbackPage::new(
            StatusCode::BAD_REQUEST,
            "This is not the sign-in that was started",
            "The answer belongs to another one and was ignored. Go back to the page that anteroom-demo opened.",
        ));
    }
    if let Some(error) = query::query_value(query, "error") {
        return Ok(CallbackOutcome::Denied(error, query::query_value(query, "error_description")));
    }
    match query::query_value(query, "code").filter(|code| !code.is_empty()) {
        Some(code) => Ok(CallbackOutcome::Code(code)),
        None => Err(CallbackPage::new(
            StatusCode::BAD_REQUEST,
            "The answer has no code",
            "Sign in again on the page before.",
        )),
    }
}

fn too_late() -> CallbackPage {
    CallbackPage::new(StatusCode::GONE, "Too late", "This sign-in has already ended. Look at the terminal.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_callback_with_the_expected_state_counts() {
        let status = |path, query| parse_outcome(path, query, "s1").unwrap_err().status;
        assert_eq!(parse_outcome("/callback", "code=c&state=s1", "s1"), Ok(CallbackOutcome::Code("c".into())));
        assert_eq!(
            parse_outcome("/callback", "error=access_denied&error_description=no&state=s1", "s1"),
            Ok(CallbackOutcome::Denied("access_denied".into(), Some("no".into())))
        );
        assert_eq!(status("/callback", "code=c&state=s2"), StatusCode::BAD_REQUEST);
        assert_eq!(status("/callback", "error=access_denied"), StatusCode::BAD_REQUEST);
        assert_eq!(status("/callback", "state=s1&code="), StatusCode::BAD_REQUEST);
        assert_eq!(status("/favicon.ico", ""), StatusCode::NOT_FOUND);
    }
}
