//! The bodies of requests and answers, named as in `firecracker.yaml`. Fields that are always left at their default are not here.

use serde::{Deserialize, Serialize};

/// The answer to `GET /`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct InstanceInfo {
    /// The value of `--id`.
    pub id: String,
    /// The state of the guest.
    pub state: InstanceState,
    /// The version of Firecracker.
    pub vmm_version: String,
}

/// The state of a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum InstanceState {
    /// Neither started nor loaded.
    #[serde(rename = "Not started")]
    NotStarted,
    /// Running.
    Running,
    /// Paused.
    Paused,
}

/// `PUT /machine-config`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct MachineConfiguration {
    /// Virtual processors: 1 to 32.
    pub vcpu_count: u32,
    /// RAM, MiB.
    pub mem_size_mib: u32,
}

/// `PUT /boot-source`. Until 1.16 the kernel is an ELF file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BootSource {
    /// The path of the kernel.
    pub kernel_image_path: String,
    /// The kernel's command line; Firecracker adds its devices.
    pub boot_args: String,
    /// The path of the initial RAM disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub initrd_path: Option<String>,
}

/// `PUT /drives/{drive_id}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Drive {
    /// Its name.
    pub drive_id: String,
    /// The path of the file with its content.
    pub path_on_host: String,
    /// Whether `root=/dev/vda` is added to the kernel's command line.
    pub is_root_device: bool,
    /// Whether the file is opened read-only.
    pub is_read_only: bool,
}

/// `PUT /vsock`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Vsock {
    /// The guest's address: 3 or greater.
    pub guest_cid: u32,
    /// The path of the Unix socket that Firecracker makes; it must not exist.
    pub uds_path: String,
}

/// `PUT /entropy`: a virtio-rng device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct EntropyDevice {}

/// `PUT /serial`, from 1.14 on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SerialDevice {
    /// The file or named pipe that receives the output.
    pub serial_out_path: String,
}

/// `PUT /logger`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Logger {
    /// The file or named pipe that receives the lines; before 1.14 it must exist.
    pub log_path: String,
    /// The least severe level that is logged.
    pub level: LogLevel,
}

/// The severity of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum LogLevel {
    /// Errors.
    Error,
    /// Warnings.
    Warning,
    /// Information.
    Info,
    /// Details.
    Debug,
}

/// `PUT /metrics`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Metrics {
    /// The file or named pipe that receives one JSON object a minute; before 1.14 it must exist.
    pub metrics_path: String,
}

/// `PUT /actions`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(tag = "action_type")]
pub(crate) enum InstanceActionInfo {
    InstanceStart,
}

/// `PATCH /vm`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(tag = "state")]
pub(crate) enum Vm {
    Paused,
    Resumed,
}

/// `PUT /snapshot/create`: a snapshot of all memory. The guest must be paused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SnapshotCreateParams {
    /// The new file for the state of processors and devices.
    pub snapshot_path: String,
    /// The new file for the memory.
    pub mem_file_path: String,
    /// Always `Full`.
    pub snapshot_type: SnapshotType,
}

/// What a snapshot's memory file contains.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum SnapshotType {
    /// All memory.
    Full,
}

/// `PUT /snapshot/load`. Firecracker opens the memory file read-only and maps it copy-on-write.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SnapshotLoadParams {
    /// The file with the state of processors and devices.
    pub snapshot_path: String,
    /// Where the memory comes from.
    pub mem_backend: MemoryBackend,
    /// Whether the guest runs at once.
    pub resume_vm: bool,
    /// A new path for the vsock socket, from 1.16 on; before, the snapshot's path is used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vsock_override: Option<VsockOverride>,
}

/// Where the memory of a snapshot comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MemoryBackend {
    /// The kind of source.
    pub backend_type: MemoryBackendType,
    /// The path of the memory file.
    pub backend_path: String,
}

/// The kind of a memory source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum MemoryBackendType {
    /// A file.
    File,
}

/// Another path for a snapshot's vsock socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VsockOverride {
    /// The path.
    pub uds_path: String,
}

/// The body of a refusal.
#[derive(Debug, Deserialize)]
pub(crate) struct Fault {
    pub(crate) fault_message: String,
}

/// `GET /version`.
#[derive(Debug, Deserialize)]
pub(crate) struct FirecrackerVersion {
    pub(crate) firecracker_version: String,
}
