//! A machine that is a plain process: the agent in process mode, a fake desktop beside it, no VM.
//!
//! ```text
//!  keeper ─▶ anteroom-testbed machine {…}   (working directory: the machine's run directory)
//!              ├─ makes work/, home/, agent.json there, so that all goes with the run directory
//!              ├─▶ anteroom-testbed desktop rfb.sock NAME   (dies with its parent)
//!              └─ becomes the agent (exec): the machine's process is the agent
//! ```

use anteroom_machine::{Qmp, Spec, SpecError, SpecSource};
use anteroom_wire::MachineId;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// The desktop's socket in a machine's run directory.
pub const RFB_SOCKET: &str = "rfb.sock";

/// What is wrong with the machines of a world.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Faults {
    /// Their program is not there.
    pub no_program: bool,
    /// The agent begins only after this, milliseconds.
    pub agent_after_ms: u64,
    /// What the agent says it runs, in place of what the server expects.
    pub other_image: Option<String>,
    /// No desktop answers.
    pub no_desktop: bool,
    /// They have a memory of their own, as [`SimulatedMemory`] writes it.
    pub simulated_memory: bool,
}

/// What a machine with a memory of its own would be shown by its kernel; see [`Faults::simulated_memory`].
#[derive(Debug, Clone, Copy)]
pub struct SimulatedMemory {
    /// Of 1024 MiB, what is left.
    pub available_mib: u64,
    /// Programs killed for want of it so far.
    pub oom_kills: u64,
}

impl SimulatedMemory {
    /// Writes it into a machine's run directory.
    ///
    /// # Errors
    /// There is no such directory.
    pub fn write(self, run_dir: &Path) -> std::io::Result<()> {
        let Self { available_mib, oom_kills } = self;
        let files = [
            ("meminfo", format!("MemTotal: 1048576 kB\nMemAvailable: {} kB\n", available_mib * 1024)),
            ("pressure", "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\n".to_owned()),
            ("vmstat", format!("oom_kill {oom_kills}\n")),
        ];
        for (name, text) in files {
            // Whole or not at all: the agent reads whenever it likes.
            std::fs::write(run_dir.join(".fresh"), text)?;
            std::fs::rename(run_dir.join(".fresh"), run_dir.join(name))?;
        }
        Ok(())
    }

    /// Adds a line to the machine's kernel log.
    ///
    /// # Errors
    /// The machine has none.
    pub fn log(run_dir: &Path, line: &str) -> std::io::Result<()> {
        use std::io::Write;
        writeln!(std::fs::File::options().append(true).create(true).open(run_dir.join("kmsg"))?, "{line}")
    }
}

/// What [`PlainProcess`] tells the machine's process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlainMachineConfig {
    /// The agent's binary.
    pub agent: PathBuf,
    /// Name of the desktop.
    pub desktop: String,
    /// Pixels across.
    pub width: u16,
    /// Pixels down.
    pub height: u16,
    /// What the agent says it runs.
    pub image_hash: String,
    /// Tools and versions that the agent says it has.
    pub clis: BTreeMap<String, String>,
    /// `PATH` of the tool.
    pub path: String,
    /// What is wrong with it.
    pub faults: Faults,
}

/// Makes machines that are plain processes.
#[derive(Debug, Clone)]
pub struct PlainProcess {
    /// This crate's program.
    pub testbed: PathBuf,
    /// The agent's program.
    pub agent: PathBuf,
    /// What the controller expects and the agent says.
    pub image_hash: String,
    /// Tools and versions.
    pub clis: BTreeMap<String, String>,
    /// `PATH` of the tools.
    pub path: String,
    /// What is wrong with the machines.
    pub faults: Faults,
}

impl PlainProcess {
    /// With the programs that were built beside the running one.
    ///
    /// # Errors
    /// [`SpecError::Missing`] with the command that builds what is missing.
    pub fn with_built_programs() -> Result<Self, SpecError> {
        Ok(Self {
            testbed: built_program("anteroom-testbed")?,
            agent: built_program("anteroom-agent")?,
            image_hash: "sha256:plain-process".to_owned(),
            clis: BTreeMap::new(),
            path: "/usr/local/bin:/usr/bin:/bin".to_owned(),
            faults: Faults::default(),
        })
    }
}

impl SpecSource for PlainProcess {
    fn image_hash(&self) -> &str {
        &self.image_hash
    }

    fn spec(&self, machine: &MachineId) -> Result<Spec, SpecError> {
        let plain = PlainMachineConfig {
            agent: self.agent.clone(),
            desktop: format!("desktop of {machine}"),
            width: 640,
            height: 480,
            image_hash: self.faults.other_image.clone().unwrap_or_else(|| self.image_hash.clone()),
            clis: self.clis.clone(),
            path: self.path.clone(),
            faults: self.faults.clone(),
        };
        let told = serde_json::to_string(&plain).map_err(|error| SpecError::Value(error.to_string()))?;
        let program = self.testbed.to_str().ok_or_else(|| SpecError::Path(self.testbed.clone()))?;
        Ok(Spec {
            program: if self.faults.no_program { "/no/such/program".to_owned() } else { program.to_owned() },
            args: vec!["machine".to_owned(), told],
            env: BTreeMap::new(),
            fds: Vec::new(),
            qmp: Qmp::Unused,
        })
    }
}

/// A program of this workspace, in the directory of the running one or the one above (tests run in `deps/`).
///
/// # Errors
/// [`SpecError::Missing`]; its text says how to build it.
pub fn built_program(name: &'static str) -> Result<PathBuf, SpecError> {
    let missing =
        |path: &Path, source| SpecError::Missing { what: how_to_build(name), path: path.to_owned(), source };
    let this = std::env::current_exe().map_err(|error| missing(Path::new(name), error))?;
    let places: Vec<PathBuf> = this.ancestors().skip(1).take(2).map(|dir| dir.join(name)).collect();
    let found = places.iter().find(|path| path.is_file()).cloned();
    found.ok_or_else(|| {
        missing(places.last().map_or(Path::new(name), PathBuf::as_path), std::io::ErrorKind::NotFound.into())
    })
}

fn how_to_build(name: &str) -> &'static str {
    match name {
        "anteroom" => "the server (cargo build -p anteroom-controller)",
        "anteroom-agent" => "the agent (cargo build -p anteroom-agent)",
        "anteroom-demo-cli" => "the demo's tool (cargo build -p anteroom-agent)",
        "anteroom-keeper" => "the keeper (cargo build -p anteroom-machine)",
        _ => "the testbed (cargo build -p anteroom-testbed)",
    }
}
