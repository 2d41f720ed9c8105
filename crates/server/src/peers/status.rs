//! What the other hosts answer about themselves and their sessions, and whether they take another one.

use super::{ERASE_PATH, PING_PATH, Peers, SILENT_MS_MAX, TAKE_PATH, VIEWS_PATH};
use anteroom_controller::cluster::TakeResponse;
use anteroom_wire::{
    HostId, SessionId,
    api::SessionView,
    hosts::{EraseOnHost, ErasedFiles, HostStatus, TakeRequest, ViewsRequest},
};
use axum::body::Body;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Limited};
use serde::de::DeserializeOwned;
use std::{sync::Arc, time::Duration};

/// A host that answers an operator's list later than this is shown as silent, milliseconds.
pub(crate) const ANSWER_MS_MAX: u64 = 500;
/// How long a host may take for its part of an erasure: it waits until machines have ended, milliseconds.
pub(crate) const ERASE_MS_MAX: u64 = 70_000;
/// The most bytes of an answer, and of one with views of sessions.
const ANSWER_BYTES_MAX: usize = 4 * 1_024;
const VIEWS_BYTES_MAX: usize = 16 * 1_024 * 1_024;

impl Peers {
    /// Asks a host. `None`: it does not answer in time.
    pub(crate) async fn ask_status(self: &Arc<Self>, host: &HostId) -> Option<HostStatus> {
        let request = Request::get(format!("https://host.invalid{PING_PATH}")).body(Body::empty()).ok()?;
        self.ask(host, request, ANSWER_BYTES_MAX, ANSWER_MS_MAX).await
    }

    /// Asks a host to take a session that waits. `None`: it does not answer in time.
    pub(crate) async fn offer(self: &Arc<Self>, host: &HostId, session: SessionId) -> Option<TakeResponse> {
        let body = serde_json::to_vec(&TakeRequest { session }).ok()?;
        let request = Request::post(format!("https://host.invalid{TAKE_PATH}")).body(Body::from(body)).ok()?;
        self.ask(host, request, ANSWER_BYTES_MAX, SILENT_MS_MAX).await
    }

    /// Asks a host for the views of these sessions. `None`: it does not answer in time.
    pub(crate) async fn read_views(
        self: &Arc<Self>,
        host: &HostId,
        sessions: Vec<SessionId>,
    ) -> Option<Vec<SessionView>> {
        let body = serde_json::to_vec(&ViewsRequest { sessions }).ok()?;
        let request = Request::post(format!("https://host.invalid{VIEWS_PATH}")).body(Body::from(body)).ok()?;
        self.ask(host, request, VIEWS_BYTES_MAX, ANSWER_MS_MAX).await
    }

    /// Asks a host to do its part of an erasure. `None`: it has not done it in time.
    pub(crate) async fn erase(self: &Arc<Self>, host: &HostId, question: &EraseOnHost) -> Option<ErasedFiles> {
        let body = serde_json::to_vec(question).ok()?;
        let request = Request::post(format!("https://host.invalid{ERASE_PATH}")).body(Body::from(body)).ok()?;
        self.ask(host, request, ANSWER_BYTES_MAX, ERASE_MS_MAX).await
    }

    async fn ask<T: DeserializeOwned>(
        self: &Arc<Self>,
        host: &HostId,
        request: Request<Body>,
        bytes_max: usize,
        ms_max: u64,
    ) -> Option<T> {
        let link = self.link(host);
        let asked = async {
            let mut sender = link.sender(self).await.ok()?;
            let response = sender.send_request(request).await.ok()?;
            if response.status() != StatusCode::OK {
                return None;
            }
            let body = Limited::new(response.into_body(), bytes_max).collect().await.ok()?;
            serde_json::from_slice(&body.to_bytes()).ok()
        };
        tokio::time::timeout(Duration::from_millis(ms_max), asked).await.ok()?
    }
}
