//! The only crate that starts processes or touches KVM, images, templates.
//!
//! ```text
//!  Machines ── control socket ──▶ keeper (one small process per machine: parent of the VMM)
//!     │                              └─▶ QEMU, cloned from a Template (dies with its keeper)
//!     ├─ agent.sock: resync, HTTP/2, we call ─▶ the machine's agent     (AgentClient)
//!     └─ host.sock:  resync, HTTP/2, it calls ─▶ HostService
//! ```
//!
//! A machine has no network card: everything enters and leaves through its two channels. What runs is what
//! [`SpecSource::spec`] says; a machine is gone when its keeper's socket closes; what is left is a [`Receipt`].

mod channel;
mod exit_reason;
pub mod image;
pub mod keeper;
mod machines;
mod process;
pub mod qemu;
mod qmp;
mod receipt;
mod run_dir;
mod spec;
mod state;

pub use channel::{AgentClient, AgentError, BoxBody, BoxError, ByteStream, CallLimits, HostService};
pub use exit_reason::{ExitReason, StopReason};
pub use machines::{Machines, OpenError, Settings, StartError};
pub use process::{Memory, ProcessId};
pub use receipt::{CleanupChecks, ExitCause, Receipt, StopDetail};
pub use spec::{
    AGENT_SOCKET, CONTROL_SOCKET, Descriptor, HOST_SOCKET, InheritedFd, Qmp, SPEC_FILE, Spec, SpecError, SpecSource,
};
pub use state::{Channels, Event, RejectedEvent, RequestOutcome, State, Timings};
