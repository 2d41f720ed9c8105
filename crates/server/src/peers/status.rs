//! What the other hosts say about themselves when they are asked.

use super::{PING_PATH, Peers};
use anteroom_wire::{HostId, hosts::HostStatus};
use axum::body::Body;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Limited};
use std::{sync::Arc, time::Duration};

/// A host that answers an operator's list later than this is shown as silent, milliseconds.
pub(crate) const ANSWER_MS_MAX: u64 = 500;
/// The most bytes of an answer.
const STATUS_BYTES_MAX: usize = 4 * 1_024;

impl Peers {
    /// Asks a host. `None`: it does not answer in time.
    pub(crate) async fn ask_status(self: &Arc<Self>, host: &HostId) -> Option<HostStatus> {
        let link = self.link(host);
        let asked = async {
            let mut sender = link.sender(self).await.ok()?;
            let request = Request::get(format!("https://host.invalid{PING_PATH}")).body(Body::empty()).ok()?;
            let response = sender.send_request(request).await.ok()?;
            if response.status() != StatusCode::OK {
                return None;
            }
            let body = Limited::new(response.into_body(), STATUS_BYTES_MAX).collect().await.ok()?;
            serde_json::from_slice(&body.to_bytes()).ok()
        };
        tokio::time::timeout(Duration::from_millis(ANSWER_MS_MAX), asked).await.ok()?
    }
}
