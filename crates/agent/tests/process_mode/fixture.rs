//! An agent process with a fake controller that records requests, and a fake desktop that sends the RFB greeting and echoes.

use anteroom_wire::{
    Base64, CredentialId, MachineId, Problem, ProblemBody, Secret, SessionId,
    agent::{
        AgentEvent, CaptureLimits, Claim, ClaimedBy, CredentialDelivery, DeliveryResult, EGRESS_BY_HEADER, EVENTS_PATH,
        EgressBy, EventBatch, Geometry, NumberedEvent, STORE_CREDENTIAL_PATH, SignInStatus,
    },
    channel::{format_echo_line, format_go_line, format_nonce_line},
    provider::{CredentialRules, Lane, LogoutScope, MethodName, Provider, SignInRules, StoragePolicy},
};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, client::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde::de::DeserializeOwned;
use std::{
    collections::{BTreeMap, VecDeque},
    convert::Infallible,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{UnixListener, UnixStream},
    task::JoinHandle,
};

/// Limit of each wait; generous for a busy host.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);
pub(crate) const TOKEN: &str = "agent-token-of-this-test";

pub(crate) type Sender = http2::SendRequest<Full<Bytes>>;

/// Polls until `poll` returns a value.
pub(crate) async fn eventually<T>(what: &str, mut poll: impl AsyncFnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = poll().await {
            return found;
        }
        assert!(started.elapsed() < DEADLINE, "{what}: not within {DEADLINE:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// What the fake controller has received, and its configured responses.
#[derive(Default)]
pub(crate) struct ControllerState {
    pub(crate) events: Vec<NumberedEvent>,
    pub(crate) deliveries: Vec<CredentialDelivery>,
    /// For each delivery: the number of events received before it.
    pub(crate) events_before_delivery: Vec<usize>,
    /// The number of event requests to reject first.
    pub(crate) events_to_reject: u32,
    /// Responses to deliveries, in order; later deliveries are stored.
    pub(crate) delivery_responses: VecDeque<(u16, String)>,
    pub(crate) connect_targets: Vec<String>,
    /// Which program asked, for each of these.
    pub(crate) connect_programs: Vec<Option<EgressBy>>,
}

pub(crate) struct AgentFixture {
    pub(crate) dir: TempDir,
    pub(crate) agent: Child,
    pub(crate) controller: Arc<Mutex<ControllerState>>,
    controller_task: Option<JoinHandle<()>>,
    desktop_task: Option<JoinHandle<()>>,
}

impl Drop for AgentFixture {
    fn drop(&mut self) {
        let tree = self.descendants();
        let _ = self.agent.kill();
        let _ = self.agent.wait();
        let started = Instant::now();
        while tree.iter().any(|&pid| is_alive(pid)) && started.elapsed() < DEADLINE {
            std::thread::yield_now();
        }
        let left: Vec<_> = tree.into_iter().filter(|&pid| is_alive(pid)).collect();
        if std::thread::panicking() {
            println!("{}", std::fs::read_to_string(self.path("agent.log")).unwrap_or_default());
        } else {
            assert!(left.is_empty(), "processes left after the agent ended: {left:?}");
        }
    }
}

impl AgentFixture {
    /// A new agent with a connected controller and a desktop.
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| serde_json::json!({})).await
    }

    /// The same with additional configuration keys; the closure receives the fixture's directory.
    pub(crate) async fn start_with(extra_config: impl FnOnce(&Path) -> serde_json::Value) -> Self {
        let mut fixture = Self::start_unconnected_with(extra_config);
        fixture.open_desktop();
        fixture.connect_controller().await;
        fixture
    }

    /// A new agent without a controller and a desktop.
    pub(crate) fn start_unconnected() -> Self {
        Self::start_unconnected_with(|_| serde_json::json!({}))
    }

    #[expect(clippy::disallowed_methods, reason = "tests start the agent under test")]
    fn start_unconnected_with(extra_config: impl FnOnce(&Path) -> serde_json::Value) -> Self {
        let dir = tempfile::Builder::new().prefix("agent").tempdir().unwrap();
        for name in ["work", "home"] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
        }
        let mut config = serde_json::json!({
            "agent_socket": dir.path().join("agent.sock"),
            "controller_socket": dir.path().join("controller.sock"),
            "work_dir": dir.path().join("work"),
            "home": dir.path().join("home"),
            "rfb_socket": dir.path().join("rfb.sock"),
            "image_hash": "sha256:test",
            "tool_versions": { "demo": "1.0" },
        });
        for (key, value) in extra_config(dir.path()).as_object().unwrap() {
            config[key] = value.clone();
        }
        std::fs::write(dir.path().join("agent.json"), config.to_string()).unwrap();
        let log = std::fs::File::create(dir.path().join("agent.log")).unwrap();
        let agent = Command::new(env!("CARGO_BIN_EXE_anteroom-agent"))
            .arg("--config")
            .arg(dir.path().join("agent.json"))
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        Self { dir, agent, controller: Arc::default(), controller_task: None, desktop_task: None }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The visible text of the terminal.
    #[expect(clippy::disallowed_methods, reason = "tests read the terminal through tmux")]
    pub(crate) fn terminal_text(&self) -> String {
        let socket = self.path("work/tmux.sock");
        let output =
            Command::new("tmux").arg("-N").arg("-S").arg(socket).args(["capture-pane", "-p", "-t", "main"]).output();
        String::from_utf8_lossy(&output.unwrap().stdout).into_owned()
    }

    pub(crate) fn home(&self, name: &str) -> PathBuf {
        self.path("home").join(name)
    }

    /// A desktop that sends the RFB greeting and then echoes.
    pub(crate) fn open_desktop(&mut self) {
        let listener = UnixListener::bind(self.path("rfb.sock")).unwrap();
        self.desktop_task = Some(tokio::spawn(async move {
            loop {
                let (mut viewer, _) = listener.accept().await.unwrap();
                tokio::spawn(async move {
                    let _ = viewer.write_all(b"RFB 003.008\n").await;
                    let (mut read, mut write) = viewer.split();
                    let _ = tokio::io::copy(&mut read, &mut write).await;
                });
            }
        }));
    }

    pub(crate) fn close_desktop(&mut self) {
        self.desktop_task.take().unwrap().abort();
        std::fs::remove_file(self.path("rfb.sock")).unwrap();
    }

    /// Connects the controller to the channel on which it is the server.
    pub(crate) async fn connect_controller(&mut self) {
        self.disconnect_controller();
        let stream = open_channel(&self.path("controller.sock")).await;
        let controller = self.controller.clone();
        self.controller_task = Some(tokio::spawn(async move {
            let service = service_fn(move |request| {
                let controller = controller.clone();
                async move { Ok::<_, Infallible>(serve_controller(&controller, request).await) }
            });
            let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service)
                .await;
        }));
    }

    pub(crate) fn disconnect_controller(&mut self) {
        if let Some(task) = self.controller_task.take() {
            task.abort();
        }
    }

    /// Connects the controller to the channel on which it is the client.
    pub(crate) async fn connect(&self) -> Sender {
        http_client(open_channel(&self.path("agent.sock")).await).await
    }

    /// Waits for an event.
    pub(crate) async fn wait_event<T>(&self, what: &str, mut find: impl FnMut(&AgentEvent) -> Option<T>) -> T {
        let controller = self.controller.clone();
        eventually(what, async || controller.lock().unwrap().events.iter().find_map(|event| find(&event.event))).await
    }

    pub(crate) async fn sign_in(&self, sender: &mut Sender) -> SignInStatus {
        get(sender, "/sign-in").await
    }

    /// Claims the agent for a provider.
    pub(crate) async fn claim(&self, sender: &mut Sender, provider: Provider) -> Claim {
        let claim = claim(provider);
        let (status, body) = post(sender, "/claim", &claim).await;
        assert_eq!(status, StatusCode::OK, "{}", String::from_utf8_lossy(&body));
        claim
    }

    /// All descendant processes of the agent.
    pub(crate) fn descendants(&self) -> Vec<u32> {
        let mut found = vec![self.agent.id()];
        let mut at = 0;
        while at < found.len() {
            let parent = found[at];
            found.extend(processes().filter(|&(_, of)| of == parent).map(|(pid, _)| pid));
            at += 1;
        }
        found.split_off(1)
    }
}

fn processes() -> impl Iterator<Item = (u32, u32)> {
    std::fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
        let parent = stat.rsplit(") ").next()?.split(' ').nth(1)?.parse().ok()?;
        Some((pid, parent))
    })
}

/// Whether a process is running (a zombie is not).
pub(crate) fn is_alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with('Z'))
}

/// The controller's half of the resync.
pub(crate) async fn resync(stream: &mut UnixStream, hex: &str) {
    stream.write_all(format_nonce_line(hex).as_bytes()).await.unwrap();
    let expected_echo = format_echo_line(hex);
    let mut received = Vec::new();
    let wait = async {
        while !received.ends_with(expected_echo.as_bytes()) {
            received.push(stream.read_u8().await.unwrap());
        }
    };
    tokio::time::timeout(DEADLINE, wait).await.expect("echo received");
    stream.write_all(format_go_line(hex).as_bytes()).await.unwrap();
}

pub(crate) async fn open_channel(path: &Path) -> UnixStream {
    let mut stream = eventually("the agent listens", async || UnixStream::connect(path).await.ok()).await;
    resync(&mut stream, "0123456789abcdef0123456789abcdef").await;
    stream
}

pub(crate) async fn http_client(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> Sender {
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

pub(crate) async fn send(sender: &mut Sender, request: Request<Full<Bytes>>) -> Response<Incoming> {
    let exchange = async {
        sender.ready().await.unwrap();
        sender.send_request(request).await.unwrap()
    };
    tokio::time::timeout(DEADLINE, exchange).await.expect("response received")
}

pub(crate) async fn collect(response: Response<Incoming>) -> (StatusCode, Bytes) {
    let status = response.status();
    (status, response.into_body().collect().await.unwrap().to_bytes())
}

pub(crate) async fn get<T: DeserializeOwned>(sender: &mut Sender, path: &str) -> T {
    let request = Request::get(format!("http://agent{path}")).body(Full::default()).unwrap();
    let (status, body) = collect(send(sender, request).await).await;
    assert_eq!(status, StatusCode::OK, "{}", String::from_utf8_lossy(&body));
    serde_json::from_slice(&body).unwrap()
}

/// `None`: the agent responds that what is asked for is not ready.
pub(crate) async fn get_if_ready<T: DeserializeOwned>(sender: &mut Sender, path: &str) -> Option<T> {
    let request = Request::get(format!("http://agent{path}")).body(Full::default()).unwrap();
    let (status, body) = collect(send(sender, request).await).await;
    if status.as_u16() == Problem::NotReady.http_status() {
        return None;
    }
    assert_eq!(status, StatusCode::OK, "{}", String::from_utf8_lossy(&body));
    Some(serde_json::from_slice(&body).unwrap())
}

pub(crate) async fn post(sender: &mut Sender, path: &str, body: &impl serde::Serialize) -> (StatusCode, Bytes) {
    let body = Full::from(serde_json::to_vec(body).unwrap());
    collect(send(sender, Request::post(format!("http://agent{path}")).body(body).unwrap()).await).await
}

pub(crate) async fn http_connect(sender: &mut Sender, authority: &str, headers: &[(&str, &str)]) -> Response<Incoming> {
    let mut request = Request::connect(authority);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    send(sender, request.body(Full::default()).unwrap()).await
}

pub(crate) fn problem(body: &Bytes) -> ProblemBody {
    serde_json::from_slice(body).unwrap()
}

async fn serve_controller(controller: &Mutex<ControllerState>, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let respond = |status: u16, body: String| {
        let mut response = Response::new(Full::from(body));
        *response.status_mut() = StatusCode::from_u16(status).unwrap();
        response
    };
    if request.method() == Method::CONNECT {
        let target = request.uri().authority().unwrap().to_string();
        let by = request.headers().get(EGRESS_BY_HEADER).and_then(|value| EgressBy::parse(value.to_str().unwrap()));
        let mut state = controller.lock().unwrap();
        state.connect_targets.push(target.clone());
        state.connect_programs.push(by);
        drop(state);
        if !target.starts_with("echo.test:") {
            let body = Problem::EgressDenied.with_detail(target);
            return respond(403, serde_json::to_string(&body).unwrap());
        }
        tokio::spawn(async move {
            let stream = TokioIo::new(hyper::upgrade::on(request).await.unwrap());
            let (mut read, mut write) = tokio::io::split(stream);
            let _ = tokio::io::copy(&mut read, &mut write).await;
            let _ = write.shutdown().await;
        });
        return respond(200, String::new());
    }
    assert_eq!(request.headers()["authorization"], format!("Bearer {TOKEN}"));
    let path = request.uri().path().to_owned();
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let mut controller = controller.lock().unwrap();
    match path.as_str() {
        EVENTS_PATH if controller.events_to_reject > 0 => {
            controller.events_to_reject -= 1;
            respond(503, String::new())
        }
        EVENTS_PATH => {
            let batch: EventBatch = serde_json::from_slice(&body).unwrap();
            for event in batch.events {
                if controller.events.last().is_none_or(|last| last.number < event.number) {
                    controller.events.push(event);
                }
            }
            respond(204, String::new())
        }
        STORE_CREDENTIAL_PATH => {
            let before = controller.events.len();
            controller.events_before_delivery.push(before);
            controller.deliveries.push(serde_json::from_slice(&body).unwrap());
            let credential = CredentialId::from_parts(1, [1; 10]);
            let stored = serde_json::to_string(&DeliveryResult::Stored { credential }).unwrap();
            let (status, body) = controller.delivery_responses.pop_front().unwrap_or((200, stored));
            respond(status, body)
        }
        _ => panic!("unexpected request of the agent: {path}"),
    }
}

/// A provider whose tool is a shell that runs `script`.
pub(crate) fn provider(script: &str) -> Provider {
    Provider {
        id: "demo".parse().unwrap(),
        name: "Demo".into(),
        cli: "demo".into(),
        argv: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
        tested_version: None,
        npm_package: None,
        method: MethodName::default(),
        label: String::new(),
        env: BTreeMap::new(),
        env_unset: Vec::new(),
        settings_files: Vec::new(),
        use_settings_files: Vec::new(),
        prompts: Vec::new(),
        key_entry: None,
        methods: BTreeMap::new(),
        logout_argv: Vec::new(),
        logout_scope: LogoutScope::default(),
        lanes: vec![Lane::Terminal],
        next_action: "Sign in.".into(),
        sign_in_hosts: Vec::new(),
        without_account: false,
        sign_in: SignInRules::default(),
        credential: CredentialRules {
            paths: vec![".demo/auth.json".into(), ".config/demo.json".into()],
            required: vec!["/tokens/access".into()],
            ..CredentialRules::default()
        },
        egress: Vec::new(),
        egress_groups: Vec::new(),
        settings: Vec::new(),
        if_refused: None,
        storage_policy: StoragePolicy::Store,
    }
}

/// A script that waits forever.
pub(crate) const IDLE: &str = "cat >/dev/null";

pub(crate) fn claim(provider: Provider) -> Claim {
    Claim {
        entropy: Base64::new(vec![7; 64]),
        now_unix_ns: 1_800_000_000_000_000_000,
        guest_machine_id: "0123456789abcdef0123456789abcdef".into(),
        claimed_by: ClaimedBy {
            session: SessionId::from_parts(1, [1; 10]),
            machine: MachineId::from_parts(1, [2; 10]),
            generation: 1,
        },
        geometry: Geometry { width: 1280, height: 800 },
        provider,
        agent_token: Secret::new(TOKEN.into()),
        capture_limits: CaptureLimits {
            stable_ms: 150,
            file_bytes_max: 64 * 1024,
            retry_ms_min: 50,
            retry_ms_max: 500,
            status_ms_max: 20_000,
        },
        extra_ca_pem: String::new(),
        use_credential: None,
    }
}
