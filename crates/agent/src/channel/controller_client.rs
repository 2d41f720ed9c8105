//! The agent's client of the controller: HTTP/2 on the channel on which the agent is the client. It carries events, the credential, and
//! every outbound connection of the machine.

use super::resync::Connection;
use crate::log;
use anteroom_wire::{Secret, channel};
use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{body::Incoming, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde::{Serialize, de::DeserializeOwned};
use std::{sync::Arc, time::Duration};
use tokio::sync::watch;

/// How long one request to the controller may take, and how long its body may take after that.
const REQUEST_MS_MAX: u64 = 30_000;
const RESPONSE_BYTES_MAX: usize = 64 * 1024;

type Sender = http2::SendRequest<Full<Bytes>>;

/// Sends requests to the controller. Cheap to clone.
#[derive(Clone)]
pub(crate) struct ControllerClient {
    sender: Arc<watch::Sender<Option<Sender>>>,
}

/// Why there is no response from the controller.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    #[error("the controller is not connected")]
    NotConnected,
    #[error("the controller did not answer in time")]
    Timeout,
    #[error("the connection to the controller broke")]
    Broken(#[source] hyper::Error),
    #[error("the request cannot be encoded")]
    InvalidRequest,
}

impl ControllerClient {
    pub(crate) fn new() -> Self {
        Self { sender: Arc::new(watch::Sender::new(None)) }
    }

    /// Runs one connection until it ends; until then requests are sent on it.
    pub(crate) async fn run_connection(&self, connection: Connection) {
        let handshake = http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(channel::STREAM_WINDOW_BYTES)
            .initial_connection_window_size(channel::CONNECTION_WINDOW_BYTES)
            .max_frame_size(channel::FRAME_BYTES_MAX)
            .max_send_buf_size(channel::SEND_BUFFER_BYTES)
            .handshake(TokioIo::new(connection))
            .await;
        let Ok((sender, running)) = handshake else { return };
        self.sender.send_replace(Some(sender));
        if let Err(error) = running.await {
            log::write_line(&format!("controller channel ended: {error}"));
        }
        self.sender.send_replace(None);
    }

    /// Waits until the controller is connected.
    pub(crate) async fn wait_connected(&self) {
        let _ = self.sender.subscribe().wait_for(Option::is_some).await;
    }

    /// Changes whenever the controller connects or disconnects.
    pub(crate) fn subscribe_connection(&self) -> watch::Receiver<Option<Sender>> {
        self.sender.subscribe()
    }

    /// Sends `request` and waits for the head of the response, both together at most `ms_max` milliseconds.
    pub(crate) async fn send(
        &self,
        request: Request<Full<Bytes>>,
        ms_max: u64,
    ) -> Result<Response<Incoming>, CallError> {
        let mut sender = self.sender.borrow().clone().ok_or(CallError::NotConnected)?;
        let exchange = async {
            sender.ready().await?;
            sender.send_request(request).await
        };
        let limit = Duration::from_millis(ms_max);
        tokio::time::timeout(limit, exchange).await.map_err(|_| CallError::Timeout)?.map_err(CallError::Broken)
    }

    /// Posts `body` as JSON with the machine's token. Returns the status and the body of the response, which may have up to 64 KiB.
    pub(crate) async fn post(
        &self,
        path: &str,
        token: &Secret,
        body: &impl Serialize,
    ) -> Result<(http::StatusCode, Bytes), CallError> {
        let body = serde_json::to_vec(body).map_err(|_| CallError::InvalidRequest)?;
        let mut bearer = header::HeaderValue::from_str(&format!("Bearer {}", token.expose()))
            .map_err(|_| CallError::InvalidRequest)?;
        bearer.set_sensitive(true);
        let request = Request::post(format!("http://controller{path}"))
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::AUTHORIZATION, bearer)
            .body(Full::from(body))
            .map_err(|_| CallError::InvalidRequest)?;
        let response = self.send(request, REQUEST_MS_MAX).await?;
        let status = response.status();
        let whole = Limited::new(response.into_body(), RESPONSE_BYTES_MAX).collect();
        let body = tokio::time::timeout(Duration::from_millis(REQUEST_MS_MAX), whole).await;
        let body = body.map_err(|_| CallError::Timeout)?.map_err(|_| CallError::NotConnected)?.to_bytes();
        Ok((status, body))
    }
}

/// Parses a JSON response; `None` if it is something else.
pub(crate) fn parse_json<T: DeserializeOwned>(body: &Bytes) -> Option<T> {
    serde_json::from_slice(body).ok()
}
