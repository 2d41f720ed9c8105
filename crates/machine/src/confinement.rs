//! The confinement of a machine's VMM: what is left to a program that has broken out of the guest into its VMM.
//!
//! The keeper applies these steps in the new process before it executes the VMM, in this order, because each step needs what
//! the later ones take away:
//!
//! | step | why here |
//! |---|---|
//! | score of the OOM killer ([`oom_order`]) | the process inherits it |
//! | cgroup ([`cgroup`]) | made before the process; its keeper moves the process there before it continues |
//! | namespaces (user, mount, PID, network, IPC, UTS, cgroup) | made with the process ([`spawn`]); all mounts and ids below need them |
//! | parent-death signal | before anything that could outlive the keeper |
//! | id map, written by the keeper | a process cannot map its own user namespace to a foreign id |
//! | file descriptors | the VMM's files are opened by the keeper; all others are closed |
//! | root directory: an empty tmpfs, with `/usr` read-only if the program needs libraries ([`root_dir`]) | mounts need the capabilities of the new user namespace |
//! | resource limits ([`limits`]) | before the user changes, since raising a hard limit is not needed |
//! | user id, no capabilities | the mounts needed capabilities |
//! | no new privileges | Landlock and seccomp require it |
//! | Landlock ([`landlock_rules`]) | after the mounts, which it forbids |
//! | system calls ([`system_calls`]) | last: the steps above use calls that it denies |
//!
//! Two steps follow once the VMM has started and before the guest runs ([`ConfinedProcess::seal`]): `/usr` is unmounted from its root
//! directory, and every system call that only the start needs is denied.

mod cgroup;
mod child;
mod landlock_rules;
mod layers;
mod limits;
mod notifications;
mod oom_order;
mod probe;
mod raw;
mod root_dir;
mod spawn;
mod starter;
mod system_calls;

pub(crate) use cgroup::enter_server_cgroup;
pub use layers::{Layer, LayerStatus};
pub(crate) use probe::{PROBE_ARGUMENT, print_layers};
pub use probe::{ProbeLayersError, probe_layers};
pub(crate) use spawn::{ConfinedProcess, Execution, OpenFile, OpenListener, SpawnError, spawn};
