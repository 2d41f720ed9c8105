//! Test servers with plain-process machines: the server is `anteroom-testbed serve`.

use super::{ApiClient, LaunchCommand, MachineBackend, TestConfig, TestServer, Tokens, WAIT_MAX, path_value};
use crate::{
    ScriptedProvider, ServerDir,
    fake_rfb_server::{ServerBehaviour, write_behaviour},
    plain_process::{InjectedFaults, RFB_SOCKET, built_program},
    serve::{LaunchConfig, ReadyMessage},
};
use anteroom_controller::limits::ServerLimits;
use anteroom_wire::{MachineId, Secret, time::to_millis};
use anyhow::Context;
use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::{io::AsyncReadExt, net::UnixStream, process::Command, time::timeout};

/// Machines that are plain processes.
#[derive(Debug, Clone, Default)]
pub struct PlainProcess {
    /// Providers whose tools follow scripts.
    pub providers: Vec<ScriptedProvider>,
    /// More tools that the machines have, by the names that providers' descriptors use.
    pub clis: Vec<String>,
    /// Faults of the machines.
    pub faults: InjectedFaults,
    /// How long a machine may take to become ready, milliseconds; default: [`WAIT_MAX`].
    pub ready_ms_max: Option<u64>,
    /// Whether the server's directory is in `/dev/shm`, where the host has it: a disk's file system is too slow for the
    /// directories and sockets of thousands of machines.
    pub in_memory: bool,
    /// The server's program; default: the built `anteroom-testbed`. The agent and the keeper are those of the same directory.
    pub program: Option<PathBuf>,
    /// The table `[limits]` of the test's settings. It is not written to the configuration file.
    pub limits: ServerLimits,
}

impl TestConfig {
    /// A server with this one provider.
    pub fn with_provider(provider: ScriptedProvider) -> Self {
        Self::with_providers([provider])
    }

    /// A server with these providers.
    pub fn with_providers(providers: impl IntoIterator<Item = ScriptedProvider>) -> Self {
        Self::new(PlainProcess { providers: providers.into_iter().collect(), ..PlainProcess::default() })
    }

    /// A server whose machines have these tools, for descriptors in the settings.
    pub fn with_clis(clis: &[&str]) -> Self {
        Self::new(PlainProcess { clis: clis.iter().map(ToString::to_string).collect(), ..PlainProcess::default() })
    }
}

impl MachineBackend for PlainProcess {
    const WAIT_MAX: Duration = WAIT_MAX;
    const EXIT_WAIT_MAX: Duration = Duration::from_secs(10);

    fn parent_dir(&self) -> PathBuf {
        let memory = Path::new("/dev/shm");
        if self.in_memory && memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() }
    }

    fn prepare(&mut self, dir: &ServerDir, settings: &mut toml::Table) -> anyhow::Result<()> {
        let [providers, scripts] = ["providers", "scripts"].map(|name| dir.path().join(name));
        fs::create_dir(&providers)?;
        fs::create_dir(&scripts)?;
        let testbed = built_program("anteroom-testbed")?;
        for provider in &self.providers {
            provider.write_descriptor(&providers, &scripts, &testbed)?;
        }
        settings.entry("cache_dir").or_insert(path_value(&dir.path().join("cache")));
        settings.entry("providers_dir").or_insert(path_value(&providers));
        if let Some(limits) = settings.remove("limits") {
            self.limits = limits.try_into().context("the test's limits")?;
        }
        Ok(())
    }

    async fn create_tokens(&self, _: &ServerDir) -> anyhow::Result<Tokens> {
        let backends = vec![random_token("be")?, random_token("be")?];
        Ok(Tokens { operator: random_token("op")?, backends })
    }

    fn launch(server: &TestServer<Self>) -> anyhow::Result<LaunchCommand> {
        let machines = &server.config.machines;
        let names = machines.providers.iter().map(ScriptedProvider::id).chain(machines.clis.iter().map(String::as_str));
        let launch = LaunchConfig {
            config: server.dir.config_file(),
            limits: machines.limits.clone(),
            tool_versions: names.map(|name| (name.to_owned(), "1.0".to_owned())).collect(),
            operators: vec![server.tokens.operator.clone()],
            backends: server.tokens.backends.clone(),
            demo: server.config.demo,
            ready_ms_max: machines.ready_ms_max.unwrap_or(to_millis(WAIT_MAX)),
            faults: machines.faults.clone(),
        };
        let program = machines.program.clone().map_or_else(|| built_program("anteroom-testbed"), Ok)?;
        let mut command = Command::new(program);
        command.arg("serve");
        let address = |line: &str| Some(serde_json::from_str::<ReadyMessage>(line).ok()?.address);
        let mut input = serde_json::to_value(&launch)?;
        if launch.limits == ServerLimits::default() {
            // Another build's server has defaults for other limits.
            input["limits"] = serde_json::json!({});
        }
        Ok(LaunchCommand { command, input: serde_json::to_vec(&input)?, address })
    }
}

impl TestServer {
    /// The tokens of the two backends, for programs that call the API themselves.
    pub fn backend_tokens(&self) -> &[Secret] {
        &self.tokens.backends
    }

    /// An API client with a backend's token.
    ///
    /// # Errors
    /// The server is not running.
    pub fn backend_client(&self) -> anyhow::Result<ApiClient> {
        self.client(Some(&self.tokens.backends[0]))
    }

    /// An API client with the token of a second backend, which owns none of the first one's sessions.
    ///
    /// # Errors
    /// The server is not running.
    pub fn other_backend_client(&self) -> anyhow::Result<ApiClient> {
        self.client(Some(&self.tokens.backends[1]))
    }

    /// A machine's home directory, which exists as long as the machine's run directory.
    pub fn tool_home(&self, machine: &MachineId) -> PathBuf {
        self.run_dir(machine).join("home")
    }

    /// Sets the behaviour of a machine's desktop. For [`ServerBehaviour::Closed`] it waits until the desktop's socket closes
    /// connections.
    ///
    /// # Errors
    /// The machine has no run directory, or its desktop does not close in time.
    pub async fn set_desktop_behaviour(&self, machine: &MachineId, behaviour: ServerBehaviour) -> anyhow::Result<()> {
        let socket = self.run_dir(machine).join(RFB_SOCKET);
        write_behaviour(&socket, behaviour)?;
        let closed = async {
            while UnixStream::connect(&socket).await?.read(&mut [0]).await? > 0 {}
            std::io::Result::Ok(())
        };
        match behaviour {
            ServerBehaviour::Closed => Ok(timeout(WAIT_MAX, closed).await.context("the desktop does not close")??),
            ServerBehaviour::Normal | ServerBehaviour::Slow | ServerBehaviour::Flood | ServerBehaviour::Silent => {
                Ok(())
            }
        }
    }

    /// Replaces the server's program. It is used from the next start.
    pub fn set_program(&mut self, program: PathBuf) {
        self.config.machines.program = Some(program);
    }

    /// Kills a machine's process (not its keeper), as the kernel's OOM killer does.
    ///
    /// # Errors
    /// There is no such process.
    pub fn kill_machine(&self, machine: &MachineId) -> anyhow::Result<()> {
        let config = format!("{machine}/agent.json");
        let found = self.leak_scan().find_processes();
        let agent = found.iter().find(|found| found.command.contains(&config)).context("the machine has no process")?;
        let pid = rustix::process::Pid::from_raw(agent.pid).context("a process id")?;
        Ok(rustix::process::kill_process(pid, rustix::process::Signal::KILL)?)
    }
}

fn random_token(kind: &str) -> anyhow::Result<Secret> {
    let mut bytes = [0; 24];
    getrandom::fill(&mut bytes).map_err(std::io::Error::other)?;
    let hex = hex::encode(bytes);
    Ok(Secret::new(format!("ant_{kind}_{hex}")))
}
