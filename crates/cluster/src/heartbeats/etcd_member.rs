//! The members of etcd and their HTTP interface (etcd's gRPC gateway, `/v3/`).
//!
//! Each member has a client of its own and [`ANSWER_MS_MAX`] for its answer; then the next one is asked. A balancer over all members can
//! stay with a dead one for seconds. There are no pings: connections that idle are simply replaced.

use super::{
    RegisterError,
    etcd::{EtcdSettings, KeyValue},
};
use anteroom_wire::Secret;
use bytes::Bytes;
use http::{Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use parking_lot::Mutex;
use serde::{Deserialize, Deserializer, de::Error as _};
use serde_json::{Value, json};
use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

/// How long one member may take to answer, milliseconds.
pub const ANSWER_MS_MAX: u64 = 800;
/// The longest answer, bytes: the heartbeats of more than 10,000 hosts.
const ANSWER_BYTES_MAX: usize = 16 * 1_024 * 1_024;
/// How long an idle connection is kept, seconds.
const IDLE_S_MAX: u64 = 30;
/// Characters of an error of etcd that are repeated.
const ERROR_CHARS_MAX: usize = 200;

/// What etcd answers, as far as it is used.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Answer {
    pub(super) header: AnswerHeader,
    pub(super) succeeded: bool,
    pub(super) kvs: Vec<KeyValue>,
    pub(super) responses: Vec<Response>,
    token: Option<Secret>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct AnswerHeader {
    /// The revision of the store after the request.
    #[serde(deserialize_with = "number")]
    pub(super) revision: u64,
}

/// The answer to one request of a transaction.
#[derive(Debug, Deserialize)]
pub(super) struct Response {
    #[serde(rename = "response_range")]
    pub(super) range: Option<Range>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Range {
    kvs: Vec<KeyValue>,
}

impl Range {
    pub(super) fn first(self) -> Option<KeyValue> {
        self.kvs.into_iter().next()
    }
}

/// A number of 64 bits, which JSON of Protocol Buffers writes as a text.
pub(super) fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
}

type HttpClient = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// All members, and the one that answered last.
pub(super) struct Members {
    members: Vec<(Uri, HttpClient)>,
    preferred: AtomicUsize,
    user: Option<(String, Secret)>,
    token: Mutex<Option<Secret>>,
}

impl std::fmt::Debug for Members {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.members.iter().map(|(endpoint, _)| endpoint)).finish()
    }
}

/// Why one member did not answer.
enum Failure {
    /// The token is missing or has expired.
    Unauthenticated,
    Other(String),
}

impl Members {
    pub(super) fn new(settings: EtcdSettings) -> Self {
        let client = || {
            let connector = HttpsConnectorBuilder::new()
                .with_tls_config((*settings.tls).clone())
                .https_or_http()
                .enable_http1()
                .build();
            Client::builder(TokioExecutor::new())
                .pool_timer(TokioTimer::new())
                .pool_idle_timeout(Duration::from_secs(IDLE_S_MAX))
                .build(connector)
        };
        let members = settings.endpoints.iter().map(|endpoint| (endpoint.clone(), client())).collect();
        Self { members, preferred: AtomicUsize::new(0), user: settings.user, token: Mutex::new(None) }
    }

    /// The answer of the first member that gives one.
    pub(super) async fn post(&self, path: &str, body: &Value) -> Result<Answer, RegisterError> {
        let mut failures = Vec::new();
        let first = self.preferred.load(Ordering::Relaxed);
        for step in 0..self.members.len() {
            let at = (first + step) % self.members.len();
            let Some((endpoint, client)) = self.members.get(at) else { continue };
            let limit = Duration::from_millis(ANSWER_MS_MAX);
            let answer = tokio::time::timeout(limit, self.ask(client, endpoint, path, body)).await;
            match answer.unwrap_or_else(|_| Err(format!("no answer in {ANSWER_MS_MAX} ms"))) {
                Ok(answer) => {
                    self.preferred.store(at, Ordering::Relaxed);
                    return Ok(answer);
                }
                Err(failure) => {
                    failures.push(format!("{}: {failure}", endpoint.authority().map_or("", |at| at.as_str())))
                }
            }
        }
        Err(RegisterError(format!("etcd: {}", failures.join("; "))))
    }

    /// Asks one member, and signs in if it wants that.
    async fn ask(&self, client: &HttpClient, endpoint: &Uri, path: &str, body: &Value) -> Result<Answer, String> {
        let token = self.token.lock().clone();
        match send(client, endpoint, path, body, token.as_ref()).await {
            Ok(answer) => return Ok(answer),
            Err(Failure::Other(why)) => return Err(why),
            Err(Failure::Unauthenticated) if self.user.is_none() => {
                return Err("it wants a user: set cluster.etcd.username".to_owned());
            }
            Err(Failure::Unauthenticated) => {}
        }
        let of = |failure| match failure {
            Failure::Unauthenticated => "it does not accept user and password".to_owned(),
            Failure::Other(why) => why,
        };
        let Some((name, password)) = &self.user else { return Err(of(Failure::Unauthenticated)) };
        let request = json!({ "name": name, "password": password.expose() });
        let answer = send(client, endpoint, "/v3/auth/authenticate", &request, None).await.map_err(of)?;
        (*self.token.lock()).clone_from(&answer.token);
        send(client, endpoint, path, body, answer.token.as_ref()).await.map_err(of)
    }
}

/// One request to one member. Errors contain nothing of the request.
async fn send(
    client: &HttpClient,
    endpoint: &Uri,
    path: &str,
    body: &Value,
    token: Option<&Secret>,
) -> Result<Answer, Failure> {
    let other = |error: &(dyn std::error::Error + 'static)| Failure::Other(anteroom_wire::chain(error));
    let mut parts = endpoint.clone().into_parts();
    parts.path_and_query = Some(path.parse().map_err(|error: http::uri::InvalidUri| other(&error))?);
    let uri = Uri::from_parts(parts).map_err(|error| other(&error))?;
    let mut request = Request::builder().method(Method::POST).uri(uri).header(header::CONTENT_TYPE, "application/json");
    if let Some(token) = token {
        request = request.header(header::AUTHORIZATION, token.expose());
    }
    let request = request.body(Full::from(body.to_string())).map_err(|error| other(&error))?;
    let response = client.request(request).await.map_err(|error| other(&error))?;
    let status = response.status();
    let read = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
    let bytes = read.map_err(|error| Failure::Other(format!("its answer: {error}")))?.to_bytes();
    if status == StatusCode::OK {
        return serde_json::from_slice(&bytes).map_err(|error| Failure::Other(format!("its answer: {error}")));
    }
    let found: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    let text = found["message"].as_str().or(found["error"].as_str()).unwrap_or_default();
    // "user name is empty" is the answer to a request without a token.
    if status == StatusCode::UNAUTHORIZED || text.contains("invalid auth token") || text.contains("user name is empty")
    {
        return Err(Failure::Unauthenticated);
    }
    let text: String = text.chars().filter(|c| !c.is_control()).take(ERROR_CHARS_MAX).collect();
    Err(Failure::Other(format!("{status} {text}")))
}
