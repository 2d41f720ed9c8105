//! TLS without a reverse proxy: pages, API, sockets and event streams; certificates that are replaced, end soon or cannot be used.

use crate::{
    Flags, anteroom,
    configuration::{hang_up, wait_line},
    text,
};
use anteroom_rfb::client::{RfbClient, ViewerSocket};
use anteroom_testbed::{TestCa, TestConfig, TestServer, WAIT_MAX, eventually};
use anteroom_wire::api::{Health, HealthStatus, StartResponse, Ticket};
use http::HeaderValue;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::{fs, net::SocketAddr, os::unix::fs::PermissionsExt, path::PathBuf};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_rustls::{client::TlsStream, rustls::pki_types::ServerName};

const HOST: &str = "anteroom.example";
const ANSWER_MS_MAX: u64 = 30_000;
const MESSAGE_BYTES_MAX: usize = 1 << 20;

/// A certificate and its key in files of a directory.
struct Files {
    dir: tempfile::TempDir,
    ca: TestCa,
}

impl Files {
    fn new() -> Self {
        let files = Self { dir: tempfile::tempdir().unwrap(), ca: TestCa::new().unwrap() };
        files.renew();
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// As certbot does: other files get the names.
    fn put(&self, name: &str, pem: &str, mode: u32) {
        let new = self.path("new");
        fs::write(&new, pem).unwrap();
        fs::set_permissions(&new, fs::Permissions::from_mode(mode)).unwrap();
        fs::rename(new, self.path(name)).unwrap();
    }

    /// Another certificate; returns its bytes.
    fn renew(&self) -> Vec<u8> {
        let (certificate, key) = self.ca.issue(&[HOST], false).unwrap();
        self.put("key.pem", &key.serialize_pem(), 0o640);
        self.put("cert.pem", &certificate.pem(), 0o644);
        certificate.der().to_vec()
    }

    fn settings(&self) -> String {
        let (certificate, key) = (self.path("cert.pem"), self.path("key.pem"));
        format!(
            "public_url = 'https://{HOST}'\n[tls]\ncertificate_file = '{}'\nkey_file = '{}'\n",
            certificate.display(),
            key.display()
        )
    }
}

/// A client that trusts the authority of the files.
struct Client<'f> {
    files: &'f Files,
    address: SocketAddr,
    token: String,
}

impl Client<'_> {
    async fn connect(&self) -> TlsStream<TcpStream> {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let connector = self.files.ca.connector().unwrap();
        connector.connect(ServerName::try_from(HOST).unwrap(), stream).await.unwrap()
    }

    /// The certificate that the server shows.
    async fn certificate(&self) -> Vec<u8> {
        self.connect().await.get_ref().1.peer_certificates().unwrap()[0].to_vec()
    }

    /// The head and the body of an answer.
    async fn call(&self, method: &str, path: &str, body: Option<Value>) -> (String, String) {
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        let mut stream = self.connect().await;
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {HOST}\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            self.token,
            body.len()
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        timeout(WAIT_MAX, stream.read_to_end(&mut answer)).await.unwrap().unwrap();
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.to_owned(), body.to_owned())
    }

    async fn post<T: DeserializeOwned>(&self, path: &str, body: Value) -> T {
        let (head, answer) = self.call("POST", path, Some(body)).await;
        assert!(head.starts_with("HTTP/1.1 2"), "{head}\n{answer}");
        serde_json::from_str(&answer).unwrap()
    }

    async fn health(&self) -> Health {
        serde_json::from_str(&self.call("GET", "/health", None).await.1).unwrap()
    }
}

/// The first answer to plain HTTP at this address.
async fn plain(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    timeout(WAIT_MAX, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
    answer
}

/// The server goes on without TLS, for the checks at the end of a test.
async fn end_without_tls(mut server: TestServer) {
    server.stop_server().await.unwrap();
    let path = server.config_file();
    let mut table: toml::Table = fs::read_to_string(&path).unwrap().parse().unwrap();
    table.remove("tls");
    table.remove("public_url");
    fs::write(path, table.to_string()).unwrap();
    server.start_server().await.unwrap();
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn tls_serves_pages_sockets_and_events_and_takes_a_new_certificate_while_they_are_open() {
    let files = Files::new();
    let redirect = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let settings = format!("{}redirect_listen = '{redirect}'\n", files.settings());
    let flags = Flags::new();
    let config = TestConfig::with_provider(flags.idle_provider()).with_settings(&settings);
    let server = TestServer::start(config).await.unwrap();
    let (address, token) = (server.address().unwrap(), server.operator_token().expose().to_owned());
    let client = Client { files: &files, address, token };

    let (head, _) = client.call("GET", "/", None).await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert!(head.contains("strict-transport-security: max-age="), "{head}");
    let wanted = format!("location: https://{HOST}/admin?x=1\r\n");
    for address in [address, redirect] {
        let answer = plain(address, "GET /admin?x=1 HTTP/1.1\r\nHost: other.example\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 308") && answer.contains(&wanted), "{answer}");
        let refused = plain(address, "POST /api/tokens HTTP/1.1\r\nContent-Length: 0\r\n\r\n").await;
        assert!(refused.starts_with("HTTP/1.1 400") && refused.contains("https only"), "{refused}");
    }
    let session = client.post::<StartResponse>("/api/auth/start", json!({ "provider": "scripted" })).await.session.id;
    let events = format!(
        "GET /api/auth/session/{session}/events HTTP/1.1\r\nHost: {HOST}\r\nAccept: text/event-stream\r\nAuthorization: Bearer {}\r\n\r\n",
        client.token
    );
    let mut stream = client.connect().await;
    stream.write_all(events.as_bytes()).await.unwrap();
    let mut arrived = String::new();
    while !arrived.contains("data:") {
        let mut buffer = [0; 4_096];
        let read = timeout(WAIT_MAX, stream.read(&mut buffer)).await.unwrap().unwrap();
        assert!(read > 0, "{arrived}");
        arrived.push_str(&String::from_utf8_lossy(&buffer[..read]));
    }
    let socket = desktop(&client, session.as_str()).await;
    let mut desktop = RfbClient::connect(socket, ANSWER_MS_MAX).await.unwrap();
    desktop.request_full_frame().await.unwrap();

    let renewed = files.renew();
    eventually("the new certificate", WAIT_MAX, async || Ok((client.certificate().await == renewed).then_some(())))
        .await
        .unwrap();
    desktop.request_full_frame().await.unwrap();
    // A key of another certificate: the log names the fault, and the certificate in use stays, also after SIGHUP.
    let (_, other) = files.ca.issue(&[HOST], false).unwrap();
    files.put("key.pem", &other.serialize_pem(), 0o600);
    let line = wait_line(&server, "certificate_not_reloaded").await;
    assert!(line["error"].as_str().unwrap().contains("is not that of the first certificate"), "{line}");
    hang_up(&server);
    let line = wait_line(&server, "config_not_reloaded").await;
    assert!(line["error"].as_str().unwrap().contains("is not that of the first certificate"), "{line}");
    assert_eq!(client.certificate().await, renewed);
    let health = client.health().await;
    let check = health.checks.iter().find(|check| check.name == "certificate").unwrap();
    assert_eq!(check.status, HealthStatus::Ok, "{}", check.detail);
    drop((desktop, stream));
    end_without_tls(server).await;
}

/// The desktop's WebSocket over TLS, as a page opens it.
async fn desktop(client: &Client<'_>, session: &str) -> ViewerSocket<TlsStream<TcpStream>> {
    let path = format!("/api/auth/session/{session}");
    let opened = async || {
        let ticket = client.post::<Ticket>(&format!("{path}/ticket"), json!({ "purpose": "desktop" })).await.ticket;
        let protocols = HeaderValue::from_str(&format!("binary, ticket.{ticket}")).unwrap();
        let origin = HeaderValue::from_str(&format!("https://{HOST}")).unwrap();
        let headers = [("sec-websocket-protocol", protocols), ("origin", origin)];
        let url = format!("wss://{HOST}{path}/novnc/websock");
        let stream = client.connect().await;
        Ok(ViewerSocket::connect_over(stream, &url, &headers, MESSAGE_BYTES_MAX).await.ok())
    };
    eventually("the desktop's socket", WAIT_MAX, opened).await.unwrap()
}

#[tokio::test]
async fn tls_certificate_that_ends_soon_is_degraded_and_one_that_cannot_be_used_is_refused_by_name() {
    let files = Files::new();
    let soon = anteroom_controller::unix_time::now_unix_ms() + 10 * 24 * 3_600_000;
    let soon = anteroom_controller::unix_time::format_rfc3339(soon);
    let number = |range: std::ops::Range<usize>| soon[range].parse::<u16>().unwrap();
    let last_day = (i32::from(number(0..4)), u8::try_from(number(5..7)).unwrap(), u8::try_from(number(8..10)).unwrap());
    let (certificate, key) = files.ca.issue_until(&[HOST], last_day).unwrap();
    files.put("key.pem", &key.serialize_pem(), 0o600);
    files.put("cert.pem", &certificate.pem(), 0o644);
    let flags = Flags::new();
    let config = TestConfig::with_provider(flags.idle_provider()).with_settings(&files.settings());
    let server = TestServer::start(config).await.unwrap();
    let (address, token) = (server.address().unwrap(), server.operator_token().expose().to_owned());
    let health = Client { files: &files, address, token }.health().await;
    let check = health.checks.iter().find(|check| check.name == "certificate").unwrap();
    assert!(check.status == HealthStatus::Degraded && check.detail.contains("renew it"), "{}", check.detail);

    let (good, key) = files.ca.issue(&[HOST], false).unwrap();
    let (expired, expired_key) = files.ca.issue(&[HOST], true).unwrap();
    let (foreign, foreign_key) = files.ca.issue(&["other.example"], false).unwrap();
    let (good, key) = (good.pem(), key.serialize_pem());
    let cases: [(&str, &str, u32, &str); 7] = [
        (&expired.pem(), &expired_key.serialize_pem(), 0o600, "has expired"),
        (&foreign.pem(), &foreign_key.serialize_pem(), 0o600, "is not for anteroom.example"),
        (&good, &foreign_key.serialize_pem(), 0o600, "is not that of the first certificate"),
        (&good, &key, 0o644, "users outside of its group can read it"),
        ("nothing", &key, 0o600, "contains no certificate"),
        (&good, "nothing", 0o600, "contains no private key"),
        (&good[..good.len() / 2], &key, 0o600, "cert.pem"),
    ];
    for (certificate, key, mode, part) in cases {
        files.put("cert.pem", certificate, 0o644);
        files.put("key.pem", key, mode);
        refused(&server, part).await;
    }
    fs::remove_file(files.path("cert.pem")).unwrap();
    refused(&server, "cert.pem cannot be read").await;
    end_without_tls(server).await;
}

/// `config check`, which checks as the start does, names the fault.
async fn refused(server: &TestServer, part: &str) {
    let done = anteroom(server, &["config", "check"]).await;
    let printed = format!("{}{}", text(&done.stdout), text(&done.stderr));
    assert!(!done.status.success() && printed.contains(part), "{part}: {printed}");
}
