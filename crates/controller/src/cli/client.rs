//! The command line's way to the running server: its API on a Unix socket below the state directory, where the peer's
//! user id is the credential, so that no token lies in a file.

use crate::config::SOCKET_NAME;
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

const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;
const ANSWER_S_MAX: u64 = 60;

/// A WebSocket of the running server.
pub type LocalSocket = WebSocketStream<UnixStream>;

/// Why the server could not be asked, or what it answered.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No server.
    #[error("no server runs with the state directory {dir} ({why}); start it with: anteroom serve")]
    NoServer {
        /// The state directory.
        dir: String,
        /// What the connection attempt said.
        why: std::io::Error,
    },
    /// The server refused.
    #[error("{}{} {}", .0.sentence, .0.detail.as_ref().map(|detail| format!(" ({detail})")).unwrap_or_default(), .0.remedy)]
    Refused(ProblemBody),
    /// The server and this program do not understand each other.
    #[error("the server's answer cannot be read: {0}")]
    Unreadable(String),
}

/// A way to the running server.
#[derive(Debug, Clone)]
pub struct Client {
    dir: std::path::PathBuf,
}

impl Client {
    /// A client of the server that uses this state directory.
    pub fn new(state_dir: &Path) -> Self {
        Self { dir: state_dir.to_owned() }
    }

    async fn connect(&self) -> Result<UnixStream, ClientError> {
        let fail = |why| ClientError::NoServer { dir: self.dir.display().to_string(), why };
        // Through the directory's descriptor: a Unix socket's path may have 107 bytes only.
        let dir = std::fs::File::open(&self.dir).map_err(fail)?;
        UnixStream::connect(format!("/proc/self/fd/{}/{SOCKET_NAME}", dir.as_raw_fd())).await.map_err(fail)
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> Result<http::Response<Incoming>, ClientError> {
        let stream = self.connect().await?;
        let unreadable = |error: hyper::Error| ClientError::Unreadable(error.to_string());
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(unreadable)?;
        tokio::spawn(connection);
        sender.send_request(request).await.map_err(unreadable)
    }

    /// Sends JSON (or nothing) and reads JSON.
    ///
    /// # Errors
    /// No server, a refusal, or an answer that cannot be read.
    pub async fn call<B: Serialize, T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&B>,
    ) -> Result<T, ClientError> {
        let bytes = self.exchange(request(method, path, body)?).await?;
        let bytes: &[u8] = if bytes.is_empty() { b"null" } else { &bytes };
        serde_json::from_slice(bytes).map_err(|error| ClientError::Unreadable(error.to_string()))
    }

    /// Reads what is not JSON: a file.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn bytes(&self, method: Method, path: &str) -> Result<Bytes, ClientError> {
        self.exchange(request(method, path, None::<&()>)?).await
    }

    /// The body of a good answer, within the limits of size and time.
    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<Bytes, ClientError> {
        let exchange = async {
            let response = self.send(request).await?;
            let status = response.status();
            let bytes = collect(response.into_body()).await?;
            if status.is_success() { Ok(bytes) } else { Err(refused(status, &bytes)) }
        };
        tokio::time::timeout(Duration::from_secs(ANSWER_S_MAX), exchange)
            .await
            .unwrap_or_else(|_| Err(ClientError::Unreadable(format!("no answer within {ANSWER_S_MAX} s"))))
    }

    /// Opens a WebSocket there, offering these subprotocols.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn socket(&self, path: &str, subprotocols: &str) -> Result<LocalSocket, ClientError> {
        let unreadable = |error: &dyn std::fmt::Display| ClientError::Unreadable(error.to_string());
        let address = format!("ws://localhost{path}");
        let mut request = address.into_client_request().map_err(|error| unreadable(&error))?;
        let offered = HeaderValue::from_str(subprotocols).map_err(|error| unreadable(&error))?;
        request.headers_mut().insert("sec-websocket-protocol", offered);
        let stream = self.connect().await?;
        match tokio::time::timeout(Duration::from_secs(ANSWER_S_MAX), client_async(request, stream)).await {
            Ok(Ok((socket, _))) => Ok(socket),
            Ok(Err(SocketError::Http(response))) => {
                let status = StatusCode::from_u16(response.status().as_u16()).unwrap_or(StatusCode::BAD_GATEWAY);
                Err(refused(status, response.body().as_deref().unwrap_or_default()))
            }
            Ok(Err(error)) => Err(unreadable(&error)),
            Err(_) => Err(ClientError::Unreadable(format!("no answer within {ANSWER_S_MAX} s"))),
        }
    }

    /// Reads JSON.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.call(Method::GET, path, None::<&()>).await
    }

    /// Follows server-sent events; `on` is given each event's name and data and says whether to go on.
    ///
    /// # Errors
    /// As [`Client::call`], and when the stream ends before `on` said so.
    pub async fn follow(&self, path: &str, mut on: impl FnMut(&str, &str) -> bool) -> Result<(), ClientError> {
        let mut request = request(Method::GET, path, None::<&()>)?;
        request.headers_mut().insert(http::header::ACCEPT, http::HeaderValue::from_static("text/event-stream"));
        let response = self.send(request).await?;
        if !response.status().is_success() {
            let status = response.status();
            return Err(refused(status, &collect(response.into_body()).await?));
        }
        let mut body = response.into_body();
        let mut pending = String::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| ClientError::Unreadable(error.to_string()))?;
            pending.push_str(&String::from_utf8_lossy(frame.data_ref().map_or(&[][..], |data| data)));
            while let Some(end) = pending.find("\n\n") {
                let block: String = pending.drain(..end + 2).collect();
                let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name)).map(str::trim_start);
                if let Some(data) = field("data:")
                    && !on(field("event:").unwrap_or("message"), data)
                {
                    return Ok(());
                }
            }
            if pending.len() > ANSWER_BYTES_MAX {
                return Err(ClientError::Unreadable("an event without an end".into()));
            }
        }
        Err(ClientError::Unreadable("the server ended the stream of events".into()))
    }
}

fn request<B: Serialize>(method: Method, path: &str, body: Option<&B>) -> Result<Request<Full<Bytes>>, ClientError> {
    let unreadable = |error: &dyn std::fmt::Display| ClientError::Unreadable(error.to_string());
    let bytes = body.map(serde_json::to_vec).transpose().map_err(|error| unreadable(&error))?;
    Request::builder()
        .method(method)
        .uri(path)
        .header(http::header::HOST, "localhost")
        .header(http::header::CONTENT_TYPE, "application/json")
        .body(Full::new(bytes.unwrap_or_default().into()))
        .map_err(|error| unreadable(&error))
}

async fn collect(body: Incoming) -> Result<Bytes, ClientError> {
    let collected = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
    Ok(collected.map_err(|error| ClientError::Unreadable(error.to_string()))?.to_bytes())
}

fn refused(status: StatusCode, bytes: &[u8]) -> ClientError {
    serde_json::from_slice(bytes)
        .map_or_else(|_| ClientError::Unreadable(format!("status {status}")), ClientError::Refused)
}
