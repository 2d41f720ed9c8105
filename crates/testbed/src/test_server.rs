//! A server with plain-process machines, for one test.
//!
//! [`TestServer::start`] starts a server process with a temporary directory and tokens. [`TestServer::finish`] cancels all
//! sessions, stops the server and fails when a process, run directory or socket is left. Dropping a server that is not
//! finished kills it, and panics unless the test panics already.

mod api_client;
mod server_process;

pub use api_client::{ApiClient, ApiResponse};
pub use server_process::ServerProcess;

use crate::{
    ScriptedTool, ServerDir,
    fake_rfb_server::Behaviour,
    plain_process::{Faults, RFB_SOCKET},
    serve::LaunchConfig,
};
use anteroom_controller::limits::ServerLimits;
use anteroom_wire::{MachineId, Secret, time::millis};
use anyhow::{Context, ensure};
use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    ops::Deref,
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::{io::AsyncReadExt, net::UnixStream, time::timeout};

/// The longest wait for anything, on a busy host.
pub const WAIT_MAX: Duration = Duration::from_secs(60);
/// The longest wait for the last processes to end after the server has stopped.
const EXIT_WAIT_MAX: Duration = Duration::from_secs(10);

/// The configuration of a test server.
#[derive(Debug, Clone, Default)]
pub struct TestConfig {
    /// Providers whose tools follow scripts.
    pub tools: Vec<ScriptedTool>,
    /// The server's settings as TOML. They override the defaults of a test server. The table `[limits]` is not written to the
    /// configuration file: it has [`ServerLimits`], which the server of the tests gets with its launch configuration.
    pub settings: String,
    /// `name:port` → the address that the egress gate connects to.
    pub host_overrides: BTreeMap<String, SocketAddr>,
    /// More tools that the machines have, by the names that providers' descriptors use.
    pub clis: Vec<String>,
    /// Whether the demo's identity provider runs.
    pub demo: bool,
    /// Faults of the machines.
    pub faults: Faults,
    /// How long a machine may take to become ready, milliseconds; default: [`WAIT_MAX`].
    pub ready_ms_max: Option<u64>,
    /// Whether the server's directory lies in `/dev/shm`, where the host has it: a disk's file system is too slow for the
    /// directories and sockets of thousands of machines.
    pub in_memory: bool,
}

impl TestConfig {
    /// A server with this one tool.
    pub fn with_tool(tool: ScriptedTool) -> Self {
        Self { tools: vec![tool], ..Self::default() }
    }

    /// Appends settings, as TOML.
    #[must_use]
    pub fn with_settings(mut self, settings: &str) -> Self {
        self.settings.push_str(settings);
        self
    }

    /// Adds an address that the egress gate connects to for a name and port.
    #[must_use]
    pub fn host_override(mut self, name_and_port: &str, address: SocketAddr) -> Self {
        self.host_overrides.insert(name_and_port.to_owned(), address);
        self
    }
}

/// A running server with plain-process machines.
#[derive(Debug)]
pub struct TestServer {
    dir: ServerDir,
    launch: LaunchConfig,
    /// The server's program.
    program: PathBuf,
    process: Option<ServerProcess>,
    operator: Secret,
    backends: [Secret; 2],
    finished: bool,
}

impl TestServer {
    /// Starts the server and waits until it accepts requests.
    ///
    /// # Errors
    /// A program is not built, or the server does not start; the text contains the end of its log.
    pub async fn start(config: TestConfig) -> anyhow::Result<Self> {
        let memory = Path::new("/dev/shm");
        let parent = if config.in_memory && memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        let dir = ServerDir::create_in(&parent)?;
        let [providers, scripts] = ["providers", "scripts"].map(|name| dir.path().join(name));
        fs::create_dir(&providers)?;
        fs::create_dir(&scripts)?;
        let testbed = crate::plain_process::built_program("anteroom-testbed")?;
        let mut clis: BTreeMap<_, _> = config.clis.iter().map(|name| (name.clone(), "1.0".to_owned())).collect();
        for tool in &config.tools {
            tool.save(&providers, &scripts, &testbed)?;
            clis.insert(tool.id().to_owned(), "1.0".to_owned());
        }
        let (settings, limits) = settings(dir.path(), &config)?;
        fs::write(dir.config_file(), settings)?;
        let [operator, first, second] = [random_token("op")?, random_token("be")?, random_token("be")?];
        let launch = LaunchConfig {
            config: dir.config_file(),
            limits,
            tool_versions: clis,
            operators: vec![operator.clone()],
            backends: vec![first.clone(), second.clone()],
            demo: config.demo,
            ready_ms_max: config.ready_ms_max.unwrap_or(millis(WAIT_MAX)),
            faults: config.faults,
        };
        let backends = [first, second];
        let mut server = Self { dir, launch, program: testbed, process: None, operator, backends, finished: false };
        if let Err(error) = server.start_server().await {
            server.finished = true;
            return Err(error);
        }
        Ok(server)
    }

    /// Starts the server process again, after [`Self::stop_server`] or [`Self::kill_server`]. It listens on another port.
    ///
    /// # Errors
    /// It does not start.
    pub async fn start_server(&mut self) -> anyhow::Result<()> {
        self.process = Some(ServerProcess::start(&self.program, &self.launch, &self.dir).await?);
        Ok(())
    }

    /// Sends SIGTERM to the server and waits for its exit. Machines keep running.
    ///
    /// # Errors
    /// It does not exit in time, or exits with an error.
    pub async fn stop_server(&mut self) -> anyhow::Result<()> {
        match self.process.take() {
            Some(process) => process.stop(WAIT_MAX).await,
            None => Ok(()),
        }
    }

    /// Sends SIGKILL to the server, as a crash. Machines keep running.
    ///
    /// # Errors
    /// It cannot be killed.
    pub async fn kill_server(&mut self) -> anyhow::Result<()> {
        match self.process.take() {
            Some(process) => process.kill().await,
            None => Ok(()),
        }
    }

    fn process(&self) -> anyhow::Result<&ServerProcess> {
        self.process.as_ref().context("the server is not running")
    }

    /// The address that the server listens on.
    ///
    /// # Errors
    /// The server is not running.
    pub fn address(&self) -> anyhow::Result<SocketAddr> {
        Ok(self.process()?.address())
    }

    /// The id of the server's process.
    ///
    /// # Errors
    /// The server is not running.
    pub fn server_pid(&self) -> anyhow::Result<rustix::process::Pid> {
        self.process()?.pid().context("the server has exited")
    }

    /// An API client with an operator's token.
    ///
    /// # Errors
    /// The server is not running.
    pub fn operator(&self) -> anyhow::Result<ApiClient> {
        ApiClient::new(self.address()?, Some(self.operator.clone()))
    }

    /// An API client with a backend's token.
    ///
    /// # Errors
    /// The server is not running.
    pub fn backend(&self) -> anyhow::Result<ApiClient> {
        ApiClient::new(self.address()?, Some(self.backends[0].clone()))
    }

    /// An API client with the token of a second backend, which owns none of the first one's sessions.
    ///
    /// # Errors
    /// The server is not running.
    pub fn other_backend(&self) -> anyhow::Result<ApiClient> {
        ApiClient::new(self.address()?, Some(self.backends[1].clone()))
    }

    /// An API client without a token.
    ///
    /// # Errors
    /// The server is not running.
    pub fn anonymous(&self) -> anyhow::Result<ApiClient> {
        ApiClient::new(self.address()?, None)
    }

    /// A machine's home directory, which exists as long as the machine's run directory.
    pub fn home(&self, machine: &MachineId) -> PathBuf {
        self.run_dir(machine).join("home")
    }

    /// Sets the behaviour of a machine's desktop. For [`Behaviour::Closed`] it waits until the desktop's socket closes
    /// connections.
    ///
    /// # Errors
    /// The machine has no run directory, or its desktop does not close in time.
    pub async fn set_desktop_behaviour(&self, machine: &MachineId, behaviour: Behaviour) -> anyhow::Result<()> {
        let socket = self.run_dir(machine).join(RFB_SOCKET);
        crate::fake_rfb_server::write_behaviour(&socket, behaviour)?;
        let closed = async {
            while UnixStream::connect(&socket).await?.read(&mut [0]).await? > 0 {}
            std::io::Result::Ok(())
        };
        match behaviour {
            Behaviour::Closed => Ok(timeout(WAIT_MAX, closed).await.context("the desktop does not close")??),
            Behaviour::Normal | Behaviour::Slow | Behaviour::Flood | Behaviour::Silent => Ok(()),
        }
    }

    /// Replaces the server's program. It is used from the next start; the agent and the keeper are taken from the same
    /// directory.
    pub fn set_program(&mut self, program: PathBuf) {
        self.program = program;
    }

    /// Kills a machine's process (not its keeper), as the kernel's OOM killer does.
    ///
    /// # Errors
    /// There is no such process.
    pub fn kill_machine(&self, machine: &MachineId) -> anyhow::Result<()> {
        let config = format!("{machine}/agent.json");
        let found = self.leaks().processes();
        let agent = found.iter().find(|found| found.command.contains(&config)).context("the machine has no process")?;
        let pid = rustix::process::Pid::from_raw(agent.pid).context("a process id")?;
        Ok(rustix::process::kill_process(pid, rustix::process::Signal::KILL)?)
    }

    /// Cancels every session, stops the server and checks that no process, run directory or socket is left.
    ///
    /// # Errors
    /// What is left, and the end of the server's log.
    pub async fn finish(mut self) -> anyhow::Result<()> {
        self.finished = true;
        let ended = self.end().await;
        let left = self.leaks().processes();
        self.leaks().kill_all();
        ended.with_context(|| format!("left: {left:#?}\nthe server's log ends:\n{}", self.log_tail()))
    }

    async fn end(&mut self) -> anyhow::Result<()> {
        if self.process.is_none() {
            self.start_server().await?;
        }
        self.operator()?.cancel_all().await?;
        self.wait_no_machines(WAIT_MAX).await?;
        self.stop_server().await?;
        self.leaks().wait_none_left(EXIT_WAIT_MAX).await?;
        let sockets: Vec<_> = self.leaks().files("state").into_iter().filter(|path| is_socket(path)).collect();
        let expected = |path: &PathBuf| path.file_name().is_some_and(|name| name == "anteroom.sock");
        ensure!(sockets.iter().all(expected), "sockets are left: {sockets:?}");
        Ok(())
    }
}

impl Deref for TestServer {
    type Target = ServerDir;

    fn deref(&self) -> &ServerDir {
        &self.dir
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        if !self.finished {
            self.leaks().kill_all();
            if std::thread::panicking() {
                eprintln!("the server's log ends:\n{}", self.log_tail());
            } else {
                #[allow(clippy::panic, reason = "a test that does not check for leaks must fail")]
                {
                    panic!("a test server was not finished: call TestServer::finish");
                }
            }
        }
    }
}

fn is_socket(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt;
    fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket())
}

/// The server's configuration file (the defaults of a test server, overridden by the test's settings) and its limits.
fn settings(dir: &Path, config: &TestConfig) -> anyhow::Result<(String, ServerLimits)> {
    let text = |path: PathBuf| toml::Value::String(path.to_string_lossy().into_owned());
    let mut settings: toml::Table = "listen = '127.0.0.1:0'\n[log]\nlevel = 'debug'\nformat = 'json'".parse()?;
    settings.insert("state_dir".to_owned(), text(dir.join("state")));
    settings.insert("cache_dir".to_owned(), text(dir.join("cache")));
    settings.insert("providers_dir".to_owned(), text(dir.join("providers")));
    merge(&mut settings, config.settings.parse().context("the test's settings")?);
    merge(&mut settings, host_overrides_table(&config.host_overrides));
    let limits = settings.remove("limits").map_or(Ok(ServerLimits::default()), toml::Value::try_into);
    Ok((toml::to_string(&settings)?, limits.context("the test's limits")?))
}

/// The `[egress.overrides]` section of a configuration.
pub(crate) fn host_overrides_table(overrides: &BTreeMap<String, SocketAddr>) -> toml::Table {
    let overrides: toml::Table =
        overrides.iter().map(|(name, address)| (name.clone(), address.to_string().into())).collect();
    toml::Table::from_iter([("egress".into(), toml::Table::from_iter([("overrides".into(), overrides.into())]).into())])
}

fn merge(under: &mut toml::Table, over: toml::Table) {
    for (key, value) in over {
        match (under.get_mut(&key), value) {
            (Some(toml::Value::Table(under)), toml::Value::Table(over)) => merge(under, over),
            (_, value) => _ = under.insert(key, value),
        }
    }
}

fn random_token(kind: &str) -> anyhow::Result<Secret> {
    let mut bytes = [0; 24];
    getrandom::fill(&mut bytes).map_err(std::io::Error::other)?;
    let hex = hex::encode(bytes);
    Ok(Secret::new(format!("ant_{kind}_{hex}")))
}
