//! The HTTP proxy that programs in the machine use: `CONNECT host:port` and `GET http://…`. Each connection becomes one
//! named request to the controller's egress gate; its refusal is handed to the program at once, in words.

use crate::{
    agent::Agent,
    host::{self, NoAnswer},
    log,
    tunnels::Place,
};
use anteroom_wire::{Problem, ProblemBody};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, Method, Request, Response, StatusCode, Uri, header, uri::Authority};
use http_body_util::{BodyExt, Empty, Full, Limited, combinators::BoxBody};
use hyper::{body::Incoming, service::service_fn, upgrade::Upgraded};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{convert::Infallible, io, sync::Arc, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};

type Body = BoxBody<Bytes, hyper::Error>;

/// Programs' connections at once, those included that wait for a place.
const CONNECTIONS_MAX: usize = 256;
const HEAD_MS_MAX: u64 = 30_000;
/// How long the gate may take, its own time limit for the far host included.
const GATE_MS_MAX: u64 = 60_000;
/// How long a request waits for a controller that is away.
const AWAY_MS_MAX: u64 = 30_000;
const REFUSAL_BYTES_MAX: usize = 16 * 1024;

/// Serves programs, for ever.
pub(crate) async fn serve(agent: Arc<Agent>, listener: TcpListener) -> io::Result<()> {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let permit = room.clone().acquire_owned().await.map_err(io::Error::other)?;
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of descriptors: the next may succeed.
                log::line(&format!("proxy: {error}"));
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let agent = agent.clone();
        tokio::spawn(async move {
            serve_one(agent, stream).await;
            drop(permit);
        });
    }
}

async fn serve_one(agent: Arc<Agent>, stream: TcpStream) {
    let service = service_fn(move |request| {
        let agent = agent.clone();
        async move { Ok::<_, Infallible>(answer(&agent, request).await) }
    });
    // A program that breaks off is not worth a line.
    let _ = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_millis(HEAD_MS_MAX))
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades()
        .await;
}

async fn answer(agent: &Arc<Agent>, request: Request<Incoming>) -> Response<Body> {
    let answered =
        if request.method() == Method::CONNECT { tunnel(agent, request).await } else { forward(agent, request).await };
    answered.unwrap_or_else(|refusal| refusal.into_response())
}

/// Why a program does not get its connection.
struct Refusal {
    status: StatusCode,
    body: ProblemBody,
}

impl Refusal {
    fn new(problem: Problem, detail: &str) -> Self {
        let status = StatusCode::from_u16(problem.http_status()).unwrap_or(StatusCode::BAD_GATEWAY);
        Self { status, body: problem.with(detail) }
    }

    fn into_response(self) -> Response<Body> {
        let detail = self.body.detail.map(|detail| format!(" ({detail})")).unwrap_or_default();
        let text = format!("{}{detail} {}\n", self.body.sentence, self.body.remedy);
        let mut response = Response::new(whole(text));
        *response.status_mut() = self.status;
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, header::HeaderValue::from_static("text/plain; charset=utf-8"));
        response
    }
}

fn whole(text: String) -> Body {
    Full::from(text).map_err(|never| match never {}).boxed()
}

/// A stream to `authority` through the gate.
async fn reach(agent: &Arc<Agent>, authority: &str) -> Result<(Place, Upgraded), Refusal> {
    // What a browser wants to fetch by itself while nobody owns the machine is nobody's request.
    if agent.claim_now().is_none() {
        return Err(Refusal::new(Problem::EgressDenied, "the machine is not claimed"));
    }
    let slow = |what| Refusal::new(Problem::EgressTimeout, what);
    let place = agent.tunnels.place().await.ok_or_else(|| slow("too many connections are open"))?;
    let away = Duration::from_millis(AWAY_MS_MAX);
    tokio::time::timeout(away, agent.host.connected()).await.map_err(|_| slow("the controller is away"))?;
    let request = Request::connect(authority).body(Full::default());
    let request = request.map_err(|_| Refusal::new(Problem::Malformed, "not a host and a port"))?;
    let response = agent.host.send(request, GATE_MS_MAX).await.map_err(|error| match error {
        NoAnswer::Slow => slow("the gate did not answer"),
        NoAnswer::Away | NoAnswer::Broken(_) | NoAnswer::Unwritable => {
            Refusal::new(Problem::EgressUnreachable, &error.to_string())
        }
    })?;
    let status = response.status();
    if status != StatusCode::OK {
        let body = Limited::new(response.into_body(), REFUSAL_BYTES_MAX).collect();
        let body = tokio::time::timeout(Duration::from_millis(HEAD_MS_MAX), body).await;
        let body = body.ok().and_then(Result::ok).and_then(|body| host::json(&body.to_bytes()));
        let body = body.unwrap_or_else(|| Problem::EgressUnreachable.with(""));
        return Err(Refusal { status, body });
    }
    let upgraded = hyper::upgrade::on(response).await;
    let stream = upgraded.map_err(|_| Refusal::new(Problem::EgressUnreachable, "the channel broke"))?;
    Ok((place, stream))
}

async fn tunnel(agent: &Arc<Agent>, request: Request<Incoming>) -> Result<Response<Body>, Refusal> {
    let authority = request.uri().authority().filter(|authority| authority.port_u16().is_some()).cloned();
    let authority = authority.ok_or_else(|| Refusal::new(Problem::Malformed, "CONNECT needs a host and a port"))?;
    let (place, far) = reach(agent, authority.as_str()).await?;
    tokio::spawn(async move {
        if let Ok(near) = hyper::upgrade::on(request).await {
            place.carry(TokioIo::new(near), TokioIo::new(far)).await;
        }
    });
    Ok(Response::new(Empty::new().map_err(|never| match never {}).boxed()))
}

/// `GET http://host/…`: asked of the far host on a stream of its own.
async fn forward(agent: &Arc<Agent>, mut request: Request<Incoming>) -> Result<Response<Body>, Refusal> {
    let malformed = |what| Refusal::new(Problem::Malformed, what);
    let plain = request.uri().scheme_str() == Some("http");
    let authority = request.uri().authority().filter(|_| plain).cloned();
    let authority = authority.ok_or_else(|| malformed("a proxy takes CONNECT host:port or http:// addresses"))?;
    let target = format!("{}:{}", authority.host(), authority.port_u16().unwrap_or(80));
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str()).to_owned();
    *request.uri_mut() = path.parse::<Uri>().map_err(|_| malformed("the address has no path"))?;
    let_pass(request.headers_mut(), &authority);
    let (place, far) = reach(agent, &target).await?;
    let broken = |error: hyper::Error| Refusal::new(Problem::EgressUnreachable, &error.to_string());
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(TokioIo::new(far))).await.map_err(broken)?;
    tokio::spawn(async move { place.hold(connection).await });
    let answer = tokio::time::timeout(Duration::from_millis(GATE_MS_MAX), sender.send_request(request)).await;
    let mut response = answer.map_err(|_| Refusal::new(Problem::EgressTimeout, ""))?.map_err(broken)?;
    for name in [header::CONNECTION, header::PROXY_AUTHENTICATE, HeaderName::from_static("keep-alive")] {
        response.headers_mut().remove(name);
    }
    Ok(response.map(BodyExt::boxed))
}

/// Headers that are between the program and this proxy go no further.
fn let_pass(headers: &mut HeaderMap, authority: &Authority) {
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
