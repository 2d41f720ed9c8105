//! HTTP client of the command line. It uses the API on the Unix socket in the state directory, where the peer's user id
//! authenticates the caller, so no token is stored in a file.

use super::output::clean_json;
use anteroom_controller::config::LOCAL_API_SOCKET_NAME;
use anteroom_wire::ProblemBody;
use bytes::{Bytes, BytesMut};
use eventsource_stream::{EventStreamError, Eventsource};
use futures_util::StreamExt;
use http::{HeaderValue, Method, StatusCode, header};
use reqwest::{Request, Response, Url, redirect::Policy};
use serde::{Serialize, de::DeserializeOwned};
use std::{
    fs::File,
    os::fd::AsRawFd,
    path::Path,
    pin::pin,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::Duration,
};
use tokio::net::UnixStream;
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Error as SocketError, client::IntoClientRequest},
};

const RESPONSE_BYTES_MAX: usize = 16 * 1024 * 1024;
const RESPONSE_S_MAX: u64 = 60;

/// A WebSocket of the running server.
pub(crate) type LocalWebSocket = WebSocketStream<UnixStream>;

/// The reason why a request failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    /// The socket cannot be connected.
    #[error("no server is running with the state directory {dir} ({reason}); start it with: anteroom serve")]
    NoServer {
        /// The state directory.
        dir: String,
        /// The cause.
        reason: String,
    },
    /// The server returned an error.
    #[error("{}{} {}", .0.sentence, .0.detail.as_ref().map(|detail| format!(" ({detail})")).unwrap_or_default(), .0.remedy)]
    Api(ProblemBody),
    /// The response is invalid, incomplete or late.
    #[error("the server's response is invalid: {0}")]
    InvalidResponse(String),
}

/// A client of the running server.
#[derive(Debug, Clone)]
pub(crate) struct ApiClient {
    dir: std::path::PathBuf,
}

impl ApiClient {
    /// A client of the server with this state directory.
    pub(crate) fn new(state_dir: &Path) -> Self {
        Self { dir: state_dir.to_owned() }
    }

    /// Sends the request on a new connection.
    async fn send(&self, request: Request) -> Result<Response, ClientError> {
        let (_dir, socket) = self.socket_path()?;
        let http = reqwest::Client::builder().unix_socket(socket).no_proxy().redirect(Policy::none()).build();
        let http = http.map_err(|error| invalid(&root_cause(&error)))?;
        http.execute(request).await.map_err(|error| {
            if error.is_connect() { self.no_server(root_cause(&error)) } else { request_error(&error) }
        })
    }

    /// The path of the socket, valid while the returned directory is open. It leads through the directory's file descriptor, because
    /// the path of a Unix socket is limited to 107 bytes.
    fn socket_path(&self) -> Result<(File, String), ClientError> {
        let dir = File::open(&self.dir).map_err(|error| self.no_server(error.to_string()))?;
        let path = format!("/proc/self/fd/{}/{LOCAL_API_SOCKET_NAME}", dir.as_raw_fd());
        Ok((dir, path))
    }

    fn no_server(&self, reason: String) -> ClientError {
        ClientError::NoServer { dir: self.dir.display().to_string(), reason }
    }

    /// The id of the server's process.
    ///
    /// # Errors
    /// No server runs, or the kernel does not name its process.
    pub(crate) async fn server_process(&self) -> Result<i32, ClientError> {
        let (_dir, path) = self.socket_path()?;
        let stream = UnixStream::connect(path).await.map_err(|error| self.no_server(error.to_string()))?;
        let peer = stream.peer_cred().map_err(|error| invalid(&error))?;
        peer.pid().ok_or_else(|| invalid(&"its socket has no process"))
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
        let bytes = self.exchange(request(method, path, body)?).await?;
        let bytes: &[u8] = if bytes.is_empty() { b"null" } else { &bytes };
        parse_json(bytes)
    }

    /// Sends a request without a body and returns the response's bytes.
    ///
    /// # Errors
    /// As [`ApiClient::call`].
    pub(crate) async fn fetch_bytes(&self, method: Method, path: &str) -> Result<Bytes, ClientError> {
        self.exchange(request(method, path, None::<&()>)?).await
    }

    /// Sends the request and returns the body of a 2xx response, within the limits of size and time.
    async fn exchange(&self, mut request: Request) -> Result<Bytes, ClientError> {
        *request.timeout_mut() = Some(Duration::from_secs(RESPONSE_S_MAX));
        let response = self.send(request).await?;
        let status = response.status();
        let bytes = collect(response).await?;
        if status.is_success() { Ok(bytes) } else { Err(api_error(status, &bytes)) }
    }

    /// Opens a WebSocket and offers these subprotocols (comma-separated).
    ///
    /// # Errors
    /// As [`ApiClient::call`].
    pub(crate) async fn open_websocket(&self, path: &str, subprotocols: &str) -> Result<LocalWebSocket, ClientError> {
        let address = format!("ws://localhost{path}");
        let mut request = address.into_client_request().map_err(|error| invalid(&error))?;
        let offered = HeaderValue::from_str(subprotocols).map_err(|error| invalid(&error))?;
        request.headers_mut().insert("sec-websocket-protocol", offered);
        let (_dir, path) = self.socket_path()?;
        let stream = UnixStream::connect(path).await.map_err(|error| self.no_server(error.to_string()))?;
        match tokio::time::timeout(Duration::from_secs(RESPONSE_S_MAX), client_async(request, stream)).await {
            Ok(Ok((socket, _))) => Ok(socket),
            Ok(Err(SocketError::Http(response))) => {
                Err(api_error(response.status(), response.body().as_deref().unwrap_or_default()))
            }
            Ok(Err(error)) => Err(invalid(&error)),
            Err(_) => Err(no_response()),
        }
    }

    /// Sends a GET request and parses the JSON response.
    ///
    /// # Errors
    /// As [`ApiClient::call`].
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.call(Method::GET, path, None::<&()>).await
    }

    /// Reads the pages of a list, the first one first, until there is no other or `enough` of them were read. `path` has a query.
    ///
    /// # Errors
    /// As [`ApiClient::call`].
    pub(crate) async fn get_pages<T: DeserializeOwned>(
        &self,
        path: &str,
        next_cursor: impl Fn(&T) -> Option<String>,
        mut enough: impl FnMut(&T) -> bool,
    ) -> Result<Vec<T>, ClientError> {
        let (mut pages, mut cursor) = (Vec::new(), String::new());
        loop {
            let page: T = self.get(&format!("{path}{cursor}")).await?;
            let next = next_cursor(&page).filter(|_| !enough(&page));
            pages.push(page);
            let Some(next) = next else { return Ok(pages) };
            cursor = format!("&cursor={next}");
        }
    }

    /// Reads server-sent events. Calls `on_event` with the name and data of each event until it returns `false`.
    ///
    /// # Errors
    /// As [`ApiClient::call`], and if the stream ends before `on_event` has returned `false`.
    pub(crate) async fn follow_events(
        &self,
        path: &str,
        mut on_event: impl FnMut(&str, &str) -> bool,
    ) -> Result<(), ClientError> {
        let mut request = request(Method::GET, path, None::<&()>)?;
        request.headers_mut().insert(header::ACCEPT, HeaderValue::from_static("text/event-stream"));
        let response = self.send(request).await?;
        if !response.status().is_success() {
            let status = response.status();
            return Err(api_error(status, &collect(response).await?));
        }
        let bytes_since_event = AtomicUsize::new(0);
        let chunks = response.bytes_stream().map(|chunk| {
            let chunk = chunk.map_err(|error| request_error(&error))?;
            match bytes_since_event.fetch_add(chunk.len(), Relaxed) + chunk.len() {
                ..=RESPONSE_BYTES_MAX => Ok(chunk),
                _ => Err(invalid(&"a server-sent event is too large")),
            }
        });
        let mut events = pin!(chunks.eventsource());
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

fn request<B: Serialize>(method: Method, path: &str, body: Option<&B>) -> Result<Request, ClientError> {
    let url = Url::parse(&format!("http://localhost{path}")).map_err(|error| invalid(&error))?;
    let mut request = Request::new(method, url);
    request.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(body) = body {
        *request.body_mut() = Some(serde_json::to_vec(body).map_err(|error| invalid(&error))?.into());
    }
    Ok(request)
}

async fn collect(mut response: Response) -> Result<Bytes, ClientError> {
    let mut bytes = BytesMut::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| request_error(&error))? {
        bytes.extend_from_slice(&chunk);
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

/// The error of a request on an open connection.
fn request_error(error: &reqwest::Error) -> ClientError {
    if error.is_timeout() { no_response() } else { invalid(&root_cause(error)) }
}

fn no_response() -> ClientError {
    invalid(&format_args!("no response within {RESPONSE_S_MAX} s"))
}

fn invalid(cause: &dyn std::fmt::Display) -> ClientError {
    ClientError::InvalidResponse(cause.to_string())
}

fn root_cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
