//! The agent channel: calls to a machine's agent, each with a timeout.

use anteroom_wire::{
    GuestText, ProblemBody,
    agent::{
        AgentInfo, ChangeMethod, Claim, ClaimResult, DESKTOP_AUTHORITY, OpenUrl, Paste, PasteResult, Screen,
        SignInStatus, TERMINAL_AUTHORITY, TERMINAL_COLS_HEADER, TERMINAL_ID_HEADER, TERMINAL_ROWS_HEADER, TerminalSize,
        TypeText,
    },
    channel::{
        CONNECTION_WINDOW_BYTES, FRAME_BYTES_MAX, HEADER_LIST_BYTES_MAX, SEND_BUFFER_BYTES, STREAM_WINDOW_BYTES,
    },
    exec::EXEC_AUTHORITY,
};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    body::Incoming,
    client::conn::http2::{self, SendRequest},
    upgrade::Upgraded,
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use serde::{Serialize, de::DeserializeOwned};
use std::{future::Future, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

/// A raw stream into a machine: `AsyncRead + AsyncWrite`.
pub type ByteStream = TokioIo<Upgraded>;

/// HTTP/2's own ping timeout, practically disabled: a machine that was frozen for a while keeps its streams.
const PING_TIMEOUT_DISABLED: Duration = Duration::from_secs(365 * 86_400);

/// Timeouts of calls and the maximum size of a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallLimits {
    /// Timeout of an ordinary call, milliseconds.
    pub call_ms_max: u64,
    /// Timeout of a call that sends input to the tool, stops it or starts it, milliseconds.
    pub tool_ms_max: u64,
    /// Timeout of a claim (it resizes the desktop and starts the tool), milliseconds.
    pub claim_ms_max: u64,
    /// Timeout for opening a raw stream, milliseconds.
    pub connect_ms_max: u64,
    /// Maximum size of a response, bytes.
    pub response_bytes_max: usize,
    /// Maximum size of a terminal's screen with its scrollback, bytes.
    pub screen_bytes_max: usize,
}

impl Default for CallLimits {
    fn default() -> Self {
        Self {
            call_ms_max: 10_000,
            tool_ms_max: 45_000,
            claim_ms_max: 60_000,
            connect_ms_max: 10_000,
            response_bytes_max: 64 * 1024,
            screen_bytes_max: 1024 * 1024,
        }
    }
}

/// Why a call to the agent failed. `call` is its name, like `POST /claim`.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The channel is closed.
    #[error("{call}: the machine's channel is closed")]
    Closed {
        /// The call's name.
        call: &'static str,
    },
    /// The channel broke during the call, or could not be opened.
    #[error("{call}: the machine's channel broke")]
    Transport {
        /// The call's name.
        call: &'static str,
        /// The error.
        #[source]
        source: hyper::Error,
    },
    /// No response in time.
    #[error("{call}: no response within {ms_max} ms")]
    Timeout {
        /// The call's name.
        call: &'static str,
        /// The timeout, milliseconds.
        ms_max: u64,
    },
    /// The agent returned a problem.
    #[error("{call}: the agent rejected the request ({status}): {}", problem.code)]
    Rejected {
        /// The call's name.
        call: &'static str,
        /// The HTTP status.
        status: StatusCode,
        /// The problem.
        problem: Box<ProblemBody>,
    },
    /// The agent returned a response that this version cannot parse.
    #[error("{call}: invalid response ({status}): {why}")]
    InvalidResponse {
        /// The call's name.
        call: &'static str,
        /// The HTTP status.
        status: StatusCode,
        /// What is wrong with it.
        why: String,
    },
    /// The request is invalid and was not sent.
    #[error("{call}: {why}")]
    InvalidRequest {
        /// The call's name.
        call: &'static str,
        /// What is wrong with it.
        why: String,
    },
}

/// Calls to one machine's agent. Cheap to clone; all clones share one connection.
#[derive(Debug, Clone)]
pub struct AgentClient {
    requests: SendRequest<Full<Bytes>>,
    limits: CallLimits,
    closed: CancellationToken,
}

impl AgentClient {
    /// Starts HTTP/2 on a resynchronized stream. The returned future drives the connection and must be polled; when it ends,
    /// the stream is closed and [`AgentClient::wait_closed`] returns. An idle peer is pinged; the caller's liveness timer decides
    /// when it has been idle for too long.
    ///
    /// # Errors
    /// The stream breaks.
    pub(crate) async fn handshake<S>(
        stream: S,
        limits: CallLimits,
        ping_every: Duration,
    ) -> Result<(Self, impl Future<Output = Result<(), hyper::Error>> + Send), AgentError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (requests, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_frame_size(FRAME_BYTES_MAX)
            .max_header_list_size(HEADER_LIST_BYTES_MAX)
            .max_send_buf_size(SEND_BUFFER_BYTES)
            .keep_alive_interval(ping_every)
            .keep_alive_timeout(PING_TIMEOUT_DISABLED)
            .keep_alive_while_idle(true)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|source| AgentError::Transport { call: "HTTP/2", source })?;
        let closed = CancellationToken::new();
        let guard = closed.clone().drop_guard();
        let driver = async move {
            let result = connection.await;
            drop(guard);
            result
        };
        Ok((Self { requests, limits, closed }, driver))
    }

    /// Returns when the connection is closed. The machine's next `Ready` state has a new one.
    pub async fn wait_closed(&self) {
        self.closed.cancelled().await;
    }

    /// Whether the connection is closed.
    pub fn is_closed(&self) -> bool {
        self.closed.is_cancelled()
    }

    /// `GET /hello`.
    ///
    /// # Errors
    /// See [`AgentError`].
    pub async fn agent_info(&self) -> Result<AgentInfo, AgentError> {
        self.get("GET /hello", "/hello", self.limits.response_bytes_max).await
    }

    /// `POST /claim`. Idempotent.
    ///
    /// # Errors
    /// `Rejected` with status 409: it was claimed for another session.
    pub async fn claim(&self, claim: &Claim) -> Result<ClaimResult, AgentError> {
        let call = "POST /claim";
        let response = self.post(call, "/claim", claim, self.limits.claim_ms_max).await?;
        parse(call, &response)
    }

    /// `GET /sign-in`.
    ///
    /// # Errors
    /// See [`AgentError`].
    pub async fn sign_in_state(&self) -> Result<SignInStatus, AgentError> {
        self.get("GET /sign-in", "/sign-in", self.limits.response_bytes_max).await
    }

    /// `GET /screen`.
    ///
    /// # Errors
    /// See [`AgentError`].
    pub async fn read_screen(&self) -> Result<Screen, AgentError> {
        self.get("GET /screen", "/screen", self.limits.screen_bytes_max).await
    }

    /// `POST /open-url`.
    ///
    /// # Errors
    /// See [`AgentError`].
    pub async fn open_url(&self, open: &OpenUrl) -> Result<(), AgentError> {
        self.post("POST /open-url", "/open-url", open, self.limits.call_ms_max).await.map(drop)
    }

    /// `POST /paste`: sends the user's text to the tool; returns how it was interpreted.
    ///
    /// # Errors
    /// `Rejected` when the tool does not expect input or did not accept it.
    pub async fn submit_paste(&self, paste: &Paste) -> Result<PasteResult, AgentError> {
        let call = "POST /paste";
        parse(call, &self.post(call, "/paste", paste, self.limits.tool_ms_max).await?)
    }

    /// `POST /method`: restarts the tool with another sign-in method.
    ///
    /// # Errors
    /// See [`AgentError`].
    pub async fn change_method(&self, change: &ChangeMethod) -> Result<(), AgentError> {
        self.post("POST /method", "/method", change, self.limits.tool_ms_max).await.map(drop)
    }

    /// `POST /input`.
    ///
    /// # Errors
    /// See [`AgentError`].
    pub async fn type_text(&self, input: &TypeText) -> Result<(), AgentError> {
        self.post("POST /input", "/input", input, self.limits.call_ms_max).await.map(drop)
    }

    /// `POST /terminal/{id}/size` of a terminal stream that [`AgentClient::open_terminal`] opened.
    ///
    /// # Errors
    /// See [`AgentError`].
    pub async fn resize_terminal(&self, id: &str, size: TerminalSize) -> Result<(), AgentError> {
        let call = "POST /terminal/{id}/size";
        check_terminal_id(call, id)?;
        self.post(call, &format!("/terminal/{id}/size"), &size, self.limits.call_ms_max).await.map(drop)
    }

    /// `CONNECT desktop:1`: raw RFB.
    ///
    /// # Errors
    /// See [`AgentError`].
    pub async fn open_desktop(&self) -> Result<ByteStream, AgentError> {
        self.connect("CONNECT desktop", Request::builder().uri(DESKTOP_AUTHORITY)).await
    }

    /// `CONNECT terminal:1`: raw terminal bytes. `id`: 1 to 40 of `a-z 0-9`, chosen by the caller.
    ///
    /// # Errors
    /// See [`AgentError`].
    pub async fn open_terminal(&self, id: &str, size: TerminalSize) -> Result<ByteStream, AgentError> {
        let call = "CONNECT terminal";
        check_terminal_id(call, id)?;
        let request = Request::builder()
            .uri(TERMINAL_AUTHORITY)
            .header(TERMINAL_ID_HEADER, id)
            .header(TERMINAL_COLS_HEADER, size.cols)
            .header(TERMINAL_ROWS_HEADER, size.rows);
        self.connect(call, request).await
    }

    /// `CONNECT exec:1`: messages of [`anteroom_wire::exec`].
    ///
    /// # Errors
    /// See [`AgentError`].
    pub async fn open_exec(&self) -> Result<ByteStream, AgentError> {
        self.connect("CONNECT exec", Request::builder().uri(EXEC_AUTHORITY)).await
    }

    async fn get<T: DeserializeOwned>(
        &self,
        call: &'static str,
        path: &str,
        bytes_max: usize,
    ) -> Result<T, AgentError> {
        let request = Request::builder().method(Method::GET).uri(format!("http://agent{path}")).body(Full::default());
        parse(call, &self.exchange(call, request, self.limits.call_ms_max, bytes_max).await?)
    }

    async fn post<T: Serialize + ?Sized>(
        &self,
        call: &'static str,
        path: &str,
        body: &T,
        ms_max: u64,
    ) -> Result<Bytes, AgentError> {
        let body =
            serde_json::to_vec(body).map_err(|error| AgentError::InvalidRequest { call, why: error.to_string() })?;
        let request = Request::builder()
            .method(Method::POST)
            .uri(format!("http://agent{path}"))
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(Full::from(body));
        self.exchange(call, request, ms_max, self.limits.response_bytes_max).await
    }

    /// Sends one request and reads its whole response.
    async fn exchange(
        &self,
        call: &'static str,
        request: Result<Request<Full<Bytes>>, http::Error>,
        ms_max: u64,
        bytes_max: usize,
    ) -> Result<Bytes, AgentError> {
        let response = async {
            let response = self.send(call, request).await?;
            let status = response.status();
            let body = body(call, response, bytes_max).await?;
            if status.is_success() { Ok(body) } else { Err(rejected(call, status, &body)) }
        };
        timeout(Duration::from_millis(ms_max), response).await.unwrap_or(Err(AgentError::Timeout { call, ms_max }))
    }

    async fn connect(&self, call: &'static str, request: http::request::Builder) -> Result<ByteStream, AgentError> {
        let ms_max = self.limits.connect_ms_max;
        let opened = async {
            let response = self.send(call, request.method(Method::CONNECT).body(Full::default())).await?;
            if response.status().is_success() {
                let upgraded = hyper::upgrade::on(response).await;
                return upgraded.map(TokioIo::new).map_err(|source| AgentError::Transport { call, source });
            }
            let status = response.status();
            Err(rejected(call, status, &body(call, response, self.limits.response_bytes_max).await?))
        };
        timeout(Duration::from_millis(ms_max), opened).await.unwrap_or(Err(AgentError::Timeout { call, ms_max }))
    }

    async fn send(
        &self,
        call: &'static str,
        request: Result<Request<Full<Bytes>>, http::Error>,
    ) -> Result<Response<Incoming>, AgentError> {
        let request = request.map_err(|error| AgentError::InvalidRequest { call, why: error.to_string() })?;
        if self.is_closed() {
            return Err(AgentError::Closed { call });
        }
        let mut requests = self.requests.clone();
        requests.ready().await.map_err(|source| AgentError::Transport { call, source })?;
        requests.send_request(request).await.map_err(|source| {
            if source.is_canceled() { AgentError::Closed { call } } else { AgentError::Transport { call, source } }
        })
    }
}

async fn body(call: &'static str, response: Response<Incoming>, bytes_max: usize) -> Result<Bytes, AgentError> {
    let status = response.status();
    Limited::new(response.into_body(), bytes_max)
        .collect()
        .await
        .map(http_body_util::Collected::to_bytes)
        .map_err(|error| AgentError::InvalidResponse { call, status, why: error.to_string() })
}

fn check_terminal_id(call: &'static str, id: &str) -> Result<(), AgentError> {
    let good =
        (1..=40).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    if good {
        Ok(())
    } else {
        Err(AgentError::InvalidRequest { call, why: "a terminal id is 1 to 40 of a-z and 0-9".into() })
    }
}

fn parse<T: DeserializeOwned>(call: &'static str, body: &[u8]) -> Result<T, AgentError> {
    // The text of a serde error may quote the body, so only its category and position are used.
    serde_json::from_slice(body).map_err(|error| AgentError::InvalidResponse {
        call,
        status: StatusCode::OK,
        why: format!("{:?} error at line {} column {}", error.classify(), error.line(), error.column()),
    })
}

/// The agent's problem with texts that are safe to show.
fn clean_problem(problem: ProblemBody) -> ProblemBody {
    let clean = |text: String| String::from(GuestText::from(text));
    let ProblemBody { code, sentence, detail, remedy, for_person, close_code } = problem;
    ProblemBody {
        code: clean(code),
        sentence: clean(sentence),
        detail: detail.map(clean),
        remedy: clean(remedy),
        for_person: clean(for_person.into()).into(),
        close_code,
    }
}

fn rejected(call: &'static str, status: StatusCode, body: &[u8]) -> AgentError {
    match serde_json::from_slice(body) {
        Ok(problem) => AgentError::Rejected { call, status, problem: Box::new(clean_problem(problem)) },
        Err(_) => AgentError::InvalidResponse { call, status, why: "the body is not a problem document".into() },
    }
}
