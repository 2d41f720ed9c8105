//! What a machine is made of, in words that a keeper can read back from a file.
//!
//! A [`SpecSource`] turns a machine's id into a [`Spec`]; two real ones stand behind it: a QEMU template and, in the tests,
//! a plain process. A spec holds no secret: it lies in the machine's run directory (`spec.json`, mode 0600).

use anteroom_wire::MachineId;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, path::PathBuf};

/// The machine's channel on which its agent serves, a socket in the run directory.
pub const AGENT_SOCKET: &str = "agent.sock";
/// The machine's channel on which its agent calls, a socket in the run directory.
pub const HOST_SOCKET: &str = "host.sock";
/// The keeper's own socket in the run directory.
pub const CONTROL_SOCKET: &str = "control.sock";
/// The file in the run directory that tells the keeper what to do.
pub const SPEC_FILE: &str = "spec.json";

/// What a machine is made of.
pub trait SpecSource: Send + Sync + 'static {
    /// The hash of the image that every machine of this recipe runs; its agent must say the same.
    fn image_hash(&self) -> &str;

    /// How to start the machine `machine`.
    ///
    /// # Errors
    /// When what the machine is made of is not there or cannot be said to a process.
    fn spec(&self, machine: &MachineId) -> Result<Spec, SpecError>;
}

/// Why a recipe gives no spec.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    /// A path that is not UTF-8 cannot be written into a spec.
    #[error("the path {0:?} is not UTF-8")]
    Path(PathBuf),
    /// Something the machine is made of is missing.
    #[error("{what} is missing at {path:?}")]
    Missing {
        /// What.
        what: &'static str,
        /// Where it was looked for.
        path: PathBuf,
        /// Why it cannot be read.
        #[source]
        source: std::io::Error,
    },
    /// A value that the program would not understand.
    #[error("{0}")]
    Value(String),
}

/// How to start one machine's process. Its working directory is the run directory, so socket names are relative.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// The program, an absolute path or a name to look up in the keeper's `PATH`.
    pub program: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// Its whole environment: nothing is inherited.
    pub env: BTreeMap<String, String>,
    /// Its open files beyond 0, 1 and 2; nothing else is inherited.
    pub fds: Vec<InheritedFd>,
    /// What the keeper says to the program over QMP.
    pub qmp: Qmp,
}

/// One open file of the process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InheritedFd {
    /// Its number in the process, 3 to 63.
    pub number: i32,
    /// What it is.
    pub what: Descriptor,
}

/// What an open file is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind", deny_unknown_fields)]
pub enum Descriptor {
    /// A listening Unix stream socket of that name in the run directory, so that a caller can connect before the process
    /// has come to accept.
    Listen {
        /// A plain file name.
        name: String,
    },
    /// One end of a socket pair; the keeper speaks QMP on the other.
    Qmp,
    /// One end of a socket pair; what the process writes is kept as the console's tail.
    Console,
    /// A file to read. The keeper holds a shared lock (flock) on it as long as the machine lives.
    Read {
        /// Which.
        path: PathBuf,
    },
}

/// What the keeper says to the process over QMP (needs [`Descriptor::Qmp`] unless it is `Unused`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind", deny_unknown_fields)]
pub enum Qmp {
    /// The process is not QEMU.
    Unused,
    /// Listen to events only: the machine starts by itself.
    Listen,
    /// Load the saved state, all but the RAM, from an open file; the machine then runs by itself.
    Load {
        /// That file's number in the process.
        state: i32,
    },
}

/// The whole content of `spec.json`: the recipe's spec and what the controller wants kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct KeeperConfig {
    /// Which machine.
    pub(crate) machine: MachineId,
    /// The image its agent must name.
    pub(crate) image_hash: String,
    /// How to start it.
    pub(crate) spec: Spec,
    /// Its longest life, milliseconds, held by the keeper whatever becomes of the controller.
    pub(crate) deadline_ms: u64,
    /// Where the receipt goes.
    pub(crate) receipts_dir: PathBuf,
    /// Whether the machine ends when nobody is connected to its keeper any more: for probes and templates in the making,
    /// which are of no use without the one who asked for them.
    pub(crate) tied_to_parent: bool,
    /// How much of the console and of the process's own output is kept, bytes each.
    pub(crate) console_bytes_max: usize,
}
