//! Machines whose agent is the test: it listens on the sockets of their channels, so that it can send any bytes.

use crate::{fixture::Flags, raw_http::resident_kib};
use anteroom_machine::{AGENT_SERVER_SOCKET, ByteStream, CONTROLLER_SERVER_SOCKET};
use anteroom_testbed::{ApiClient, PausePoint, PlainProcess, TestConfig, TestServer, WAIT_MAX, eventually};
use anteroom_wire::{
    SessionId, TimelineKind,
    agent::{AgentInfo, CaptureState, Claim, CliState, PROTOCOL_VERSION, SignInStatus, Stage, StageReport, StageState},
    api::SessionStatus,
    channel::format_echo_line,
};
use futures_util::future::BoxFuture;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use hyper::{
    body::{Bytes, Incoming},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::{collections::BTreeMap, convert::Infallible, sync::Arc};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream},
    sync::watch,
};

/// No restarts, so that a session ends with its first machine; a machine that reads nothing is noticed soon.
pub(crate) const SETTINGS: &str = "[sessions]\nrestarts_max = 0\n[log]\nlevel = 'info'\n[limits.machines]\n\
    ping_every_ms = 500\nping_ms_max = 2500\nliveness_timeout_ms = 5000\n";

/// How much the server's memory may grow, KiB.
pub(crate) const MEMORY_KIB_MAX: u64 = 64 * 1024;

pub(crate) type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

/// A server with one session whose machine is as it should be. The machines of further sessions are the test's.
pub(crate) struct HostileMachines {
    pub(crate) server: TestServer,
    pub(crate) api: ApiClient,
    /// The session whose machine is as it should be.
    pub(crate) other: SessionId,
    /// Resident memory before any attack, KiB.
    pub(crate) rest_kib: u64,
    _flags: Flags,
}

impl HostileMachines {
    pub(crate) async fn start(settings: &str) -> Self {
        Self::start_with(settings, None).await
    }

    /// The same with another time for machines to become ready, milliseconds.
    pub(crate) async fn start_with(settings: &str, ready_ms_max: Option<u64>) -> Self {
        let flags = Flags::new();
        let providers = vec![flags.idle_provider()];
        let machines = PlainProcess { providers, ready_ms_max, ..PlainProcess::default() };
        let config = TestConfig::new(machines).with_settings(settings);
        let server = TestServer::start(config).await.unwrap();
        let api = server.backend_client().unwrap();
        let other = api.start_session("scripted").await.unwrap().session.id;
        api.wait_entry(&other, TimelineKind::CliStarted).await.unwrap();
        server.pause(PausePoint::AgentStart).unwrap();
        let rest_kib = resident_kib(&server);
        Self { server, api, other, rest_kib, _flags: flags }
    }

    /// Starts a session; the test listens on its machine's channels.
    pub(crate) async fn start_session(&self) -> (SessionId, HostileMachine) {
        let known = self.server.list_machines();
        let id = self.api.start_session("scripted").await.unwrap().session.id;
        let new = async || {
            let found = self.server.list_machines().into_iter().find(|machine| !known.contains(machine));
            Ok(found.filter(|machine| self.server.run_dir(machine).join("control.sock").exists()))
        };
        let machine = eventually("the machine has a run directory", WAIT_MAX, new).await.unwrap();
        let listen = |name| UnixListener::bind(self.server.run_dir(&machine).join(name)).unwrap();
        let (agent, controller) = (listen(AGENT_SERVER_SOCKET), listen(CONTROLLER_SERVER_SOCKET));
        (id, HostileMachine { agent, controller })
    }

    /// Starts a session whose agent behaves like this; returns when it has been claimed.
    pub(crate) async fn start_claimed(&self, behaviour: Behaviour) -> (SessionId, ClaimedMachine) {
        let (id, HostileMachine { agent, controller, .. }) = self.start_session().await;
        let (sender, mut claim) = watch::channel(None);
        let agent = tokio::spawn(serve_agent(agent, behaviour, sender));
        let claim = claim.wait_for(Option::is_some).await.unwrap().clone().unwrap();
        self.api.wait_status(&id, SessionStatus::VmStarted).await.unwrap();
        (id, ClaimedMachine { claim, controller, agent })
    }

    /// Other sessions are served, and the server's memory is within its limit.
    pub(crate) async fn require_unaffected(&self, attack: &str) {
        let path = format!("/api/auth/session/{}/screen", self.other);
        let screen = async || Ok((self.api.get(&path).await?.status == 200).then_some(()));
        eventually("another session's terminal can be read", WAIT_MAX, screen).await.unwrap();
        assert_eq!(self.api.get_session(&self.other).await.unwrap().generation, 1, "{attack}");
        let now = resident_kib(&self.server);
        assert!(now < self.rest_kib + MEMORY_KIB_MAX, "{attack}: memory grew from {} to {now} KiB", self.rest_kib);
    }

    /// Nothing panicked; ends the server.
    pub(crate) async fn end(self) {
        let log = self.server.read_log();
        let panics: Vec<&str> = log.lines().filter(|line| line.contains("panicked")).collect();
        assert!(panics.is_empty(), "{panics:#?}");
        self.server.stop_and_check_leaks().await.unwrap();
    }
}

/// A machine on whose channels the test listens.
pub(crate) struct HostileMachine {
    pub(crate) agent: UnixListener,
    pub(crate) controller: UnixListener,
}

/// A machine that was claimed.
pub(crate) struct ClaimedMachine {
    pub(crate) claim: Claim,
    pub(crate) controller: UnixListener,
    pub(crate) agent: tokio::task::JoinHandle<()>,
}

/// Answers a request for a path; `None`: as a real agent.
pub(crate) type AnswerRequest = Arc<dyn Fn(&str) -> Option<Answer> + Send + Sync>;

/// Serves a raw stream with an authority.
pub(crate) type ServeStream = Arc<dyn Fn(&str, ByteStream) -> BoxFuture<'static, ()> + Send + Sync>;

/// What the agent does other than a real one.
#[derive(Clone, Default)]
pub(crate) struct Behaviour {
    /// The answer to a request for this path.
    pub(crate) answer: Option<AnswerRequest>,
    /// What happens on a raw stream with this authority.
    pub(crate) stream: Option<ServeStream>,
}

/// Accepts the controller's next connection and completes the handshake of the channel.
pub(crate) async fn accept(listener: &UnixListener) -> UnixStream {
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        if echo_nonces(&mut stream).await {
            return stream;
        }
    }
}

/// Echoes nonces until the go line. `false`: the controller closed the connection.
async fn echo_nonces(stream: &mut UnixStream) -> bool {
    let mut line = Vec::new();
    while let Ok(byte) = stream.read_u8().await {
        if byte != b'\n' {
            line.push(byte);
            continue;
        }
        let text = String::from_utf8_lossy(&line).into_owned();
        line.clear();
        if let Some(hex) = text.strip_prefix("N ") {
            if stream.write_all(format_echo_line(hex).as_bytes()).await.is_err() {
                return false;
            }
        } else if text.starts_with("G ") {
            return true;
        }
    }
    false
}

/// What an agent reports that has started completely.
pub(crate) fn agent_info() -> AgentInfo {
    let report =
        |stage| StageReport { stage, state: StageState::Ready, attempts: 1, last_error: None, changed_at_ms: 1 };
    AgentInfo {
        protocol: PROTOCOL_VERSION,
        agent_version: "test".into(),
        image_hash: "sha256:plain-process".into(),
        capabilities: Vec::new(),
        clis: BTreeMap::new(),
        stages: [Stage::Display, Stage::WindowManager, Stage::Terminal, Stage::Browser].map(report).into(),
        claimed_by: None,
    }
}

pub(crate) fn answer(status: u16, body: impl Into<Bytes>) -> Answer {
    Response::builder().status(status).body(Full::new(body.into()).boxed_unsync()).unwrap()
}

fn json(value: &impl serde::Serialize) -> Answer {
    answer(200, serde_json::to_vec(value).unwrap())
}

/// Serves the agent channel: one connection after another.
pub(crate) async fn serve_agent(listener: UnixListener, behaviour: Behaviour, claims: watch::Sender<Option<Claim>>) {
    loop {
        let stream = accept(&listener).await;
        let handler = service_fn(|request: Request<Incoming>| {
            let (behaviour, claims) = (behaviour.clone(), claims.clone());
            async move { Ok::<_, Infallible>(respond(request, behaviour, claims).await) }
        });
        let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .serve_connection(TokioIo::new(stream), handler)
            .await;
    }
}

async fn respond(request: Request<Incoming>, behaviour: Behaviour, claims: watch::Sender<Option<Claim>>) -> Answer {
    if request.method() == Method::CONNECT {
        let authority = request.uri().authority().unwrap().to_string();
        if let Some(stream) = behaviour.stream {
            tokio::spawn(async move {
                if let Ok(upgraded) = hyper::upgrade::on(request).await {
                    stream(&authority, TokioIo::new(upgraded)).await;
                }
            });
        }
        return answer(200, "");
    }
    let path = request.uri().path().to_owned();
    if let Some(hostile) = behaviour.answer.and_then(|answer| answer(&path)) {
        return hostile;
    }
    match path.as_str() {
        "/hello" => json(&agent_info()),
        "/claim" => {
            let body = request.into_body().collect().await.unwrap().to_bytes();
            claims.send_replace(Some(serde_json::from_slice(&body).unwrap()));
            answer(200, r#"{"cli_pid":7}"#)
        }
        "/sign-in" => json(&SignInStatus {
            cli: CliState::Running,
            url: None,
            browser_url: None,
            browser_page: None,
            device_code: None,
            prompt: None,
            outcome: None,
            capture: CaptureState::Waiting,
            method: None,
        }),
        "/screen" => answer(200, r#"{"lines":["hostile"]}"#),
        _ => answer(204, ""),
    }
}

/// Posts a body on a connection of the controller channel, as an agent does; returns the HTTP status.
pub(crate) async fn post(stream: UnixStream, requests: Vec<Request<Full<Bytes>>>) -> Vec<u16> {
    let handshake = hyper::client::conn::http2::Builder::new(TokioExecutor::new()).handshake(TokioIo::new(stream));
    let (mut sender, connection) = handshake.await.unwrap();
    let connection = tokio::spawn(connection);
    let mut statuses = Vec::new();
    for request in requests {
        statuses.push(sender.send_request(request).await.unwrap().status().as_u16());
    }
    connection.abort();
    statuses
}

/// A request of an agent with this token.
pub(crate) fn agent_request(path: &str, token: &str, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    Request::post(format!("http://controller{path}"))
        .header("content-type", "application/json")
        .header("authorization", format!("Bearer {token}"))
        .body(Full::new(body.into()))
        .unwrap()
}
