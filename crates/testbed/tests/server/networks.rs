//! Networks whose only way out is a proxy, with the proxies of Debian, and the check of the way to each host.

use crate::{problem_of, start_idle_session, start_session_with};
use anteroom_testbed::{
    Script, ScriptedProvider, Step, TestCa, TestConfig, TestServer, eventually, plain_process::built_program,
    test_ca::TlsServer, with_hosts,
};
use anteroom_wire::{TimelineKind, api::SessionStatus, diagnosis::Verdict};
use axum::{Router, routing::get};
use serde_json::Value;
use std::{
    fs,
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    process::Child,
    time::timeout,
};

const SOON: Duration = Duration::from_secs(30);
const CLI_MAX: Duration = Duration::from_secs(60);

/// What the names of these tests resolve to.
/// With a dot at the end, as the gate asks for them.
const HOSTS: &str = "127.0.0.1 localhost auth.example auth.example.\n198.18.0.22 fake.example.\n";

/// An HTTPS server `auth.example`, and a directory for files of the test.
struct Outside {
    dir: tempfile::TempDir,
    ca: TestCa,
    server: TlsServer,
    /// Hosts that the provider `outside` has in addition.
    more_hosts: Vec<(&'static str, u16)>,
}

impl Outside {
    async fn start() -> Self {
        let ca = TestCa::new().unwrap();
        let router = Router::new().route("/", get(|| async { "hello" }));
        let server = TlsServer::start(&ca, &["auth.example"], router).await.unwrap();
        Self { dir: tempfile::tempdir().unwrap(), ca, server, more_hosts: Vec::new() }
    }

    fn port(&self) -> u16 {
        self.server.address().port()
    }

    fn file(&self, name: &str, content: &str, mode: u32) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    /// The setting that trusts the server's authority.
    fn trusted(&self) -> String {
        format!("extra_ca_files = [{:?}]\n", self.file("ca.pem", &self.ca.pem(), 0o644))
    }

    /// Runs `anteroom doctor --network outside --json` with these settings of `[egress]` and `[egress.proxy]`.
    async fn doctor(&self, egress: &str, proxy: &str, variables: &[(&str, &str)], more: &[&str]) -> Report {
        let config = format!(
            "state_dir = {:?}\n[egress]\n{egress}\n[egress.proxy]\n{proxy}\n[providers.outside]\n{}\negress = [{}]\n",
            self.dir.path().join("state"),
            DESCRIPTOR,
            [("auth.example", self.port()), ("*.pattern.example", 443)]
                .iter()
                .chain(&self.more_hosts)
                .map(|(host, port)| format!("{{ host = {host:?}, ports = [{port}] }}"))
                .collect::<Vec<_>>()
                .join(", "),
        );
        let config = self.file("anteroom.toml", &config, 0o600);
        let mut command = with_hosts(self.dir.path(), HOSTS, &built_program("anteroom").unwrap()).unwrap();
        for name in ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "NO_PROXY", "no_proxy"] {
            command.env_remove(name);
        }
        command.arg("--config").arg(config).args(["doctor", "--network", "outside"]).args(more);
        command.envs(variables.iter().copied()).stdin(Stdio::null()).kill_on_drop(true);
        let output = timeout(CLI_MAX, command.output()).await.unwrap().unwrap();
        let text = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
        Report { succeeded: output.status.success(), text }
    }

    async fn doctor_json(&self, egress: &str, proxy: &str, variables: &[(&str, &str)]) -> (bool, Value) {
        let report = self.doctor(egress, proxy, variables, &["--json"]).await;
        assert!(!report.text.contains("hunter2"), "a password is printed: {}", report.text);
        (report.succeeded, serde_json::from_str(&report.text).unwrap_or_else(|_| panic!("{}", report.text)))
    }
}

struct Report {
    succeeded: bool,
    text: String,
}

const DESCRIPTOR: &str = r#"
id = "outside"
name = "Outside"
cli = "outside"
argv = ["outside"]
lanes = ["terminal"]
next_action = "Sign in."
policy = "store"
credential = { paths = [".outside/auth.json"], required = ["/token"] }"#;

/// A running proxy.
struct Proxy {
    port: u16,
    _process: Child,
}

impl Proxy {
    async fn start(dir: &Path, program: &str, arguments: impl FnOnce(u16) -> Vec<String>) -> Self {
        // The proxies cannot say which port the system chose.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut command = with_hosts(dir, HOSTS, Path::new(program)).unwrap();
        let process = command
            .args(arguments(port))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true);
        let process = process.spawn().expect("the proxy is installed (Debian: tinyproxy-bin, microsocks, mitmproxy)");
        let accepts = async || Ok(TcpStream::connect(("127.0.0.1", port)).await.ok());
        eventually("the proxy accepts connections", SOON, accepts).await.unwrap();
        Self { port, _process: process }
    }

    async fn tinyproxy(dir: &Path, settings: &str) -> Self {
        Self::start(dir, "tinyproxy", |port| {
            let config = dir.join("tinyproxy.conf");
            let common = "Listen 127.0.0.1\nTimeout 30\nMaxClients 20\nLogLevel Error\nDisableViaHeader Yes\n";
            fs::write(&config, format!("Port {port}\n{common}{settings}\n")).unwrap();
            ["-d", "-c", config.to_str().unwrap()].map(str::to_owned).to_vec()
        })
        .await
    }

    /// It inspects TLS: its certificates are by an authority of its own, which it writes to `dir`.
    async fn mitmproxy(outside: &Outside) -> Self {
        let (dir, ca) = (outside.dir.path(), outside.file("issuers.pem", &outside.ca.pem(), 0o644));
        let trusted = format!("ssl_verify_upstream_trusted_ca={}", ca.display());
        let authority = format!("confdir={}", dir.display());
        Self::start(dir, "mitmdump", |port| {
            let port = port.to_string();
            let arguments = ["-q", "--listen-host", "127.0.0.1", "--listen-port", &port];
            arguments.iter().chain(&["--set", &authority, "--set", &trusted]).map(|&text| text.to_owned()).collect()
        })
        .await
    }

    async fn microsocks(dir: &Path, arguments: &[&str]) -> Self {
        Self::start(dir, "microsocks", |port| {
            let port = port.to_string();
            ["-i", "127.0.0.1", "-p", &port].iter().chain(arguments).map(|&argument| argument.to_owned()).collect()
        })
        .await
    }
}

fn cause(report: &Value) -> &str {
    report["hosts"][0]["failure"]["cause"].as_str().unwrap_or_default()
}

fn detail(report: &Value) -> &str {
    report["hosts"][0]["failure"]["detail"].as_str().unwrap_or_default()
}

#[tokio::test]
async fn r02_hosts_are_reached_through_an_http_proxy_and_doctor_names_each_step() {
    let outside = Outside::start().await;
    let proxy = Proxy::tinyproxy(outside.dir.path(), "").await;
    let url = format!("url = 'http://127.0.0.1:{}'", proxy.port);
    let (succeeded, report) = outside.doctor_json(&outside.trusted(), &url, &[]).await;
    assert!(succeeded, "{report:#}");
    let host = &report["hosts"][0];
    assert_eq!((&host["status"], &host["way"]), (&"ok".into(), &"proxy".into()), "{report:#}");
    assert_eq!(host["tls_version"], "TLS 1.3");
    assert!(host["tls_issuer"].as_str().unwrap().contains("Authority of one test"), "{report:#}");
    assert!(host["addresses"].as_array().unwrap().is_empty(), "the proxy resolves the name");
    assert_eq!(report["hosts"][1]["status"], "pattern");
    // Without the authority, the issuer is named.
    let (succeeded, report) = outside.doctor_json("", &url, &[]).await;
    assert!(!succeeded);
    assert_eq!(cause(&report), "unknown_authority", "{report:#}");
    assert!(detail(&report).contains("Authority of one test"), "{report:#}");
    // The list of names is enforced before the proxy is asked.
    let report = outside.doctor("", &url, &[], &["--host", "company.okta.com"]).await;
    assert!(!report.succeeded && report.text.contains("egress_denied"), "{}", report.text);
}

#[tokio::test]
async fn r02_refusals_of_an_http_proxy_are_named() {
    let outside = Outside::start().await;
    let proxy = Proxy::tinyproxy(outside.dir.path(), "BasicAuth me hunter2").await;
    let url = format!("url = 'http://127.0.0.1:{}'\n", proxy.port);
    let (_, report) = outside.doctor_json(&outside.trusted(), &url, &[]).await;
    assert_eq!(cause(&report), "egress_proxy", "{report:#}");
    // 407, or 401 by some proxies.
    assert!(detail(&report).contains("answered 40") && detail(&report).contains("credentials_file"), "{report:#}");
    let wrong = outside.file("wrong", "me:hunter22\n", 0o600);
    let (_, report) = outside.doctor_json(&outside.trusted(), &format!("{url}credentials_file = {wrong:?}"), &[]).await;
    assert!(detail(&report).contains("does not accept the user and the password"), "{report:#}");
    let right = outside.file("right", "me:hunter2\n", 0o600);
    let (succeeded, report) =
        outside.doctor_json(&outside.trusted(), &format!("{url}credentials_file = {right:?}"), &[]).await;
    assert!(succeeded, "{report:#}");
    let open = outside.file("open", "me:hunter2\n", 0o644);
    let report = outside.doctor("", &format!("{url}credentials_file = {open:?}"), &[], &[]).await;
    assert!(!report.succeeded && report.text.contains("chmod 600"), "{}", report.text);

    let other = tempfile::tempdir().unwrap();
    let proxy = Proxy::tinyproxy(other.path(), "ConnectPort 1").await;
    let (_, report) = outside.doctor_json("", &format!("url = 'http://127.0.0.1:{}'", proxy.port), &[]).await;
    assert_eq!(cause(&report), "egress_proxy");
    assert!(detail(&report).contains("answered 403"), "{report:#}");

    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (_, report) = outside.doctor_json("", &format!("url = 'http://{closed}'"), &[]).await;
    assert_eq!(cause(&report), "egress_proxy");
    assert!(detail(&report).contains("cannot be reached"), "{report:#}");
}

#[tokio::test]
async fn r02_hosts_are_reached_through_a_socks_proxy() {
    let outside = Outside::start().await;
    let open = Proxy::microsocks(outside.dir.path(), &[]).await;
    let (succeeded, report) =
        outside.doctor_json(&outside.trusted(), &format!("url = 'socks5://127.0.0.1:{}'", open.port), &[]).await;
    assert!(succeeded, "{report:#}");
    let locked = Proxy::microsocks(outside.dir.path(), &["-u", "me", "-P", "hunter2"]).await;
    let url = format!("url = 'socks5h://127.0.0.1:{}'\n", locked.port);
    let (_, report) = outside.doctor_json("", &url, &[]).await;
    assert!(detail(&report).contains("wants a user and a password"), "{report:#}");
    let wrong = outside.file("wrong", "me:hunter22", 0o600);
    let (_, report) = outside.doctor_json("", &format!("{url}credentials_file = {wrong:?}"), &[]).await;
    assert!(detail(&report).contains("does not accept"), "{report:#}");
    let right = outside.file("right", "me:hunter2", 0o600);
    let (succeeded, report) =
        outside.doctor_json(&outside.trusted(), &format!("{url}credentials_file = {right:?}"), &[]).await;
    assert!(succeeded, "{report:#}");
    // Configured as an HTTP proxy.
    let (_, report) = outside.doctor_json("", &format!("url = 'http://127.0.0.1:{}'", open.port), &[]).await;
    assert!(detail(&report).contains("does not answer as an HTTP proxy"), "{report:#}");
}

#[tokio::test]
async fn r02_proxy_that_inspects_tls_is_named_with_its_issuer_and_the_setting_that_trusts_it() {
    let outside = Outside::start().await;
    let proxy = Proxy::mitmproxy(&outside).await;
    let url = format!("url = 'http://127.0.0.1:{}'", proxy.port);
    let (succeeded, report) = outside.doctor_json("", &url, &[]).await;
    assert!(!succeeded);
    assert_eq!(cause(&report), "unknown_authority", "{report:#}");
    assert!(detail(&report).contains("mitmproxy"), "{report:#}");
    let remedy = report["hosts"][0]["failure"]["remedy"].as_str().unwrap();
    assert!(remedy.contains("egress.extra_ca_files"), "{report:#}");
    let authority = outside.dir.path().join("mitmproxy-ca-cert.pem");
    let (succeeded, report) = outside.doctor_json(&format!("extra_ca_files = [{authority:?}]\n"), &url, &[]).await;
    assert!(succeeded, "{report:#}");
    assert!(report["hosts"][0]["tls_issuer"].as_str().unwrap().contains("mitmproxy"), "{report:#}");
}

#[tokio::test]
async fn r02_proxy_of_the_environment_is_used_when_the_configuration_says_so_and_named_when_not() {
    let outside = Outside::start().await;
    let proxy = Proxy::tinyproxy(outside.dir.path(), "BasicAuth me hunter2").await;
    let url = format!("http://me:hunter2@127.0.0.1:{}", proxy.port);
    let variables = [("HTTPS_PROXY", &*url), ("NO_PROXY", "corp.example")];
    let (succeeded, report) = outside.doctor_json(&outside.trusted(), "from_environment = true", &variables).await;
    assert!(succeeded, "{report:#}");
    assert_eq!(report["proxy"], format!("http://127.0.0.1:{}", proxy.port));
    let excepted = [("ALL_PROXY", &*url), ("NO_PROXY", ".example")];
    let (_, report) = outside.doctor_json("", "from_environment = true", &excepted).await;
    assert_eq!(cause(&report), "egress_private", "reached directly: {report:#}");
    let (_, report) = outside.doctor_json("", "", &variables).await;
    assert_eq!(report["unused_proxy_variable"], "HTTPS_PROXY", "{report:#}");
    let report = outside.doctor("", "from_environment = true", &[], &[]).await;
    assert!(!report.succeeded && report.text.contains("none of HTTPS_PROXY"), "{}", report.text);
}

#[tokio::test]
async fn r01_doctor_names_the_refused_answer_and_the_setting_that_allows_it() {
    // Refused before a connection.
    let outside = Outside { more_hosts: vec![("fake.example", 443)], ..Outside::start().await };
    let (succeeded, report) = outside.doctor_json("", "", &[]).await;
    assert!(!succeeded);
    assert_eq!(cause(&report), "egress_private", "{report:#}");
    assert!(detail(&report).contains("loopback") && detail(&report).contains("no setting allows it"), "{report:#}");
    let fake = &report["hosts"][2];
    assert_eq!((&fake["failure"]["cause"], &fake["addresses"][0]), (&"egress_private".into(), &"198.18.0.22".into()));
    assert_eq!(fake["way"], Value::Null);
    let setting = "egress.allowed_special_ranges = [\"198.18.0.0/15\"]";
    for text in ["detail", "remedy"] {
        assert!(fake["failure"][text].as_str().unwrap().contains(setting), "{report:#}");
    }
}

fn provider(port: u16, wait_for: &Path) -> ScriptedProvider {
    let steps = [
        Step::ProxyConnect { authority: format!("auth.example:{port}") },
        Step::ProxyConnect { authority: "other.example:443".into() },
        Step::WaitForFile { path: wait_for.to_owned(), ms_max: 300_000 },
    ];
    ScriptedProvider::new("scripted", Script::new(steps)).with_egress("auth.example", port)
}

#[tokio::test]
async fn r02_machine_reaches_its_hosts_through_the_proxy_and_the_timeline_says_so() {
    let outside = Outside::start().await;
    let proxy = Proxy::tinyproxy(outside.dir.path(), "").await;
    let config = TestConfig::with_provider(provider(outside.port(), &outside.dir.path().join("never")));
    let config = config.with_settings(&format!("[egress.proxy]\nurl = 'http://127.0.0.1:{}'\n", proxy.port));
    let (server, api, id) = start_session_with(config).await;
    let both = async || {
        let timeline = api.get_timeline(&id).await?;
        let of = |kind| timeline.iter().find(|entry| entry.kind == kind).cloned();
        Ok(of(TimelineKind::EgressAllowed).zip(of(TimelineKind::EgressDenied)))
    };
    let (allowed, denied) = eventually("both requests are on the timeline", SOON, both).await.unwrap();
    assert_eq!(allowed.data["way"], "proxy", "{allowed:#?}");
    assert_eq!(allowed.data["address"], Value::Null);
    assert!(allowed.sentence.contains("through this server's proxy"), "{allowed:#?}");
    assert_eq!((&denied.data["host"], &denied.data["reason"]), (&"other.example".into(), &"egress_denied".into()));
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn r02_refusal_of_the_proxy_is_the_verdict_of_the_session() {
    let outside = Outside::start().await;
    let proxy = Proxy::tinyproxy(outside.dir.path(), "ConnectPort 1").await;
    let config = TestConfig::with_provider(provider(outside.port(), &outside.dir.path().join("never")));
    let config = config.with_settings(&format!("[egress.proxy]\nurl = 'http://127.0.0.1:{}'\n", proxy.port));
    let (server, api, id) = start_session_with(config).await;
    let diagnosis = api.wait_verdict(&id, Verdict::EgressProxy).await.unwrap();
    assert!(diagnosis.sentence.contains("answered 403"), "{diagnosis:#?}");
    server.stop_and_check_leaks().await.unwrap();
}

/// A browser's request for a WebSocket after a reverse proxy that removes `Upgrade` and `Connection`.
async fn send_without_upgrade(server: &TestServer, path: &str, ticket: &str) -> String {
    let (base, address) = (server.base_url().unwrap(), server.address().unwrap());
    let head = format!(
        "GET {path} HTTP/1.1\r\nHost: {}\r\nOrigin: {base}\r\nConnection: close\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: binary, ticket.{ticket}\r\n\r\n",
        base.trim_start_matches("http://")
    );
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    timeout(SOON, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
    answer
}

#[tokio::test]
async fn r20_reverse_proxy_without_upgrade_is_named_to_the_page_on_the_timeline_and_in_the_diagnosis() {
    let (_flags, server, api, id) = start_idle_session("").await;
    api.wait_status(&id, SessionStatus::VmStarted).await.unwrap();
    let ticket = api.create_ticket(&id, "desktop").await.unwrap().ticket;
    let answer = send_without_upgrade(&server, &format!("/api/auth/session/{id}/novnc/websock"), &ticket).await;
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("\"proxy_without_upgrade\""), "{answer}");
    let found = api.wait_verdict(&id, Verdict::ProxyWithoutUpgrade).await.unwrap();
    assert!(found.sentence.contains("reverse proxy"), "{found:#?}");
    // The page learns it from its next request for a ticket, and can try again after that.
    let path = format!("/api/auth/session/{id}/ticket");
    let request = || serde_json::json!({ "purpose": "desktop" });
    let refused = api.post(&path, request()).await.unwrap();
    let (status, code, _) = problem_of(&refused);
    assert_eq!((status, code.as_str()), (400, "proxy_without_upgrade"));
    assert_eq!(api.post(&path, request()).await.unwrap().status, 200);
    server.stop_and_check_leaks().await.unwrap();
}
