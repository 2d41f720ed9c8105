//! A receiver of webhook messages that takes most of them.

use anteroom_wire::webhook::WebhookNotification;
use axum::{Router, body::Bytes, http::StatusCode};
use base64::{Engine, engine::general_purpose::STANDARD};
use std::{net::SocketAddr, os::unix::fs::PermissionsExt, path::Path};
use tokio::{net::TcpListener, task::JoinHandle};

/// It answers 410 to messages about sessions whose machine failed, and 503 to those about sessions of the provider `declined`.
pub(super) struct Receiver {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Receiver {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(async move { axum::serve(listener, Router::new().fallback(receive)).await.unwrap() });
        Self { address, task }
    }

    /// The settings of a server that sends to it.
    pub(super) fn settings(&self, dir: &Path) -> String {
        let file = dir.join("webhook.secret");
        std::fs::write(&file, format!("whsec_{}\n", STANDARD.encode([7; 32]))).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        let types = "['credential.stored', 'credential.expiring', 'credential.needs_auth', 'session.ended']";
        format!("[webhook]\nurl = 'http://{}/in'\nsecret_file = '{}'\ntypes = {types}\n", self.address, file.display())
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn receive(body: Bytes) -> StatusCode {
    let message: WebhookNotification = serde_json::from_slice(&body).unwrap();
    let Some(session) = message.data.session else { return StatusCode::NO_CONTENT };
    match session.provider.as_str() {
        "declined" => StatusCode::SERVICE_UNAVAILABLE,
        _ if session.reason.is_some_and(|reason| reason.code == "machine_failed") => StatusCode::GONE,
        _ => StatusCode::NO_CONTENT,
    }
}
