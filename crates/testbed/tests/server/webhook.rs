//! The webhook: signature, order, retries, delivery after a restart, and attached credentials.

use crate::{Flags, start_session_with};
use anteroom_testbed::{
    ApiClient, ScriptedProvider, TestCa, TestConfig, TestServer, WAIT_MAX, leaks::encoded_forms, test_ca::TlsServer,
};
use anteroom_wire::{
    SessionId, TimelineKind, api::SessionStatus, operator_reports::WebhookReport, webhook::WebhookNotification,
};
use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::IntoResponse,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use std::{
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    net::TcpListener,
    sync::Notify,
    task::JoinHandle,
    time::{Instant, sleep},
};

pub(crate) const KEY: &[u8] = b"the key of one test, 32 bytes...";
const CANARY: &str = "canary3e9d70b1c4a25f86";

/// Instead of a status: never respond.
pub(crate) const NO_RESPONSE: u16 = 0;
/// Respond 204 once the test releases it.
pub(crate) const ON_RELEASE: u16 = 1;

/// The received messages, and the statuses of the responses in order, then 204.
#[derive(Clone, Default)]
pub(crate) struct Inbox {
    state: Arc<Mutex<InboxState>>,
    pub(crate) release: Arc<Notify>,
}

#[derive(Default)]
struct InboxState {
    messages: Vec<Message>,
    statuses: Vec<u16>,
}

#[derive(Clone)]
pub(crate) struct Message {
    id: String,
    timestamp: String,
    signature: String,
    path: String,
    body: String,
}

impl Message {
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// The headers and the body, as they were received.
    pub(crate) fn to_json(&self) -> Value {
        let Self { id, timestamp, signature, body, .. } = self;
        json!({
            "headers": { "webhook-id": id, "webhook-timestamp": timestamp, "webhook-signature": signature },
            "body": body,
        })
    }

    pub(crate) fn read(&self) -> WebhookNotification {
        serde_json::from_str(&self.body).unwrap()
    }
}

impl Inbox {
    pub(crate) fn with_statuses(statuses: &[u16]) -> Self {
        let inbox = Self::default();
        inbox.state.lock().unwrap().statuses = statuses.to_vec();
        inbox
    }

    /// Appends a response status.
    pub(crate) fn push_status(&self, status: u16) {
        self.state.lock().unwrap().statuses.push(status);
    }

    pub(crate) fn messages(&self) -> Vec<Message> {
        self.state.lock().unwrap().messages.clone()
    }

    fn router(&self) -> Router {
        Router::new().fallback(receive).with_state(self.clone())
    }

    pub(crate) async fn wait_messages(&self, count: usize) -> Vec<Message> {
        let until = Instant::now() + WAIT_MAX;
        while self.messages().len() < count {
            assert!(Instant::now() < until, "received {} of {count} messages", self.messages().len());
            sleep(Duration::from_millis(20)).await;
        }
        self.messages()
    }
}

async fn receive(
    State(inbox): State<Inbox>,
    headers: HeaderMap,
    uri: axum::http::Uri,
    body: Bytes,
) -> impl IntoResponse {
    let text = |name: &str| headers[name].to_str().unwrap().to_owned();
    let (id, timestamp) = (text("webhook-id"), text("webhook-timestamp"));
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(KEY).unwrap();
    mac.update(format!("{id}.{timestamp}.").as_bytes());
    mac.update(&body);
    let signed = format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()));
    assert_eq!(text("webhook-signature"), signed);
    assert_eq!(headers[header::CONTENT_TYPE], "application/json");
    let status = {
        let mut state = inbox.state.lock().unwrap();
        let body = String::from_utf8(body.to_vec()).unwrap();
        let signature = text("webhook-signature");
        state.messages.push(Message { id, timestamp, signature, path: uri.path().to_owned(), body });
        if state.statuses.is_empty() { 204 } else { state.statuses.remove(0) }
    };
    let status = match status {
        NO_RESPONSE => std::future::pending().await,
        ON_RELEASE => {
            inbox.release.notified().await;
            204
        }
        status => status,
    };
    (StatusCode::from_u16(status).unwrap(), [(header::LOCATION, "/elsewhere")])
}

/// A webhook receiver on this host.
pub(crate) struct Receiver {
    pub(crate) address: SocketAddr,
    task: JoinHandle<()>,
}

impl Receiver {
    pub(crate) async fn start(inbox: &Inbox) -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap(), inbox).await
    }

    pub(crate) async fn start_at(address: SocketAddr, inbox: &Inbox) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let (address, router) = (listener.local_addr().unwrap(), inbox.router());
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, task }
    }

    pub(crate) fn settings(&self, flags: &Flags, more: &str) -> String {
        settings(flags, &format!("http://{}/in", self.address), more)
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn settings(flags: &Flags, url: &str, more: &str) -> String {
    let file = write_secret(&flags.path("webhook.secret"));
    format!(
        "[limits.webhook]\nretry_ms_min = 20\nretry_ms_max = 200\n\
         [webhook]\nurl = '{url}'\nsecret_file = '{}'\n\
         types = ['credential.stored', 'credential.expiring', 'credential.needs_auth', 'session.ended']\n{more}\n",
        file.display()
    )
}

pub(crate) fn write_secret(path: &Path) -> PathBuf {
    std::fs::write(path, format!("whsec_{}\n", STANDARD.encode(KEY))).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
    path.to_owned()
}

pub(crate) async fn complete_session(flags: &Flags, api: &ApiClient) -> SessionId {
    let id = api.start_session("scripted").await.unwrap().session.id;
    api.wait_until(&id, "showing the address", |view| view.sign_in.url.is_some()).await.unwrap();
    flags.set("go");
    api.wait_status(&id, SessionStatus::Completed).await.unwrap();
    id
}

async fn report(server: &TestServer) -> WebhookReport {
    server.operator_client().unwrap().get("/api/webhook").await.unwrap().parse().unwrap()
}

/// Waits until the webhook report fulfils the condition.
pub(crate) async fn wait_report(server: &TestServer, wanted: impl Fn(&WebhookReport) -> bool) -> WebhookReport {
    let until = Instant::now() + WAIT_MAX;
    loop {
        let report = report(server).await;
        if wanted(&report) {
            return report;
        }
        assert!(Instant::now() < until, "{report:#?}");
        sleep(Duration::from_millis(20)).await;
    }
}

fn provider(flags: &Flags) -> ScriptedProvider {
    flags.provider(&format!("{{\"token\": \"{CANARY}\"}}"))
}

#[tokio::test]
async fn webhook_messages_are_ordered_signed_and_without_the_secret() {
    let (flags, inbox) = (Flags::new(), Inbox::default());
    let receiver = Receiver::start(&inbox).await;
    // Only credentials with the policy deliver_once may be attached.
    let settings = receiver.settings(&flags, "include_credential = true");
    let server = TestServer::start(TestConfig::with_provider(provider(&flags)).with_settings(&settings)).await.unwrap();
    let api = server.backend_client().unwrap();
    let id = complete_session(&flags, &api).await;
    let messages = inbox.wait_messages(2).await;
    let [stored, ended] = [0, 1].map(|at| messages[at].read());
    assert_eq!((stored.kind.as_str(), ended.kind.as_str()), ("credential.stored", "session.ended"));
    assert_eq!(stored.data.credential.as_ref().map(|meta| meta.session.clone()), Some(id.clone()));
    assert_eq!(stored.data.files, None);
    let session = ended.data.session.unwrap();
    assert_eq!(
        (session.id, session.status, session.reason.unwrap().code.as_str()),
        (id.clone(), SessionStatus::Completed, "completed")
    );
    for needle in encoded_forms(CANARY) {
        let needle = String::from_utf8(needle).unwrap();
        assert!(messages.iter().all(|message| !message.body.contains(&needle)));
    }
    api.wait_entry(&id, TimelineKind::WebhookDelivered).await.unwrap();
    let report = wait_report(&server, |report| report.delivered == 2 && report.pending.is_empty()).await;
    assert_eq!((report.failed, report.abandoned, report.last_error), (0, 0, None));
    let rejected = api.get("/api/webhook").await.unwrap();
    assert_eq!((rejected.status, rejected.problem().unwrap().code.as_str()), (403, "not_owner"));
    let metrics = server.operator_client().unwrap().get("/metrics").await.unwrap().text;
    assert!(metrics.contains("anteroom_webhook_messages_total{outcome=\"delivered\"} 2"), "{metrics}");
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn r46_failed_webhook_message_is_retried_and_redirects_are_not_followed() {
    let (flags, inbox) = (Flags::new(), Inbox::with_statuses(&[500, 307, 308]));
    let receiver = Receiver::start(&inbox).await;
    let (server, api, id) =
        start_session_with(TestConfig::with_provider(provider(&flags)).with_settings(&receiver.settings(&flags, "")))
            .await;
    api.cancel_session(&id).await.unwrap();
    let messages = inbox.wait_messages(4).await;
    assert!(
        messages.iter().all(|message| message.id == messages[0].id && message.path == "/in"),
        "one message to one path"
    );
    let session = messages[3].read().data.session.unwrap();
    assert_eq!((session.status, session.reason.unwrap().code.as_str()), (SessionStatus::Cancelled, "cancelled"));
    let failed = api.wait_entry(&id, TimelineKind::WebhookFailed).await.unwrap();
    assert!(failed.sentence.contains("500"), "{failed:?}");
    api.wait_entry(&id, TimelineKind::WebhookDelivered).await.unwrap();
    let report = wait_report(&server, |report| report.pending.is_empty()).await;
    assert_eq!((report.delivered, report.failed), (1, 3));
    assert!(report.last_error.unwrap().why.contains("redirects are not followed"));
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn deliver_once_credential_is_attached_to_the_webhook_and_then_deleted() {
    let (flags, inbox) = (Flags::new(), Inbox::with_statuses(&[503]));
    let receiver = Receiver::start(&inbox).await;
    let config = TestConfig::with_provider(provider(&flags).with_descriptor_key("policy", json!("deliver_once")));
    let server =
        TestServer::start(config.with_settings(&receiver.settings(&flags, "include_credential = true"))).await.unwrap();
    let api = server.backend_client().unwrap();
    let id = complete_session(&flags, &api).await;
    let messages = inbox.wait_messages(3).await;
    assert_eq!((&messages[0].id, &messages[0].body), (&messages[1].id, &messages[1].body), "the first attempt failed");
    let stored = messages[1].read();
    let files = stored.data.files.unwrap();
    assert_eq!((files[0].path.as_str(), files[0].mode), (ScriptedProvider::CREDENTIAL_PATH, 0o600));
    assert_eq!(files[0].content.expose(), format!("{{\"token\": \"{CANARY}\"}}").as_bytes());
    assert_eq!(messages[2].read().data.files, None);
    let taken = api.wait_entry(&id, TimelineKind::WebhookDelivered).await.unwrap();
    assert!(taken.sentence.contains("deleted"), "{taken:?}");
    let credential = stored.data.credential.unwrap().id;
    let lease = api.post(&format!("/api/credentials/{credential}/lease"), json!({})).await.unwrap();
    assert_eq!((lease.status, lease.problem().unwrap().code.as_str()), (410, "already_delivered"));
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn undelivered_webhook_messages_are_sent_in_order_after_a_restart() {
    let (flags, inbox) = (Flags::new(), Inbox::default());
    let receiver = Receiver::start(&inbox).await;
    let (address, settings) = (receiver.address, receiver.settings(&flags, ""));
    drop(receiver);
    let mut server =
        TestServer::start(TestConfig::with_provider(provider(&flags)).with_settings(&settings)).await.unwrap();
    let id = complete_session(&flags, &server.backend_client().unwrap()).await;
    wait_report(&server, |report| report.failed > 0 && report.pending.len() == 2).await;
    server.kill_server().await.unwrap();
    server.start_server().await.unwrap();
    assert_eq!(report(&server).await.pending.len(), 2, "they are stored");
    let _receiver = Receiver::start_at(address, &inbox).await;
    let messages = inbox.wait_messages(2).await;
    let kinds: Vec<_> = messages.iter().map(|message| message.read().kind.as_str()).collect();
    assert_eq!(kinds, ["credential.stored", "session.ended"]);
    assert_eq!(messages[1].read().data.session.unwrap().id, id);
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn webhook_message_is_abandoned_after_its_attempts_and_the_next_is_sent() {
    let (flags, inbox) = (Flags::new(), Inbox::with_statuses(&[500, 500]));
    let receiver = Receiver::start(&inbox).await;
    let settings = receiver.settings(&flags, "attempts_max = 2");
    let server = TestServer::start(TestConfig::with_provider(provider(&flags)).with_settings(&settings)).await.unwrap();
    let api = server.backend_client().unwrap();
    let id = complete_session(&flags, &api).await;
    let abandoned = api.wait_entry(&id, TimelineKind::WebhookAbandoned).await.unwrap();
    assert!(abandoned.sentence.contains("credential.stored"), "{abandoned:?}");
    let messages = inbox.wait_messages(3).await;
    assert_eq!(messages[2].read().kind.as_str(), "session.ended");
    let report = wait_report(&server, |report| report.pending.is_empty()).await;
    assert_eq!((report.delivered, report.abandoned), (1, 1));
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn webhook_requires_a_trusted_certificate() {
    for trusted in [true, false] {
        let (flags, inbox) = (Flags::new(), Inbox::default());
        let (ca, other) = (TestCa::new().unwrap(), TestCa::new().unwrap());
        let tls_server = TlsServer::start(&ca, &["localhost"], inbox.router()).await.unwrap();
        let file = flags.path("ca.pem");
        std::fs::write(&file, if trusted { ca.pem() } else { other.pem() }).unwrap();
        let url = format!("https://localhost:{}/in", tls_server.address().port());
        let settings = settings(&flags, &url, &format!("ca_file = '{}'", file.display()));
        let server =
            TestServer::start(TestConfig::with_provider(provider(&flags)).with_settings(&settings)).await.unwrap();
        let api = server.backend_client().unwrap();
        let id = api.start_session("scripted").await.unwrap().session.id;
        api.cancel_session(&id).await.unwrap();
        if trusted {
            inbox.wait_messages(1).await;
        } else {
            let report = wait_report(&server, |report| report.failed > 0).await;
            assert!(report.last_error.unwrap().why.contains("TLS"));
            assert_eq!(inbox.messages().len(), 0);
        }
        server.stop_and_check_leaks().await.unwrap();
        tls_server.stop().await;
    }
}
