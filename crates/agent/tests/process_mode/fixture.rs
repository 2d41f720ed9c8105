//! An agent process with a controller that remembers, and a desktop that greets and echoes.

use anteroom_wire::{
    Base64, CredentialId, MachineId, Problem, ProblemBody, Secret, SessionId,
    agent::{
        CaptureLimits, Claim, ClaimedBy, Delivered, Delivery, EVENTS_PATH, Event, Events, Geometry, NumberedEvent,
        STORE_PATH, SignIn,
    },
    channel::{echo_line, go_line, nonce_line},
    provider::{CredentialRules, Lane, MethodName, Provider, SignInRules, StoragePolicy},
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

/// How long anything may take on a busy machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);
pub(crate) const TOKEN: &str = "agent-token-of-this-test";

pub(crate) type Sender = http2::SendRequest<Full<Bytes>>;

/// Waits until `look` finds something.
pub(crate) async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(started.elapsed() < DEADLINE, "{what}: not within {DEADLINE:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// What the fake controller has heard, and what it shall answer.
#[derive(Default)]
pub(crate) struct Heard {
    pub(crate) events: Vec<NumberedEvent>,
    pub(crate) deliveries: Vec<Delivery>,
    /// Of each delivery: how many events were heard before it.
    pub(crate) events_before: Vec<usize>,
    /// So many requests with events are turned away first.
    pub(crate) events_refused: u32,
    /// Answers to deliveries, in turn; afterwards all are stored.
    pub(crate) answers: VecDeque<(u16, String)>,
    pub(crate) connects: Vec<String>,
}

pub(crate) struct World {
    pub(crate) dir: TempDir,
    pub(crate) agent: Child,
    pub(crate) heard: Arc<Mutex<Heard>>,
    host: Option<JoinHandle<()>>,
    desktop: Option<JoinHandle<()>>,
}

impl Drop for World {
    fn drop(&mut self) {
        let tree = self.descendants();
        let _ = self.agent.kill();
        let _ = self.agent.wait();
        let started = Instant::now();
        while tree.iter().any(|&pid| alive(pid)) && started.elapsed() < DEADLINE {
            std::thread::yield_now();
        }
        let left: Vec<_> = tree.into_iter().filter(|&pid| alive(pid)).collect();
        if std::thread::panicking() {
            println!("{}", std::fs::read_to_string(self.path("agent.log")).unwrap_or_default());
        } else {
            assert!(left.is_empty(), "processes left over: {left:?}");
        }
    }
}

impl World {
    /// A fresh agent, its controller connected, its desktop there.
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| serde_json::json!({})).await
    }

    /// The same with more in its configuration; paths may lie in the world's directory.
    pub(crate) async fn start_with(more: impl FnOnce(&Path) -> serde_json::Value) -> Self {
        let mut world = Self::start_alone_with(more);
        world.open_desktop();
        world.connect_host().await;
        world
    }

    /// A fresh agent that nobody talks to.
    pub(crate) fn start_alone() -> Self {
        Self::start_alone_with(|_| serde_json::json!({}))
    }

    #[expect(clippy::disallowed_methods, reason = "tests start the agent under test")]
    fn start_alone_with(more: impl FnOnce(&Path) -> serde_json::Value) -> Self {
        let dir = tempfile::Builder::new().prefix("agent").tempdir().unwrap();
        for name in ["work", "home"] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
        }
        let mut config = serde_json::json!({
            "agent_socket": dir.path().join("agent.sock"),
            "host_socket": dir.path().join("host.sock"),
            "work_dir": dir.path().join("work"),
            "home": dir.path().join("home"),
            "rfb_socket": dir.path().join("rfb.sock"),
            "image_hash": "sha256:test",
            "clis": { "demo": "1.0" },
        });
        for (key, value) in more(dir.path()).as_object().unwrap() {
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
        Self { dir, agent, heard: Arc::default(), host: None, desktop: None }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// What a person sees who sits at the terminal.
    #[expect(clippy::disallowed_methods, reason = "tests look at the terminal as a person would")]
    pub(crate) fn seen_at_the_terminal(&self) -> String {
        let socket = self.path("work/tmux.sock");
        let look =
            Command::new("tmux").arg("-N").arg("-S").arg(socket).args(["capture-pane", "-p", "-t", "main"]).output();
        String::from_utf8_lossy(&look.unwrap().stdout).into_owned()
    }

    pub(crate) fn home(&self, name: &str) -> PathBuf {
        self.path("home").join(name)
    }

    /// A desktop that greets as RFB and then echoes.
    pub(crate) fn open_desktop(&mut self) {
        let listener = UnixListener::bind(self.path("rfb.sock")).unwrap();
        self.desktop = Some(tokio::spawn(async move {
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
        self.desktop.take().unwrap().abort();
        std::fs::remove_file(self.path("rfb.sock")).unwrap();
    }

    /// The controller connects to the channel on which it is the server.
    pub(crate) async fn connect_host(&mut self) {
        self.disconnect_host();
        let stream = dial(&self.path("host.sock")).await;
        let heard = self.heard.clone();
        self.host = Some(tokio::spawn(async move {
            let service = service_fn(move |request| {
                let heard = heard.clone();
                async move { Ok::<_, Infallible>(controller(&heard, request).await) }
            });
            let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service)
                .await;
        }));
    }

    pub(crate) fn disconnect_host(&mut self) {
        if let Some(host) = self.host.take() {
            host.abort();
        }
    }

    /// The controller connects to the channel on which it is the client.
    pub(crate) async fn connect(&self) -> Sender {
        over(dial(&self.path("agent.sock")).await).await
    }

    /// Waits for an event.
    pub(crate) async fn event<T>(&self, what: &str, mut find: impl FnMut(&Event) -> Option<T>) -> T {
        let heard = self.heard.clone();
        until(what, async || heard.lock().unwrap().events.iter().find_map(|event| find(&event.event))).await
    }

    pub(crate) async fn sign_in(&self, sender: &mut Sender) -> SignIn {
        get(sender, "/sign-in").await
    }

    /// Claims for a provider and waits until its tool runs.
    pub(crate) async fn claim(&self, sender: &mut Sender, provider: Provider) -> Claim {
        let claim = claim(provider);
        let (status, body) = post(sender, "/claim", &claim).await;
        assert_eq!(status, StatusCode::OK, "{}", String::from_utf8_lossy(&body));
        claim
    }

    /// All processes below the agent.
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

/// Whether a process runs (one that only waits to be reaped does not).
pub(crate) fn alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with('Z'))
}

/// The host's half of the resync.
pub(crate) async fn resync(stream: &mut UnixStream, hex: &str) {
    stream.write_all(nonce_line(hex).as_bytes()).await.unwrap();
    let wanted = echo_line(hex);
    let mut seen = Vec::new();
    let wait = async {
        while !seen.ends_with(wanted.as_bytes()) {
            seen.push(stream.read_u8().await.unwrap());
        }
    };
    tokio::time::timeout(DEADLINE, wait).await.expect("an echo");
    stream.write_all(go_line(hex).as_bytes()).await.unwrap();
}

pub(crate) async fn dial(path: &Path) -> UnixStream {
    let mut stream = until("the agent listens", async || UnixStream::connect(path).await.ok()).await;
    resync(&mut stream, "0123456789abcdef0123456789abcdef").await;
    stream
}

pub(crate) async fn over(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> Sender {
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

pub(crate) async fn send(sender: &mut Sender, request: Request<Full<Bytes>>) -> Response<Incoming> {
    let exchange = async {
        sender.ready().await.unwrap();
        sender.send_request(request).await.unwrap()
    };
    tokio::time::timeout(DEADLINE, exchange).await.expect("an answer")
}

pub(crate) async fn whole(response: Response<Incoming>) -> (StatusCode, Bytes) {
    let status = response.status();
    (status, response.into_body().collect().await.unwrap().to_bytes())
}

pub(crate) async fn get<T: DeserializeOwned>(sender: &mut Sender, path: &str) -> T {
    let request = Request::get(format!("http://agent{path}")).body(Full::default()).unwrap();
    let (status, body) = whole(send(sender, request).await).await;
    assert_eq!(status, StatusCode::OK, "{}", String::from_utf8_lossy(&body));
    serde_json::from_slice(&body).unwrap()
}

pub(crate) async fn post(sender: &mut Sender, path: &str, body: &impl serde::Serialize) -> (StatusCode, Bytes) {
    let body = Full::from(serde_json::to_vec(body).unwrap());
    whole(send(sender, Request::post(format!("http://agent{path}")).body(body).unwrap()).await).await
}

pub(crate) async fn connect(sender: &mut Sender, authority: &str, headers: &[(&str, &str)]) -> Response<Incoming> {
    let mut request = Request::connect(authority);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    send(sender, request.body(Full::default()).unwrap()).await
}

pub(crate) fn problem(body: &Bytes) -> ProblemBody {
    serde_json::from_slice(body).unwrap()
}

async fn controller(heard: &Mutex<Heard>, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let answer = |status: u16, body: String| {
        let mut response = Response::new(Full::from(body));
        *response.status_mut() = StatusCode::from_u16(status).unwrap();
        response
    };
    if request.method() == Method::CONNECT {
        let target = request.uri().authority().unwrap().to_string();
        heard.lock().unwrap().connects.push(target.clone());
        if !target.starts_with("echo.test:") {
            let body = Problem::EgressDenied.with(target);
            return answer(403, serde_json::to_string(&body).unwrap());
        }
        tokio::spawn(async move {
            let stream = TokioIo::new(hyper::upgrade::on(request).await.unwrap());
            let (mut read, mut write) = tokio::io::split(stream);
            let _ = tokio::io::copy(&mut read, &mut write).await;
            let _ = write.shutdown().await;
        });
        return answer(200, String::new());
    }
    assert_eq!(request.headers()["authorization"], format!("Bearer {TOKEN}"));
    let path = request.uri().path().to_owned();
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let mut heard = heard.lock().unwrap();
    match path.as_str() {
        EVENTS_PATH if heard.events_refused > 0 => {
            heard.events_refused -= 1;
            answer(503, String::new())
        }
        EVENTS_PATH => {
            let batch: Events = serde_json::from_slice(&body).unwrap();
            for event in batch.events {
                if heard.events.last().is_none_or(|last| last.number < event.number) {
                    heard.events.push(event);
                }
            }
            answer(204, String::new())
        }
        STORE_PATH => {
            let before = heard.events.len();
            heard.events_before.push(before);
            heard.deliveries.push(serde_json::from_slice(&body).unwrap());
            let credential = CredentialId::from_parts(1, [1; 10]);
            let stored = serde_json::to_string(&Delivered::Stored { credential }).unwrap();
            let (status, body) = heard.answers.pop_front().unwrap_or((200, stored));
            answer(status, body)
        }
        _ => panic!("the agent asked for {path}"),
    }
}

/// A provider whose tool is `script`, run by the shell as the tool.
pub(crate) fn provider(script: &str) -> Provider {
    Provider {
        id: "demo".parse().unwrap(),
        name: "Demo".into(),
        cli: "demo".into(),
        argv: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
        tested_version: None,
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
        lanes: vec![Lane::Terminal],
        next_action: "Sign in.".into(),
        sign_in: SignInRules::default(),
        credential: CredentialRules {
            paths: vec![".demo/auth.json".into(), ".config/demo.json".into()],
            required: vec!["/tokens/access".into()],
            ..CredentialRules::default()
        },
        egress: Vec::new(),
        policy: StoragePolicy::Store,
    }
}

/// The tool that waits for ever.
pub(crate) const IDLE: &str = "cat >/dev/null";

pub(crate) fn claim(provider: Provider) -> Claim {
    Claim {
        entropy: Base64::new(vec![7; 64]),
        now_unix_ns: 1_800_000_000_000_000_000,
        guest_machine_id: "0123456789abcdef0123456789abcdef".into(),
        by: ClaimedBy {
            session: SessionId::from_parts(1, [1; 10]),
            machine: MachineId::from_parts(1, [2; 10]),
            generation: 1,
        },
        geometry: Geometry { width: 1280, height: 800 },
        provider,
        agent_token: Secret::new(TOKEN.into()),
        capture: CaptureLimits {
            stable_ms: 150,
            file_bytes_max: 64 * 1024,
            retry_ms_min: 50,
            retry_ms_max: 500,
            status_ms_max: 20_000,
        },
        use_credential: None,
    }
}
