//! The gate with a real HTTP/2 connection, as a machine uses it. Host overrides lead to a server on loopback.

use super::*;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::{body::Incoming, client::conn::http2::SendRequest, service::service_fn, upgrade::Upgraded};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::{convert::Infallible, net::SocketAddr, sync::Mutex};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, duplex},
    net::TcpListener,
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

const SOON: Duration = Duration::from_secs(20);

fn provider(hosts: &[(&str, u16)]) -> Provider {
    let egress: Vec<_> =
        hosts.iter().map(|(host, port)| serde_json::json!({ "host": host, "ports": [port] })).collect();
    serde_json::from_value(serde_json::json!({
        "id": "codex", "name": "Codex", "cli": "codex", "argv": ["codex"], "lanes": ["link"], "next_action": "Sign in.",
        "credential": { "paths": [".codex/auth.json"], "required": ["/tokens"] }, "egress": egress, "policy": "store",
    }))
    .unwrap()
}

/// A machine connected through a controller channel.
struct Machine {
    requests: SendRequest<Empty<Bytes>>,
    decisions: Arc<Mutex<Vec<EgressDecision>>>,
    tasks: TaskTracker,
    shutdown: CancellationToken,
}

impl Machine {
    async fn new(settings: EgressSettings, hosts: &[(&str, u16)], overrides: &[(&str, SocketAddr)]) -> Self {
        let overrides = overrides.iter().map(|(name, address)| ((*name).to_owned(), *address)).collect();
        let gate = Arc::new(EgressGate::new(settings, HostOverrides::parse(&overrides).unwrap()));
        let (decisions, tasks, shutdown) =
            (Arc::new(Mutex::new(Vec::new())), TaskTracker::new(), CancellationToken::new());
        let on_decision = {
            let decisions = decisions.clone();
            move |decision| decisions.lock().unwrap().push(decision)
        };
        let machine =
            MachineEgressGate::new(gate, Arc::new(provider(hosts)), tasks.clone(), shutdown.clone(), on_decision);
        let (ours, theirs) = duplex(64 * 1024);
        tokio::spawn(async move {
            let service = service_fn(move |request: Request<Incoming>| {
                let machine = machine.clone();
                async move { Ok::<_, Infallible>(machine.serve_connect(request).await) }
            });
            hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(theirs), service)
                .await
        });
        let (requests, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(ours)).await.unwrap();
        tokio::spawn(connection);
        Self { requests, decisions, tasks, shutdown }
    }

    async fn send_connect(&self, authority: &str) -> Response<Incoming> {
        let request = Request::connect(authority).body(Empty::new()).unwrap();
        timeout(SOON, self.requests.clone().send_request(request)).await.expect("a response in time").unwrap()
    }

    async fn connect(&self, authority: &str) -> TokioIo<Upgraded> {
        let response = self.send_connect(authority).await;
        assert_eq!(response.status(), StatusCode::OK);
        TokioIo::new(hyper::upgrade::on(response).await.unwrap())
    }

    /// Returns the status and the problem of a failed request.
    async fn failure(&self, authority: &str) -> (u16, ProblemBody) {
        let response = self.send_connect(authority).await;
        let status = response.status().as_u16();
        assert_eq!(response.headers()["content-type"], "application/json");
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&body).unwrap())
    }

    /// Waits until all connections have ended and returns the reported decisions.
    async fn wait_for_decisions(self) -> Vec<EgressDecision> {
        self.tasks.close();
        timeout(SOON, self.tasks.wait()).await.expect("every connection ends");
        self.decisions.lock().unwrap().clone()
    }
}

/// An echo server.
async fn echo_server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut reader, mut writer) = socket.split();
                let _ = tokio::io::copy(&mut reader, &mut writer).await;
            });
        }
    });
    address
}

#[tokio::test]
async fn allowed_connection_copies_bytes_in_both_directions_and_is_reported() {
    let outside = echo_server().await;
    let machine =
        Machine::new(EgressSettings::default(), &[("auth.example", 443)], &[("auth.example:443", outside)]).await;
    let mut stream = machine.connect("Auth.Example:443").await;
    stream.write_all(&vec![5; 200_000]).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut back = Vec::new();
    timeout(SOON, stream.read_to_end(&mut back)).await.unwrap().unwrap();
    assert_eq!(back.len(), 200_000);
    let decisions = machine.wait_for_decisions().await;
    let [allowed, closed] = &decisions[..] else { panic!("{decisions:?}") };
    assert_eq!((allowed.host.as_str(), allowed.port), ("auth.example", 443));
    assert!(
        matches!(&allowed.outcome, EgressOutcome::Allowed { address, overridden: true, .. } if address == "127.0.x.x")
    );
    let EgressOutcome::Closed { bytes_up: 200_000, bytes_down: 200_000, why: CloseCause::Completed, .. } =
        closed.outcome
    else {
        panic!("{closed:?}")
    };
}

#[tokio::test]
async fn name_that_is_not_allowed_is_denied() {
    let outside = echo_server().await;
    // A host override does not allow the name.
    let machine =
        Machine::new(EgressSettings::default(), &[("auth.example", 443)], &[("other.example:443", outside)]).await;
    for authority in ["other.example:443", "auth.example:80", "xauth.example:443"] {
        let (status, body) = machine.failure(authority).await;
        assert_eq!((status, body.code.as_str()), (403, "egress_denied"), "{authority}");
    }
    assert_eq!(machine.wait_for_decisions().await.len(), 3);
}

#[tokio::test]
async fn ip_address_is_denied_in_every_notation() {
    let port = echo_server().await.port();
    let machine = Machine::new(EgressSettings::default(), &[("127.0.0.1", port), ("*.1", port)], &[]).await;
    for host in ["127.0.0.1", "127.1", "2130706433", "[::1]", "[::ffff:127.0.0.1]", "169.254.169.254"] {
        let (status, body) = machine.failure(&format!("{host}:{port}")).await;
        assert_eq!((status, body.code.as_str()), (403, "egress_denied"), "{host}");
    }
}

#[tokio::test]
async fn allowed_name_with_a_loopback_address_is_denied() {
    let port = echo_server().await.port();
    let machine = Machine::new(EgressSettings::default(), &[("localhost", port)], &[]).await;
    let (status, body) = machine.failure(&format!("localhost:{port}")).await;
    assert_eq!((status, body.code.as_str()), (403, "egress_private"));
    assert!(!body.detail.unwrap().contains("127.0.0.1"), "addresses are masked");
}

#[tokio::test]
async fn refused_connection_and_connect_timeout_have_different_codes() {
    let closed = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap()
    };
    // A listener with a full backlog drops connection requests.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let silent = socket.listen(1).unwrap();
    let full = silent.local_addr().unwrap();
    let mut queued = Vec::new();
    while let Ok(Ok(socket)) = timeout(Duration::from_millis(300), tokio::net::TcpStream::connect(full)).await {
        queued.push(socket);
    }
    let settings = EgressSettings { connect_attempt_ms_max: 300, connect_ms_max: 600, ..EgressSettings::default() };
    let hosts = [("closed.example", 443), ("silent.example", 443)];
    let machine = Machine::new(settings, &hosts, &[("closed.example:443", closed), ("silent.example:443", full)]).await;
    let (status, body) = machine.failure("closed.example:443").await;
    assert_eq!((status, body.code.as_str()), (502, "egress_unreachable"));
    assert!(body.detail.unwrap().starts_with("connect to closed.example at 127.0.x.x"), "the stage is named");
    let (status, body) = machine.failure("silent.example:443").await;
    assert_eq!((status, body.code.as_str()), (504, "egress_timeout"));
}

#[tokio::test]
async fn name_that_does_not_resolve_is_an_error() {
    let settings = EgressSettings { resolve_ms_max: 2_000, ..EgressSettings::default() };
    let machine = Machine::new(settings, &[("no-such-name.invalid", 443)], &[]).await;
    let (status, body) = machine.failure("no-such-name.invalid:443").await;
    assert!(matches!((status, body.code.as_str()), (502, "egress_unreachable") | (504, "egress_timeout")), "{body:?}");
    assert!(body.detail.unwrap().starts_with("resolve no-such-name.invalid"), "the stage is named");
}

#[tokio::test]
async fn shutdown_of_the_machine_closes_its_connections() {
    let outside = echo_server().await;
    let machine =
        Machine::new(EgressSettings::default(), &[("auth.example", 443)], &[("auth.example:443", outside)]).await;
    let mut stream = machine.connect("auth.example:443").await;
    stream.write_all(b"hello").await.unwrap();
    stream.read_exact(&mut [0; 5]).await.unwrap();
    machine.shutdown.cancel();
    let ended = timeout(SOON, stream.read_u8()).await.expect("closed in time");
    assert!(ended.is_err());
    let decisions = machine.wait_for_decisions().await;
    assert!(
        matches!(
            decisions[1].outcome,
            EgressOutcome::Closed { bytes_up: 5, bytes_down: 5, why: CloseCause::Shutdown, .. }
        ),
        "{decisions:?}"
    );
}

#[tokio::test]
async fn idle_connection_is_closed() {
    let outside = echo_server().await;
    let settings = EgressSettings { connection_idle_s_max: 1, ..EgressSettings::default() };
    let machine = Machine::new(settings, &[("auth.example", 443)], &[("auth.example:443", outside)]).await;
    let mut stream = machine.connect("auth.example:443").await;
    assert!(timeout(SOON, stream.read_u8()).await.expect("closed in time").is_err());
    let decisions = machine.wait_for_decisions().await;
    assert!(
        matches!(decisions[1].outcome, EgressOutcome::Closed { why: CloseCause::IdleTimeout, .. }),
        "{decisions:?}"
    );
}

#[tokio::test]
async fn connections_of_a_machine_are_limited() {
    let outside = echo_server().await;
    let settings = EgressSettings {
        connections_per_machine_max: 2,
        connection_slot_wait_ms_max: 100,
        ..EgressSettings::default()
    };
    let machine = Machine::new(settings, &[("auth.example", 443)], &[("auth.example:443", outside)]).await;
    let _first = machine.connect("auth.example:443").await;
    let second = machine.connect("auth.example:443").await;
    let (status, body) = machine.failure("auth.example:443").await;
    assert_eq!((status, body.code.as_str()), (504, "egress_timeout"));
    drop(second);
    // A closed connection frees its slot.
    let again = async { while machine.send_connect("auth.example:443").await.status() != StatusCode::OK {} };
    timeout(SOON, again).await.expect("a free slot");
}
