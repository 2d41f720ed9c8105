//! The real thing for one test: `anteroom serve` as a process of its own, with real machines made from the image in
//! `ANTEROOM_TEST_IMAGE`, and a state directory of its own.
//!
//! [`QemuServer::finish`] ends all sessions and the server and fails the test when a process, run directory or socket is left.

use crate::{Leaks, plain_process::built, test_server::ApiClient};
use anteroom_machine::Receipt;
use anteroom_wire::{MachineId, Secret};
use anyhow::{Context, bail, ensure};
use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs::{self, File},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    time::{Instant, timeout},
};

/// The longest wait for anything in an emulated machine on a busy host.
pub const QEMU_WAIT_MAX: Duration = Duration::from_secs(240);

/// What a house has of its own instead of the host's.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// The directory of images and templates; default: the one that holds `ANTEROOM_TEST_IMAGE`.
    pub cache_dir: Option<PathBuf>,
    /// Where programs are looked up; default: as the test's own.
    pub path: Option<OsString>,
}

/// A running server with real machines.
#[derive(Debug)]
pub struct QemuServer {
    dir: tempfile::TempDir,
    server: Option<Serving>,
    /// Where the first server listened; its successors do so too, so that a page finds them.
    address: Option<SocketAddr>,
    token: Secret,
    path: Option<OsString>,
    finished: bool,
}

#[derive(Debug)]
struct Serving {
    child: Child,
    address: SocketAddr,
    link: String,
    /// Kept open: a server whose output is closed would be told so at its next line.
    _output: Lines<BufReader<ChildStdout>>,
}

impl QemuServer {
    /// Starts `anteroom serve` with `settings` (TOML over the defaults) and `answers` of the egress gate.
    ///
    /// # Errors
    /// No image, a program that is not built, or a server that does not start; the text has the end of its log.
    pub async fn open(settings: &str, answers: &BTreeMap<String, SocketAddr>, demo: bool) -> anyhow::Result<Self> {
        Self::open_with(Overrides::default(), settings, answers, demo).await
    }

    /// The same with things of its own.
    ///
    /// # Errors
    /// As [`QemuServer::open`].
    pub async fn open_with(
        own: Overrides,
        settings: &str,
        answers: &BTreeMap<String, SocketAddr>,
        demo: bool,
    ) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("house").tempdir()?;
        let mut table: toml::Table = settings.parse().context("the test's settings")?;
        let text = |path: PathBuf| toml::Value::String(path.to_string_lossy().into_owned());
        table.insert("listen".into(), "127.0.0.1:0".into());
        table.insert("state_dir".into(), text(dir.path().join("state")));
        table.insert("cache_dir".into(), text(own.cache_dir.map_or_else(cache_dir, Ok)?));
        let log = "level = 'debug'\nformat = 'json'".parse::<toml::Table>()?;
        table.insert("log".into(), log.into());
        let answers: toml::Table =
            answers.iter().map(|(name, address)| (name.clone(), address.to_string().into())).collect();
        table.insert("egress".into(), toml::Table::from_iter([("answers".into(), answers.into())]).into());
        fs::write(dir.path().join("config.toml"), toml::to_string(&table)?)?;
        let token = Secret::new(String::new());
        let mut house = Self { dir, server: None, address: None, token, path: own.path, finished: false };
        house.token = Secret::new(house.command(&["token", "create", "--operator", "test"]).await?.trim().to_owned());
        house.serve(demo).await?;
        Ok(house)
    }

    /// Starts the server (again, at the address that it had before).
    ///
    /// # Errors
    /// It does not start.
    pub async fn serve(&mut self, demo: bool) -> anyhow::Result<()> {
        let log = File::options().create(true).append(true).open(self.log_file())?;
        let mut command = self.anteroom()?;
        command.arg("serve").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).kill_on_drop(true);
        if demo {
            command.arg("--demo");
        }
        if let Some(address) = self.address {
            command.arg("--listen").arg(address.to_string());
        }
        let mut child = command.spawn()?;
        let mut output = BufReader::new(child.stdout.take().context("stdout")?).lines();
        let link = async {
            while let Some(line) = output.next_line().await? {
                if line.trim_start().starts_with("http") {
                    return Ok(line.trim().to_owned());
                }
            }
            bail!("the server ended before it printed a link")
        };
        let link = timeout(QEMU_WAIT_MAX, link).await.context("the server does not start in time").and_then(|link| link);
        let link = link.with_context(|| format!("the server's log ends:\n{}", self.log_tail()))?;
        let authority = link.strip_prefix("http://").and_then(|rest| rest.split('/').next()).context("the link")?;
        let address = authority.parse().context("the link's address")?;
        self.address = Some(address);
        self.server = Some(Serving { child, address, link, _output: output });
        Ok(())
    }

    /// SIGKILL for the server, as a crash would; machines live on.
    ///
    /// # Errors
    /// It cannot be killed.
    pub async fn kill_server(&mut self) -> anyhow::Result<()> {
        match self.server.take() {
            Some(mut server) => Ok(server.child.kill().await?),
            None => Ok(()),
        }
    }

    /// SIGTERM for the server, as an operator would; machines live on.
    ///
    /// # Errors
    /// It does not stop in time, or not well.
    pub async fn stop_server(&mut self) -> anyhow::Result<()> {
        let Some(mut server) = self.server.take() else { return Ok(()) };
        let pid = server.child.id().and_then(|pid| rustix::process::Pid::from_raw(pid.cast_signed()));
        rustix::process::kill_process(pid.context("the server has ended by itself")?, rustix::process::Signal::TERM)?;
        let status = timeout(QEMU_WAIT_MAX, server.child.wait()).await.context("the server does not stop")??;
        ensure!(status.success(), "the server ended with {status}");
        Ok(())
    }

    /// Runs `anteroom ARGS` with this house's configuration and gives what it printed.
    ///
    /// # Errors
    /// It fails; the text has its words.
    pub async fn command(&self, args: &[&str]) -> anyhow::Result<String> {
        let output = timeout(QEMU_WAIT_MAX, self.anteroom()?.args(args).stdin(Stdio::null()).output()).await??;
        let words = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "anteroom {args:?}: {}\n{words}", output.status);
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// The `anteroom` program with this house's configuration.
    ///
    /// # Errors
    /// It is not built.
    pub fn anteroom(&self) -> anyhow::Result<Command> {
        let mut command = Command::new(built("anteroom")?);
        command.arg("--config").arg(self.dir.path().join("config.toml"));
        if let Some(path) = &self.path {
            command.env("PATH", path);
        }
        Ok(command)
    }

    /// The API as an operator.
    ///
    /// # Errors
    /// The server does not run.
    pub fn api(&self) -> anyhow::Result<ApiClient> {
        let server = self.server.as_ref().context("the server does not run")?;
        Ok(ApiClient::new(server.address, Some(self.token.clone()))?.patient(QEMU_WAIT_MAX))
    }

    /// Where the server listens.
    ///
    /// # Errors
    /// The server does not run.
    pub fn address(&self) -> anyhow::Result<SocketAddr> {
        Ok(self.server.as_ref().context("the server does not run")?.address)
    }

    /// The server's process.
    ///
    /// # Errors
    /// It does not run.
    pub fn server_process(&self) -> anyhow::Result<rustix::process::Pid> {
        let id = self.server.as_ref().and_then(|server| server.child.id()).context("the server does not run")?;
        rustix::process::Pid::from_raw(id.cast_signed()).context("a process id")
    }

    /// The operator's token, for programs that call the API themselves.
    pub fn token(&self) -> &Secret {
        &self.token
    }

    /// The link that the server printed: good once.
    ///
    /// # Errors
    /// The server does not run.
    pub fn link(&self) -> anyhow::Result<&str> {
        Ok(&self.server.as_ref().context("the server does not run")?.link)
    }

    /// The house's directory.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// The state directory.
    pub fn state_dir(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    /// The run directories of machines that exist.
    pub fn machines(&self) -> Vec<MachineId> {
        let entries = fs::read_dir(self.dir.path().join("state/run")).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
    }

    /// A machine's run directory.
    pub fn run_dir(&self, machine: &MachineId) -> PathBuf {
        self.dir.path().join("state/run").join(machine.as_str())
    }

    /// What a machine's keeper left.
    ///
    /// # Errors
    /// There is no receipt, or it cannot be read.
    pub fn receipt(&self, machine: &MachineId) -> anyhow::Result<Receipt> {
        Receipt::read(&self.dir.path().join("state/receipts"), machine)?.context("there is no receipt")
    }

    /// Looks for what belongs to the house.
    pub fn leaks(&self) -> Leaks {
        Leaks::of(self.path())
    }

    fn log_file(&self) -> PathBuf {
        self.dir.path().join("server.log")
    }

    /// The end of the server's log.
    pub fn log_tail(&self) -> String {
        let log = fs::read_to_string(self.log_file()).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    /// Waits until no machine is left: no run directory, no process of it.
    ///
    /// # Errors
    /// What is left.
    pub async fn machines_gone(&self) -> anyhow::Result<()> {
        let until = Instant::now() + QEMU_WAIT_MAX;
        while !self.machines().is_empty() {
            ensure!(Instant::now() < until, "machines are left: {:?}", self.machines());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// Ends every session and the server and checks that nothing is left.
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
        if let Ok(api) = self.api() {
            api.cancel_all().await?;
        }
        self.machines_gone().await?;
        self.stop_server().await?;
        if let Err(left) = self.leaks().gone_within(Duration::from_secs(20)).await {
            bail!("processes are left: {left:#?}");
        }
        Ok(())
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

/// The cache that holds the image that the tests were given, `…/images/<hash>`.
///
/// # Errors
/// `ANTEROOM_TEST_IMAGE` is not set, or no image's directory.
pub fn cache_dir() -> anyhow::Result<PathBuf> {
    let image = std::env::var_os("ANTEROOM_TEST_IMAGE").map(PathBuf::from);
    let image = image.context(
        "ANTEROOM_TEST_IMAGE is not set: run ./test, or set it to what `anteroom image build --print-dir` prints",
    )?;
    let cache = image.parent().and_then(Path::parent).context("ANTEROOM_TEST_IMAGE must be …/images/<hash>")?;
    Ok(cache.to_owned())
}
