//! Two hosts of a cluster: a machine joins, requests for a session of the other host are passed on, and what is said of a silent host.

use crate::{Flags, postgres::own_server::OwnServer};
use anteroom_cluster::peer::{ALPN_HTTP1, Authority, CERTIFICATE_LIFETIME_S, IdentityFiles, PeerTls, new_peer_key};
use anteroom_controller::limits::PeerLimits;
use anteroom_server::join_cluster;
use anteroom_testbed::{ApiClient, TestConfig, TestServer, eventually};
use anteroom_wire::{
    HostId, SessionId,
    api::SessionStatus,
    hosts::{HostInvitation, HostList, HostState},
    time::to_unix_ms,
};
use http::{Method, Request, StatusCode};
use http_body_util::Empty;
use hyper::{body::Bytes, client::conn::http2, ext::Protocol};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustix::process::{Signal, kill_process};
use serde_json::json;
use sha2::{Digest, Sha256};
use std::{
    net::{SocketAddr, TcpListener},
    path::Path,
    time::{Duration, Instant, SystemTime},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::pki_types::{CertificateDer, ServerName, pem::PemObject},
};

pub(crate) const WAIT_MAX: Duration = Duration::from_secs(30);
/// A host that is stopped in this test is not fenced.
const TIMES: &str = "liveness = 'database'\nheartbeat_interval_ms = 300\nrenew_deadline_s = 40\nfence_after_s = 60\n";
/// How soon the other host says that one does not answer.
const SAID_MAX: Duration = Duration::from_secs(4);

/// An address that is free now.
fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// A server of the cluster, and its address for other hosts.
async fn start(postgres: &OwnServer, flags: &Flags, keys: &Path, name: &str) -> (TestServer, SocketAddr) {
    start_with(postgres, flags, keys, name, "", PeerLimits::default()).await
}

/// The same with more settings, and other limits of certificates.
pub(crate) async fn start_with(
    postgres: &OwnServer,
    flags: &Flags,
    keys: &Path,
    name: &str,
    more: &str,
    limits: PeerLimits,
) -> (TestServer, SocketAddr) {
    let peer = free_address();
    let settings = format!(
        "[database]\nurl = 'postgresql://anteroom@/postgres?host={}'\n[vault]\nkey_file = '{}'\n\
         [cluster]\nname = 'test'\nhost_name = '{name}'\npeer_listen = '{peer}'\npeer_url = 'https://{peer}'\n{TIMES}{more}",
        postgres.directory(),
        keys.join("vault.key").display()
    );
    let mut config = TestConfig::with_provider(flags.provider("{\"token\": \"t\"}")).with_settings(&settings);
    config.machines.limits.peers = limits;
    (TestServer::start(config).await.unwrap(), peer)
}

pub(crate) fn host_id(server: &TestServer) -> HostId {
    let file = std::fs::read_to_string(server.state_dir().join("host.json")).unwrap();
    let file: serde_json::Value = serde_json::from_str(&file).unwrap();
    file["id"].as_str().unwrap().parse().unwrap()
}

async fn invite(operator: &ApiClient) -> String {
    let made: HostInvitation = operator.post("/api/hosts/invitations", json!({})).await.unwrap().parse().unwrap();
    made.invitation.expose().to_owned()
}

/// Lets the second server join through the first.
pub(crate) async fn join(first: &ApiClient, second: &mut TestServer) {
    let invitation = invite(first).await;
    let (id, dir) = (host_id(second), second.state_dir());
    second.stop_server().await.unwrap();
    assert_eq!(join_cluster(&invitation, &id, &dir).await.unwrap().cluster, "test");
    let again = join_cluster(&invitation, &id, &dir).await.unwrap_err().to_string();
    assert!(again.contains("refused"), "an invitation is used once: {again}");
    second.start_server().await.unwrap();
}

pub(crate) async fn wait_hosts(operator: &ApiClient, state: HostState, count: usize) {
    let all = async || {
        let list: HostList = operator.get("/api/hosts").await?.parse()?;
        let found = list.hosts.iter().filter(|host| host.state == state).count();
        Ok((found == count).then_some(()))
    };
    eventually("the states of the hosts", WAIT_MAX, all).await.unwrap();
}

/// What the desktop says first, through a WebSocket over HTTP/2 (RFC 8441).
async fn greeting_over_http2(server: &TestServer, api: &ApiClient, id: &SessionId) -> Vec<u8> {
    let ticket = api.create_ticket(id, "desktop").await.unwrap().ticket;
    let stream = TcpStream::connect(server.address().unwrap()).await.unwrap();
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    let connection = tokio::spawn(connection);
    // The server's settings permit an extended CONNECT.
    let origin = server.base_url().unwrap();
    let connect = || {
        let request = Request::connect(format!("{origin}/api/auth/session/{id}/novnc/websock"))
            .extension(Protocol::from_static("websocket"))
            .header("origin", &origin)
            .header("sec-websocket-version", "13")
            .header("sec-websocket-protocol", format!("binary, ticket.{ticket}"));
        request.body(Empty::<Bytes>::new()).unwrap()
    };
    let response = sender.send_request(connect()).await.unwrap();
    assert_eq!((response.status(), response.headers().contains_key("upgrade")), (StatusCode::OK, false));
    assert_eq!(response.headers()["sec-websocket-protocol"], "binary");
    let mut socket = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
    let mut frame = [0; 14];
    socket.read_exact(&mut frame).await.unwrap();
    drop(socket);
    connection.abort();
    frame.to_vec()
}

/// SHA-256 of the lower half of the desktop, in which nothing moves.
async fn digest_of_frame(api: &ApiClient, id: &SessionId) -> String {
    let mut viewer = api.connect_desktop(id).await.unwrap();
    let frame = viewer.request_full_frame().await.unwrap();
    let mut digest = Sha256::new();
    for y in (frame.height() / 2..frame.height()).step_by(3) {
        for x in (0..frame.width()).step_by(3) {
            digest.update(format!("{:?}", frame.pixel(x, y)));
        }
    }
    hex::encode(digest.finalize())
}

#[tokio::test]
async fn any_host_takes_a_request_and_says_why_when_the_other_does_not_answer_on_postgres() {
    let (postgres, keys, flags) = (OwnServer::start(&[]).await, tempfile::tempdir().unwrap(), Flags::new());
    let (first, _) = start(&postgres, &flags, keys.path(), "first").await;
    let http2 = "[http]\nhttp2 = true\n";
    let (mut second, _) = start_with(&postgres, &flags, keys.path(), "second", http2, PeerLimits::default()).await;
    let operator = first.operator_client().unwrap();
    join(&operator, &mut second).await;
    let other = second.client_with_token(first.operator_token()).unwrap();
    wait_hosts(&operator, HostState::Answers, 2).await;
    wait_hosts(&other, HostState::Answers, 2).await;

    // A session of the first host, through the second.
    let id = operator.start_session("scripted").await.unwrap().session.id;
    other.wait_until(&id, "showing the address", |view| view.sign_in.url.is_some()).await.unwrap();
    // An entry may come between the two answers.
    let same = async || Ok((other.get_timeline(&id).await? == operator.get_timeline(&id).await?).then_some(()));
    eventually("the same timeline through both hosts", WAIT_MAX, same).await.unwrap();
    assert_eq!(digest_of_frame(&other, &id).await, digest_of_frame(&operator, &id).await);
    let greeting = greeting_over_http2(&second, &other, &id).await;
    assert_eq!(greeting, [b"\x82\x0c".as_slice(), b"RFB 003.008\n"].concat(), "over HTTP/2");
    let mut terminal = other.open_terminal_socket(&id).await.unwrap();
    let mut output = [0; 64];
    assert!(terminal.read(&mut output).await.unwrap() > 0, "the terminal's screen");
    let unknown = other.get("/api/auth/session/ses_00000000000000000000000000").await.unwrap();
    assert_eq!(unknown.status, 404);
    let stranger = second.anonymous_client().unwrap().get(&format!("/api/auth/session/{id}")).await.unwrap();
    assert_eq!(stranger.status, 401, "{stranger:?}");

    // The first host is frozen: the second says which one, since when, and what is next.
    let mut viewer = other.open_desktop_socket(&id).await.unwrap();
    assert!(viewer.read(&mut output).await.unwrap() > 0, "the desktop greets");
    let pid = first.server_pid().unwrap();
    let frozen = Instant::now();
    kill_process(pid, Signal::STOP).unwrap();
    while viewer.read(&mut output).await.is_ok_and(|bytes| bytes > 0) {}
    assert!(frozen.elapsed() < SAID_MAX, "{:?}", frozen.elapsed());
    let close = viewer.close_reason().unwrap();
    assert_eq!(close.code, 4511, "{close:?}");
    for part in ["host_unreachable: host first silent since ", "another begins at ", " unless it comes back"] {
        assert!(close.reason.contains(part), "{close:?}");
    }
    let began = Instant::now();
    let answer = other.get(&format!("/api/auth/session/{id}")).await.unwrap();
    assert!(began.elapsed() < SAID_MAX && answer.status == 503, "{answer:?}");
    assert_eq!(answer.problem().unwrap().code, "host_unreachable");
    wait_hosts(&other, HostState::Silent, 1).await;

    // It answers again, and the sign-in ends through the second host.
    kill_process(pid, Signal::CONT).unwrap();
    let is_back = async || Ok((other.get(&format!("/api/auth/session/{id}")).await?.status == 200).then_some(()));
    eventually("the first host is back", WAIT_MAX, is_back).await.unwrap();
    flags.set("go");
    let view = other.wait_status(&id, SessionStatus::Completed).await.unwrap();
    let lease = other.lease_credential(&view.credential.unwrap().id).await.unwrap();
    assert_eq!(lease.files[0].content.expose(), b"{\"token\": \"t\"}");
    second.stop_and_check_leaks().await.unwrap();
    first.stop_and_check_leaks().await.unwrap();
}

/// What a host answers to a request with this certificate; `None`: it closes the connection.
pub(crate) async fn ask(tls: &PeerTls, host: &HostId, address: SocketAddr) -> Option<String> {
    let stream = TcpStream::connect(address).await.ok()?;
    let connector = TlsConnector::from(tls.connect_to(host, ALPN_HTTP1).ok()?);
    let mut stream = connector.connect(ServerName::try_from("host.invalid").ok()?, stream).await.ok()?;
    stream.write_all(b"GET /peer/ping HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n").await.ok()?;
    let mut answer = String::new();
    let read = tokio::time::timeout(WAIT_MAX, stream.read_to_string(&mut answer)).await.ok()?;
    // Without a closing message of TLS the answer is complete all the same.
    (read.is_ok() || !answer.is_empty()).then_some(answer).filter(|answer| !answer.is_empty())
}

/// A viewer's WebSocket, as the host with this certificate passes it on.
async fn open_desktop(
    tls: &PeerTls,
    host: &HostId,
    address: SocketAddr,
    api: &ApiClient,
    id: &SessionId,
) -> TlsStream<TcpStream> {
    let ticket = api.create_ticket(id, "desktop").await.unwrap().ticket;
    let stream = TcpStream::connect(address).await.unwrap();
    let connector = TlsConnector::from(tls.connect_to(host, ALPN_HTTP1).unwrap());
    let mut stream = connector.connect(ServerName::try_from("host.invalid").unwrap(), stream).await.unwrap();
    let request = format!(
        "GET /api/auth/session/{id}/novnc/websock HTTP/1.1\r\nhost: h\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\norigin: http://pages.example\r\n\
         sec-websocket-protocol: binary, ticket.{ticket}\r\nanteroom-peer-client: tcp 192.0.2.1:9\r\nanteroom-peer-own-origin: 1\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = vec![0; 12];
    stream.read_exact(&mut head).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&head), "HTTP/1.1 101");
    stream
}

/// A certificate of another authority, of a client that trusts the cluster's.
fn foreign_certificate(second: &TestServer, host: &HostId, at_ms: u64) -> PeerTls {
    let authority = Authority::create(at_ms).unwrap();
    let trusted = std::fs::read_to_string(IdentityFiles::in_state_dir(&second.state_dir()).authority).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (files, key) = (IdentityFiles::in_state_dir(dir.path()), new_peer_key().unwrap());
    let chain = authority.issue(&key.request_pem, host, at_ms, CERTIFICATE_LIFETIME_S).unwrap();
    files.write(&key.key_pem, &chain, &trusted).unwrap();
    PeerTls::new(files.read().unwrap())
}

#[tokio::test]
async fn a_removed_or_foreign_host_gets_nothing_on_postgres() {
    let (postgres, keys, flags) = (OwnServer::start(&[]).await, tempfile::tempdir().unwrap(), Flags::new());
    let (first, address) = start(&postgres, &flags, keys.path(), "first").await;
    let (mut second, _) = start(&postgres, &flags, keys.path(), "second").await;
    let operator = first.operator_client().unwrap();
    join(&operator, &mut second).await;
    wait_hosts(&operator, HostState::Answers, 2).await;
    let (one, two) = (host_id(&first), host_id(&second));
    let of_second = PeerTls::new(IdentityFiles::in_state_dir(&second.state_dir()).read().unwrap());
    let answer = ask(&of_second, &one, address).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("machines_max"), "{answer}");

    let now_ms = to_unix_ms(SystemTime::now());
    let foreign = foreign_certificate(&second, &two, now_ms);
    assert_eq!(ask(&foreign, &one, address).await, None, "another authority");
    // All that a stranger can read of a host is its certificate, which names neither the host nor the cluster.
    let certificate = std::fs::read(IdentityFiles::in_state_dir(&first.state_dir()).certificate).unwrap();
    for certificate in CertificateDer::pem_slice_iter(&certificate) {
        let text = String::from_utf8_lossy(&certificate.unwrap()).into_owned();
        assert!(!text.contains("first") && !text.contains("test"), "{text}");
    }
    let forged = operator.call(Method::DELETE, &format!("/api/hosts/{one}"), None).await.unwrap();
    assert_eq!(forged.status, 409, "the host that answers: {forged:?}");
    let id = operator.start_session("scripted").await.unwrap().session.id;
    operator.wait_until(&id, "showing the address", |view| view.sign_in.url.is_some()).await.unwrap();
    let mut socket = open_desktop(&of_second, &one, address, &operator, &id).await;
    second.stop_and_check_leaks().await.unwrap();
    let removed = operator.call(Method::DELETE, &format!("/api/hosts/{two}"), None).await.unwrap();
    assert_eq!(removed.status, 204, "{removed:?}");
    let since = Instant::now();
    let mut buffer = [0; 4_096];
    // It breaks off: nothing closes it as a desktop would.
    while socket.read(&mut buffer).await.is_ok_and(|bytes| bytes > 0) {}
    assert!(since.elapsed() < SAID_MAX, "a socket of a removed host: {:?}", since.elapsed());
    assert_eq!(ask(&of_second, &one, address).await, None, "a removed host");
    wait_hosts(&operator, HostState::Answers, 1).await;
    first.stop_and_check_leaks().await.unwrap();
}
