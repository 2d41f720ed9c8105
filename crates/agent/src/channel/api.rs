//! The agent's HTTP API, on the channel on which the agent is the HTTP/2 server: the routes of `anteroom_wire::agent`. Errors have a
//! [`ProblemBody`](anteroom_wire::ProblemBody).

mod sign_in;
mod streams;

use super::resync::Connection;
use crate::{agent::Agent, api_error::ApiError, log};
use anteroom_wire::{
    Problem,
    agent::{DESKTOP_AUTHORITY, TERMINAL_AUTHORITY},
    channel,
    exec::EXEC_AUTHORITY,
};
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde::{Serialize, de::DeserializeOwned};
use std::{convert::Infallible, sync::Arc, time::Duration};

type ApiResponse = Response<Full<Bytes>>;

const BODY_BYTES_MAX: usize = 1024 * 1024;
/// A claim may contain the files of a credential, up to the largest configurable size (64 MiB), in base64, and the provider's descriptor.
const CLAIM_BYTES_MAX: usize = 96 * 1024 * 1024;
const BODY_MS_MAX: u64 = 30_000;
const HEADER_BYTES_MAX: u32 = 16 * 1024;

/// Serves one connection until it ends.
pub(crate) async fn serve_connection(agent: Arc<Agent>, connection: Connection) {
    let service = service_fn(move |request| {
        let agent = agent.clone();
        async move { Ok::<_, Infallible>(route(&agent, request).await.unwrap_or_else(error_response)) }
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
        log::write_line(&format!("agent channel ended: {error}"));
    }
}

fn error_response(error: ApiError) -> ApiResponse {
    if error.has_cause() {
        log::write_line(&format!("request failed: {error}"));
    }
    let (status, body) = error.into_answer();
    json_with_status(status, &body)
}

/// All routes.
async fn route(agent: &Arc<Agent>, request: Request<Incoming>) -> Result<ApiResponse, ApiError> {
    let path = request.uri().path().to_owned();
    let method = request.method().clone();
    if method == Method::CONNECT {
        let authority = request.uri().authority().map(ToString::to_string).unwrap_or_default();
        return match authority.as_str() {
            DESKTOP_AUTHORITY => streams::open_desktop(agent, request).await,
            TERMINAL_AUTHORITY => streams::open_terminal(agent, request),
            EXEC_AUTHORITY => streams::open_exec(agent, request),
            _ => Err(ApiError::new(Problem::PathNotFound, format!("nothing to connect to at {authority:?}"))),
        };
    }
    let resized_stream = path.strip_prefix("/terminal/").and_then(|rest| rest.strip_suffix("/size"));
    match (path.as_str(), resized_stream) {
        ("/hello", _) => Ok(json(require(&method, Method::GET)?, &agent.agent_info())),
        ("/claim", _) => {
            sign_in::claim_machine(
                agent,
                parse_body_up_to(CLAIM_BYTES_MAX, require(&method, Method::POST)?, request).await?,
            )
            .await
        }
        ("/sign-in", _) => Ok(json(require(&method, Method::GET)?, &sign_in::get_sign_in_status(agent))),
        ("/open-url", _) => sign_in::open_url(agent, parse_body(require(&method, Method::POST)?, request).await?).await,
        ("/paste", _) => {
            sign_in::submit_paste(agent, parse_body(require(&method, Method::POST)?, request).await?).await
        }
        ("/method", _) => {
            sign_in::change_method(agent, parse_body(require(&method, Method::POST)?, request).await?).await
        }
        ("/input", _) => sign_in::type_text(agent, parse_body(require(&method, Method::POST)?, request).await?).await,
        ("/screen", _) => {
            require(&method, Method::GET)?;
            sign_in::get_screen(agent).await
        }
        (_, Some(id)) => {
            streams::resize_terminal(agent, id, parse_body(require(&method, Method::POST)?, request).await?)
        }
        (_, None) => Err(ApiError::new(Problem::PathNotFound, "")),
    }
}

/// Proof that the request's method was checked.
struct MethodChecked;

fn require(method: &Method, allowed: Method) -> Result<MethodChecked, ApiError> {
    if *method == allowed {
        Ok(MethodChecked)
    } else {
        Err(ApiError::new(Problem::MethodNotAllowed, format!("use {allowed}")))
    }
}

async fn parse_body<T: DeserializeOwned>(checked: MethodChecked, request: Request<Incoming>) -> Result<T, ApiError> {
    parse_body_up_to(BODY_BYTES_MAX, checked, request).await
}

async fn parse_body_up_to<T: DeserializeOwned>(
    bytes_max: usize,
    _: MethodChecked,
    request: Request<Incoming>,
) -> Result<T, ApiError> {
    let whole = Limited::new(request.into_body(), bytes_max).collect();
    let whole = tokio::time::timeout(Duration::from_millis(BODY_MS_MAX), whole).await;
    let whole = whole.map_err(|_| ApiError::new(Problem::Malformed, "the body did not arrive in time"))?;
    let whole = whole.map_err(|_| ApiError::new(Problem::TooLarge, format!("at most {bytes_max} bytes")))?;
    // Line and column only: the parser's message could quote a secret.
    serde_json::from_slice(&whole.to_bytes()).map_err(|error| {
        ApiError::new(
            Problem::Malformed,
            format!("the body is malformed at line {}, column {}", error.line(), error.column()),
        )
    })
}

fn json(_: MethodChecked, value: &impl Serialize) -> ApiResponse {
    json_with_status(StatusCode::OK, value)
}

fn json_with_status(status: StatusCode, value: &impl Serialize) -> ApiResponse {
    let Ok(text) = serde_json::to_vec(value) else { return empty(StatusCode::INTERNAL_SERVER_ERROR) };
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn empty(status: StatusCode) -> ApiResponse {
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    response
}
