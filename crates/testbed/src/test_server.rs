//! A whole server with everything around it, for one test.
//!
//! [`TestServer::start`] gives a server process with plain machines, a state directory of its own and tokens; [`TestServer::finish`]
//! ends all sessions and the server and fails the test when anything is left. A world that is dropped without it is
//! killed, and the test fails too unless it is failing already.

mod api_client;
mod server_process;

pub use api_client::{ApiClient, ApiResponse};
pub use server_process::ServerProcess;

use crate::{
    Leaks, ScriptedTool,
    fake_rfb_server::Behaviour,
    plain_process::{Faults, RFB_SOCKET},
    serve::Order,
};
use anteroom_wire::{MachineId, Secret};
use anyhow::{Context, ensure};
use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::{io::AsyncReadExt, net::UnixStream, time::timeout};

/// The longest wait for anything, on a busy machine.
pub const WAIT_MAX: Duration = Duration::from_secs(60);

/// What a world shall be.
#[derive(Debug, Clone, Default)]
pub struct TestConfig {
    /// Providers whose tools follow scripts.
    pub tools: Vec<ScriptedTool>,
    /// Settings as TOML, laid over those of a world.
    pub settings: String,
    /// `name:port` → where the egress gate leads it.
    pub answers: BTreeMap<String, SocketAddr>,
    /// More tools that the machines have, by the names that descriptors give them.
    pub clis: Vec<String>,
    /// Whether the demo's own identity provider runs.
    pub demo: bool,
    /// What is wrong with the machines.
    pub faults: Faults,
    /// How long a machine may take to become ready, milliseconds; as long as a test waits for anything.
    pub ready_ms_max: Option<u64>,
    /// Whether the world's directory lies in memory, where the host has such a place: for worlds with very many machines,
    /// whose directories and sockets come and go faster than a disk's file system likes.
    pub in_memory: bool,
}

impl TestConfig {
    /// A world with this one tool.
    pub fn with(tool: ScriptedTool) -> Self {
        Self { tools: vec![tool], ..Self::default() }
    }

    /// With these settings, as TOML.
    #[must_use]
    pub fn set(mut self, settings: &str) -> Self {
        self.settings.push_str(settings);
        self
    }

    /// With this answer of the egress gate.
    #[must_use]
    pub fn answer(mut self, name_and_port: &str, address: SocketAddr) -> Self {
        self.answers.insert(name_and_port.to_owned(), address);
        self
    }
}

/// A running world.
#[derive(Debug)]
pub struct TestServer {
    dir: tempfile::TempDir,
    order: Order,
    /// The server's program.
    program: PathBuf,
    server: Option<ServerProcess>,
    operator: Secret,
    backends: [Secret; 2],
    finished: bool,
}

impl TestServer {
    /// Starts the server and waits until it answers.
    ///
    /// # Errors
    /// A program is not built, or the server does not start; the text has the end of its log.
    pub async fn start(plan: TestConfig) -> anyhow::Result<Self> {
        let memory = Path::new("/dev/shm");
        let place = if plan.in_memory && memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        let dir = tempfile::Builder::new().prefix("room").tempdir_in(place)?;
        let [providers, scripts] = ["providers", "scripts"].map(|name| dir.path().join(name));
        fs::create_dir(&providers)?;
        fs::create_dir(&scripts)?;
        let testbed = crate::plain_process::built("anteroom-testbed")?;
        let mut clis: BTreeMap<_, _> = plan.clis.iter().map(|name| (name.clone(), "1.0".to_owned())).collect();
        for tool in &plan.tools {
            tool.save(&providers, &scripts, &testbed)?;
            clis.insert(tool.id().to_owned(), "1.0".to_owned());
        }
        let config = dir.path().join("config.toml");
        fs::write(&config, settings(dir.path(), &plan)?)?;
        let [operator, first, second] = [token("op")?, token("be")?, token("be")?];
        let order = Order {
            config,
            clis,
            operators: vec![operator.clone()],
            backends: vec![first.clone(), second.clone()],
            demo: plan.demo,
            ready_ms_max: plan.ready_ms_max.unwrap_or(u64::try_from(WAIT_MAX.as_millis()).unwrap_or(u64::MAX)),
            faults: plan.faults,
        };
        let mut world =
            Self { dir, order, program: testbed, server: None, operator, backends: [first, second], finished: false };
        if let Err(error) = world.start_server().await {
            world.finished = true;
            return Err(error);
        }
        Ok(world)
    }

    /// Starts the server again, after [`Self::stop_server`] or [`Self::kill_server`]. It gets another port.
    ///
    /// # Errors
    /// It does not start.
    pub async fn start_server(&mut self) -> anyhow::Result<()> {
        self.server = Some(ServerProcess::start(&self.program, &self.order, &self.log_file()).await?);
        Ok(())
    }

    /// Stops the server as an operator would; machines live on.
    ///
    /// # Errors
    /// It does not stop in time, or not well.
    pub async fn stop_server(&mut self) -> anyhow::Result<()> {
        match self.server.take() {
            Some(server) => server.stop().await,
            None => Ok(()),
        }
    }

    /// Kills the server, as a crash would.
    ///
    /// # Errors
    /// It cannot be killed.
    pub async fn kill_server(&mut self) -> anyhow::Result<()> {
        match self.server.take() {
            Some(server) => server.kill().await,
            None => Ok(()),
        }
    }

    /// Where the server listens.
    ///
    /// # Errors
    /// It does not run.
    pub fn address(&self) -> anyhow::Result<SocketAddr> {
        Ok(self.server.as_ref().context("the server does not run")?.address())
    }

    /// The server's process.
    ///
    /// # Errors
    /// It does not run.
    pub fn server_process(&self) -> anyhow::Result<rustix::process::Pid> {
        self.server.as_ref().and_then(ServerProcess::pid).context("the server does not run")
    }

    /// The API as an operator.
    ///
    /// # Errors
    /// The server does not run.
    pub fn operator(&self) -> anyhow::Result<ApiClient> {
        ApiClient::new(self.address()?, Some(self.operator.clone()))
    }

    /// The API as a backend; the second is a stranger to the first.
    ///
    /// # Errors
    /// The server does not run.
    pub fn backend(&self) -> anyhow::Result<ApiClient> {
        ApiClient::new(self.address()?, Some(self.backends[0].clone()))
    }

    /// The API as another backend.
    ///
    /// # Errors
    /// The server does not run.
    pub fn other_backend(&self) -> anyhow::Result<ApiClient> {
        ApiClient::new(self.address()?, Some(self.backends[1].clone()))
    }

    /// The API as nobody.
    ///
    /// # Errors
    /// The server does not run.
    pub fn nobody(&self) -> anyhow::Result<ApiClient> {
        ApiClient::new(self.address()?, None)
    }

    /// The world's directory.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// A place for a file that a script waits for.
    pub fn signal(&self, name: &str) -> PathBuf {
        self.dir.path().join("scripts").join(name)
    }

    /// What the server has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    fn log_file(&self) -> PathBuf {
        self.dir.path().join("server.log")
    }

    /// The state directory: database, keys, run directories, receipts.
    pub fn state_dir(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    /// The run directories of machines that exist.
    pub fn machines(&self) -> Vec<MachineId> {
        let entries = fs::read_dir(self.state_dir().join("run")).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
    }

    /// The machine's home directory, as long as it exists.
    pub fn home(&self, machine: &MachineId) -> PathBuf {
        self.state_dir().join("run").join(machine.as_str()).join("home")
    }

    /// Tells a machine's desktop how to behave, and waits until one that shall be closed is.
    ///
    /// # Errors
    /// The machine has no run directory, or its desktop does not obey.
    pub async fn order_desktop(&self, machine: &MachineId, behaviour: Behaviour) -> anyhow::Result<()> {
        let socket = self.state_dir().join("run").join(machine.as_str()).join(RFB_SOCKET);
        crate::fake_rfb_server::order(&socket, behaviour)?;
        let closed = async {
            while UnixStream::connect(&socket).await?.read(&mut [0]).await? > 0 {}
            std::io::Result::Ok(())
        };
        match behaviour {
            Behaviour::Closed => Ok(timeout(WAIT_MAX, closed).await.context("the desktop does not close")??),
            Behaviour::Normal | Behaviour::Slow | Behaviour::Flood | Behaviour::Silent => Ok(()),
        }
    }

    /// From its next start on, the server is this program; what it starts lies beside it.
    pub fn set_program(&mut self, program: PathBuf) {
        self.program = program;
    }

    /// A machine's run directory.
    pub fn run_dir(&self, machine: &MachineId) -> PathBuf {
        self.state_dir().join("run").join(machine.as_str())
    }

    /// The server's process.
    ///
    /// # Errors
    /// It does not run.
    pub fn server_pid(&self) -> anyhow::Result<rustix::process::Pid> {
        self.server.as_ref().and_then(ServerProcess::pid).context("the server does not run")
    }

    /// Kills a machine's process (not its keeper), as the kernel would when memory runs out.
    ///
    /// # Errors
    /// There is no such process.
    pub fn kill_machine(&self, machine: &MachineId) -> anyhow::Result<()> {
        let config = format!("{machine}/agent.json");
        let found = Leaks::of(self.path()).processes();
        let agent = found.iter().find(|found| found.command.contains(&config)).context("the machine has no process")?;
        let pid = rustix::process::Pid::from_raw(agent.pid).context("a process id")?;
        Ok(rustix::process::kill_process(pid, rustix::process::Signal::KILL)?)
    }

    /// Looks for what the world left.
    pub fn leaks(&self) -> Leaks {
        Leaks::of(self.path())
    }

    /// Ends every session and the server and checks that nothing is left: no process, no run directory, no socket.
    ///
    /// # Errors
    /// What is left, and the end of the server's log.
    pub async fn finish(mut self) -> anyhow::Result<()> {
        self.finished = true;
        let ended = self.end().await;
        let log = tail(&self.log());
        let found = self.leaks().processes();
        self.leaks().kill_all();
        ended.with_context(|| format!("left: {found:#?}\nthe server's log ends:\n{log}"))
    }

    async fn end(&mut self) -> anyhow::Result<()> {
        if self.server.is_none() {
            self.start_server().await?;
        }
        self.operator()?.cancel_all().await?;
        let until = tokio::time::Instant::now() + WAIT_MAX;
        while !self.machines().is_empty() {
            ensure!(tokio::time::Instant::now() < until, "machines are left: {:?}", self.machines());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.stop_server().await?;
        if let Err(left) = self.leaks().gone_within(Duration::from_secs(10)).await {
            anyhow::bail!("processes are left: {left:#?}");
        }
        let sockets: Vec<_> = self.leaks().files("state").into_iter().filter(|path| is_socket(path)).collect();
        let ours = |path: &PathBuf| path.file_name().is_some_and(|name| name == "anteroom.sock");
        ensure!(sockets.iter().all(ours), "sockets are left: {sockets:?}");
        Ok(())
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        if !self.finished {
            self.leaks().kill_all();
            if std::thread::panicking() {
                eprintln!("the server's log ends:\n{}", tail(&self.log()));
            } else {
                #[allow(clippy::panic, reason = "a test that forgets to look for leaks shall fail")]
                {
                    panic!("a world must be finished: call TestServer::finish");
                }
            }
        }
    }
}

fn is_socket(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt;
    fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket())
}

fn tail(log: &str) -> String {
    let lines: Vec<_> = log.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}

/// A world's configuration: what the plan says over what every test needs.
fn settings(dir: &Path, plan: &TestConfig) -> anyhow::Result<String> {
    let text = |path: PathBuf| toml::Value::String(path.to_string_lossy().into_owned());
    let mut settings: toml::Table = "listen = '127.0.0.1:0'\n[log]\nlevel = 'debug'\nformat = 'json'".parse()?;
    settings.insert("state_dir".to_owned(), text(dir.join("state")));
    settings.insert("cache_dir".to_owned(), text(dir.join("cache")));
    settings.insert("providers_dir".to_owned(), text(dir.join("providers")));
    lay_over(&mut settings, plan.settings.parse().context("the plan's settings")?);
    let answers = plan.answers.iter().map(|(name, address)| (name.clone(), toml::Value::String(address.to_string())));
    let answers = toml::Table::from_iter(answers);
    lay_over(
        &mut settings,
        toml::Table::from_iter([(
            "egress".to_owned(),
            toml::Table::from_iter([("answers".to_owned(), answers.into())]).into(),
        )]),
    );
    Ok(toml::to_string(&settings)?)
}

fn lay_over(under: &mut toml::Table, over: toml::Table) {
    for (key, value) in over {
        match (under.get_mut(&key), value) {
            (Some(toml::Value::Table(under)), toml::Value::Table(over)) => lay_over(under, over),
            (_, value) => _ = under.insert(key, value),
        }
    }
}

fn token(kind: &str) -> anyhow::Result<Secret> {
    let mut chance = [0; 24];
    getrandom::fill(&mut chance).map_err(std::io::Error::other)?;
    let chance: String = chance.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(Secret::new(format!("ant_{kind}_{chance}")))
}
