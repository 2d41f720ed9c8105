//! The HTTP proxy for programs in the machine: `CONNECT host:port` and `GET http://…`. Each connection becomes one request, with the
//! host's name, to the controller's egress gate. If the gate rejects it, the program gets the reason as text at once. The browser has a
//! port of its own, so that the gate knows who asks.

use super::{
    connection_slots::ConnectionSlot,
    controller_client::{CallError, parse_json},
};
use crate::{agent::Agent, log};
use anteroom_wire::{
    Problem, ProblemBody,
    agent::{EGRESS_BY_HEADER, EgressBy},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, Method, Request, Response, StatusCode, Uri, header, uri::Authority};
use http_body_util::{BodyExt, Empty, Full, Limited, combinators::BoxBody};
use hyper::{body::Incoming, service::service_fn, upgrade::Upgraded};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{convert::Infallible, io, sync::Arc, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::Instant,
};

type Body = BoxBody<Bytes, hyper::Error>;

/// Connections from programs at once, including those that wait for a slot.
const CONNECTIONS_MAX: usize = 256;
const HEAD_MS_MAX: u64 = 30_000;
/// How long the gate may take to answer, including the time in which it connects to the remote host.
const GATE_MS_MAX: u64 = 60_000;
/// How long a request waits for the controller to connect.
const CONTROLLER_MS_MAX: u64 = 30_000;
/// How often a request that met a restart of the controller is sent again.
const RESTART_EVERY_MS: u64 = 100;
const ERROR_BYTES_MAX: usize = 16 * 1024;

/// Serves these programs, forever. A connection that cannot be accepted is logged.
pub(crate) async fn serve_proxy(agent: Arc<Agent>, listener: TcpListener, by: EgressBy) -> io::Result<()> {
    let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let permit = connections.clone().acquire_owned().await.map_err(io::Error::other)?;
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of file descriptors: a later attempt may succeed.
                log::write_line(&format!("proxy: {error}"));
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let agent = agent.clone();
        tokio::spawn(async move {
            serve_one(agent, stream, by).await;
            drop(permit);
        });
    }
}

async fn serve_one(agent: Arc<Agent>, stream: TcpStream, by: EgressBy) {
    let service = service_fn(move |request| {
        let agent = agent.clone();
        async move { Ok::<_, Infallible>(handle(&agent, request, by).await) }
    });
    // A program that closes its connection early is not an error.
    let _ = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_millis(HEAD_MS_MAX))
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades()
        .await;
}

async fn handle(agent: &Arc<Agent>, request: Request<Incoming>, by: EgressBy) -> Response<Body> {
    let is_connect = request.method() == Method::CONNECT;
    let response = if is_connect { tunnel(agent, request, by).await } else { forward(agent, request, by).await };
    response.unwrap_or_else(ProxyError::into_response)
}

/// Why a program gets no connection.
struct ProxyError {
    status: StatusCode,
    body: ProblemBody,
}

impl ProxyError {
    fn new(problem: Problem, detail: &str) -> Self {
        let status = StatusCode::from_u16(problem.http_status()).unwrap_or(StatusCode::BAD_GATEWAY);
        Self { status, body: problem.with_detail(detail) }
    }

    fn into_response(self) -> Response<Body> {
        let detail = self.body.detail.map(|detail| format!(" ({detail})")).unwrap_or_default();
        let text = format!("{}{detail} {}\n", self.body.sentence, self.body.remedy);
        let mut response = Response::new(text_body(text));
        *response.status_mut() = self.status;
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, header::HeaderValue::from_static("text/plain; charset=utf-8"));
        response
    }
}

fn text_body(text: String) -> Body {
    Full::from(text).map_err(|never| match never {}).boxed()
}

/// Opens a stream to `authority` through the gate. While the controller is restarted, its successor is asked: nothing was sent yet.
async fn connect(agent: &Arc<Agent>, authority: &str, by: EgressBy) -> Result<(ConnectionSlot, Upgraded), ProxyError> {
    // Before the claim only the browser's own background requests can come, and no session accounts for them.
    if agent.claim.current().is_none() {
        return Err(ProxyError::new(Problem::EgressDenied, "the machine is not claimed"));
    }
    let slot = agent.tunnels.acquire().await.ok_or_else(|| late("too many connections are open"))?;
    let deadline = Instant::now() + Duration::from_millis(CONTROLLER_MS_MAX);
    loop {
        let connected = tokio::time::timeout_at(deadline, agent.controller.wait_connected()).await;
        connected.map_err(|_| late("the controller is not connected"))?;
        match ask_gate(agent, authority, by).await {
            Err(GateError::Restarting) if Instant::now() >= deadline => {
                return Err(late("the controller is restarting"));
            }
            Err(GateError::Restarting) => tokio::time::sleep(Duration::from_millis(RESTART_EVERY_MS)).await,
            Err(GateError::Refused(error)) => return Err(error),
            Ok(stream) => return Ok((slot, stream)),
        }
    }
}

/// Why the gate opened no stream.
enum GateError {
    /// The controller is stopping, or the channel broke.
    Restarting,
    Refused(ProxyError),
}

async fn ask_gate(agent: &Arc<Agent>, authority: &str, by: EgressBy) -> Result<Upgraded, GateError> {
    let refused = |problem, detail: &str| GateError::Refused(ProxyError::new(problem, detail));
    let request = Request::connect(authority).header(EGRESS_BY_HEADER, by.as_str()).body(Full::default());
    let request = request.map_err(|_| refused(Problem::Malformed, "not a host and a port"))?;
    let response = agent.controller.send(request, GATE_MS_MAX).await.map_err(|error| match error {
        CallError::Timeout => GateError::Refused(late("the gate did not answer")),
        CallError::NotConnected | CallError::Broken(_) => GateError::Restarting,
        CallError::InvalidRequest => refused(Problem::EgressUnreachable, &error.to_string()),
    })?;
    let status = response.status();
    if status == StatusCode::OK {
        return hyper::upgrade::on(response).await.map_err(|_| GateError::Restarting);
    }
    let body = Limited::new(response.into_body(), ERROR_BYTES_MAX).collect();
    let body = tokio::time::timeout(Duration::from_millis(HEAD_MS_MAX), body).await;
    let body: Option<ProblemBody> = body.ok().and_then(Result::ok).and_then(|body| parse_json(&body.to_bytes()));
    let body = body.unwrap_or_else(|| Problem::EgressUnreachable.with_detail(""));
    if body.code == Problem::ShuttingDown.code() {
        return Err(GateError::Restarting);
    }
    Err(GateError::Refused(ProxyError { status, body }))
}

fn late(detail: &str) -> ProxyError {
    ProxyError::new(Problem::EgressTimeout, detail)
}

async fn tunnel(agent: &Arc<Agent>, request: Request<Incoming>, by: EgressBy) -> Result<Response<Body>, ProxyError> {
    let authority = request.uri().authority().filter(|authority| authority.port_u16().is_some()).cloned();
    let authority = authority.ok_or_else(|| ProxyError::new(Problem::Malformed, "CONNECT needs a host and a port"))?;
    let (slot, remote) = connect(agent, authority.as_str(), by).await?;
    tokio::spawn(async move {
        if let Ok(program) = hyper::upgrade::on(request).await {
            slot.relay(TokioIo::new(program), TokioIo::new(remote)).await;
        }
    });
    Ok(Response::new(Empty::new().map_err(|never| match never {}).boxed()))
}

/// `GET http://host/…`: sends the request to the remote host on a new stream.
async fn forward(
    agent: &Arc<Agent>,
    mut request: Request<Incoming>,
    by: EgressBy,
) -> Result<Response<Body>, ProxyError> {
    let malformed = |detail| ProxyError::new(Problem::Malformed, detail);
    let plain = request.uri().scheme_str() == Some("http");
    let authority = request.uri().authority().filter(|_| plain).cloned();
    let authority = authority.ok_or_else(|| malformed("the proxy supports CONNECT host:port and http:// URLs"))?;
    let target = format!("{}:{}", authority.host(), authority.port_u16().unwrap_or(80));
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str()).to_owned();
    *request.uri_mut() = path.parse::<Uri>().map_err(|_| malformed("the address has no path"))?;
    strip_hop_by_hop_headers(request.headers_mut(), &authority);
    let (slot, remote) = connect(agent, &target, by).await?;
    let broken = |error: hyper::Error| ProxyError::new(Problem::EgressUnreachable, &error.to_string());
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(TokioIo::new(remote))).await.map_err(broken)?;
    tokio::spawn(async move { slot.run_in_slot(connection).await });
    let response = tokio::time::timeout(Duration::from_millis(GATE_MS_MAX), sender.send_request(request)).await;
    let mut response = response.map_err(|_| ProxyError::new(Problem::EgressTimeout, ""))?.map_err(broken)?;
    for name in [header::CONNECTION, header::PROXY_AUTHENTICATE, HeaderName::from_static("keep-alive")] {
        response.headers_mut().remove(name);
    }
    Ok(response.map(BodyExt::boxed))
}

/// Removes the headers that concern only the program and this proxy.
fn strip_hop_by_hop_headers(headers: &mut HeaderMap, authority: &Authority) {
    for name in [
        header::CONNECTION,
        header::PROXY_AUTHORIZATION,
        header::UPGRADE,
        HeaderName::from_static("proxy-connection"),
        HeaderName::from_static("keep-alive"),
    ] {
        headers.remove(name);
    }
    if let Ok(host) = header::HeaderValue::from_str(authority.as_str()) {
        headers.insert(header::HOST, host);
    }
}
