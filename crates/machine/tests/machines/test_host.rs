//! A state directory for machines and fake agents in them. On drop, [`TestHost`] checks that no file and no process is left.

use anteroom_machine::{
    AGENT_SERVER_SOCKET, BoxBody, CONTROLLER_SERVER_SOCKET, ChannelTransport, Confinement, ControllerService,
    ExitReason, Machines, MachinesOpenError, MachinesSettings, Monitor, ProcessId, ProcessSpec, Receipt, SpecError,
    SpecSource, State, StopReason,
};
use anteroom_wire::{
    MachineId,
    agent::{AgentInfo, PROTOCOL_VERSION, Stage, StageReport, StageState},
    channel::format_echo_line,
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

/// Generous, for busy hosts; expected states usually arrive at once.
pub(crate) const STATE_TIMEOUT: Duration = Duration::from_secs(30);
pub(crate) const IMAGE: &str = "sha256-of-a-test";

/// Starts machines that are plain processes.
pub(crate) struct PlainProcess {
    pub(crate) program: String,
    pub(crate) args: Vec<String>,
}

impl PlainProcess {
    pub(crate) fn new(program: &str, args: &[&str]) -> Arc<Self> {
        Arc::new(Self { program: program.into(), args: args.iter().map(|&arg| arg.into()).collect() })
    }

    /// Runs a process that waits.
    pub(crate) fn sleeping() -> Arc<Self> {
        Self::new("/bin/sleep", &["1000"])
    }

    /// Runs a shell command, for a process with a certain exit.
    pub(crate) fn shell(line: &str) -> Arc<Self> {
        Self::new("/bin/sh", &["-c", line])
    }
}

impl SpecSource for PlainProcess {
    fn image_hash(&self) -> &str {
        IMAGE
    }

    fn build_spec(&self, _: &MachineId) -> Result<ProcessSpec, SpecError> {
        let env = BTreeMap::from([("PATH".into(), "/usr/bin:/bin".into())]);
        Ok(ProcessSpec {
            program: self.program.clone(),
            args: self.args.clone(),
            env,
            fds: Vec::new(),
            monitor: Monitor::None,
            transport: ChannelTransport::UnixSockets,
            confinement: Confinement::Unconfined,
            verified: BTreeMap::new(),
        })
    }
}

/// A server: its machines, its tasks, and the token that stops them.
pub(crate) struct Server {
    pub(crate) machines: Machines,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Server {
    /// Starts a machine and waits until its process runs.
    pub(crate) async fn start_running(&self) -> (MachineId, watch::Receiver<State>) {
        let id = new_id();
        let mut state = self.machines.start(id.clone()).unwrap();
        until(&mut state, |state| matches!(state, State::Waiting { .. })).await;
        (id, state)
    }

    /// Stops the machine, waits until it is removed, and stops the server.
    pub(crate) async fn stop_machine_and_end(self, id: &MachineId, state: &mut watch::Receiver<State>) {
        self.machines.stop(id, StopReason::Completed);
        until_removed(state).await;
        self.end().await;
    }

    /// Stops the server and waits for its tasks. Its machines continue.
    pub(crate) async fn end(self) {
        self.stop.cancel();
        self.tasks.close();
        tokio::time::timeout(STATE_TIMEOUT, self.tasks.wait()).await.expect("a task did not end");
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

    pub(crate) fn settings(&self) -> MachinesSettings {
        MachinesSettings::in_state_dir(self.top.path(), env!("CARGO_BIN_EXE_anteroom-keeper").into())
    }

    pub(crate) fn run_dir(&self, id: &MachineId) -> PathBuf {
        self.settings().run_dir.join(id.as_str())
    }

    pub(crate) async fn open(&self, spec_source: Arc<dyn SpecSource>) -> Server {
        self.open_with(self.settings(), spec_source).await.unwrap()
    }

    pub(crate) async fn open_with(
        &self,
        settings: MachinesSettings,
        spec_source: Arc<dyn SpecSource>,
    ) -> Result<Server, MachinesOpenError> {
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let controller_service: ControllerService = Arc::new(|machine, request| {
            Box::pin(async move {
                let path = request.uri().path().to_owned();
                let body: BoxBody =
                    Full::from(format!("{machine} {path}")).map_err(|never| match never {}).boxed_unsync();
                hyper::Response::new(body)
            })
        });
        let machines = Machines::open(settings, spec_source, controller_service, tasks.clone(), stop.clone()).await?;
        Ok(Server { machines, stop, tasks })
    }

    /// Starts a fake agent that reports a ready display.
    pub(crate) fn ready_agent(&self, id: &MachineId) -> Arc<Agent> {
        self.agent(id, hello(&[(Stage::Display, StageState::Ready)]))
    }

    /// Starts a fake agent in the machine's run directory, as soon as that exists.
    pub(crate) fn agent(&self, id: &MachineId, hello: AgentInfo) -> Arc<Agent> {
        let (host, response) = watch::channel(String::new());
        let agent = Arc::new(Agent {
            hello: Mutex::new(hello),
            garbage: Mutex::default(),
            break_now: CancellationToken::new().into(),
            frozen: watch::Sender::new(false),
            response,
        });
        let (dir, running) = (self.run_dir(id), agent.clone());
        self.agents.lock().unwrap().push(tokio::spawn(async move { running.run(&dir, host).await }));
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
    tokio::time::timeout(STATE_TIMEOUT, state.wait_for(wanted))
        .await
        .expect("the expected state was not reached")
        .unwrap()
        .clone()
}

pub(crate) async fn until_removed(state: &mut watch::Receiver<State>) -> State {
    until(state, State::is_removed).await
}

/// Waits until the machine is removed; returns the reason of its exit and its receipt.
pub(crate) async fn until_removed_with_receipt(state: &mut watch::Receiver<State>) -> (ExitReason, Receipt) {
    let State::Removed { reason, receipt: Some(receipt) } = until_removed(state).await else { panic!("no receipt") };
    (reason, *receipt)
}

/// The processes of the keeper and of its machine, from the keeper's greeting.
pub(crate) fn processes(dir: &Path) -> (ProcessId, ProcessId) {
    use std::io::{BufRead, BufReader};
    let stream = std::os::unix::net::UnixStream::connect(dir.join("control.sock")).unwrap();
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).unwrap();
    let greeting: serde_json::Value = serde_json::from_str(&line).unwrap();
    let read = |value: &serde_json::Value| serde_json::from_value(value.clone()).unwrap();
    (read(&greeting["keeper"]), read(&greeting["phase"]["process"]))
}

pub(crate) fn hello(stages: &[(Stage, StageState)]) -> AgentInfo {
    let report = |&(stage, state): &(Stage, StageState)| StageReport {
        stage,
        state,
        attempts: 1,
        last_error: (state == StageState::Failed).then(|| "no display: exit 1".into()),
        changed_at_ms: 1,
    };
    AgentInfo {
        protocol: PROTOCOL_VERSION,
        agent_version: "test".into(),
        image_hash: IMAGE.into(),
        capabilities: Vec::new(),
        clis: BTreeMap::new(),
        stages: stages.iter().map(report).collect(),
        claimed_by: None,
    }
}

/// A fake agent: resync and HTTP/2 on both sockets.
pub(crate) struct Agent {
    pub(crate) hello: Mutex<AgentInfo>,
    /// Stale bytes that are sent before the resync.
    pub(crate) garbage: Mutex<Vec<u8>>,
    break_now: Mutex<CancellationToken>,
    frozen: watch::Sender<bool>,
    /// The controller's response to the agent's request.
    pub(crate) response: watch::Receiver<String>,
}

impl Agent {
    /// Breaks the agent channel, as a restarted agent would.
    pub(crate) fn break_channel(&self) {
        std::mem::take(&mut *self.break_now.lock().unwrap()).cancel();
    }

    /// Freezes the agent, so that it neither reads nor writes, like a stopped machine; or resumes it.
    pub(crate) fn freeze(&self, frozen: bool) {
        self.frozen.send_replace(frozen);
    }

    /// Polls `work` only while the agent is not frozen.
    async fn run_while_not_frozen(&self, work: impl Future<Output = ()>) {
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

    async fn run(self: Arc<Self>, dir: &Path, host: watch::Sender<String>) {
        while !dir.join("control.sock").exists() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let agent = UnixListener::bind(dir.join(AGENT_SERVER_SOCKET)).unwrap();
        let host_side = UnixListener::bind(dir.join(CONTROLLER_SERVER_SOCKET)).unwrap();
        tokio::join!(
            async {
                loop {
                    let (stream, _) = agent.accept().await.unwrap();
                    let broken = self.break_now.lock().unwrap().clone();
                    let _ = broken.run_until_cancelled(self.run_while_not_frozen(self.clone().serve(stream))).await;
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
        if stream.write_all(&garbage).await.is_err() || !resync(&mut stream).await {
            return;
        }
        let handler = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
            let body = serde_json::to_vec(&*self.hello.lock().unwrap()).unwrap();
            async move {
                if request.method() == hyper::Method::CONNECT {
                    tokio::spawn(async move {
                        let mut stream = TokioIo::new(hyper::upgrade::on(request).await.unwrap());
                        let mut echoed = [0u8; 4];
                        stream.read_exact(&mut echoed).await.unwrap();
                        stream.write_all(&echoed).await.unwrap();
                        stream.shutdown().await.unwrap();
                    });
                    return Ok::<_, Infallible>(hyper::Response::new(Full::<Bytes>::default()));
                }
                let (status, body) = match request.uri().path() {
                    "/hello" => (200, Bytes::from(body)),
                    _ => (
                        409,
                        serde_json::to_vec(&anteroom_wire::Problem::NotReady.with_detail("later")).unwrap().into(),
                    ),
                };
                Ok(hyper::Response::builder().status(status).body(Full::from(body)).unwrap())
            }
        });
        let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .serve_connection(TokioIo::new(stream), handler)
            .await;
    }

    /// Sends one request to the controller and stores the response.
    async fn call(&self, mut stream: UnixStream, host: &watch::Sender<String>) {
        if !resync(&mut stream).await {
            return;
        }
        let (mut requests, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
            .handshake(TokioIo::new(stream))
            .await
            .unwrap();
        let connection = tokio::spawn(connection);
        let request = hyper::Request::post("http://host/events").body(Full::<Bytes>::default()).unwrap();
        if let Ok(response) = requests.send_request(request).await {
            let body = response.into_body().collect().await.unwrap().to_bytes();
            host.send_replace(String::from_utf8(body.to_vec()).unwrap());
        }
        let _ = connection.await;
    }
}

/// Echoes nonces until the go line.
pub(crate) async fn resync(stream: &mut UnixStream) -> bool {
    let mut line = Vec::new();
    while let Ok(byte) = stream.read_u8().await {
        if byte != b'\n' {
            line.push(byte);
            continue;
        }
        let text = String::from_utf8_lossy(&line).into_owned();
        line.clear();
        if let Some(hex) = text.strip_prefix("N ") {
            if stream.write_all(format_echo_line(hex).as_bytes()).await.is_err() {
                return false;
            }
        } else if text.starts_with("G ") {
            return true;
        }
    }
    false
}
