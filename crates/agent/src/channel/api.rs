//! The channel on which the agent is HTTP/2's server: the routes of `anteroom_wire::agent`, each refusal a problem.

mod sign_in;
mod streams;

use crate::{agent::Agent, log, resync::Connection};
use anteroom_wire::{
    Problem,
    agent::{DESKTOP_AUTHORITY, TERMINAL_AUTHORITY},
    channel,
};
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde::{Serialize, de::DeserializeOwned};
use std::{convert::Infallible, sync::Arc, time::Duration};

type Answer = Response<Full<Bytes>>;

const BODY_BYTES_MAX: usize = 1024 * 1024;
/// A claim may bring a credential's files: as much as a server can be told to take (64 MiB), in base64, and the descriptor.
const CLAIM_BYTES_MAX: usize = 96 * 1024 * 1024;
const BODY_MS_MAX: u64 = 30_000;
const HEADER_BYTES_MAX: u32 = 16 * 1024;

/// Serves one connection until it ends.
pub(crate) async fn connection(agent: Arc<Agent>, connection: Connection) {
    let service = service_fn(move |request| {
        let agent = agent.clone();
        async move { Ok::<_, Infallible>(route(&agent, request).await.unwrap_or_else(Refused::into_answer)) }
    });
    let served = http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(channel::STREAM_WINDOW_BYTES)
        .initial_connection_window_size(channel::CONNECTION_WINDOW_BYTES)
        .max_frame_size(channel::FRAME_BYTES_MAX)
        .max_send_buf_size(channel::SEND_BUFFER_BYTES)
        .max_concurrent_streams(channel::STREAMS_MAX)
        .max_header_list_size(HEADER_BYTES_MAX)
        .serve_connection(TokioIo::new(connection), service)
        .await;
    if let Err(error) = served {
        log::line(&format!("agent channel ended: {error}"));
    }
}

/// A request that is not granted.
#[derive(Debug)]
struct Refused {
    problem: Problem,
    detail: String,
    status: u16,
}

impl Refused {
    fn new(problem: Problem, detail: impl Into<String>) -> Self {
        Self { problem, detail: detail.into(), status: problem.http_status() }
    }

    fn into_answer(self) -> Answer {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        json_with(status, &self.problem.with(self.detail))
    }
}

/// The table of contents.
async fn route(agent: &Arc<Agent>, request: Request<Incoming>) -> Result<Answer, Refused> {
    let path = request.uri().path().to_owned();
    let method = request.method().clone();
    if method == Method::CONNECT {
        let authority = request.uri().authority().map(ToString::to_string).unwrap_or_default();
        return match authority.as_str() {
            DESKTOP_AUTHORITY => streams::desktop(agent, request).await,
            TERMINAL_AUTHORITY => streams::terminal(agent, request),
            _ => Err(Refused::new(Problem::PathNotFound, format!("nothing to connect to at {authority:?}"))),
        };
    }
    let size_of = path.strip_prefix("/terminal/").and_then(|rest| rest.strip_suffix("/size"));
    match (path.as_str(), size_of) {
        ("/hello", _) => Ok(json(only(&method, Method::GET)?, &agent.hello())),
        ("/claim", _) => {
            sign_in::claim(agent, body_up_to(CLAIM_BYTES_MAX, only(&method, Method::POST)?, request).await?).await
        }
        ("/sign-in", _) => Ok(json(only(&method, Method::GET)?, &sign_in::read(agent))),
        ("/open-url", _) => sign_in::open_url(agent, body(only(&method, Method::POST)?, request).await?).await,
        ("/paste", _) => sign_in::paste(agent, body(only(&method, Method::POST)?, request).await?).await,
        ("/method", _) => sign_in::method(agent, body(only(&method, Method::POST)?, request).await?).await,
        ("/input", _) => sign_in::input(agent, body(only(&method, Method::POST)?, request).await?).await,
        ("/screen", _) => {
            only(&method, Method::GET)?;
            sign_in::screen(agent).await
        }
        (_, Some(id)) => streams::resize(agent, id, body(only(&method, Method::POST)?, request).await?),
        (_, None) => Err(Refused::new(Problem::PathNotFound, "")),
    }
}

/// The method was the right one.
struct Granted;

fn only(method: &Method, wanted: Method) -> Result<Granted, Refused> {
    if *method == wanted { Ok(Granted) } else { Err(Refused::new(Problem::MethodNotAllowed, format!("use {wanted}"))) }
}

async fn body<T: DeserializeOwned>(granted: Granted, request: Request<Incoming>) -> Result<T, Refused> {
    body_up_to(BODY_BYTES_MAX, granted, request).await
}

async fn body_up_to<T: DeserializeOwned>(
    bytes_max: usize,
    _: Granted,
    request: Request<Incoming>,
) -> Result<T, Refused> {
    let whole = Limited::new(request.into_body(), bytes_max).collect();
    let whole = tokio::time::timeout(Duration::from_millis(BODY_MS_MAX), whole).await;
    let whole = whole.map_err(|_| Refused::new(Problem::Malformed, "the body did not come in time"))?;
    let whole = whole.map_err(|_| Refused::new(Problem::TooLarge, format!("at most {bytes_max} bytes")))?;
    // Line and column only: the parser's own message could quote a secret.
    serde_json::from_slice(&whole.to_bytes()).map_err(|error| {
        Refused::new(
            Problem::Malformed,
            format!("the body does not fit at line {}, column {}", error.line(), error.column()),
        )
    })
}

fn json(_: Granted, value: &impl Serialize) -> Answer {
    json_with(StatusCode::OK, value)
}

fn json_with(status: StatusCode, value: &impl Serialize) -> Answer {
    let Ok(text) = serde_json::to_vec(value) else { return empty(StatusCode::INTERNAL_SERVER_ERROR) };
    let mut answer = Response::new(Full::from(text));
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}

fn empty(status: StatusCode) -> Answer {
    let mut answer = Response::new(Full::default());
    *answer.status_mut() = status;
    answer
}
