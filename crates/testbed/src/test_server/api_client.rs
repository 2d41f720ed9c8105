//! A typed client of the server's API. It keeps every response, so that a test can search them for secrets.

use super::WAIT_MAX;
use anteroom_rfb::client::{RfbClient, ViewerConnectError, ViewerSocket};
use anteroom_wire::{
    CredentialId, ProblemBody, Secret, SessionId, TimelineKind,
    api::{
        CredentialList, Lease, SessionStatus, SessionView, StartRequest, StartResponse, Ticket, Timeline, TimelineEntry,
    },
    diagnosis::{Diagnosis, Verdict},
};
use anyhow::{Context, bail, ensure};
use parking_lot::Mutex;
use reqwest::{Client, Method};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tokio::time::{Instant, sleep};

/// How long a WebSocket handshake or a desktop may take, milliseconds.
const ANSWER_MS_MAX: u64 = 60_000;

/// An HTTP response.
#[derive(Debug, Clone)]
pub struct ApiResponse {
    /// The HTTP status.
    pub status: u16,
    /// The body as text.
    pub text: String,
}

impl ApiResponse {
    /// Parses the body of a successful response.
    ///
    /// # Errors
    /// The status is not 2xx, or the body is not a `T`.
    pub fn parse<T: DeserializeOwned>(&self) -> anyhow::Result<T> {
        if !(200..300).contains(&self.status) {
            bail!("{}: {}", self.status, self.text);
        }
        serde_json::from_str(&self.text).with_context(|| self.text.clone())
    }

    /// Parses the problem of an error response.
    ///
    /// # Errors
    /// The status is below 400, or the body is no problem.
    pub fn problem(&self) -> anyhow::Result<ProblemBody> {
        if self.status < 400 {
            bail!("not an error: {} {}", self.status, self.text);
        }
        serde_json::from_str(&self.text).with_context(|| format!("{}: {}", self.status, self.text))
    }
}

/// A client with one token, or anonymous.
#[derive(Debug, Clone)]
pub struct ApiClient {
    address: SocketAddr,
    /// The base of the server's links, which is the origin of its pages.
    base_url: String,
    token: Option<Secret>,
    client: Client,
    /// The bodies of all responses.
    history: Arc<Mutex<Vec<String>>>,
    keeps_history: bool,
    /// The longest wait for a state or an entry.
    wait_max: Duration,
}

impl ApiClient {
    /// `wait_max`: the longest wait for a state or an entry.
    ///
    /// # Errors
    /// The system's network library fails.
    pub fn new(
        address: SocketAddr,
        base_url: String,
        token: Option<Secret>,
        wait_max: Duration,
    ) -> anyhow::Result<Self> {
        let client =
            Client::builder().no_proxy().timeout(WAIT_MAX).redirect(reqwest::redirect::Policy::none()).build()?;
        Ok(Self { address, base_url, token, client, history: Arc::default(), keeps_history: true, wait_max })
    }

    /// The same client, which does not keep responses. For tests with thousands of requests.
    #[must_use]
    pub fn without_response_recording(mut self) -> Self {
        self.keeps_history = false;
        self
    }

    /// Sends a request, optionally with a JSON body.
    ///
    /// # Errors
    /// There is no response.
    pub async fn call(&self, method: Method, path: &str, body: Option<Value>) -> anyhow::Result<ApiResponse> {
        let mut request = self.client.request(method, format!("http://{}{path}", self.address));
        if let Some(token) = &self.token {
            request = request.bearer_auth(token.expose());
        }
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        let response = request.send().await?;
        let response = ApiResponse { status: response.status().as_u16(), text: response.text().await? };
        if self.keeps_history {
            self.history.lock().push(response.text.clone());
        }
        Ok(response)
    }

    /// `GET`.
    ///
    /// # Errors
    /// There is no response.
    pub async fn get(&self, path: &str) -> anyhow::Result<ApiResponse> {
        self.call(Method::GET, path, None).await
    }

    /// `POST` with JSON.
    ///
    /// # Errors
    /// There is no response.
    pub async fn post(&self, path: &str, body: Value) -> anyhow::Result<ApiResponse> {
        self.call(Method::POST, path, Some(body)).await
    }

    /// The bodies of all responses so far, except leases.
    pub fn recorded_responses(&self) -> Vec<String> {
        self.history.lock().clone()
    }

    /// Starts a session.
    ///
    /// # Errors
    /// The request is rejected.
    pub async fn start_session(&self, provider: &str) -> anyhow::Result<StartResponse> {
        self.start_session_with(&StartRequest::new(provider)).await
    }

    /// Starts a session.
    ///
    /// # Errors
    /// The request is rejected.
    pub async fn start_session_with(&self, request: &StartRequest) -> anyhow::Result<StartResponse> {
        self.post("/api/auth/start", serde_json::to_value(request)?).await?.parse()
    }

    /// The session's current state.
    ///
    /// # Errors
    /// The request is rejected.
    pub async fn get_session(&self, id: &SessionId) -> anyhow::Result<SessionView> {
        self.get(&format!("/api/auth/session/{id}")).await?.parse()
    }

    /// Waits until the session meets a condition, which `what` describes.
    ///
    /// # Errors
    /// The session does not meet it in time; the text contains its last state and its timeline.
    pub async fn wait_until(
        &self,
        id: &SessionId,
        what: &str,
        condition: impl Fn(&SessionView) -> bool,
    ) -> anyhow::Result<SessionView> {
        let deadline = Instant::now() + self.wait_max;
        loop {
            let view = self.get_session(id).await?;
            if condition(&view) {
                return Ok(view);
            }
            if Instant::now() >= deadline {
                let timeline: Vec<_> = self
                    .get_timeline(id)
                    .await?
                    .into_iter()
                    .map(|entry| (entry.kind, entry.sentence, entry.data))
                    .collect();
                bail!("{id} is not {what}: {view:#?}\n{timeline:#?}");
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits for a status.
    ///
    /// # Errors
    /// As [`Self::wait_until`].
    pub async fn wait_status(&self, id: &SessionId, status: SessionStatus) -> anyhow::Result<SessionView> {
        self.wait_until(id, &format!("{status:?}"), |view| view.status == status).await
    }

    /// The session's timeline.
    ///
    /// # Errors
    /// The request is rejected.
    pub async fn get_timeline(&self, id: &SessionId) -> anyhow::Result<Vec<TimelineEntry>> {
        Ok(self.get(&format!("/api/auth/session/{id}/events")).await?.parse::<Timeline>()?.entries)
    }

    /// Waits for an entry of this kind on the timeline.
    ///
    /// # Errors
    /// There is none in time.
    pub async fn wait_entry(&self, id: &SessionId, kind: TimelineKind) -> anyhow::Result<TimelineEntry> {
        let deadline = Instant::now() + self.wait_max;
        loop {
            let timeline = self.get_timeline(id).await?;
            if let Some(entry) = timeline.iter().find(|entry| entry.kind == kind) {
                return Ok(entry.clone());
            }
            if Instant::now() >= deadline {
                bail!("no entry {kind}: {timeline:#?}");
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// The session's diagnosis.
    ///
    /// # Errors
    /// The request is rejected.
    pub async fn get_diagnosis(&self, id: &SessionId) -> anyhow::Result<Diagnosis> {
        self.get(&format!("/api/auth/session/{id}/diagnosis")).await?.parse()
    }

    /// Waits until the diagnosis has this verdict, and checks that its evidence is on the timeline.
    ///
    /// # Errors
    /// The verdict is another one after the longest wait, or `unknown`; or an entry of the evidence is not on the timeline.
    pub async fn wait_verdict(&self, id: &SessionId, wanted: Verdict) -> anyhow::Result<Diagnosis> {
        let deadline = Instant::now() + self.wait_max;
        loop {
            let found = self.get_diagnosis(id).await?;
            ensure!(found.verdict != Verdict::Unknown, "{found:#?}");
            if found.verdict == wanted {
                let timeline = self.get_timeline(id).await?;
                for proof in &found.evidence {
                    let entry =
                        timeline.iter().find(|entry| entry.number == proof.number).context("not on the timeline")?;
                    ensure!((&entry.at, &entry.kind, &entry.sentence) == (&proof.at, &proof.kind, &proof.sentence));
                }
                return Ok(found);
            }
            ensure!(Instant::now() < deadline, "not {wanted:?}: {found:#?}");
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Cancels the session.
    ///
    /// # Errors
    /// The request is rejected.
    pub async fn cancel_session(&self, id: &SessionId) -> anyhow::Result<SessionView> {
        self.post(&format!("/api/auth/session/{id}/cancel"), json!({})).await?.parse()
    }

    /// Cancels every active session.
    ///
    /// # Errors
    /// A request is rejected.
    pub async fn cancel_all_sessions(&self) -> anyhow::Result<()> {
        let list: Value = self.get("/api/sessions").await?.parse()?;
        for session in list["sessions"].as_array().context("a list of sessions")? {
            // As JSON: another release's server has other fields.
            let (id, status) = (&session["id"], SessionStatus::deserialize(&session["status"])?);
            if !status.is_ended() {
                let id = id.as_str().context("a session's id")?;
                self.post(&format!("/api/auth/session/{id}/cancel"), json!({})).await?.parse::<Value>()?;
            }
        }
        Ok(())
    }

    /// The credentials of this client's owner.
    ///
    /// # Errors
    /// The request is rejected.
    pub async fn list_credentials(&self) -> anyhow::Result<CredentialList> {
        self.get("/api/credentials").await?.parse()
    }

    /// The files of a credential. The response is not kept.
    ///
    /// # Errors
    /// The request is rejected.
    pub async fn lease_credential(&self, id: &CredentialId) -> anyhow::Result<Lease> {
        let unrecorded = Self { history: Arc::default(), ..self.clone() };
        unrecorded.post(&format!("/api/credentials/{id}/lease"), json!({})).await?.parse()
    }

    /// A ticket for `desktop` or `terminal`.
    ///
    /// # Errors
    /// The request is rejected.
    pub async fn create_ticket(&self, id: &SessionId, purpose: &str) -> anyhow::Result<Ticket> {
        self.post(&format!("/api/auth/session/{id}/ticket"), json!({ "purpose": purpose })).await?.parse()
    }

    /// Opens a WebSocket with these subprotocols. `origin`: with an `Origin` header, as a browser does.
    ///
    /// # Errors
    /// The handshake fails; [`ViewerConnectError::Rejected`] contains the HTTP status.
    pub async fn open_websocket(
        &self,
        path: &str,
        protocols: &str,
        origin: bool,
    ) -> Result<ViewerSocket, ViewerConnectError> {
        let bearer = self.token.as_ref().map(|token| format!("Bearer {}", token.expose()));
        let mut headers = vec![("Sec-WebSocket-Protocol", protocols)];
        match &bearer {
            _ if origin => headers.push(("Origin", &self.base_url)),
            Some(bearer) => headers.push(("Authorization", bearer)),
            None => {}
        }
        ViewerSocket::connect(&format!("ws://{}{path}", self.address), &headers, ANSWER_MS_MAX).await
    }

    /// Connects to the session's desktop.
    ///
    /// # Errors
    /// No ticket, no WebSocket, or no RFB connection.
    pub async fn connect_desktop(&self, id: &SessionId) -> anyhow::Result<RfbClient<ViewerSocket>> {
        Ok(RfbClient::connect(self.open_desktop_socket(id).await?, ANSWER_MS_MAX).await?)
    }

    /// Opens the WebSocket of the session's desktop, without an RFB handshake.
    ///
    /// # Errors
    /// No ticket, or no WebSocket.
    pub async fn open_desktop_socket(&self, id: &SessionId) -> anyhow::Result<ViewerSocket> {
        let ticket = self.create_ticket(id, "desktop").await?.ticket;
        self.websocket_with_ticket(id, "novnc/websock", &ticket).await
    }

    async fn websocket_with_ticket(
        &self,
        id: &SessionId,
        endpoint: &str,
        ticket: &str,
    ) -> anyhow::Result<ViewerSocket> {
        let path = format!("/api/auth/session/{id}/{endpoint}");
        Ok(self.open_websocket(&path, &format!("binary, ticket.{ticket}"), true).await?)
    }

    /// Connects to the session's desktop with a view-only ticket.
    ///
    /// # Errors
    /// No ticket, no WebSocket, or no RFB connection.
    pub async fn connect_view_only_desktop(&self, id: &SessionId) -> anyhow::Result<RfbClient<ViewerSocket>> {
        Ok(RfbClient::connect(self.open_view_only_socket(id).await?, ANSWER_MS_MAX).await?)
    }

    /// Opens the WebSocket of the session's desktop with a view-only ticket, without an RFB handshake.
    ///
    /// # Errors
    /// No ticket, or no WebSocket.
    pub async fn open_view_only_socket(&self, id: &SessionId) -> anyhow::Result<ViewerSocket> {
        let request = json!({ "purpose": "desktop", "view_only": true });
        let ticket: Ticket = self.post(&format!("/api/auth/session/{id}/ticket"), request).await?.parse()?;
        self.websocket_with_ticket(id, "novnc/websock", &ticket.ticket).await
    }

    /// Opens the WebSocket of the session's terminal.
    ///
    /// # Errors
    /// No ticket, or no WebSocket.
    pub async fn open_terminal_socket(&self, id: &SessionId) -> anyhow::Result<ViewerSocket> {
        let ticket = self.create_ticket(id, "terminal").await?.ticket;
        self.websocket_with_ticket(id, "terminal", &ticket).await
    }

    /// Like [`Self::open_terminal_socket`], for a terminal of this size.
    ///
    /// # Errors
    /// No ticket, or no WebSocket.
    pub async fn open_sized_terminal_socket(
        &self,
        id: &SessionId,
        cols: u16,
        rows: u16,
    ) -> anyhow::Result<ViewerSocket> {
        let ticket = self.create_ticket(id, "terminal").await?.ticket;
        self.websocket_with_ticket(id, &format!("terminal?cols={cols}&rows={rows}"), &ticket).await
    }
}
