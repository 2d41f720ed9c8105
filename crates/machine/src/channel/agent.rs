//! The agent channel: calls to a machine's agent, each with a time limit.

use anteroom_wire::{
    ProblemBody,
    agent::{
        Claim, Claimed, DESKTOP_AUTHORITY, Hello, Input, OpenUrl, Paste, PasteResult, Screen, SignIn, SwitchMethod,
        TERMINAL_AUTHORITY, TERMINAL_COLS_HEADER, TERMINAL_ID_HEADER, TERMINAL_ROWS_HEADER, TerminalSize,
    },
    channel::{CONNECTION_WINDOW_BYTES, FRAME_BYTES_MAX, SEND_BUFFER_BYTES, STREAM_WINDOW_BYTES},
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

/// HTTP/2 itself never gives a ping up: a machine that was frozen for a while keeps its streams when it comes back.
const PING_NEVER_GIVEN_UP: Duration = Duration::from_secs(365 * 86_400);

/// How long calls may take and how much an answer may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallLimits {
    /// An ordinary call, milliseconds.
    pub call_ms_max: u64,
    /// Giving something to the tool, or ending and starting it: the tool may take its time, milliseconds.
    pub tool_ms_max: u64,
    /// A claim (it resizes the desktop and starts the tool), milliseconds.
    pub claim_ms_max: u64,
    /// Opening a raw stream, milliseconds.
    pub connect_ms_max: u64,
    /// The largest answer, bytes.
    pub answer_bytes_max: usize,
}

impl Default for CallLimits {
    fn default() -> Self {
        Self {
            call_ms_max: 10_000,
            tool_ms_max: 45_000,
            claim_ms_max: 60_000,
            connect_ms_max: 10_000,
            answer_bytes_max: 1024 * 1024,
        }
    }
}

/// Why a call to the agent did not succeed. `call` names it, like `POST /claim`.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The channel is closed.
    #[error("{call}: the machine's channel is closed")]
    Closed {
        /// Which call.
        call: &'static str,
    },
    /// The channel broke amid the call, or could not be opened.
    #[error("{call}: the machine's channel broke")]
    Transport {
        /// Which call.
        call: &'static str,
        /// How.
        #[source]
        source: hyper::Error,
    },
    /// No answer in time.
    #[error("{call}: no answer within {ms_max} ms")]
    Timeout {
        /// Which call.
        call: &'static str,
        /// The limit.
        ms_max: u64,
    },
    /// The agent refused and said why.
    #[error("{call}: the agent refused ({status}): {}", problem.code)]
    Rejected {
        /// Which call.
        call: &'static str,
        /// The HTTP status.
        status: StatusCode,
        /// The agent's words.
        problem: Box<ProblemBody>,
    },
    /// The agent answered something that this version does not know.
    #[error("{call}: an answer that is not understood ({status}): {why}")]
    InvalidResponse {
        /// Which call.
        call: &'static str,
        /// The HTTP status.
        status: StatusCode,
        /// What is wrong with it.
        why: String,
    },
    /// The request cannot be said.
    #[error("{call}: {why}")]
    InvalidRequest {
        /// Which call.
        call: &'static str,
        /// Why.
        why: String,
    },
}

/// Calls to one machine's agent. Cheap to clone; all clones share the one connection and end with it.
#[derive(Debug, Clone)]
pub struct AgentClient {
    requests: SendRequest<Full<Bytes>>,
    limits: CallLimits,
    closed: CancellationToken,
}

impl AgentClient {
    /// Begins HTTP/2 on a stream that is in step. The returned future carries the connection and must be polled; it ends
    /// with the connection, after which the stream is closed and [`AgentClient::closed`] has happened. A peer from which
    /// nothing comes is pinged; whoever reads the stream decides when its silence has lasted too long.
    ///
    /// # Errors
    /// When the stream breaks.
    pub(crate) async fn begin<S>(
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
            .max_send_buf_size(SEND_BUFFER_BYTES)
            .keep_alive_interval(ping_every)
            .keep_alive_timeout(PING_NEVER_GIVEN_UP)
            .keep_alive_while_idle(true)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|source| AgentError::Transport { call: "HTTP/2", source })?;
        let closed = CancellationToken::new();
        let over = closed.clone().drop_guard();
        let carry = async move {
            let end = connection.await;
            drop(over);
            end
        };
        Ok((Self { requests, limits, closed }, carry))
    }

    /// Returns when the connection is closed. A new one is in the machine's next `Ready`.
    pub async fn closed(&self) {
        self.closed.cancelled().await;
    }

    /// Whether the connection is closed.
    pub fn is_closed(&self) -> bool {
        self.closed.is_cancelled()
    }

    /// `GET /hello`.
    ///
    /// # Errors
    /// See [`AgentError`]; so for all calls.
    pub async fn hello(&self) -> Result<Hello, AgentError> {
        self.get("GET /hello", "/hello").await
    }

    /// `POST /claim`. The same claim again changes nothing.
    ///
    /// # Errors
    /// `Rejected` with status 409: it was claimed for another session.
    pub async fn claim(&self, claim: &Claim) -> Result<Claimed, AgentError> {
        let call = "POST /claim";
        let answer = self.post(call, "/claim", claim, self.limits.claim_ms_max).await?;
        understand(call, &answer)
    }

    /// `GET /sign-in`.
    ///
    /// # Errors
    /// See [`AgentError`].
    pub async fn sign_in(&self) -> Result<SignIn, AgentError> {
        self.get("GET /sign-in", "/sign-in").await
    }

    /// `GET /screen`.
    ///
    /// # Errors
    /// See [`AgentError`].
    pub async fn screen(&self) -> Result<Screen, AgentError> {
        self.get("GET /screen", "/screen").await
    }

    /// `POST /open-url`.
    ///
    /// # Errors
    /// See [`AgentError`].
    pub async fn open_url(&self, open: &OpenUrl) -> Result<(), AgentError> {
        self.post("POST /open-url", "/open-url", open, self.limits.call_ms_max).await.map(drop)
    }

    /// `POST /paste`: gives the tool what the person brings; says as what it was taken.
    ///
    /// # Errors
    /// `Rejected` when the tool does not wait for it, or could not take it.
    pub async fn paste(&self, paste: &Paste) -> Result<PasteResult, AgentError> {
        let call = "POST /paste";
        understand(call, &self.post(call, "/paste", paste, self.limits.tool_ms_max).await?)
    }

    /// `POST /method`: ends the tool and starts it by another method.
    ///
    /// # Errors
    /// See [`AgentError`].
    pub async fn switch_method(&self, switch: &SwitchMethod) -> Result<(), AgentError> {
        self.post("POST /method", "/method", switch, self.limits.tool_ms_max).await.map(drop)
    }

    /// `POST /input`.
    ///
    /// # Errors
    /// See [`AgentError`].
    pub async fn input(&self, input: &Input) -> Result<(), AgentError> {
        self.post("POST /input", "/input", input, self.limits.call_ms_max).await.map(drop)
    }

    /// `POST /terminal/{id}/size` of a terminal stream that [`AgentClient::terminal`] opened.
    ///
    /// # Errors
    /// See [`AgentError`].
    pub async fn terminal_size(&self, id: &str, size: TerminalSize) -> Result<(), AgentError> {
        let call = "POST /terminal/{id}/size";
        check_terminal_id(call, id)?;
        self.post(call, &format!("/terminal/{id}/size"), &size, self.limits.call_ms_max).await.map(drop)
    }

    /// `CONNECT desktop:1`: raw RFB.
    ///
    /// # Errors
    /// See [`AgentError`].
    pub async fn desktop(&self) -> Result<ByteStream, AgentError> {
        self.connect("CONNECT desktop", Request::builder().uri(DESKTOP_AUTHORITY)).await
    }

    /// `CONNECT terminal:1`: raw terminal bytes. `id`: 1 to 40 of `a-z 0-9`, chosen by the caller.
    ///
    /// # Errors
    /// See [`AgentError`].
    pub async fn terminal(&self, id: &str, size: TerminalSize) -> Result<ByteStream, AgentError> {
        let call = "CONNECT terminal";
        check_terminal_id(call, id)?;
        let request = Request::builder()
            .uri(TERMINAL_AUTHORITY)
            .header(TERMINAL_ID_HEADER, id)
            .header(TERMINAL_COLS_HEADER, size.cols)
            .header(TERMINAL_ROWS_HEADER, size.rows);
        self.connect(call, request).await
    }

    async fn get<T: DeserializeOwned>(&self, call: &'static str, path: &str) -> Result<T, AgentError> {
        let request = Request::builder().method(Method::GET).uri(format!("http://agent{path}")).body(Full::default());
        understand(call, &self.exchange(call, request, self.limits.call_ms_max).await?)
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
        self.exchange(call, request, ms_max).await
    }

    /// One request and its whole answer.
    async fn exchange(
        &self,
        call: &'static str,
        request: Result<Request<Full<Bytes>>, http::Error>,
        ms_max: u64,
    ) -> Result<Bytes, AgentError> {
        let answer = async {
            let response = self.send(call, request).await?;
            let status = response.status();
            let body = self.body(call, response).await?;
            if status.is_success() { Ok(body) } else { Err(refused(call, status, &body)) }
        };
        timeout(Duration::from_millis(ms_max), answer).await.unwrap_or(Err(AgentError::Timeout { call, ms_max }))
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
            Err(refused(call, status, &self.body(call, response).await?))
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

    async fn body(&self, call: &'static str, response: Response<Incoming>) -> Result<Bytes, AgentError> {
        let status = response.status();
        Limited::new(response.into_body(), self.limits.answer_bytes_max)
            .collect()
            .await
            .map(http_body_util::Collected::to_bytes)
            .map_err(|error| AgentError::InvalidResponse { call, status, why: error.to_string() })
    }
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

fn understand<T: DeserializeOwned>(call: &'static str, body: &[u8]) -> Result<T, AgentError> {
    // The text of a serde error may quote the body; its place says enough.
    serde_json::from_slice(body).map_err(|error| AgentError::InvalidResponse {
        call,
        status: StatusCode::OK,
        why: format!("{:?} error at line {} column {}", error.classify(), error.line(), error.column()),
    })
}

fn refused(call: &'static str, status: StatusCode, body: &[u8]) -> AgentError {
    match serde_json::from_slice(body) {
        Ok(problem) => AgentError::Rejected { call, status, problem: Box::new(problem) },
        Err(_) => AgentError::InvalidResponse { call, status, why: "the body is not a problem".into() },
    }
}
