//! A machine without a VM: the agent in process mode, and a fake desktop.
//!
//! ```text
//!  keeper ─▶ anteroom-testbed machine {…}   (working directory: the machine's run directory)
//!              ├─ creates work/, home/, agent.json there, so that they are removed with the run directory
//!              ├─▶ anteroom-testbed desktop rfb.sock NAME   (is killed when its parent exits)
//!              └─ executes the agent: the machine's process is the agent
//! ```

use anteroom_machine::{ChannelTransport, Confinement, Monitor, ProcessSpec, SpecError, SpecSource};
use anteroom_wire::MachineId;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// The desktop's socket in a machine's run directory.
pub const RFB_SOCKET: &str = "rfb.sock";

/// Faults of a test server's machines.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InjectedFaults {
    /// The machine's program does not exist.
    pub no_program: bool,
    /// The agent starts after this delay, milliseconds.
    pub agent_delay_ms: u64,
    /// The image hash that the agent reports instead of the one that the server expects.
    pub other_image: Option<String>,
    /// The desktop does not start.
    pub no_desktop: bool,
    /// The agent reads memory figures from files that a test writes ([`SimulatedMemory`]), not from the host's kernel.
    pub simulated_memory: bool,
}

/// The memory figures of a machine with [`InjectedFaults::simulated_memory`].
#[derive(Debug, Clone, Copy)]
pub struct SimulatedMemory {
    /// The available part of 1024 MiB.
    pub available_mib: u64,
    /// Processes killed by the OOM killer so far.
    pub oom_kills: u64,
}

impl SimulatedMemory {
    /// Writes the figures into a machine's run directory.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn write(self, run_dir: &Path) -> std::io::Result<()> {
        let Self { available_mib, oom_kills } = self;
        let files = [
            ("meminfo", format!("MemTotal: 1048576 kB\nMemAvailable: {} kB\n", available_mib * 1024)),
            ("pressure", "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\n".to_owned()),
            ("vmstat", format!("oom_kill {oom_kills}\n")),
        ];
        for (name, text) in files {
            // The agent may read at any time, so each file is replaced atomically.
            std::fs::write(run_dir.join(".fresh"), text)?;
            std::fs::rename(run_dir.join(".fresh"), run_dir.join(name))?;
        }
        Ok(())
    }

    /// Appends a line to the machine's simulated kernel log.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn append_kernel_log_line(run_dir: &Path, line: &str) -> std::io::Result<()> {
        use std::io::Write;
        writeln!(std::fs::File::options().append(true).create(true).open(run_dir.join("kmsg"))?, "{line}")
    }
}

/// The argument of `anteroom-testbed machine`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlainMachineConfig {
    /// The agent's binary.
    pub agent: PathBuf,
    /// The desktop's name.
    pub desktop_name: String,
    /// The desktop's width, pixels.
    pub width: u16,
    /// The desktop's height, pixels.
    pub height: u16,
    /// The image hash that the agent reports.
    pub image_hash: String,
    /// The tools that the agent reports, name → version.
    pub tool_versions: BTreeMap<String, String>,
    /// The tools' `PATH`.
    pub exec_search_path: String,
    /// The machine's faults.
    pub faults: InjectedFaults,
}

/// Specifies machines that are plain processes.
#[derive(Debug, Clone)]
pub struct PlainProcessSpecs {
    /// The program `anteroom-testbed`.
    pub testbed: PathBuf,
    /// The agent's program.
    pub agent: PathBuf,
    /// The image hash that the controller expects and the agent reports.
    pub image_hash: String,
    /// The tools in the machines, name → version.
    pub tool_versions: BTreeMap<String, String>,
    /// The tools' `PATH`.
    pub exec_search_path: String,
    /// Faults of the machines.
    pub faults: InjectedFaults,
}

impl PlainProcessSpecs {
    /// Machines that run the programs in the running program's directory.
    ///
    /// # Errors
    /// [`SpecError::Missing`] with the command that builds what is missing.
    pub fn with_built_programs() -> Result<Self, SpecError> {
        Ok(Self {
            testbed: built_program("anteroom-testbed")?,
            agent: built_program("anteroom-agent")?,
            image_hash: "sha256:plain-process".to_owned(),
            tool_versions: BTreeMap::new(),
            exec_search_path: "/usr/local/bin:/usr/bin:/bin".to_owned(),
            faults: InjectedFaults::default(),
        })
    }
}

impl SpecSource for PlainProcessSpecs {
    fn image_hash(&self) -> &str {
        &self.image_hash
    }

    fn build_spec(&self, machine: &MachineId) -> Result<ProcessSpec, SpecError> {
        let plain = PlainMachineConfig {
            agent: self.agent.clone(),
            desktop_name: format!("desktop of {machine}"),
            width: 640,
            height: 480,
            image_hash: self.faults.other_image.clone().unwrap_or_else(|| self.image_hash.clone()),
            tool_versions: self.tool_versions.clone(),
            exec_search_path: self.exec_search_path.clone(),
            faults: self.faults.clone(),
        };
        let config = serde_json::to_string(&plain).map_err(|error| SpecError::Value(error.to_string()))?;
        let program = self.testbed.to_str().ok_or_else(|| SpecError::Path(self.testbed.clone()))?;
        Ok(ProcessSpec {
            program: if self.faults.no_program { "/no/such/program".to_owned() } else { program.to_owned() },
            args: vec!["machine".to_owned(), config],
            env: BTreeMap::new(),
            fds: Vec::new(),
            monitor: Monitor::None,
            transport: ChannelTransport::UnixSockets,
            confinement: Confinement::Unconfined,
            verified: BTreeMap::new(),
        })
    }
}

/// Finds a program of this workspace in the running program's directory or the one above (tests run in `deps/`).
///
/// # Errors
/// [`SpecError::Missing`]; its text says how to build it.
pub fn built_program(name: &'static str) -> Result<PathBuf, SpecError> {
    let missing = |path: &Path, source| SpecError::Missing { what: how_to_build(name), path: path.to_owned(), source };
    let running = std::env::current_exe().map_err(|error| missing(Path::new(name), error))?;
    let candidates: Vec<PathBuf> = running.ancestors().skip(1).take(2).map(|dir| dir.join(name)).collect();
    let found = candidates.iter().find(|path| path.is_file()).cloned();
    found.ok_or_else(|| {
        missing(candidates.last().map_or(Path::new(name), PathBuf::as_path), std::io::ErrorKind::NotFound.into())
    })
}

fn how_to_build(name: &str) -> &'static str {
    match name {
        "anteroom" => "the server (cargo build -p anteroom-cli)",
        "anteroom-agent" => "the agent (cargo build -p anteroom-agent)",
        "anteroom-demo-cli" => "the demo's tool (cargo build -p anteroom-demo)",
        "anteroom-keeper" => "the keeper (cargo build -p anteroom-machine)",
        _ => "the testbed (cargo build -p anteroom-testbed)",
    }
}
