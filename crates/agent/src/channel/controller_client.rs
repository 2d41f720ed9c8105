//! The channel on which the agent is HTTP/2's client: events, the delivery, and every outbound connection.

use crate::{
    agent::Agent,
    backoff::Backoff,
    log,
    port::Medium,
    resync::{Connection, Line},
};
use anteroom_wire::{
    Secret,
    agent::{EVENTS_PATH, Events as EventsBody},
    channel,
};
use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{body::Incoming, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde::{Serialize, de::DeserializeOwned};
use std::{future::Future, sync::Arc, time::Duration};
use tokio::sync::watch;

/// One request to the controller, from sending to the whole answer.
const REQUEST_MS_MAX: u64 = 30_000;
const ANSWER_BYTES_MAX: usize = 64 * 1024;
const REOPEN_MS: u64 = 5;
const RETRY_MS_MIN: u64 = 200;
const RETRY_MS_MAX: u64 = 10_000;

type Sender = http2::SendRequest<Full<Bytes>>;

/// Serves host after host on `medium`: `serve` gets each connection and returns when it has ended.
pub(crate) async fn keep_line<F, S>(medium: Medium, mut serve: S) -> std::io::Result<()>
where
    S: FnMut(Connection) -> F,
    F: Future<Output = ()>,
{
    let mut stream = medium.next().await?;
    loop {
        let line = Line::new(stream);
        let connections = async {
            let mut pad = false;
            while let Ok(connection) = line.handshake(pad).await {
                serve(connection).await;
                // A host that is still there waits for the rest of some frame: end it. One that is gone will not see it.
                pad = line.wants_pad();
            }
        };
        stream = if medium.is_shared() {
            connections.await;
            // A device that fails at once must not keep the agent busy.
            tokio::time::sleep(Duration::from_millis(REOPEN_MS)).await;
            medium.next().await?
        } else {
            tokio::select! {
                next = medium.next() => next?,
                () = connections => medium.next().await?,
            }
        };
    }
}

/// The way to the controller; cheap to clone.
#[derive(Clone)]
pub(crate) struct Host {
    sender: Arc<watch::Sender<Option<Sender>>>,
}

/// Why the controller gave no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoAnswer {
    #[error("the controller is not connected")]
    Away,
    #[error("the controller did not answer in time")]
    Slow,
    #[error("the connection to the controller broke")]
    Broken(#[source] hyper::Error),
    #[error("the request cannot be written")]
    Unwritable,
}

impl Host {
    pub(crate) fn new() -> Self {
        Self { sender: Arc::new(watch::Sender::new(None)) }
    }

    /// One connection: usable by everybody until it ends.
    pub(crate) async fn serve(&self, connection: Connection) {
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
            log::line(&format!("host channel ended: {error}"));
        }
        self.sender.send_replace(None);
    }

    /// Waits until the controller is connected.
    pub(crate) async fn connected(&self) {
        let _ = self.sender.subscribe().wait_for(Option::is_some).await;
    }

    /// Waits until the controller is connected anew or goes.
    pub(crate) fn changes(&self) -> watch::Receiver<Option<Sender>> {
        self.sender.subscribe()
    }

    /// Sends `request` and waits for the head of the answer, both together at most `ms_max`.
    pub(crate) async fn send(
        &self,
        request: Request<Full<Bytes>>,
        ms_max: u64,
    ) -> Result<Response<Incoming>, NoAnswer> {
        let mut sender = self.sender.borrow().clone().ok_or(NoAnswer::Away)?;
        let exchange = async {
            sender.ready().await?;
            sender.send_request(request).await
        };
        let limit = Duration::from_millis(ms_max);
        tokio::time::timeout(limit, exchange).await.map_err(|_| NoAnswer::Slow)?.map_err(NoAnswer::Broken)
    }

    /// Posts `body` as JSON with the machine's token. The answer's status and body (up to 64 KiB of it).
    pub(crate) async fn post(
        &self,
        path: &str,
        token: &Secret,
        body: &impl Serialize,
    ) -> Result<(http::StatusCode, Bytes), NoAnswer> {
        let body = serde_json::to_vec(body).map_err(|_| NoAnswer::Unwritable)?;
        let mut bearer =
            header::HeaderValue::from_str(&format!("Bearer {}", token.expose())).map_err(|_| NoAnswer::Unwritable)?;
        bearer.set_sensitive(true);
        let request = Request::post(format!("http://controller{path}"))
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::AUTHORIZATION, bearer)
            .body(Full::from(body))
            .map_err(|_| NoAnswer::Unwritable)?;
        let response = self.send(request, REQUEST_MS_MAX).await?;
        let status = response.status();
        let whole = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect();
        let body = tokio::time::timeout(Duration::from_millis(REQUEST_MS_MAX), whole).await;
        let body = body.map_err(|_| NoAnswer::Slow)?.map_err(|_| NoAnswer::Away)?.to_bytes();
        Ok((status, body))
    }
}

/// Reads a JSON answer; `None` if it is something else.
pub(crate) fn json<T: DeserializeOwned>(body: &Bytes) -> Option<T> {
    serde_json::from_slice(body).ok()
}

/// Sends the events, for ever: each batch again and again until it was answered.
pub(crate) async fn send_events(agent: Arc<Agent>) {
    let mut backoff = Backoff::new(
        Duration::from_millis(RETRY_MS_MIN),
        Duration::from_millis(RETRY_MS_MAX),
        Duration::from_millis(RETRY_MS_MAX),
    );
    let claim = agent.claimed().await;
    loop {
        let events = agent.events.batch().await;
        let Some(last) = events.last().map(|event| event.number) else { continue };
        agent.host.connected().await;
        let mut changes = agent.host.changes();
        changes.mark_unchanged();
        let error = match agent.host.post(EVENTS_PATH, &claim.agent_token, &EventsBody { events }).await {
            Ok((status, _)) if status.is_success() => {
                agent.events.answered(last);
                backoff.after(Duration::from_millis(RETRY_MS_MAX));
                continue;
            }
            // The batch itself cannot be read: it would be refused for ever and hold up what comes after it.
            Ok((status, _)) if matches!(status.as_u16(), 400 | 413 | 415 | 422) => {
                agent.events.answered(last);
                log::line(&format!("events up to {last} refused: {status}"));
                continue;
            }
            Ok((status, _)) => status.to_string(),
            Err(error) => error.to_string(),
        };
        log::line(&format!("events up to {last} not delivered: {error}"));
        // A new connection is a reason to try at once.
        let _ = tokio::time::timeout(backoff.after(Duration::ZERO), changes.changed()).await;
    }
}
