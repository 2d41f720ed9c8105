//! HTTP client of the command line. Without a profile it uses the API on the Unix socket in the state directory, where the peer's user id
//! authenticates the caller, so no token is stored in a file; with one, TCP or TLS and a token (docs/decisions/0030). Each request has a
//! connection of its own.

mod slow;

use super::{
    connection::{Access, ApiStream, ConnectError},
    output::clean_json,
    progress::Wait,
};
use anteroom_wire::ProblemBody;
use bytes::{Bytes, BytesMut};
use eventsource_stream::{EventStreamError, Eventsource};
use futures_util::StreamExt;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyDataStream, BodyExt, Full};
use hyper::{
    body::Incoming,
    client::conn::http1::{SendRequest, handshake},
};
use hyper_util::rt::TokioIo;
use serde::{Serialize, de::DeserializeOwned};
use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::time::timeout;
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Error as SocketError, client::IntoClientRequest},
};

const RESPONSE_BYTES_MAX: usize = 16 * 1024 * 1024;
const RESPONSE_S_MAX: u64 = 60;
/// Time without a byte after which an event stream counts as broken, seconds. The server sends a comment every 8 s.
const EVENT_SILENCE_S_MAX: u64 = 60;

/// A WebSocket of the server.
pub(crate) type LocalWebSocket = WebSocketStream<ApiStream>;

/// The reason why a request failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    /// The socket cannot be connected.
    #[error(
        "no server is running with the state directory {dir} ({reason}); start it with: anteroom serve. The server of another user or host is used with: anteroom auth login URL"
    )]
    NoServer {
        /// The state directory.
        dir: String,
        /// The cause.
        reason: String,
    },
    /// A server on the network cannot be reached.
    #[error("the server {url} cannot be reached: {reason}")]
    Unreachable {
        /// Its address.
        url: String,
        /// The cause.
        reason: String,
    },
    /// A server on the network does not accept the token.
    #[error(
        "the server {url} does not accept the token: it is unknown, revoked or has expired. Use another one: anteroom auth login {url}"
    )]
    TokenRefused {
        /// Its address.
        url: String,
    },
    /// The server returned an error.
    #[error("{}{} {}", .0.sentence, .0.detail.as_ref().map(|detail| format!(" ({detail})")).unwrap_or_default(), .0.remedy)]
    Api(ProblemBody),
    /// The response is invalid, incomplete or late.
    #[error("the server's response is invalid: {0}")]
    InvalidResponse(String),
}

/// A client of one server.
#[derive(Debug, Clone)]
pub(crate) struct ApiClient {
    access: Arc<Access>,
}

/// A response, and the connection that its body needs.
struct Exchange {
    response: Response<Incoming>,
    _connection: SendRequest<Full<Bytes>>,
}

impl ApiClient {
    /// A client of the server that is reached so.
    pub(crate) fn new(access: Access) -> Self {
        Self { access: Arc::new(access) }
    }

    /// Whether the server is on another host, or is used as if it were.
    pub(crate) fn is_remote(&self) -> bool {
        matches!(*self.access, Access::Remote { .. })
    }

    /// The server's address or state directory.
    pub(crate) fn server_name(&self) -> String {
        format!("{:?}", self.access)
    }

    /// Sends the request on a new connection.
    async fn send(&self, mut request: Request<Full<Bytes>>) -> Result<Exchange, ClientError> {
        let authority = HeaderValue::try_from(self.access.authority()).map_err(|error| invalid(&error))?;
        request.headers_mut().insert(header::HOST, authority);
        self.authorize(request.headers_mut())?;
        let stream = self.connect().await?;
        let (mut sender, connection) = handshake(TokioIo::new(stream)).await.map_err(|error| invalid(&error))?;
        // It ends when the response and `sender` are dropped.
        tokio::spawn(connection);
        let response = sender.send_request(request).await.map_err(|error| invalid(&root_cause(&error)))?;
        match (&*self.access, response.status()) {
            (Access::Remote { url, .. }, StatusCode::UNAUTHORIZED) => {
                Err(ClientError::TokenRefused { url: url.to_string() })
            }
            (Access::Remote { .. }, status) if status.is_redirection() => Err(redirected(&response)),
            (_, _) => Ok(Exchange { response, _connection: sender }),
        }
    }

    fn authorize(&self, headers: &mut http::HeaderMap) -> Result<(), ClientError> {
        if let Some(token) = self.access.token() {
            let value = HeaderValue::try_from(format!("Bearer {}", token.expose()));
            // The error would show the token.
            let mut value = value.map_err(|_| invalid(&"the token has characters that no header has"))?;
            value.set_sensitive(true);
            headers.insert(header::AUTHORIZATION, value);
        }
        Ok(())
    }

    async fn connect(&self) -> Result<ApiStream, ClientError> {
        self.access.connect().await.map_err(|ConnectError(reason)| match &*self.access {
            Access::Local { state_dir } => no_server(state_dir, reason),
            Access::Remote { url, .. } => ClientError::Unreachable { url: url.to_string(), reason },
        })
    }

    /// The id of the server's process; `None`: it is on another host.
    ///
    /// # Errors
    /// No server runs, or the kernel does not name its process.
    pub(crate) async fn server_process(&self) -> Result<Option<i32>, ClientError> {
        let Access::Local { state_dir } = &*self.access else { return Ok(None) };
        let stream = crate::connection::connect_local(state_dir).await;
        let stream = stream.map_err(|error| no_server(state_dir, error.to_string()))?;
        let peer = stream.peer_cred().map_err(|error| invalid(&error))?;
        peer.pid().map(Some).ok_or_else(|| invalid(&"its socket has no process"))
    }

    /// Sends a request with a JSON body or none, and parses the JSON response.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub(crate) async fn call<B: Serialize, T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&B>,
    ) -> Result<T, ClientError> {
        let bytes = self.exchange(request(method, path, body)?, RESPONSE_S_MAX).await?;
        let bytes: &[u8] = if bytes.is_empty() { b"null" } else { &bytes };
        parse_json(bytes)
    }

    /// Sends a request without a body and returns the response's bytes.
    ///
    /// # Errors
    /// As [`ApiClient::call`].
    pub(crate) async fn fetch_bytes(&self, method: Method, path: &str) -> Result<Bytes, ClientError> {
        self.exchange(request(method, path, None::<&()>)?, RESPONSE_S_MAX).await
    }

    /// Sends the request and returns the body of a 2xx response, within the limits of size and time.
    async fn exchange(&self, request: Request<Full<Bytes>>, s_max: u64) -> Result<Bytes, ClientError> {
        let _wait = Wait::begin("Waiting for the server…");
        let exchanged = async {
            let exchange = self.send(request).await?;
            let status = exchange.response.status();
            let bytes = collect(exchange).await?;
            if status.is_success() { Ok(bytes) } else { Err(api_error(status, &bytes)) }
        };
        timeout(Duration::from_secs(s_max), exchanged).await.unwrap_or_else(|_| Err(no_response(s_max)))
    }

    /// Opens a WebSocket and offers these subprotocols (comma-separated).
    ///
    /// # Errors
    /// As [`ApiClient::call`].
    pub(crate) async fn open_websocket(&self, path: &str, subprotocols: &str) -> Result<LocalWebSocket, ClientError> {
        let address = format!("ws://{}{path}", self.access.authority());
        let mut request = address.into_client_request().map_err(|error| invalid(&error))?;
        let offered = HeaderValue::from_str(subprotocols).map_err(|error| invalid(&error))?;
        request.headers_mut().insert("sec-websocket-protocol", offered);
        self.authorize(request.headers_mut())?;
        let stream = self.connect().await?;
        match timeout(Duration::from_secs(RESPONSE_S_MAX), client_async(request, stream)).await {
            Ok(Ok((socket, _))) => Ok(socket),
            Ok(Err(SocketError::Http(response))) => {
                Err(api_error(response.status(), response.body().as_deref().unwrap_or_default()))
            }
            Ok(Err(error)) => Err(invalid(&error)),
            Err(_) => Err(no_response(RESPONSE_S_MAX)),
        }
    }

    /// Sends a GET request and parses the JSON response.
    ///
    /// # Errors
    /// As [`ApiClient::call`].
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.call(Method::GET, path, None::<&()>).await
    }

    /// Reads server-sent events. Calls `on_event` with the name and data of each event until it returns `false`.
    ///
    /// # Errors
    /// As [`ApiClient::call`], and if the stream ends or falls silent before `on_event` has returned `false`.
    pub(crate) async fn follow_events(
        &self,
        path: &str,
        mut on_event: impl FnMut(&str, &str) -> bool,
    ) -> Result<(), ClientError> {
        let mut request = request(Method::GET, path, None::<&()>)?;
        request.headers_mut().insert(header::ACCEPT, HeaderValue::from_static("text/event-stream"));
        let exchange = self.send(request).await?;
        if !exchange.response.status().is_success() {
            let status = exchange.response.status();
            return Err(api_error(status, &collect(exchange).await?));
        }
        let bytes_since_event = AtomicUsize::new(0);
        let chunks = BodyDataStream::new(exchange.response.into_body()).map(|chunk| {
            let chunk = chunk.map_err(|error| invalid(&root_cause(&error)))?;
            match bytes_since_event.fetch_add(chunk.len(), Relaxed) + chunk.len() {
                ..=RESPONSE_BYTES_MAX => Ok(chunk),
                _ => Err(invalid(&"a server-sent event is too large")),
            }
        });
        let mut events = pin!(with_silence_limit(chunks).eventsource());
        while let Some(event) = events.next().await {
            bytes_since_event.store(0, Relaxed);
            let event = event.map_err(|error| match error {
                EventStreamError::Transport(error) => error,
                error @ (EventStreamError::Utf8(_) | EventStreamError::Parser(_)) => invalid(&error),
            })?;
            if !on_event(&event.event, &event.data) {
                return Ok(());
            }
        }
        Err(invalid(&"the server closed the event stream"))
    }
}

/// The chunks, and an error after [`EVENT_SILENCE_S_MAX`] without one: a host that has lost its network sends nothing.
fn with_silence_limit(
    chunks: impl futures_util::Stream<Item = Result<Bytes, ClientError>>,
) -> impl futures_util::Stream<Item = Result<Bytes, ClientError>> {
    futures_util::stream::unfold(Some(Box::pin(chunks)), async |chunks| {
        let mut chunks = chunks?;
        match timeout(Duration::from_secs(EVENT_SILENCE_S_MAX), chunks.next()).await {
            Ok(chunk) => Some((chunk?, Some(chunks))),
            Err(_) => Some((Err(invalid(&format_args!("no event within {EVENT_SILENCE_S_MAX} s"))), None)),
        }
    })
}

fn redirected(response: &Response<Incoming>) -> ClientError {
    let target = response.headers().get(header::LOCATION).and_then(|target| target.to_str().ok());
    // Without its query, which may have secrets.
    let target = target.and_then(|target| target.split(['?', '#']).next()).unwrap_or("another page");
    invalid(&format_args!("it redirects to {}: name the address of Anteroom itself", crate::one_line(target)))
}

fn no_server(state_dir: &std::path::Path, reason: String) -> ClientError {
    ClientError::NoServer { dir: state_dir.display().to_string(), reason }
}

fn request<B: Serialize>(method: Method, path: &str, body: Option<&B>) -> Result<Request<Full<Bytes>>, ClientError> {
    let body = body.map(serde_json::to_vec).transpose().map_err(|error| invalid(&error))?.unwrap_or_default();
    let builder = Request::builder().method(method).uri(path);
    let builder = builder.header(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    builder.body(Full::from(body)).map_err(|error| invalid(&error))
}

async fn collect(exchange: Exchange) -> Result<Bytes, ClientError> {
    let (mut body, mut bytes) = (exchange.response.into_body(), BytesMut::new());
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| invalid(&root_cause(&error)))?;
        bytes.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
        if bytes.len() > RESPONSE_BYTES_MAX {
            return Err(invalid(&format_args!("it has more than {RESPONSE_BYTES_MAX} bytes")));
        }
    }
    Ok(bytes.freeze())
}

/// Parses JSON of the server. Every text in it becomes one clean line; base64 is not changed by that.
pub(crate) fn parse_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ClientError> {
    let mut value: serde_json::Value = serde_json::from_slice(bytes).map_err(|error| invalid(&error))?;
    clean_json(&mut value);
    serde_json::from_value(value).map_err(|error| invalid(&error))
}

fn api_error(status: StatusCode, bytes: &[u8]) -> ClientError {
    parse_json(bytes).map_or_else(|_| invalid(&format_args!("status {status}")), ClientError::Api)
}

fn no_response(s_max: u64) -> ClientError {
    invalid(&format_args!("no response within {s_max} s"))
}

fn invalid(cause: &dyn std::fmt::Display) -> ClientError {
    ClientError::InvalidResponse(cause.to_string())
}

fn root_cause(error: &hyper::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
