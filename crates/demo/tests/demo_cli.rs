//! Black-box tests of `anteroom-demo` with a fake identity provider and a fake browser.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, Response, body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::{
    collections::BTreeMap,
    convert::Infallible,
    fs,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::{Output, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines},
    net::{TcpListener, TcpStream},
    process::{Child, ChildStdout, Command},
    task::JoinHandle,
    time::timeout,
};

const LIMIT: Duration = Duration::from_secs(60);
const ISSUER: &str = "http://id.anteroom.test";

/// A fake identity provider, which is also the HTTP proxy to it and records its requests.
struct Issuer {
    address: String,
    state: Arc<IssuerState>,
    task: JoinHandle<()>,
}

struct IssuerState {
    /// The issuer in its metadata.
    name: &'static str,
    requests: Mutex<Vec<String>>,
    /// The PKCE challenge of the present authorization request.
    challenge: Mutex<String>,
}

impl Issuer {
    async fn start(name: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(IssuerState { name, requests: Mutex::default(), challenge: Mutex::default() });
        let shared = state.clone();
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let state = shared.clone();
                let service = service_fn(move |request| {
                    let state = state.clone();
                    async move { Ok::<_, Infallible>(state.answer(request).await) }
                });
                let connection = hyper::server::conn::http1::Builder::new();
                tokio::spawn(connection.serve_connection(TokioIo::new(stream), service));
            }
        });
        Self { address, state, task }
    }
}

impl Drop for Issuer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl IssuerState {
    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        self.requests.lock().unwrap().push(format!("{} {}", request.method(), request.uri()));
        let path = request.uri().path().to_owned();
        let bearer = request.headers().get("authorization").map(|value| value.to_str().unwrap().to_owned());
        let is_post = request.method() == Method::POST;
        let body = request.into_body().collect().await.unwrap().to_bytes();
        let name = self.name;
        let (status, body) = match path.as_str() {
            "/.well-known/oauth-authorization-server" => (
                200,
                json!({
                    "issuer": name,
                    "authorization_endpoint": format!("{name}/authorize"),
                    "token_endpoint": format!("{name}/token"),
                    "userinfo_endpoint": format!("{name}/userinfo"),
                }),
            ),
            "/token" if is_post => self.token(&parse_query(std::str::from_utf8(&body).unwrap())),
            "/userinfo" if bearer.as_deref() == Some("Bearer at-1") => (200, json!({ "sub": "demo_1", "name": "Ada" })),
            _ => (404, json!({})),
        };
        Response::builder().status(status).body(Full::new(body.to_string().into())).unwrap()
    }

    fn token(&self, form: &BTreeMap<String, String>) -> (u16, Value) {
        let is = |key: &str, value: &str| form.get(key).is_some_and(|found| found == value);
        let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(&form["code_verifier"]));
        let valid = challenge == *self.challenge.lock().unwrap()
            && is("grant_type", "authorization_code")
            && is("client_id", "anteroom-demo")
            && is("code", "good-code")
            && form["redirect_uri"].starts_with("http://127.0.0.1:");
        if valid {
            (200, json!({ "access_token": "at-1", "refresh_token": "rt-1", "token_type": "Bearer", "expires_in": 600 }))
        } else {
            (400, json!({ "error": "invalid_grant", "error_description": "that code is not good" }))
        }
    }
}

fn parse_query(query: &str) -> BTreeMap<String, String> {
    query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(key, value)| (percent_decode(key), percent_decode(value)))
        .collect()
}

fn percent_decode(text: &str) -> String {
    let mut out = Vec::new();
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let digits = [bytes.next().unwrap(), bytes.next().unwrap()];
            out.push(u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap());
        } else {
            out.push(byte);
        }
    }
    String::from_utf8(out).unwrap()
}

/// A home directory in which the tool runs.
struct ToolHome {
    home: tempfile::TempDir,
}

impl ToolHome {
    fn new() -> Self {
        Self { home: tempfile::tempdir().unwrap() }
    }

    fn file(&self) -> PathBuf {
        self.home.path().join(".config/anteroom-demo/credentials.json")
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_anteroom-demo-cli"));
        command.args(args).env_clear().env("HOME", self.home.path()).env("PATH", "/usr/bin:/bin");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        command
    }

    async fn run(&self, args: &[&str]) -> Output {
        timeout(LIMIT, self.command(args).output()).await.unwrap().unwrap()
    }

    /// Starts `login` with the issuer's proxy and reads its output up to the URL to open.
    async fn login(&self, issuer: &Issuer, args: &[&str]) -> Login {
        let mut command = self.command(&[&["login"], args].concat());
        command.env("http_proxy", &issuer.address).env("BROWSER", self.browser());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let address = timeout(LIMIT, async {
            loop {
                let line = lines.next_line().await.unwrap().expect("a URL before the end");
                if line.starts_with("http://") {
                    return line;
                }
            }
        });
        let address = address.await.unwrap();
        let query = parse_query(address.split_once('?').unwrap().1);
        issuer.state.challenge.lock().unwrap().clone_from(&query["code_challenge"]);
        Login { child, lines, address, query }
    }

    /// A fake browser that only records the URL it was asked to open.
    fn browser(&self) -> PathBuf {
        let (browser, home) = (self.home.path().join("browser"), self.home.path().display().to_string());
        let script = format!("#!/bin/sh\nprintf %s \"$1\" > {home}/opened.new && mv {home}/opened.new {home}/opened\n");
        fs::write(&browser, script).unwrap();
        fs::set_permissions(&browser, fs::Permissions::from_mode(0o755)).unwrap();
        browser
    }

    /// Waits for the URL that the browser was asked to open.
    async fn opened(&self) -> String {
        let path = self.home.path().join("opened");
        let opened = async {
            loop {
                match tokio::fs::read_to_string(&path).await {
                    Ok(address) => return address,
                    Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
                }
            }
        };
        timeout(LIMIT, opened).await.unwrap()
    }
}

/// A `login` that waits for the browser.
struct Login {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    address: String,
    query: BTreeMap<String, String>,
}

impl Login {
    /// Requests the redirect URL with this query, in which `{state}` is replaced by the right state; returns status and page.
    async fn redirect(&self, query: &str) -> (u16, String) {
        let redirect_uri = self.query["redirect_uri"].strip_prefix("http://").unwrap().to_owned();
        let (authority, path) = redirect_uri.split_once('/').unwrap();
        let query = query.replace("{state}", &self.query["state"]);
        let exchange = async {
            let mut stream = TcpStream::connect(authority).await.unwrap();
            let request = format!("GET /{path}?{query} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            answer
        };
        let answer = timeout(LIMIT, exchange).await.unwrap();
        (answer.split(' ').nth(1).unwrap().parse().unwrap(), answer)
    }

    /// Waits for the exit; returns status, the remaining output and the errors.
    async fn wait_exit(mut self) -> (i32, String, String) {
        let end = async {
            let mut output = String::new();
            while let Some(line) = self.lines.next_line().await.unwrap() {
                output.push_str(&line);
                output.push('\n');
            }
            let mut errors = String::new();
            self.child.stderr.take().unwrap().read_to_string(&mut errors).await.unwrap();
            (self.child.wait().await.unwrap().code().unwrap(), output, errors)
        };
        timeout(LIMIT, end).await.unwrap()
    }
}

#[tokio::test]
async fn sign_in_writes_a_credential_readable_only_by_its_owner() {
    let (issuer, tool) = (Issuer::start(ISSUER).await, ToolHome::new());
    let before = tool.run(&["status"]).await;
    assert_eq!((before.status.code(), before.stdout.as_slice()), (Some(1), &b"not signed in\n"[..]));

    let login = tool.login(&issuer, &[]).await;
    assert!(login.address.starts_with("http://id.anteroom.test/authorize?response_type=code&client_id=anteroom-demo&"));
    assert_eq!(login.query["code_challenge_method"], "S256");
    assert_eq!(tool.opened().await, login.address);
    let (status, page) = login.redirect("code=good-code&state={state}").await;
    assert_eq!(status, 200);
    assert!(page.contains("You are signed in") && page.contains("close this tab"), "{page}");
    let (code, output, errors) = login.wait_exit().await;
    assert_eq!((code, output.as_str(), errors.as_str()), (0, "\nSigned in as Ada\n", ""));

    let credential: Value = serde_json::from_slice(&fs::read(tool.file()).unwrap()).unwrap();
    assert_eq!(credential["access_token"], "at-1");
    assert_eq!(credential["refresh_token"], "rt-1");
    assert_eq!(credential["token_type"], "Bearer");
    assert_eq!(credential["account"], "Ada");
    assert!(credential["expires_at"].as_u64().unwrap() > 1_700_000_000);
    assert_eq!(fs::metadata(tool.file()).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::read_dir(tool.file().parent().unwrap()).unwrap().count(), 1, "no partial file is left");

    let after = tool.run(&["status"]).await;
    assert_eq!((after.status.code(), after.stdout.as_slice()), (Some(0), &b"signed in as Ada\n"[..]));
    assert_eq!(tool.run(&["logout"]).await.stdout, b"signed out\n");
    assert_eq!(tool.run(&["status"]).await.status.code(), Some(1));
}

#[tokio::test]
async fn all_requests_go_through_the_proxy_by_host_name() {
    let (issuer, tool) = (Issuer::start(ISSUER).await, ToolHome::new());
    let login = tool.login(&issuer, &[]).await;
    login.redirect("code=good-code&state={state}").await;
    assert_eq!(login.wait_exit().await.0, 0);
    assert_eq!(
        *issuer.state.requests.lock().unwrap(),
        [
            "GET http://id.anteroom.test/.well-known/oauth-authorization-server",
            "POST http://id.anteroom.test/token",
            "GET http://id.anteroom.test/userinfo",
        ]
    );
}

#[tokio::test]
async fn callback_with_a_wrong_state_is_rejected_and_the_right_one_is_accepted() {
    let (issuer, tool) = (Issuer::start(ISSUER).await, ToolHome::new());
    let login = tool.login(&issuer, &[]).await;
    for query in ["code=good-code&state=wrong", "code=good-code", "error=access_denied&state="] {
        let (status, page) = login.redirect(query).await;
        assert_eq!(status, 400, "{query}");
        assert!(page.contains("not the sign-in that was started"), "{page}");
    }
    assert!(!tool.file().exists());
    assert_eq!(login.redirect("code=good-code&state={state}").await.0, 200);
    assert_eq!(login.wait_exit().await.0, 0);
}

#[tokio::test]
async fn denied_consent_ends_without_a_credential() {
    let (issuer, tool) = (Issuer::start(ISSUER).await, ToolHome::new());
    let login = tool.login(&issuer, &[]).await;
    let (status, page) = login.redirect("error=access_denied&error_description=Ada+said+no&state={state}").await;
    assert_eq!(status, 403);
    assert!(page.contains("Ada said no"), "{page}");
    let (code, _, errors) = login.wait_exit().await;
    assert_eq!(code, 1);
    assert!(errors.contains("the sign-in was denied: Ada said no"), "{errors}");
    assert!(!tool.file().exists());
}

#[tokio::test]
async fn invalid_code_is_reported_in_the_browser_and_the_terminal() {
    let (issuer, tool) = (Issuer::start(ISSUER).await, ToolHome::new());
    let login = tool.login(&issuer, &[]).await;
    let (status, page) = login.redirect("code=bad-code&state={state}").await;
    assert_eq!(status, 403);
    assert!(page.contains("that code is not good"), "{page}");
    let (code, _, errors) = login.wait_exit().await;
    assert_eq!(code, 1);
    assert!(errors.contains("that code is not good (invalid_grant)") && errors.contains("again"), "{errors}");
}

#[tokio::test]
async fn unreachable_issuer_is_reported_with_a_remedy() {
    let tool = ToolHome::new();
    // A port that was free a moment ago: no one listens there.
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let output = tool.run(&["login", "--issuer", &format!("http://{free}")]).await;
    assert_eq!(output.status.code(), Some(1));
    let errors = String::from_utf8(output.stderr).unwrap();
    for part in [&format!("{free} cannot be reached") as &str, "refused", "--issuer", "http_proxy"] {
        assert!(errors.contains(part), "{part:?} is not in {errors}");
    }
}

#[tokio::test]
async fn hosts_in_no_proxy_are_requested_directly() {
    let (proxy, tool) = (Issuer::start("http://other.anteroom.test").await, ToolHome::new());
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    for (issuer, no_proxy, is_direct) in [
        (format!("http://{free}"), "localhost,127.0.0.1", true),
        (ISSUER.to_owned(), "localhost,room.test", false),
        (format!("http://localhost:{}", free.port()), "*", true),
        (format!("http://{free}"), "", false),
    ] {
        let mut command = tool.command(&["login", "--issuer", &issuer]);
        command.env("http_proxy", &proxy.address).env("no_proxy", no_proxy);
        timeout(LIMIT, command.output()).await.unwrap().unwrap();
        let requests = std::mem::take(&mut *proxy.state.requests.lock().unwrap());
        assert_eq!(requests.is_empty(), is_direct, "{issuer} with no_proxy {no_proxy:?}: {requests:?}");
    }
}

#[tokio::test]
async fn metadata_of_another_issuer_is_rejected() {
    let (issuer, tool) = (Issuer::start("http://evil.anteroom.test").await, ToolHome::new());
    let mut command = tool.command(&["login"]);
    let output = timeout(LIMIT, command.env("http_proxy", &issuer.address).output()).await.unwrap().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains("belongs to http://evil.anteroom.test"));
}

#[tokio::test]
async fn waiting_for_the_browser_times_out() {
    let (issuer, tool) = (Issuer::start(ISSUER).await, ToolHome::new());
    let login = tool.login(&issuer, &["--wait-s-max", "1"]).await;
    let (code, _, errors) = login.wait_exit().await;
    assert_eq!(code, 1);
    assert!(errors.contains("the sign-in was not completed within 1 seconds"), "{errors}");
}

#[tokio::test]
async fn malformed_credential_file_is_not_signed_in() {
    let tool = ToolHome::new();
    fs::create_dir_all(tool.file().parent().unwrap()).unwrap();
    fs::write(tool.file(), r#"{"access_token": "at-1""#).unwrap();
    let output = tool.run(&["status"]).await;
    assert_eq!(output.status.code(), Some(1));
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(errors.contains("logout") && !errors.contains("at-1"), "{errors}");
}
