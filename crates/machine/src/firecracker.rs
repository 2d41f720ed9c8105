//! Firecracker: no network card, no writable disk, one vsock device with the two ports of the agent.
//!
//! ```text
//!  boot:  kernel + initramfs                   ─▶ ready ─▶ snapshot: memory and state   (a template)
//!  clone: snapshot loaded, memory mapped copy-on-write, paused ─▶ confined ─▶ resumed   (a machine)
//! ```
//!
//! Firecracker opens all files by names that exist in no directory; its keeper answers with descriptors (see
//! `crate::confinement`). A snapshot contains these names, so each clone finds its own files under the names of its template.

mod exit_cause;
mod process;
mod sparse_file;
mod template;

pub use process::{FirecrackerProcess, Snapshot, StartMode};
pub use template::{GuestFiles, Template, TemplateSettings};

pub(crate) use exit_cause::exit_cause;

// Names under which Firecracker opens its files.
pub(crate) const STATE_NAME: &str = "/machine/state";
pub(crate) const MEMORY_NAME: &str = "/machine/memory";
pub(crate) const LOG_NAME: &str = "/machine/log";
/// Names of the sockets that it binds: relative, since a socket's path is short in every directory.
pub(crate) const VSOCK_NAME: &str = "vsock.sock";
pub(crate) const API_NAME: &str = "api.sock";
