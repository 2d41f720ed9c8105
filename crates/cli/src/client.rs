//! HTTP client of the command line. It uses the API on the Unix socket in the state directory, where the peer's user id
//! authenticates the caller, so no token is stored in a file.

use anteroom_controller::config::SOCKET_NAME;
use anteroom_wire::ProblemBody;
use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde::{Serialize, de::DeserializeOwned};
use std::{os::fd::AsRawFd, path::Path, time::Duration};
use tokio::net::UnixStream;
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Error as SocketError, client::IntoClientRequest, http::HeaderValue},
};

const RESPONSE_BYTES_MAX: usize = 16 * 1024 * 1024;
const RESPONSE_S_MAX: u64 = 60;

/// A WebSocket of the running server.
pub(crate) type LocalSocket = WebSocketStream<UnixStream>;

/// The reason why a request failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    /// The socket cannot be connected.
    #[error("no server is running with the state directory {dir} ({reason}); start it with: anteroom serve")]
    NoServer {
        /// The state directory.
        dir: String,
        /// The error of the connection attempt.
        reason: std::io::Error,
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
pub(crate) struct Client {
    dir: std::path::PathBuf,
}

impl Client {
    /// A client of the server with this state directory.
    pub(crate) fn new(state_dir: &Path) -> Self {
        Self { dir: state_dir.to_owned() }
    }

    async fn connect(&self) -> Result<UnixStream, ClientError> {
        let fail = |reason| ClientError::NoServer { dir: self.dir.display().to_string(), reason };
        // Through the directory's file descriptor, because the path of a Unix socket is limited to 107 bytes.
        let dir = std::fs::File::open(&self.dir).map_err(fail)?;
        UnixStream::connect(format!("/proc/self/fd/{}/{SOCKET_NAME}", dir.as_raw_fd())).await.map_err(fail)
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> Result<http::Response<Incoming>, ClientError> {
        let stream = self.connect().await?;
        let invalid = |error: hyper::Error| ClientError::InvalidResponse(error.to_string());
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(invalid)?;
        tokio::spawn(connection);
        sender.send_request(request).await.map_err(invalid)
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
        serde_json::from_slice(bytes).map_err(|error| ClientError::InvalidResponse(error.to_string()))
    }

    /// Sends a request without a body and returns the response's bytes.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub(crate) async fn bytes(&self, method: Method, path: &str) -> Result<Bytes, ClientError> {
        self.exchange(request(method, path, None::<&()>)?).await
    }

    /// Sends the request and returns the body of a 2xx response, within the limits of size and time.
    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<Bytes, ClientError> {
        let exchange = async {
            let response = self.send(request).await?;
            let status = response.status();
            let bytes = collect(response.into_body()).await?;
            if status.is_success() { Ok(bytes) } else { Err(api_error(status, &bytes)) }
        };
        tokio::time::timeout(Duration::from_secs(RESPONSE_S_MAX), exchange)
            .await
            .unwrap_or_else(|_| Err(ClientError::InvalidResponse(format!("no response within {RESPONSE_S_MAX} s"))))
    }

    /// Opens a WebSocket and offers these subprotocols (comma-separated).
    ///
    /// # Errors
    /// As [`Client::call`].
    pub(crate) async fn socket(&self, path: &str, subprotocols: &str) -> Result<LocalSocket, ClientError> {
        let invalid = |error: &dyn std::fmt::Display| ClientError::InvalidResponse(error.to_string());
        let address = format!("ws://localhost{path}");
        let mut request = address.into_client_request().map_err(|error| invalid(&error))?;
        let offered = HeaderValue::from_str(subprotocols).map_err(|error| invalid(&error))?;
        request.headers_mut().insert("sec-websocket-protocol", offered);
        let stream = self.connect().await?;
        match tokio::time::timeout(Duration::from_secs(RESPONSE_S_MAX), client_async(request, stream)).await {
            Ok(Ok((socket, _))) => Ok(socket),
            Ok(Err(SocketError::Http(response))) => {
                let status = StatusCode::from_u16(response.status().as_u16()).unwrap_or(StatusCode::BAD_GATEWAY);
                Err(api_error(status, response.body().as_deref().unwrap_or_default()))
            }
            Ok(Err(error)) => Err(invalid(&error)),
            Err(_) => Err(ClientError::InvalidResponse(format!("no response within {RESPONSE_S_MAX} s"))),
        }
    }

    /// Sends a GET request and parses the JSON response.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.call(Method::GET, path, None::<&()>).await
    }

    /// Reads server-sent events. Calls `on_event` with the name and data of each event until it returns `false`.
    ///
    /// # Errors
    /// As [`Client::call`], and if the stream ends before `on_event` has returned `false`.
    pub(crate) async fn follow(
        &self,
        path: &str,
        mut on_event: impl FnMut(&str, &str) -> bool,
    ) -> Result<(), ClientError> {
        let mut request = request(Method::GET, path, None::<&()>)?;
        request.headers_mut().insert(http::header::ACCEPT, http::HeaderValue::from_static("text/event-stream"));
        let response = self.send(request).await?;
        if !response.status().is_success() {
            let status = response.status();
            return Err(api_error(status, &collect(response.into_body()).await?));
        }
        let mut body = response.into_body();
        let mut pending = String::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| ClientError::InvalidResponse(error.to_string()))?;
            pending.push_str(&String::from_utf8_lossy(frame.data_ref().map_or(&[][..], |data| data)));
            while let Some(end) = pending.find("\n\n") {
                let block: String = pending.drain(..end + 2).collect();
                let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name)).map(str::trim_start);
                if let Some(data) = field("data:")
                    && !on_event(field("event:").unwrap_or("message"), data)
                {
                    return Ok(());
                }
            }
            if pending.len() > RESPONSE_BYTES_MAX {
                return Err(ClientError::InvalidResponse("a server-sent event is too large".into()));
            }
        }
        Err(ClientError::InvalidResponse("the server closed the event stream".into()))
    }
}

fn request<B: Serialize>(method: Method, path: &str, body: Option<&B>) -> Result<Request<Full<Bytes>>, ClientError> {
    let invalid = |error: &dyn std::fmt::Display| ClientError::InvalidResponse(error.to_string());
    let bytes = body.map(serde_json::to_vec).transpose().map_err(|error| invalid(&error))?;
    Request::builder()
        .method(method)
        .uri(path)
        .header(http::header::HOST, "localhost")
        .header(http::header::CONTENT_TYPE, "application/json")
        .body(Full::new(bytes.unwrap_or_default().into()))
        .map_err(|error| invalid(&error))
}

async fn collect(body: Incoming) -> Result<Bytes, ClientError> {
    let collected = Limited::new(body, RESPONSE_BYTES_MAX).collect().await;
    Ok(collected.map_err(|error| ClientError::InvalidResponse(error.to_string()))?.to_bytes())
}

fn api_error(status: StatusCode, bytes: &[u8]) -> ClientError {
    serde_json::from_slice(bytes)
        .map_or_else(|_| ClientError::InvalidResponse(format!("status {status}")), ClientError::Api)
}
