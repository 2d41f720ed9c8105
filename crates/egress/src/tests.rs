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
        Machine::new(EgressSettings::default(), &[("auth.example", 8443)], &[("auth.example:8443", outside)]).await;
    let mut stream = machine.connect("Auth.Example:8443").await;
    stream.write_all(&vec![5; 200_000]).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut back = Vec::new();
    timeout(SOON, stream.read_to_end(&mut back)).await.unwrap().unwrap();
    assert_eq!(back.len(), 200_000);
    let decisions = machine.wait_for_decisions().await;
    let [allowed, closed] = &decisions[..] else { panic!("{decisions:?}") };
    assert_eq!((allowed.host.as_str(), allowed.port), ("auth.example", 8443));
    assert!(
        matches!(&allowed.outcome, EgressOutcome::Allowed { by: ReachedBy::Override(address), .. } if address == "127.0.x.x")
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
        Machine::new(EgressSettings::default(), &[("auth.example", 8443)], &[("auth.example:8443", outside)]).await;
    let mut stream = machine.connect("auth.example:8443").await;
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
    let machine = Machine::new(settings, &[("auth.example", 8443)], &[("auth.example:8443", outside)]).await;
    let mut stream = machine.connect("auth.example:8443").await;
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
    let machine = Machine::new(settings, &[("auth.example", 8443)], &[("auth.example:8443", outside)]).await;
    let _first = machine.connect("auth.example:8443").await;
    let second = machine.connect("auth.example:8443").await;
    let (status, body) = machine.failure("auth.example:8443").await;
    assert_eq!((status, body.code.as_str()), (504, "egress_timeout"));
    drop(second);
    // A closed connection frees its slot.
    let again = async { while machine.send_connect("auth.example:8443").await.status() != StatusCode::OK {} };
    timeout(SOON, again).await.expect("a free slot");
}

/// The first message of a TLS client that names this host, in records of at most `record_bytes` bytes.
fn client_hello(name: &str, record_bytes: usize) -> Vec<u8> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth();
    let name = rustls::pki_types::ServerName::try_from(name.to_owned()).unwrap();
    let mut client = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).unwrap();
    let (head, payload) = bytes.split_at(5);
    payload
        .chunks(record_bytes)
        .flat_map(|part| [&head[..3], &u16::try_from(part.len()).unwrap().to_be_bytes(), part].concat())
        .collect()
}

/// Connects to `auth.example:443`, sends these bytes in pieces and returns what comes back until the end or the same length.
async fn send_in_pieces(bytes: &[u8], piece: usize) -> (Vec<u8>, Vec<EgressDecision>) {
    let outside = echo_server().await;
    let machine =
        Machine::new(EgressSettings::default(), &[("auth.example", 443)], &[("auth.example:443", outside)]).await;
    let mut stream = machine.connect("auth.example:443").await;
    for piece in bytes.chunks(piece) {
        if stream.write_all(piece).await.is_err() || stream.flush().await.is_err() {
            break;
        }
        tokio::task::yield_now().await;
    }
    let mut back = Vec::new();
    while back.len() < bytes.len() {
        match timeout(SOON, stream.read_buf(&mut back)).await.expect("an answer in time") {
            Ok(0) | Err(_) => break,
            Ok(_) => {}
        }
    }
    drop(stream);
    (back, machine.wait_for_decisions().await)
}

#[tokio::test]
async fn tls_connection_passes_if_its_client_hello_names_the_granted_host_however_it_is_fragmented() {
    for (name, record_bytes, piece) in
        [("auth.example", 16_000, 16_000), ("AUTH.example", 16_000, 1), ("auth.example", 7, 3), ("auth.example", 1, 11)]
    {
        let hello = client_hello(name, record_bytes);
        let (back, decisions) = send_in_pieces(&hello, piece).await;
        assert_eq!(back, hello, "{name} {record_bytes} {piece}: {decisions:?}");
    }
}

#[tokio::test]
async fn s20_tls_connection_that_names_another_host_or_none_or_is_not_tls_is_denied() {
    let mut long = client_hello("auth.example", 16_000);
    long[3..5].copy_from_slice(&[0x40, 0]);
    long[6..9].copy_from_slice(&[0xff, 0xff, 0xff]);
    long.resize(70_000, 0);
    let cases = [
        (client_hello("evil.example", 16_000), "names evil.example, and auth.example was granted"),
        (client_hello("evil.example", 5), "names evil.example"),
        (client_hello("auth.example.evil.example", 16_000), "names auth.example.evil.example"),
        // rustls sends no name for an address.
        (client_hello("192.0.2.1", 16_000), "names no host"),
        (b"GET / HTTP/1.1\r\nHost: auth.example\r\n\r\n".to_vec(), "does not begin with a TLS ClientHello"),
        (b"SSH-2.0-OpenSSH_9.2\r\n".to_vec(), "does not begin with a TLS ClientHello"),
        (long, "does not begin with a TLS ClientHello"),
    ];
    for (bytes, expected) in cases {
        let (back, decisions) = send_in_pieces(&bytes, 16_000).await;
        assert!(back.is_empty() || back == client_hello::UNRECOGNIZED_NAME_ALERT, "{expected}: nothing is passed on");
        let denied = decisions.iter().find_map(|decision| match &decision.outcome {
            EgressOutcome::Failed { problem: Problem::EgressTlsName, detail, .. } => Some(detail.clone()),
            EgressOutcome::Failed { .. } | EgressOutcome::Allowed { .. } | EgressOutcome::Closed { .. } => None,
        });
        assert!(denied.as_ref().is_some_and(|detail| detail.contains(expected)), "{expected}: {decisions:?}");
        let closed = decisions.iter().any(|decision| {
            matches!(decision.outcome, EgressOutcome::Closed { bytes_down: 0, why: CloseCause::TlsNameDenied, .. })
        });
        assert!(closed, "{expected}: {decisions:?}");
    }
}

#[tokio::test]
async fn s20_session_that_has_sent_all_of_its_bytes_is_denied_further_connections() {
    let outside = echo_server().await;
    let settings = EgressSettings { session_upload_bytes_max: 100_000, ..EgressSettings::default() };
    let machine = Machine::new(settings, &[("a.example", 80)], &[("a.example:80", outside)]).await;
    let mut stream = machine.connect("a.example:80").await;
    let sent = async {
        loop {
            stream.write_all(&[1; 10_000]).await?;
            stream.read_exact(&mut [0; 10_000]).await?;
        }
    };
    let ended: Result<std::io::Result<()>, _> = timeout(SOON, sent).await;
    assert!(ended.expect("closed in time").is_err());
    let (status, body) = machine.failure("a.example:80").await;
    assert_eq!((status, body.code.as_str()), (429, "egress_limit"));
    assert!(body.detail.unwrap().contains("sent all of its 100000 bytes"));
    let decisions = machine.wait_for_decisions().await;
    let closed = decisions.iter().find_map(|decision| match decision.outcome {
        EgressOutcome::Closed { bytes_up, why, .. } => Some((bytes_up, why)),
        EgressOutcome::Allowed { .. } | EgressOutcome::Failed { .. } => None,
    });
    assert!(matches!(closed, Some((100_000..=165_536, CloseCause::ByteLimit))), "{decisions:?}");
}

#[tokio::test(start_paused = true)]
async fn s20_rate_of_a_session_is_limited_over_all_its_connections() {
    let allowance = Arc::new(crate::traffic::Allowance::new(u64::MAX, 1_000_000));
    let may_act = crate::ActCheck::default();
    let started = Instant::now();
    let read_all = |bytes: u64| {
        let traffic = Arc::new(crate::traffic::Traffic::new(started));
        let source = crate::traffic::Counted::new(tokio::io::repeat(1).take(bytes), &traffic, &allowance, &may_act);
        tokio::spawn(async move {
            let mut source = source;
            tokio::io::copy(&mut source, &mut tokio::io::sink()).await.unwrap()
        })
    };
    let (one, other) = (read_all(3_000_000), read_all(3_000_000));
    assert_eq!((one.await.unwrap(), other.await.unwrap()), (3_000_000, 3_000_000));
    // 6 MB at 1 MB/s, of which the first second may be sent at once.
    let took = started.elapsed();
    assert!((Duration::from_millis(4_900)..Duration::from_millis(5_200)).contains(&took), "{took:?}");
}

#[tokio::test]
async fn host_without_contact_connects_nothing_and_passes_no_further_byte_on() {
    let may_act = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let asked = Arc::clone(&may_act);
    let check = crate::ActCheck::new(move || asked.load(std::sync::atomic::Ordering::SeqCst));
    let overrides = [("a.example:443".to_owned(), "127.0.0.1:9".parse().unwrap())];
    let overrides = HostOverrides::parse(&overrides.into_iter().collect()).unwrap();
    let gate = EgressGate::new(EgressSettings::default(), overrides).with_act_check(check.clone());
    let (mut sender, receiver) = tokio::io::duplex(64);
    let traffic = Arc::new(crate::traffic::Traffic::new(Instant::now()));
    let allowance = Arc::new(crate::traffic::Allowance::new(u64::MAX, u64::MAX));
    let mut counted = crate::traffic::Counted::new(receiver, &traffic, &allowance, &check);
    sender.write_all(b"before").await.unwrap();
    counted.read_exact(&mut [0; 6]).await.unwrap();

    may_act.store(false, std::sync::atomic::Ordering::SeqCst);
    sender.write_all(b"after").await.unwrap();
    let refused = counted.read(&mut [0; 8]).await.unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::PermissionDenied);
    let refused = gate.connect(&provider(&[("a.example", 443)]), "a.example", 443).await.unwrap_err();
    assert_eq!(refused.problem, Problem::ClusterContactLost);
}
