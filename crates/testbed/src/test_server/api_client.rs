//! The server's API with types, as one caller. It remembers every answer, so that a test can search them for secrets.

use super::WAIT_MAX;
use anteroom_controller::rfb::{DialError, RfbClient, ViewerSocket};
use anteroom_wire::{
    CredentialId, ProblemBody, Secret, SessionId,
    api::{
        CredentialList, Lease, SessionList, SessionView, StartRequest, Started, Status, Ticket, Timeline, TimelineEntry,
    },
};
use anyhow::{Context, bail};
use reqwest::{Client, Method};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::time::{Instant, sleep};

/// How long a WebSocket or a desktop may take to answer, milliseconds.
const ANSWER_MS_MAX: u64 = 60_000;

/// An answer: its status and body.
#[derive(Debug, Clone)]
pub struct ApiResponse {
    /// The HTTP status.
    pub status: u16,
    /// The body as text.
    pub text: String,
}

impl ApiResponse {
    /// The body of a good answer.
    ///
    /// # Errors
    /// The status is not 2xx, or the body is something else.
    pub fn read<T: DeserializeOwned>(&self) -> anyhow::Result<T> {
        if !(200..300).contains(&self.status) {
            bail!("{}: {}", self.status, self.text);
        }
        serde_json::from_str(&self.text).with_context(|| self.text.clone())
    }

    /// The problem of a refusal.
    ///
    /// # Errors
    /// The answer is good, or its body is no problem.
    pub fn problem(&self) -> anyhow::Result<ProblemBody> {
        if self.status < 400 {
            bail!("not refused: {} {}", self.status, self.text);
        }
        serde_json::from_str(&self.text).with_context(|| format!("{}: {}", self.status, self.text))
    }
}

/// The API as one caller.
#[derive(Debug, Clone)]
pub struct ApiClient {
    address: SocketAddr,
    token: Option<Secret>,
    client: Client,
    heard: Arc<Mutex<Vec<String>>>,
    remembers: bool,
    /// The longest wait for a state or an entry.
    patience: Duration,
}

impl ApiClient {
    pub(crate) fn new(address: SocketAddr, token: Option<Secret>) -> anyhow::Result<Self> {
        let client = Client::builder().no_proxy().timeout(WAIT_MAX).redirect(reqwest::redirect::Policy::none()).build()?;
        Ok(Self { address, token, client, heard: Arc::default(), remembers: true, patience: WAIT_MAX })
    }

    /// The same with another longest wait.
    pub(crate) fn patient(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// The same without a memory of answers, for very many calls.
    #[must_use]
    pub fn forgetful(mut self) -> Self {
        self.remembers = false;
        self
    }

    /// Sends a request with or without JSON.
    ///
    /// # Errors
    /// No answer.
    pub async fn call(&self, method: Method, path: &str, body: Option<Value>) -> anyhow::Result<ApiResponse> {
        let mut request = self.client.request(method, format!("http://{}{path}", self.address));
        if let Some(token) = &self.token {
            request = request.bearer_auth(token.expose());
        }
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        let answer = request.send().await?;
        let answer = ApiResponse { status: answer.status().as_u16(), text: answer.text().await? };
        if self.remembers {
            self.heard.lock().unwrap_or_else(PoisonError::into_inner).push(answer.text.clone());
        }
        Ok(answer)
    }

    /// `GET`.
    ///
    /// # Errors
    /// No answer.
    pub async fn get(&self, path: &str) -> anyhow::Result<ApiResponse> {
        self.call(Method::GET, path, None).await
    }

    /// `POST` with JSON.
    ///
    /// # Errors
    /// No answer.
    pub async fn post(&self, path: &str, body: Value) -> anyhow::Result<ApiResponse> {
        self.call(Method::POST, path, Some(body)).await
    }

    /// Every body this caller was given so far, but for leases.
    pub fn heard(&self) -> Vec<String> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Starts a session.
    ///
    /// # Errors
    /// It is refused.
    pub async fn start(&self, provider: &str) -> anyhow::Result<Started> {
        self.start_with(&StartRequest {
            provider: provider.to_owned(),
            user_id: None,
            return_url: None,
            idempotency_key: None,
            machine: None,
            method: None,
            renews: None,
        })
        .await
    }

    /// Starts a session.
    ///
    /// # Errors
    /// It is refused.
    pub async fn start_with(&self, request: &StartRequest) -> anyhow::Result<Started> {
        self.post("/api/auth/start", serde_json::to_value(request)?).await?.read()
    }

    /// The session as it is now.
    ///
    /// # Errors
    /// It is refused.
    pub async fn session(&self, id: &SessionId) -> anyhow::Result<SessionView> {
        self.get(&format!("/api/auth/session/{id}")).await?.read()
    }

    /// Waits until the session is as wanted.
    ///
    /// # Errors
    /// It is not in time; the text has its last state and its timeline.
    pub async fn wait(
        &self,
        id: &SessionId,
        what: &str,
        wanted: impl Fn(&SessionView) -> bool,
    ) -> anyhow::Result<SessionView> {
        let until = Instant::now() + self.patience;
        loop {
            let view = self.session(id).await?;
            if wanted(&view) {
                return Ok(view);
            }
            if Instant::now() >= until {
                let story: Vec<_> = self
                    .timeline(id)
                    .await?
                    .into_iter()
                    .map(|entry| (entry.kind, entry.sentence, entry.data))
                    .collect();
                bail!("{id} is not {what}: {view:#?}\n{story:#?}");
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits for a status.
    ///
    /// # Errors
    /// As [`Self::wait`].
    pub async fn wait_status(&self, id: &SessionId, status: Status) -> anyhow::Result<SessionView> {
        self.wait(id, &format!("{status:?}"), |view| view.status == status).await
    }

    /// The session's timeline.
    ///
    /// # Errors
    /// It is refused.
    pub async fn timeline(&self, id: &SessionId) -> anyhow::Result<Vec<TimelineEntry>> {
        Ok(self.get(&format!("/api/auth/session/{id}/events")).await?.read::<Timeline>()?.entries)
    }

    /// Waits for an entry of this kind on the timeline.
    ///
    /// # Errors
    /// It does not come in time.
    pub async fn wait_entry(&self, id: &SessionId, kind: &str) -> anyhow::Result<TimelineEntry> {
        let until = Instant::now() + self.patience;
        loop {
            let timeline = self.timeline(id).await?;
            if let Some(entry) = timeline.iter().find(|entry| entry.kind == kind) {
                return Ok(entry.clone());
            }
            if Instant::now() >= until {
                bail!("no entry {kind}: {timeline:#?}");
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Cancels the session.
    ///
    /// # Errors
    /// It is refused.
    pub async fn cancel(&self, id: &SessionId) -> anyhow::Result<SessionView> {
        self.post(&format!("/api/auth/session/{id}/cancel"), json!({})).await?.read()
    }

    /// Cancels every session that lives.
    ///
    /// # Errors
    /// One is refused.
    pub async fn cancel_all(&self) -> anyhow::Result<()> {
        let list: SessionList = self.get("/api/sessions").await?.read()?;
        for session in list.sessions.iter().filter(|session| !session.status.is_terminal()) {
            self.cancel(&session.id).await?;
        }
        Ok(())
    }

    /// The owner's credentials.
    ///
    /// # Errors
    /// It is refused.
    pub async fn credentials(&self) -> anyhow::Result<CredentialList> {
        self.get("/api/credentials").await?.read()
    }

    /// The files of a credential. What comes back is not remembered.
    ///
    /// # Errors
    /// It is refused.
    pub async fn lease(&self, id: &CredentialId) -> anyhow::Result<Lease> {
        let quiet = Self { heard: Arc::default(), ..self.clone() };
        quiet.post(&format!("/api/credentials/{id}/lease"), json!({})).await?.read()
    }

    /// A ticket for `desktop` or `terminal`.
    ///
    /// # Errors
    /// It is refused.
    pub async fn ticket(&self, id: &SessionId, purpose: &str) -> anyhow::Result<Ticket> {
        self.post(&format!("/api/auth/session/{id}/ticket"), json!({ "purpose": purpose })).await?.read()
    }

    /// Opens a WebSocket of the session with these subprotocols, as a program does; with `origin` as a browser does.
    ///
    /// # Errors
    /// [`DialError::Refused`] has the status.
    pub async fn dial(&self, path: &str, protocols: &str, origin: bool) -> Result<ViewerSocket, DialError> {
        let origin_text = format!("http://{}", self.address);
        let mut headers = vec![("Sec-WebSocket-Protocol", protocols)];
        if origin {
            headers.push(("Origin", &origin_text));
        }
        ViewerSocket::dial(&format!("ws://{}{path}", self.address), &headers, ANSWER_MS_MAX).await
    }

    /// Opens the session's desktop.
    ///
    /// # Errors
    /// No ticket, no socket, no picture.
    pub async fn desktop(&self, id: &SessionId) -> anyhow::Result<RfbClient<ViewerSocket>> {
        Ok(RfbClient::connect(self.desktop_socket(id).await?, ANSWER_MS_MAX).await?)
    }

    /// The socket of the session's desktop, before a word of RFB.
    ///
    /// # Errors
    /// No ticket, no socket.
    pub async fn desktop_socket(&self, id: &SessionId) -> anyhow::Result<ViewerSocket> {
        let ticket = self.ticket(id, "desktop").await?.ticket;
        let path = format!("/api/auth/session/{id}/novnc/websock");
        Ok(self.dial(&path, &format!("binary, ticket.{ticket}"), true).await?)
    }

    /// Opens the session's desktop to look at it without acting on it.
    ///
    /// # Errors
    /// No ticket, no socket, no picture.
    pub async fn desktop_to_watch(&self, id: &SessionId) -> anyhow::Result<RfbClient<ViewerSocket>> {
        let wanted = json!({ "purpose": "desktop", "view_only": true });
        let ticket: Ticket = self.post(&format!("/api/auth/session/{id}/ticket"), wanted).await?.read()?;
        let path = format!("/api/auth/session/{id}/novnc/websock");
        let socket = self.dial(&path, &format!("binary, ticket.{}", ticket.ticket), true).await?;
        Ok(RfbClient::connect(socket, ANSWER_MS_MAX).await?)
    }

    /// The socket of the session's terminal.
    ///
    /// # Errors
    /// No ticket, no socket.
    pub async fn terminal(&self, id: &SessionId) -> anyhow::Result<ViewerSocket> {
        let ticket = self.ticket(id, "terminal").await?.ticket;
        let path = format!("/api/auth/session/{id}/terminal");
        Ok(self.dial(&path, &format!("binary, ticket.{ticket}"), true).await?)
    }
}
