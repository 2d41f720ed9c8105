//! Certificates by ACME, from Caddy's ACME server: obtained, used again after a restart, renewed, and what is said when it does not work.

use crate::{
    Flags,
    network_namespace::{raise_loopback_inside, rerun_inside},
};
use anteroom_testbed::{TestCa, TestConfig, TestServer, WAIT_MAX, eventually};
use anteroom_wire::api::{Health, HealthStatus};
use rustix::process::{Signal, kill_process};
use serde_json::Value;
use std::{
    fs,
    net::{SocketAddr, TcpListener},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::ring,
        pki_types::{CertificateDer, ServerName, pem::PemObject},
    },
};

/// The authority checks it at port 443 of this network namespace.
const HOST: &str = "localhost";

/// An authority that speaks ACME. Its own certificate is of the same authority.
struct Authority {
    dir: tempfile::TempDir,
    address: SocketAddr,
    caddy: Option<Child>,
}

impl Authority {
    /// Makes its root, without serving.
    async fn new() -> Self {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut authority = Self { dir: tempfile::tempdir().unwrap(), address, caddy: None };
        authority.start().await;
        authority.stop();
        authority
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("caddy/pki/authorities/local/root.crt")
    }

    #[allow(clippy::disallowed_methods, reason = "the authority ends it")]
    async fn start(&mut self) {
        let site = format!(
            "{{\n\tadmin off\n\tskip_install_trust\n\tauto_https disable_redirects\n}}\n\
             https://{HOST}:{} {{\n\tbind 127.0.0.1\n\ttls internal\n\tacme_server\n}}\n",
            self.address.port()
        );
        let config = self.dir.path().join("Caddyfile");
        fs::write(&config, site).unwrap();
        let log = fs::File::create(self.dir.path().join("log")).unwrap();
        let mut caddy = Command::new("caddy");
        caddy.args(["run", "--adapter", "caddyfile", "--config"]).arg(&config).stdin(Stdio::null()).stderr(log);
        caddy
            .env("XDG_DATA_HOME", self.dir.path())
            .env("XDG_CONFIG_HOME", self.dir.path())
            .env("HOME", self.dir.path());
        self.caddy = Some(caddy.spawn().expect("Caddy is installed (Debian: caddy)"));
        let answers = async || {
            let is_up = self.root().exists() && connect(&self.root(), self.address).await.is_some();
            Ok(is_up.then_some(()))
        };
        let started = eventually("Caddy", WAIT_MAX, answers).await;
        assert!(started.is_ok(), "{}", fs::read_to_string(self.dir.path().join("log")).unwrap());
    }

    fn stop(&mut self) {
        if let Some(mut caddy) = self.caddy.take() {
            // It may have ended.
            let _ = caddy.kill();
            let _ = caddy.wait();
        }
    }

    fn settings(&self, domains: &[&str]) -> String {
        format!(
            "listen = '127.0.0.1:443'\npublic_url = 'https://{HOST}'\n[tls.acme]\ndomains = {domains:?}\n\
             contact = ['mailto:operator@anteroom.example']\ndirectory_url = 'https://{HOST}:{}/acme/local/directory'\n\
             ca_file = '{}'\n",
            self.address.port(),
            self.root().display()
        )
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A connection that trusts this root; `None`: there is none.
async fn connect(root: &Path, address: SocketAddr) -> Option<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(root).ok()?).ok()?;
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .ok()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(address).await.ok()?;
    TlsConnector::from(Arc::new(config)).connect(ServerName::try_from(HOST).unwrap(), stream).await.ok()
}

/// The certificate that the server shows to a client which trusts this root.
async fn shown(root: &Path, server: &TestServer) -> Option<Vec<u8>> {
    let stream = connect(root, server.address().unwrap()).await?;
    Some(stream.get_ref().1.peer_certificates()?[0].to_vec())
}

/// The line of the server's health, over TLS.
async fn health(root: &Path, server: &TestServer) -> (HealthStatus, String) {
    let mut stream = connect(root, server.address().unwrap()).await.unwrap();
    let token = server.operator_token().expose();
    let request =
        format!("GET /health HTTP/1.1\r\nHost: {HOST}\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let health: Health = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
    let check = health.checks.into_iter().find(|check| check.name == "certificate").unwrap();
    (check.status, check.detail)
}

/// The last line of the log with this outcome, after so many.
async fn line(server: &TestServer, outcome: &str, after: usize) -> Value {
    let lines = async || {
        let log = fs::read_to_string(server.state_dir().join("log/anteroom.jsonl")).unwrap_or_default();
        let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        Ok(lines.filter(|line| line["outcome"] == outcome).nth(after))
    };
    eventually(outcome, WAIT_MAX, lines).await.unwrap()
}

fn error_of(line: &Value) -> &str {
    line["error"].as_str().unwrap()
}

fn hang_up(server: &TestServer) {
    kill_process(server.server_pid().unwrap(), Signal::HUP).unwrap();
}

/// Changes the configuration of a server that is stopped.
fn configure(server: &TestServer, change: impl FnOnce(&mut toml::Table)) {
    let path = server.config_file();
    let mut table: toml::Table = fs::read_to_string(&path).unwrap().parse().unwrap();
    change(&mut table);
    fs::write(path, table.to_string()).unwrap();
}

/// What `anteroom doctor` prints of the certificate.
async fn doctor(server: &TestServer) -> String {
    let mut command = tokio::process::Command::new(anteroom_testbed::plain_process::built_program("anteroom").unwrap());
    command.arg("doctor").env("ANTEROOM_CONFIG", server.config_file());
    let output = command.output().await.unwrap();
    String::from_utf8_lossy(&output.stdout).lines().filter(|line| line.contains("certificate")).collect()
}

#[tokio::test]
async fn acme_obtains_keeps_and_renews_the_certificate_and_names_what_fails() {
    if !rerun_inside("acme::acme_obtains_keeps_and_renews_the_certificate_and_names_what_fails") {
        return;
    }
    raise_loopback_inside();
    let mut authority = Authority::new().await;
    let (root, flags) = (authority.root(), Flags::new());
    let config = TestConfig::with_provider(flags.idle_provider()).with_settings(&authority.settings(&[HOST]));
    let mut server = TestServer::start(config).await.unwrap();
    let acme = server.state_dir().join("acme");

    // Nothing answers at the directory's address: the server runs without a certificate, and says so.
    let failed = line(&server, "certificate_not_obtained", 0).await;
    assert!(error_of(&failed).contains("/acme/local/directory cannot be reached"), "{failed}");
    assert_eq!(shown(&root, &server).await, None);
    let said = doctor(&server).await;
    assert!(said.contains("no certificate") && said.contains("cannot be reached"), "{said}");

    authority.start().await;
    hang_up(&server);
    line(&server, "certificate_reloaded", 0).await;
    let first = shown(&root, &server).await.unwrap();
    let (status, detail) = health(&root, &server).await;
    assert!(status == HealthStatus::Ok && detail.contains("ACME renews it at"), "{detail}");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&acme), 0o700);
    let files: Vec<_> = fs::read_dir(&acme).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 2, "{files:?}");
    assert!(files.iter().all(|file| mode(file) == 0o600), "{files:?}");

    // The authority is away: the stored certificate is used, and no other is asked for.
    authority.stop();
    server.stop_server().await.unwrap();
    server.start_server().await.unwrap();
    assert_eq!(shown(&root, &server).await.as_ref(), Some(&first));
    let (status, detail) = health(&root, &server).await;
    assert_eq!(status, HealthStatus::Ok, "{detail}");

    // More than two thirds of a certificate's life are over: it is used until the authority answers.
    let old = TestCa::new().unwrap();
    let old_root = authority.dir.path().join("old.pem");
    fs::write(&old_root, old.pem()).unwrap();
    server.stop_server().await.unwrap();
    let soon = anteroom_controller::unix_time::now_unix_ms() + 20 * 24 * 3_600_000;
    let soon = anteroom_controller::unix_time::format_rfc3339(soon);
    let number = |range: std::ops::Range<usize>| soon[range].parse::<u16>().unwrap();
    let last_day = (i32::from(number(0..4)), u8::try_from(number(5..7)).unwrap(), u8::try_from(number(8..10)).unwrap());
    let (certificate, key) = old.issue_until(&[HOST], last_day).unwrap();
    fs::write(acme.join("certificate.pem"), format!("{}{}", certificate.pem(), key.serialize_pem())).unwrap();
    server.start_server().await.unwrap();
    line(&server, "certificate_not_obtained", 1).await;
    assert_eq!(shown(&old_root, &server).await.unwrap(), certificate.der().to_vec());
    let (status, detail) = health(&old_root, &server).await;
    assert!(status == HealthStatus::Degraded && detail.contains("cannot be reached"), "{detail}");
    authority.start().await;
    hang_up(&server);
    line(&server, "certificate_reloaded", 1).await;
    let renewed = shown(&root, &server).await.unwrap();
    assert_ne!(renewed, first);

    // A further name that does not lead here: the certificate of the other names stays in use.
    server.stop_server().await.unwrap();
    configure(&server, |table| {
        let domains = vec![toml::Value::from(HOST), toml::Value::from("nowhere.invalid")];
        table["tls"]["acme"].as_table_mut().unwrap().insert("domains".to_owned(), domains.into());
    });
    server.start_server().await.unwrap();
    let failed = line(&server, "certificate_not_obtained", 2).await;
    assert!(error_of(&failed).contains("could not check nowhere.invalid at its port 443"), "{failed}");
    assert_eq!(shown(&root, &server).await, Some(renewed));

    // The checks at the end need no TLS.
    server.stop_server().await.unwrap();
    configure(&server, |table| {
        table.remove("tls");
        table.remove("public_url");
        table.insert("listen".to_owned(), "127.0.0.1:0".into());
    });
    server.start_server().await.unwrap();
    server.stop_and_check_leaks().await.unwrap();
}
