//! The description of a machine's process, which the controller writes to a file and the keeper reads.
//!
//! A [`SpecSource`] makes a [`ProcessSpec`] for a machine id. There are two: a QEMU template and, in tests, a plain process. A spec
//! contains no secrets; it is in the machine's run directory (`keeper.json`, mode 0600).

mod error;

pub use error::SpecError;

use crate::verified_files::FileStamp;
use anteroom_wire::MachineId;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, path::PathBuf};

/// Socket in the run directory: the channel on which the agent is the server.
pub const AGENT_SERVER_SOCKET: &str = "agent.sock";
/// Socket in the run directory: the channel on which the agent is the client.
pub const CONTROLLER_SERVER_SOCKET: &str = "controller.sock";
/// Socket in the run directory: Firecracker's end of the guest's vsock. A connection names a port of the guest first.
pub const VSOCK_SOCKET: &str = "vsock.sock";
/// Socket in the run directory on which the keeper accepts control connections.
pub const KEEPER_SOCKET: &str = "control.sock";
/// File in the run directory with the keeper's configuration.
pub const KEEPER_CONFIG_FILE: &str = "keeper.json";

/// Makes the specs of new machines.
pub trait SpecSource: Send + Sync + 'static {
    /// The hash of the image that all machines of this source run; their agents must report the same hash.
    fn image_hash(&self) -> &str;

    /// The spec of the machine `machine`.
    ///
    /// # Errors
    /// See [`SpecError`].
    fn build_spec(&self, machine: &MachineId) -> Result<ProcessSpec, SpecError>;
}

/// One machine's process. Its working directory is the run directory, so socket names are relative.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProcessSpec {
    /// The program, an absolute path or a name to look up in the keeper's `PATH`.
    pub program: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// Its complete environment: nothing is inherited.
    pub env: BTreeMap<String, String>,
    /// Its file descriptors in addition to standard input, output and error; no others are inherited.
    pub fds: Vec<InheritedFd>,
    /// How the keeper controls it.
    pub monitor: Monitor,
    /// How the controller reaches its agent.
    pub transport: ChannelTransport,
    /// What is left to it of the host.
    pub confinement: Confinement,
    /// The files of which the content was verified. If one of them is another file when the keeper opens it, the process is not
    /// started.
    #[serde(default)]
    pub verified: BTreeMap<PathBuf, FileStamp>,
}

/// What is left of the host to a process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind", deny_unknown_fields)]
pub enum Confinement {
    /// All that its keeper has: for programs that are not a VMM.
    Unconfined,
    /// Its descriptors, its named files and what it needs to start.
    Confined {
        /// Files that it opens by a name that exists in no directory. They are opened before it starts.
        files: Vec<NamedFile>,
        /// Sockets that it makes by binding a name that exists in no directory. They are made before it starts.
        listeners: Vec<NamedListener>,
        /// Its resource limits.
        limits: ResourceLimits,
    },
}

/// A file that a confined process opens by a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NamedFile {
    /// The name that the process opens.
    pub name: String,
    /// The path that its keeper opens.
    pub path: PathBuf,
    /// What the process may do with the file, whatever it asks for.
    pub access: FileAccess,
}

/// A listening Unix stream socket that a confined process makes by binding a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NamedListener {
    /// The name that the process binds.
    pub name: String,
    /// The socket's file name in the run directory.
    pub socket: String,
}

/// How the controller reaches the two ports of a machine's agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChannelTransport {
    /// Each port is a Unix socket in the run directory: [`AGENT_SERVER_SOCKET`] and [`CONTROLLER_SERVER_SOCKET`].
    UnixSockets,
    /// Both are vsock ports, reached through [`VSOCK_SOCKET`].
    Vsock,
}

/// What a process may do with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileAccess {
    /// Read it, and map it privately.
    ReadOnly,
    /// Read and write it.
    ReadWrite,
    /// Write it, also after the start. The keeper creates the file, which must not exist.
    WriteNew,
}

/// Resource limits of a process (setrlimit(2), cgroups(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResourceLimits {
    /// Address space, bytes.
    pub address_space_bytes_max: u64,
    /// Memory, bytes: also that of its page cache and in the kernel. Applied where the process has a cgroup.
    pub memory_bytes_max: u64,
    /// Size of a file that it writes, bytes.
    pub file_bytes_max: u64,
    /// Threads. Applied where they can be counted separately from other processes of the same user.
    pub threads_max: u64,
    /// Open files.
    pub open_files_max: u64,
    /// Processors that it may use at the same time. Applied where the process has a cgroup.
    pub cpus_max: u32,
}

/// One file descriptor of the process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InheritedFd {
    /// Its number in the process, 1 to 63; 1 and 2 replace the pipes to which it writes its output.
    pub number: i32,
    /// What the keeper opens for it.
    pub source: FdSource,
}

/// The file behind a descriptor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind", deny_unknown_fields)]
pub enum FdSource {
    /// A listening Unix stream socket of that name in the run directory. Clients can connect before the process accepts.
    Listen {
        /// A file name without directories.
        name: String,
    },
    /// One end of a socket pair; the keeper speaks QMP on the other.
    Qmp,
    /// One end of a socket pair; the keeper keeps the last bytes that the process writes.
    Console,
    /// A file to read. The keeper holds a shared lock (flock) on it until the machine has exited.
    Read {
        /// Its path.
        path: PathBuf,
    },
}

/// How the keeper controls a process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind", deny_unknown_fields)]
pub enum Monitor {
    /// It does not: the process is not a VMM.
    None,
    /// Over QMP; needs [`FdSource::Qmp`].
    Qmp {
        /// How the guest starts.
        start: QmpStart,
    },
    /// Over Firecracker's API; the process must be confined.
    Firecracker {
        /// How the guest starts.
        start: FirecrackerStart,
        /// How long the process may take to answer a request, milliseconds; it is then killed.
        answer_ms_max: u64,
    },
}

/// How the guest of a Firecracker process starts. Files are named as the process opens them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind", deny_unknown_fields)]
pub enum FirecrackerStart {
    /// It boots. The process is confined completely as soon as the guest runs.
    Boot {
        /// Virtual processors.
        cpus: u32,
        /// Memory, MiB.
        memory_mib: u32,
        /// The kernel.
        kernel: String,
        /// The initial file system.
        initramfs: Option<String>,
        /// The kernel's command line.
        boot_args: String,
        /// A read-only disk.
        rootfs: Option<String>,
    },
    /// It continues from a snapshot, once the process is confined completely.
    Load,
}

/// How the guest of a QEMU process starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind", deny_unknown_fields)]
pub enum QmpStart {
    /// Let the guest run once its process is confined, then receive events.
    Boot,
    /// Once the process is confined, load the saved state except the RAM from a file descriptor; the guest then runs by itself.
    Load {
        /// The descriptor's number in the process.
        state: i32,
    },
}

/// The content of `keeper.json`: the spec and the keeper's settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct KeeperConfig {
    /// The machine's id.
    pub(crate) machine: MachineId,
    /// The image hash that its agent must report.
    pub(crate) image_hash: String,
    /// Its process.
    pub(crate) spec: ProcessSpec,
    /// Its maximum lifetime, milliseconds; the keeper enforces it even without a controller.
    pub(crate) deadline_ms: u64,
    /// The file with the time at which the keeper ends the machine, if the host is in a cluster and has not renewed it.
    #[serde(default)]
    pub(crate) renew_deadline_file: Option<PathBuf>,
    /// Directory for the receipt.
    pub(crate) receipts_dir: PathBuf,
    /// Whether the machine is stopped when the last control connection closes: for probes and template preparations, which
    /// are useless without the process that started them.
    pub(crate) tied_to_parent: bool,
    /// How many of the last bytes of the console and of the process's output are kept, each.
    pub(crate) console_bytes_max: usize,
}
