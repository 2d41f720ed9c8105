//! Machines: the only crate of the server that starts processes or uses KVM, guest images and templates.
//!
//! ```text
//!  Machines ── control socket ──▶ keeper (one small process per machine: parent of the VMM)
//!     │                              └─▶ QEMU or Firecracker, cloned from a template (dies with its keeper)
//!     ├─ agent port: resync, HTTP/2, the controller is the client ─▶ the machine's agent (AgentClient)
//!     └─ controller port: resync, HTTP/2, the agent is the client      ─▶ ControllerService
//! ```
//!
//! A machine has no network card: its two channels are its only connections. [`SpecSource::build_spec`] describes the process
//! to run. A machine is removed when its keeper closes the control socket; its [`Receipt`] remains.

mod channel;
mod confinement;
mod exit_reason;
pub mod firecracker;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod hardware;
pub mod image;
mod isolation;
pub mod keeper;
pub mod kind;
pub mod kvm;
mod machine_id;
mod machines;
mod procfs;
pub mod qemu;
mod qmp;
mod receipt;
mod renew_deadline;
mod run_dir;
mod spec;
mod state;
mod template;
mod verified_files;

pub use channel::{
    AgentClient, AgentError, BROKEN_STREAMS_MAX, BYTES_BEFORE_ECHO_MAX, BoxBody, BoxError, ByteStream, CallLimits,
    ControllerService, FRAMES_BURST, FRAMES_PER_S, RESET_STREAMS_MAX,
};
pub use confinement::{Layer, LayerStatus, ProbeLayersError, probe_layers};
pub use exit_reason::{ExitReason, StopReason};
pub use isolation::sum_isolation;
pub use machines::{
    CONSOLE_BYTES_MAX, MachineStartError, Machines, MachinesOpenError, MachinesSettings, PING_EVERY_MS, PING_MS_MAX,
    SHORT_CONNECTION_EVERY_MS, SHORT_CONNECTION_MS, SHORT_CONNECTIONS_BURST, VIOLATION_EVERY_MS, VIOLATIONS_BURST,
};
pub use procfs::{MemoryUsage, ProcessId};
pub use receipt::{CleanupChecks, ExitCause, Receipt, StopDetail};
pub use renew_deadline::{RENEW_DEADLINE_FILE, RenewDeadlineFile};
pub use spec::{
    AGENT_SERVER_SOCKET, CONTROLLER_SERVER_SOCKET, ChannelTransport, Confinement, FdSource, FileAccess,
    FirecrackerStart, InheritedFd, KEEPER_CONFIG_FILE, KEEPER_SOCKET, Monitor, NamedFile, NamedListener, ProcessSpec,
    QmpStart, ResourceLimits, SpecError, SpecSource, VSOCK_SOCKET,
};
pub use state::{Channels, Event, RejectedEvent, StartTimings, State, StopRequestOutcome};
pub use template::{PreparationSettings, PrepareProgress, TemplateError, remove_unused, template_image_hash};
pub use verified_files::{FileStamp, VerifyError};
