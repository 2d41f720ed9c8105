//! A place to run machines in, and an agent to answer in them. Dropping the ground checks that nothing is left.

use anteroom_machine::{
    AGENT_SOCKET, BoxBody, HOST_SOCKET, HostService, Machines, OpenError, ProcessId, Qmp, Settings, Spec, SpecError,
    SpecSource, State,
};
use anteroom_wire::{
    MachineId,
    agent::{Hello, PROTOCOL, Stage, StageReport, StageState},
    channel::echo_line,
};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::{
    collections::BTreeMap,
    convert::Infallible,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream},
    sync::watch,
    task::JoinHandle,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Generous: a state that will come comes at once, also on a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(30);
pub(crate) const IMAGE: &str = "sha256-of-a-test";

/// A machine that is a plain process.
pub(crate) struct Plain {
    pub(crate) program: String,
    pub(crate) args: Vec<String>,
}

impl Plain {
    pub(crate) fn new(program: &str, args: &[&str]) -> Arc<Self> {
        Arc::new(Self { program: program.into(), args: args.iter().map(|&arg| arg.into()).collect() })
    }

    /// Runs a line of shell: the test's way to have a process with a certain end.
    pub(crate) fn line(line: &str) -> Arc<Self> {
        Self::new("/bin/sh", &["-c", line])
    }
}

impl SpecSource for Plain {
    fn image_hash(&self) -> &str {
        IMAGE
    }

    fn spec(&self, _: &MachineId) -> Result<Spec, SpecError> {
        let env = BTreeMap::from([("PATH".into(), "/usr/bin:/bin".into())]);
        Ok(Spec { program: self.program.clone(), args: self.args.clone(), env, fds: Vec::new(), qmp: Qmp::Unused })
    }
}

/// A server's life: the tasks and the token that ends them.
pub(crate) struct Server {
    pub(crate) machines: Machines,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Server {
    /// Ends the server as a crash would not: all its tasks are awaited. Its machines live on.
    pub(crate) async fn end(self) {
        self.stop.cancel();
        self.tasks.close();
        tokio::time::timeout(SOON, self.tasks.wait()).await.expect("a task did not end");
    }
}

pub(crate) struct TestHost {
    top: tempfile::TempDir,
    agents: Mutex<Vec<JoinHandle<()>>>,
}

impl TestHost {
    pub(crate) fn new() -> Self {
        Self { top: tempfile::tempdir().unwrap(), agents: Mutex::default() }
    }

    pub(crate) fn settings(&self) -> Settings {
        Settings::under(self.top.path(), env!("CARGO_BIN_EXE_anteroom-keeper").into())
    }

    pub(crate) fn run_dir(&self, id: &MachineId) -> PathBuf {
        self.settings().run_dir.join(id.as_str())
    }

    pub(crate) async fn open(&self, recipe: Arc<dyn SpecSource>) -> Server {
        self.open_with(self.settings(), recipe).await.unwrap()
    }

    pub(crate) async fn open_with(&self, settings: Settings, recipe: Arc<dyn SpecSource>) -> Result<Server, OpenError> {
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let host: HostService = Arc::new(|machine, request| {
            Box::pin(async move {
                let path = request.uri().path().to_owned();
                let body: BoxBody =
                    Full::from(format!("{machine} {path}")).map_err(|never| match never {}).boxed_unsync();
                hyper::Response::new(body)
            })
        });
        let machines = Machines::open(settings, recipe, host, tasks.clone(), stop.clone()).await?;
        Ok(Server { machines, stop, tasks })
    }

    /// Lets an agent answer in the machine's run directory, as soon as that exists.
    pub(crate) fn agent(&self, id: &MachineId, hello: Hello) -> Arc<Agent> {
        let (host, heard) = watch::channel(String::new());
        let agent = Arc::new(Agent {
            hello: Mutex::new(hello),
            garbage: Mutex::default(),
            break_now: CancellationToken::new().into(),
            frozen: watch::Sender::new(false),
            heard,
        });
        let (dir, played) = (self.run_dir(id), agent.clone());
        self.agents.lock().unwrap().push(tokio::spawn(async move { played.play(&dir, host).await }));
        agent
    }
}

impl Drop for TestHost {
    fn drop(&mut self) {
        for agent in self.agents.lock().unwrap().drain(..) {
            agent.abort();
        }
        if std::thread::panicking() {
            return;
        }
        let left: Vec<_> = std::fs::read_dir(self.settings().run_dir).into_iter().flatten().collect();
        assert!(left.is_empty(), "left over: {left:?}");
        let top = self.top.path().to_str().unwrap().to_owned();
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).into_owned();
            assert!(!line.contains(&top), "a process is left over: {line}");
        }
    }
}

/// A new machine's id.
pub(crate) fn new_id() -> MachineId {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    let [a, b, c, d, ..] = std::process::id().to_le_bytes();
    MachineId::from_parts(next, [a, b, c, d, 0, 0, 0, 0, 0, 0])
}

pub(crate) async fn until(state: &mut watch::Receiver<State>, wanted: impl FnMut(&State) -> bool) -> State {
    tokio::time::timeout(SOON, state.wait_for(wanted)).await.expect("the state did not come").unwrap().clone()
}

pub(crate) async fn until_gone(state: &mut watch::Receiver<State>) -> State {
    until(state, State::is_removed).await
}

/// The machine's process, as its keeper's socket tells.
pub(crate) fn processes(dir: &Path) -> (ProcessId, ProcessId) {
    use std::io::{BufRead, BufReader};
    let stream = std::os::unix::net::UnixStream::connect(dir.join("control.sock")).unwrap();
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).unwrap();
    let greeting: serde_json::Value = serde_json::from_str(&line).unwrap();
    let read = |value: &serde_json::Value| serde_json::from_value(value.clone()).unwrap();
    (read(&greeting["keeper"]), read(&greeting["phase"]["process"]))
}

pub(crate) fn hello(stages: &[(Stage, StageState)]) -> Hello {
    let report = |&(stage, state): &(Stage, StageState)| StageReport {
        stage,
        state,
        attempts: 1,
        last_error: (state == StageState::Failed).then(|| "no display: exit 1".into()),
        at_ms: 1,
    };
    Hello {
        protocol: PROTOCOL,
        agent_version: "test".into(),
        image_hash: IMAGE.into(),
        capabilities: Vec::new(),
        clis: BTreeMap::new(),
        stages: stages.iter().map(report).collect(),
        claimed: None,
    }
}

/// Plays the agent of a machine: resync and HTTP/2 on both sockets.
pub(crate) struct Agent {
    pub(crate) hello: Mutex<Hello>,
    /// What stands in the pipe before anything else.
    pub(crate) garbage: Mutex<Vec<u8>>,
    break_now: Mutex<CancellationToken>,
    frozen: watch::Sender<bool>,
    /// What the controller answered to the agent's own request.
    pub(crate) heard: watch::Receiver<String>,
}

impl Agent {
    /// Breaks the agent channel, as a restarted agent would.
    pub(crate) fn break_channel(&self) {
        std::mem::take(&mut *self.break_now.lock().unwrap()).cancel();
    }

    /// Lets the agent neither read nor answer, as a stopped machine would, or go on.
    pub(crate) fn freeze(&self, frozen: bool) {
        self.frozen.send_replace(frozen);
    }

    /// Does `work` whenever the agent is not frozen.
    async fn unless_frozen(&self, work: impl Future<Output = ()>) {
        let mut work = std::pin::pin!(work);
        let mut frozen = self.frozen.subscribe();
        loop {
            tokio::select! {
                biased;
                _ = frozen.wait_for(|frozen| *frozen) => {}
                () = &mut work => return,
            }
            frozen.wait_for(|frozen| !*frozen).await.unwrap();
        }
    }

    async fn play(self: Arc<Self>, dir: &Path, host: watch::Sender<String>) {
        while !dir.join("control.sock").exists() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let agent = UnixListener::bind(dir.join(AGENT_SOCKET)).unwrap();
        let host_side = UnixListener::bind(dir.join(HOST_SOCKET)).unwrap();
        tokio::join!(
            async {
                loop {
                    let (stream, _) = agent.accept().await.unwrap();
                    let broken = self.break_now.lock().unwrap().clone();
                    let _ = broken.run_until_cancelled(self.unless_frozen(self.clone().serve(stream))).await;
                }
            },
            async {
                loop {
                    let (stream, _) = host_side.accept().await.unwrap();
                    self.call(stream, &host).await;
                }
            }
        );
    }

    async fn serve(self: Arc<Self>, mut stream: UnixStream) {
        let garbage = self.garbage.lock().unwrap().clone();
        if stream.write_all(&garbage).await.is_err() || !in_step(&mut stream).await {
            return;
        }
        let answer = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
            let body = serde_json::to_vec(&*self.hello.lock().unwrap()).unwrap();
            async move {
                if request.method() == hyper::Method::CONNECT {
                    tokio::spawn(async move {
                        let mut stream = TokioIo::new(hyper::upgrade::on(request).await.unwrap());
                        let mut word = [0u8; 4];
                        stream.read_exact(&mut word).await.unwrap();
                        stream.write_all(&word).await.unwrap();
                        stream.shutdown().await.unwrap();
                    });
                    return Ok::<_, Infallible>(hyper::Response::new(Full::<Bytes>::default()));
                }
                let (status, body) = match request.uri().path() {
                    "/hello" => (200, Bytes::from(body)),
                    _ => (409, serde_json::to_vec(&anteroom_wire::Problem::NotReady.with("later")).unwrap().into()),
                };
                Ok(hyper::Response::builder().status(status).body(Full::from(body)).unwrap())
            }
        });
        let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .serve_connection(TokioIo::new(stream), answer)
            .await;
    }

    /// One request to the controller, whose answer is kept.
    async fn call(&self, mut stream: UnixStream, host: &watch::Sender<String>) {
        if !in_step(&mut stream).await {
            return;
        }
        let (mut requests, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
            .handshake(TokioIo::new(stream))
            .await
            .unwrap();
        let carry = tokio::spawn(connection);
        let request = hyper::Request::post("http://host/events").body(Full::<Bytes>::default()).unwrap();
        if let Ok(answer) = requests.send_request(request).await {
            let body = answer.into_body().collect().await.unwrap().to_bytes();
            host.send_replace(String::from_utf8(body.to_vec()).unwrap());
        }
        let _ = carry.await;
    }
}

/// Echoes nonces until the go.
async fn in_step(stream: &mut UnixStream) -> bool {
    let mut line = Vec::new();
    while let Ok(byte) = stream.read_u8().await {
        if byte != b'\n' {
            line.push(byte);
            continue;
        }
        let text = String::from_utf8_lossy(&line).into_owned();
        line.clear();
        if let Some(hex) = text.strip_prefix("N ") {
            if stream.write_all(echo_line(hex).as_bytes()).await.is_err() {
                return false;
            }
        } else if text.starts_with("G ") {
            return true;
        }
    }
    false
}
