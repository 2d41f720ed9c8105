//! `anteroom serve` with QEMU machines, for one test. The machines are made from the image in `ANTEROOM_TEST_IMAGE`; the state
//! directory is temporary.
//!
//! [`QemuServer::finish`] cancels all sessions, stops the server and fails when a process or run directory is left.

use crate::{
    ServerDir,
    plain_process::built_program,
    test_server::{ApiClient, ServerProcess, host_overrides_table},
};
use anteroom_machine::Receipt;
use anteroom_wire::{MachineId, Secret};
use anyhow::{Context, bail, ensure};
use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs,
    net::SocketAddr,
    ops::Deref,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{ChildStdout, Command},
    time::timeout,
};

/// The longest wait for anything in an emulated machine on a busy host.
pub const QEMU_WAIT_MAX: Duration = Duration::from_secs(240);
/// The longest wait for the last processes to end after the server has stopped.
const EXIT_WAIT_MAX: Duration = Duration::from_secs(20);

/// What the server uses instead of the host's.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// The directory of images and templates; default: the one that contains `ANTEROOM_TEST_IMAGE`.
    pub cache_dir: Option<PathBuf>,
    /// The server's `PATH`; default: the test's `PATH`.
    pub path: Option<OsString>,
}

/// A running server with QEMU machines.
#[derive(Debug)]
pub struct QemuServer {
    dir: ServerDir,
    running: Option<Running>,
    /// The address of the first start. Later starts listen on it too, so that an open page reaches the next server.
    address: Option<SocketAddr>,
    token: Secret,
    path: Option<OsString>,
    finished: bool,
}

#[derive(Debug)]
struct Running {
    process: ServerProcess,
    login_link: String,
    /// Kept open: the server's next line of output would fail on a closed pipe.
    _output: Lines<BufReader<ChildStdout>>,
}

impl QemuServer {
    /// Starts `anteroom serve` with `settings` (TOML, overrides the defaults); the egress gate connects to
    /// `host_overrides` (`name:port` → address).
    ///
    /// # Errors
    /// No image, a program that is not built, or a server that does not start; the text contains the end of its log.
    pub async fn start(
        settings: &str,
        host_overrides: &BTreeMap<String, SocketAddr>,
        demo: bool,
    ) -> anyhow::Result<Self> {
        Self::start_with(Overrides::default(), settings, host_overrides, demo).await
    }

    /// The same with overrides.
    ///
    /// # Errors
    /// As [`QemuServer::start`].
    pub async fn start_with(
        overrides: Overrides,
        settings: &str,
        host_overrides: &BTreeMap<String, SocketAddr>,
        demo: bool,
    ) -> anyhow::Result<Self> {
        let dir = ServerDir::create_in(&std::env::temp_dir())?;
        let mut table: toml::Table = settings.parse().context("the test's settings")?;
        let text = |path: PathBuf| toml::Value::String(path.to_string_lossy().into_owned());
        table.insert("listen".into(), "127.0.0.1:0".into());
        table.insert("state_dir".into(), text(dir.state_dir()));
        table.insert("cache_dir".into(), text(overrides.cache_dir.map_or_else(cache_dir, Ok)?));
        let log = "level = 'debug'\nformat = 'json'".parse::<toml::Table>()?;
        table.insert("log".into(), log.into());
        table.extend(host_overrides_table(host_overrides));
        fs::write(dir.config_file(), toml::to_string(&table)?)?;
        let token = Secret::new(String::new());
        let mut server = Self { dir, running: None, address: None, token, path: overrides.path, finished: false };
        let token = server.run_anteroom(&["token", "create", "--operator", "test"]).await?;
        server.token = Secret::new(token.trim().to_owned());
        server.start_server(demo).await?;
        Ok(server)
    }

    /// Starts the server process. It listens on the same address each time.
    ///
    /// # Errors
    /// It does not start.
    pub async fn start_server(&mut self, demo: bool) -> anyhow::Result<()> {
        let mut command = self.anteroom_command()?;
        command.arg("serve").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(self.open_log()?).kill_on_drop(true);
        if demo {
            command.arg("--demo");
        }
        if let Some(address) = self.address {
            command.arg("--listen").arg(address.to_string());
        }
        let mut child = command.spawn()?;
        let mut output = BufReader::new(child.stdout.take().context("stdout")?).lines();
        let printed_link = async {
            while let Some(line) = output.next_line().await? {
                if line.trim_start().starts_with("http") {
                    return Ok(line.trim().to_owned());
                }
            }
            bail!("the server ended before it printed a link")
        };
        let printed_link = timeout(QEMU_WAIT_MAX, printed_link).await;
        let link = printed_link.context("the server does not start in time").and_then(|link| link);
        let link = link.with_context(|| format!("the server's log ends:\n{}", self.log_tail()))?;
        let authority = link.strip_prefix("http://").and_then(|rest| rest.split('/').next()).context("the link")?;
        let address = authority.parse().context("the link's address")?;
        self.address = Some(address);
        self.running = Some(Running { process: ServerProcess::new(child, address), login_link: link, _output: output });
        Ok(())
    }

    /// Sends SIGKILL to the server, as a crash. Machines keep running.
    ///
    /// # Errors
    /// It cannot be killed.
    pub async fn kill_server(&mut self) -> anyhow::Result<()> {
        match self.running.take() {
            Some(running) => running.process.kill().await,
            None => Ok(()),
        }
    }

    /// Sends SIGTERM to the server and waits for its exit. Machines keep running.
    ///
    /// # Errors
    /// It does not exit in time, or exits with an error.
    pub async fn stop_server(&mut self) -> anyhow::Result<()> {
        match self.running.take() {
            Some(running) => running.process.stop(QEMU_WAIT_MAX).await,
            None => Ok(()),
        }
    }

    /// Runs `anteroom ARGS` with this server's configuration and returns its standard output.
    ///
    /// # Errors
    /// It fails; the text contains its standard error.
    pub async fn run_anteroom(&self, args: &[&str]) -> anyhow::Result<String> {
        let output =
            timeout(QEMU_WAIT_MAX, self.anteroom_command()?.args(args).stdin(Stdio::null()).output()).await??;
        let stderr = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "anteroom {args:?}: {}\n{stderr}", output.status);
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// A command that runs `anteroom` with this server's configuration.
    ///
    /// # Errors
    /// It is not built.
    pub fn anteroom_command(&self) -> anyhow::Result<Command> {
        let mut command = Command::new(built_program("anteroom")?);
        command.arg("--config").arg(self.config_file());
        if let Some(path) = &self.path {
            command.env("PATH", path);
        }
        Ok(command)
    }

    fn running(&self) -> anyhow::Result<&Running> {
        self.running.as_ref().context("the server is not running")
    }

    /// An API client with an operator's token.
    ///
    /// # Errors
    /// The server is not running.
    pub fn operator(&self) -> anyhow::Result<ApiClient> {
        Ok(ApiClient::new(self.address()?, Some(self.token.clone()))?.with_wait_max(QEMU_WAIT_MAX))
    }

    /// The address that the server listens on.
    ///
    /// # Errors
    /// The server is not running.
    pub fn address(&self) -> anyhow::Result<SocketAddr> {
        Ok(self.running()?.process.address())
    }

    /// The id of the server's process.
    ///
    /// # Errors
    /// The server is not running.
    pub fn server_pid(&self) -> anyhow::Result<rustix::process::Pid> {
        self.running()?.process.pid().context("the server has exited")
    }

    /// The operator's token, for programs that call the API themselves.
    pub fn token(&self) -> &Secret {
        &self.token
    }

    /// The login link that the server printed; it is valid once.
    ///
    /// # Errors
    /// The server is not running.
    pub fn login_link(&self) -> anyhow::Result<&str> {
        Ok(&self.running()?.login_link)
    }

    /// The receipt that a machine's keeper wrote when the machine ended.
    ///
    /// # Errors
    /// There is no receipt, or it cannot be read.
    pub fn receipt(&self, machine: &MachineId) -> anyhow::Result<Receipt> {
        Receipt::read(&self.state_dir().join("receipts"), machine)?.context("there is no receipt")
    }

    /// Waits until no machine has a run directory.
    ///
    /// # Errors
    /// The machines that are left.
    pub async fn wait_machines_removed(&self) -> anyhow::Result<()> {
        self.wait_no_machines(QEMU_WAIT_MAX).await
    }

    /// Cancels every session, stops the server and checks that nothing is left.
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
        if let Ok(operator) = self.operator() {
            operator.cancel_all().await?;
        }
        self.wait_machines_removed().await?;
        self.stop_server().await?;
        self.leaks().wait_none_left(EXIT_WAIT_MAX).await
    }
}

impl Deref for QemuServer {
    type Target = ServerDir;

    fn deref(&self) -> &ServerDir {
        &self.dir
    }
}

impl Drop for QemuServer {
    fn drop(&mut self) {
        if !self.finished {
            self.leaks().kill_all();
            eprintln!("the server's log ends:\n{}", self.log_tail());
        }
    }
}

/// The cache directory of the image that the tests use: `ANTEROOM_TEST_IMAGE` without `images/HASH`.
///
/// # Errors
/// `ANTEROOM_TEST_IMAGE` is not set, or is no image's directory.
pub fn cache_dir() -> anyhow::Result<PathBuf> {
    let image = std::env::var_os("ANTEROOM_TEST_IMAGE").map(PathBuf::from);
    let image = image.context(
        "ANTEROOM_TEST_IMAGE is not set: run ./test, or set it to what `anteroom image build --print-dir` prints",
    )?;
    let cache = image.parent().and_then(Path::parent).context("ANTEROOM_TEST_IMAGE must be …/images/<hash>")?;
    Ok(cache.to_owned())
}
