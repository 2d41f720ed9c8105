//! A server for one test: a server process with a temporary directory and tokens, whose machines are plain processes or QEMU
//! machines ([`MachineBackend`]).
//!
//! [`TestServer::start`] starts it. [`TestServer::stop_and_check_leaks`] cancels all sessions, stops the server and fails when a process, run
//! directory or socket is left. Dropping a server that is not finished kills it, and panics unless the test panics already.

mod api_client;
mod plain_process;
pub mod qemu;
mod server_process;

pub use api_client::{ApiClient, ApiResponse};
pub use plain_process::PlainProcess;
pub use qemu::{QEMU_WAIT_TIMEOUT, Qemu};
pub use server_process::LaunchCommand;

use crate::{ServerDir, eventually, lab::Door};
use anteroom_controller::warm_machines;
use anteroom_server::addresses;
use anteroom_wire::Secret;
use anyhow::{Context, ensure};
use server_process::ServerProcess;
use std::{
    collections::BTreeMap,
    fmt, fs,
    net::SocketAddr,
    ops::Deref,
    path::{Path, PathBuf},
    time::Duration,
};

/// The longest wait for anything, on a busy host.
pub const WAIT_MAX: Duration = Duration::from_secs(60);

/// How the machines of a test server run, and which program is the server.
pub trait MachineBackend: fmt::Debug + Send + Sync + Sized {
    /// The longest wait for anything, on a busy host.
    const WAIT_MAX: Duration;
    /// The longest wait for the last processes to end after the server has stopped.
    const EXIT_WAIT_MAX: Duration;

    /// Where the server's directory is created.
    fn parent_dir(&self) -> PathBuf {
        std::env::temp_dir()
    }

    /// Adds the settings of these machines to those of the test, and creates the files that they name.
    ///
    /// # Errors
    /// A file cannot be created, a program is not built, or there is no image.
    fn prepare(&mut self, dir: &ServerDir, settings: &mut toml::Table) -> anyhow::Result<()>;

    /// Creates the tokens. The server's configuration file exists.
    fn create_tokens(&self, dir: &ServerDir) -> impl Future<Output = anyhow::Result<Tokens>> + Send;

    /// The command that runs the server.
    ///
    /// # Errors
    /// A program is not built.
    fn launch(server: &TestServer<Self>) -> anyhow::Result<LaunchCommand>;
}

/// The tokens of a test server.
#[derive(Debug)]
pub struct Tokens {
    /// An operator's.
    pub operator: Secret,
    /// Backends'.
    pub backends: Vec<Secret>,
}

/// The configuration of a test server.
#[derive(Debug, Clone)]
pub struct TestConfig<M = PlainProcess> {
    /// How the machines run.
    pub machines: M,
    /// The server's settings as TOML. They override the defaults of a test server.
    pub settings: String,
    /// `name:port` → the address that the egress gate connects to.
    pub host_overrides: BTreeMap<String, SocketAddr>,
    /// Whether the demo's identity provider runs.
    pub demo: bool,
    /// Variables of the server's environment, in addition.
    pub env: BTreeMap<String, String>,
    /// The server runs behind this door, in another network namespace.
    pub door: Option<Door>,
}

impl<M> TestConfig<M> {
    /// A server with these machines.
    pub fn new(machines: M) -> Self {
        Self {
            machines,
            settings: String::new(),
            host_overrides: BTreeMap::new(),
            demo: false,
            env: BTreeMap::new(),
            door: None,
        }
    }

    /// Appends settings, as TOML.
    #[must_use]
    pub fn with_settings(mut self, settings: &str) -> Self {
        self.settings.push_str(settings);
        self
    }

    /// Adds an address that the egress gate connects to for a name and port.
    #[must_use]
    pub fn with_host_override(mut self, name_and_port: &str, address: SocketAddr) -> Self {
        self.host_overrides.insert(name_and_port.to_owned(), address);
        self
    }
}

/// A running server.
#[derive(Debug)]
pub struct TestServer<M: MachineBackend = PlainProcess> {
    dir: ServerDir,
    config: TestConfig<M>,
    tokens: Tokens,
    process: Option<ServerProcess>,
    /// The address of the first server process.
    first_address: Option<SocketAddr>,
    finished: bool,
}

impl<M: MachineBackend> TestServer<M> {
    /// Starts the server and waits until it accepts requests.
    ///
    /// # Errors
    /// A program is not built, there is no image, or the server does not start; the text contains the end of its log.
    pub async fn start(mut config: TestConfig<M>) -> anyhow::Result<Self> {
        let dir = ServerDir::create_in(&config.machines.parent_dir())?;
        let mut settings = settings(&dir, &config)?;
        config.machines.prepare(&dir, &mut settings)?;
        fs::write(dir.config_file(), toml::to_string(&settings)?)?;
        let tokens = config.machines.create_tokens(&dir).await?;
        let mut server = Self { dir, config, tokens, process: None, first_address: None, finished: false };
        if let Err(error) = server.start_server().await {
            server.finished = true;
            server.leak_scan().kill_processes();
            return Err(error);
        }
        Ok(server)
    }

    /// Starts the server process again, after [`Self::stop_server`] or [`Self::kill_server`]. With QEMU machines it listens on the
    /// same address, so that an open page reaches it; else on another port.
    ///
    /// # Errors
    /// It does not start.
    pub async fn start_server(&mut self) -> anyhow::Result<()> {
        let mut launch = M::launch(self)?;
        launch.command.envs(&self.config.env);
        if let Some(door) = &self.config.door {
            launch.put_before(door.prefix());
        }
        let process = ServerProcess::start(launch, &self.dir, M::WAIT_MAX).await?;
        if let Some(door) = &self.config.door {
            door.lead_to(process.address())?;
        }
        self.first_address.get_or_insert(process.address());
        self.process = Some(process);
        Ok(())
    }

    /// How its machines run from its next start on.
    pub fn machines_mut(&mut self) -> &mut M {
        &mut self.config.machines
    }

    /// Sends SIGTERM to the server and waits for its exit. Machines keep running.
    ///
    /// # Errors
    /// It does not exit in time, or exits with an error.
    pub async fn stop_server(&mut self) -> anyhow::Result<()> {
        match self.process.take() {
            Some(process) => process.stop(M::WAIT_MAX).await,
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

    /// The base of the server's links, which is the origin of its pages.
    ///
    /// # Errors
    /// The server is not running.
    pub fn base_url(&self) -> anyhow::Result<String> {
        let settings: toml::Table = fs::read_to_string(self.dir.config_file())?.parse()?;
        let public_url = settings.get("public_url").and_then(toml::Value::as_str);
        let name = addresses::open_local_name(&self.dir.state_dir())?;
        Ok(addresses::Addresses::new(public_url, self.address()?, &name)?.base_url().to_owned())
    }

    /// The id of the server's process.
    ///
    /// # Errors
    /// The server is not running.
    pub fn server_pid(&self) -> anyhow::Result<rustix::process::Pid> {
        self.process()?.pid().context("the server has exited")
    }

    fn client(&self, token: Option<&Secret>) -> anyhow::Result<ApiClient> {
        ApiClient::new(self.address()?, self.base_url()?, token.cloned(), M::WAIT_MAX)
    }

    /// An API client with an operator's token.
    ///
    /// # Errors
    /// The server is not running.
    pub fn operator_client(&self) -> anyhow::Result<ApiClient> {
        self.client(Some(&self.tokens.operator))
    }

    /// An API client without a token.
    ///
    /// # Errors
    /// The server is not running.
    pub fn anonymous_client(&self) -> anyhow::Result<ApiClient> {
        self.client(None)
    }

    /// An API client with this token.
    ///
    /// # Errors
    /// The server is not running.
    pub fn client_with_token(&self, token: &Secret) -> anyhow::Result<ApiClient> {
        self.client(Some(token))
    }

    /// The operator's token, for programs that call the API themselves.
    pub fn operator_token(&self) -> &Secret {
        &self.tokens.operator
    }

    /// Ends everything at once, because the test has failed already.
    pub fn give_up(&mut self) {
        self.finished = true;
        self.leak_scan().kill_processes();
    }

    /// Waits until no machine has a run directory, except warm ones.
    ///
    /// # Errors
    /// The machines that are left.
    pub async fn wait_machines_removed(&self) -> anyhow::Result<()> {
        // Warm machines run until the server stops.
        let warm = || warm_machines::list_recorded(&self.state_dir());
        let none = async || {
            let machines = self.list_machines();
            Ok(machines.iter().all(|machine| warm().contains(machine)).then_some(()))
        };
        let removed = eventually("every machine is removed", M::WAIT_MAX, none).await;
        removed.with_context(|| format!("machines are left: {:?}", self.list_machines()))
    }

    /// Cancels every session, stops the server and checks that no process, run directory or socket is left.
    ///
    /// # Errors
    /// What is left, and the end of the server's log.
    pub async fn stop_and_check_leaks(mut self) -> anyhow::Result<()> {
        self.finished = true;
        let ended = self.end().await;
        let left = self.leak_scan().find_processes();
        self.leak_scan().kill_processes();
        ended.with_context(|| format!("left: {left:#?}\nthe server's log ends:\n{}", self.read_log_tail()))
    }

    async fn end(&mut self) -> anyhow::Result<()> {
        if self.process.is_none() {
            self.start_server().await?;
        }
        self.operator_client()?.cancel_all_sessions().await?;
        self.wait_machines_removed().await?;
        self.stop_server().await?;
        self.leak_scan().wait_none_left(M::EXIT_WAIT_MAX).await?;
        let sockets: Vec<_> = self.leak_scan().list_files("state").into_iter().filter(|path| is_socket(path)).collect();
        let expected = |path: &PathBuf| path.file_name().is_some_and(|name| name == "anteroom.sock");
        ensure!(sockets.iter().all(expected), "sockets are left: {sockets:?}");
        Ok(())
    }
}

impl<M: MachineBackend> Deref for TestServer<M> {
    type Target = ServerDir;

    fn deref(&self) -> &ServerDir {
        &self.dir
    }
}

impl<M: MachineBackend> Drop for TestServer<M> {
    fn drop(&mut self) {
        if !self.finished {
            self.leak_scan().kill_processes();
            if std::thread::panicking() {
                eprintln!("the server's log ends:\n{}", self.read_log_tail());
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

/// The server's settings: the defaults of a test server, overridden by the test's.
fn settings<M>(dir: &ServerDir, config: &TestConfig<M>) -> anyhow::Result<toml::Table> {
    let mut settings: toml::Table = "listen = '127.0.0.1:0'\n[log]\nlevel = 'debug'\nformat = 'json'".parse()?;
    settings.insert("state_dir".to_owned(), path_value(&dir.state_dir()));
    merge(&mut settings, config.settings.parse().context("the test's settings")?);
    let overrides: toml::Table =
        config.host_overrides.iter().map(|(name, address)| (name.clone(), address.to_string().into())).collect();
    let egress = toml::Table::from_iter([("overrides".to_owned(), overrides.into())]);
    merge(&mut settings, toml::Table::from_iter([("egress".to_owned(), egress.into())]));
    Ok(settings)
}

fn path_value(path: &Path) -> toml::Value {
    toml::Value::String(path.to_string_lossy().into_owned())
}

fn merge(under: &mut toml::Table, over: toml::Table) {
    for (key, value) in over {
        match (under.get_mut(&key), value) {
            (Some(toml::Value::Table(under)), toml::Value::Table(over)) => merge(under, over),
            (_, value) => _ = under.insert(key, value),
        }
    }
}
